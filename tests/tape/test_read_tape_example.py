"""examples/read_tape.py, written from data/FORMAT.md without wld, agrees with wld about every event."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wld
from wld.tape import forms, levels
from wld.tape.choices import Choices

from .strategies import EVENTS
from .test_columns import SIDES, VALUES
from .test_tape import mixed, of_many_symbols, write

EXAMPLE = Path(__file__).parents[2] / "examples" / "read_tape.py"


def fields(number: int, event: wld.Event) -> dict[str, Any]:
    body = msgspec.to_builtins(event)
    return {"number": number} | {key: value for key, value in body.items() if value is not None}


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("read_tape", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


READER = load()


@pytest.mark.parametrize("seal", [True, False])
@pytest.mark.parametrize("events", [mixed(100), of_many_symbols(60)], ids=["one symbol", "many"])
def test_the_independent_reader_agrees(tmp_path: Path, seal: bool, events: list[wld.Event]) -> None:
    path = write(tmp_path, events, seal=seal, flush_every=90)
    out = subprocess.run([sys.executable, "-I", EXAMPLE, path, "--events"], capture_output=True, text=True, check=True)
    assert out.stderr == ""
    got = [json.loads(line) for line in out.stdout.splitlines()]
    assert got == [json.loads(json.dumps(fields(n, event))) for n, event in enumerate(events)]
    listing = subprocess.run([sys.executable, "-I", EXAMPLE, path], capture_output=True, text=True, check=True)
    assert listing.stdout.startswith("header  0 ")


@settings(deadline=None, max_examples=100)
@given(st.lists(EVENTS, min_size=1, max_size=12), st.booleans())
def test_it_agrees_about_any_events(events: list[wld.Event], pack: bool) -> None:
    from wld.tape import layout, rows

    got = []
    for draft in rows.encode_group(list(enumerate(events)), pack=pack):
        kind = layout.KIND_NAMES[draft.kind]
        got += READER.events(kind, draft.flags, draft.symbol, draft.count, draft.payload)
    got.sort(key=lambda item: item[0])
    assert [{"number": n} | {k: v for k, v in f.items() if v is not None} for n, f in got] == [
        json.loads(json.dumps(fields(n, event))) for n, event in enumerate(events)
    ]


@settings(deadline=None, max_examples=100)
@given(VALUES.filter(len), st.sampled_from([0, 8, 16, 24, 32, 40, 48, 56]))
def test_it_reads_each_form_of_numbers(values: list[int], flags: int) -> None:
    (body,) = forms.pack_form(forms.join([np.array(values, np.int64)]), flags)
    assert READER.numbers(READER.Bytes(body), len(values), flags) == values


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=12))
def test_it_reads_each_way_of_keeping_levels(events: list[tuple[list[Any], list[Any]]]) -> None:
    flat = [level for bids, asks in events for level in (*bids, *asks)]
    counts = {
        "bid_count": [len(bids) for bids, _ in events],
        "ask_count": [len(asks) for _, asks in events],
    }
    prices, sizes = (np.array([level[i] for level in flat], np.int64) for i in (0, 1))
    runs = levels.runs_of(np.array(counts["bid_count"], np.int64), np.array(counts["ask_count"], np.int64), len(flat))
    (body,) = levels.pack_prices(forms.join([prices]), runs, Choices())
    assert READER.level_prices(READER.Bytes(body), len(flat), counts) == prices.tolist()
    done = counts | {"level_price": prices.tolist()}
    for mode in (levels.PLAIN, levels.KNOWN, levels.SORTED):
        whole = slice(0, len(flat))
        (body,) = levels._sizes(mode, forms.join([sizes]), prices, runs, [whole], [0], Choices(), ())
        assert READER.level_sizes(READER.Bytes(body), len(flat), done) == sizes.tolist()
