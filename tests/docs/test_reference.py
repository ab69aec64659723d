"""The reference of the configuration says what the code takes, no more and no less, and what each key is for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.docs.blocks import ROOT
from tests.docs.reference import PAGES
from wld.config import RingConfig, ScreenConfig, SinkTable, SourceConfig
from wld.plugin_info import describe, describe_keys


@pytest.mark.parametrize(("path", "make"), PAGES.items(), ids=list(PAGES))
def test_a_made_page_is_what_the_code_says_now(path: str, make: Callable[[], str]) -> None:
    assert (ROOT / path).read_text() == make(), "stale: run python -m tests.docs.reference"


def test_every_key_says_what_it_is_for() -> None:
    tables = {"source": SourceConfig, "ring": RingConfig, "screen": ScreenConfig, "sinks.NAME": SinkTable}
    keys = [(name, key) for name, table in tables.items() for key in describe_keys(table)]
    keys += [(f"sinks.{info.name}", key) for info in describe() if info.distribution == "wld" for key in info.keys]
    assert [f"{name}.{key.key}" for name, key in keys if not key.help] == []
