from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a client leaves behind is collected here, where it is expected."""
    yield
    gc.collect()
