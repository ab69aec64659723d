"""Golden tapes: every format version that ever was stays readable, and nobody edits what was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import wld
from wld.tape import layout
from wld.tape.segment import Segment
from wld.tape.verify import verify

from .test_read_tape_example import READER, fields

V1 = Path(__file__).parents[2] / "data" / "golden" / "v1"
TAPES = sorted(path for path in V1.iterdir() if path.suffix in (".bin", ".open"))


def expected(tape: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tape.with_name(tape.name + ".json").read_text().splitlines()]


def test_nothing_of_it_was_edited_or_left_out() -> None:
    sums = dict(reversed(line.split()) for line in (V1 / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in V1.iterdir() if path.name != "SHA256SUMS"
    }
    assert len(TAPES) == 9


@pytest.mark.parametrize("tape", TAPES, ids=lambda path: path.name)
def test_it_still_reads_as_the_events_that_were_written(tape: Path) -> None:
    events = [json.loads(json.dumps(fields(number, event))) for number, event in wld.open_tape(tape).numbered()]
    assert events == expected(tape)
    assert verify(tape).is_intact
    summary = wld.open_tape(tape).summary()
    assert summary.events == len(events)
    assert summary.header["format"] == 1


@pytest.mark.parametrize("tape", TAPES, ids=lambda path: path.name)
def test_the_independent_reader_reads_it_too(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    READER.main(str(tape), "--events")
    out, err = capsys.readouterr()
    assert err == ""
    assert [json.loads(line) for line in out.splitlines()] == expected(tape)


def test_every_kind_of_block_and_every_type_of_column_is_among_them() -> None:
    from wld.tape import columns as codec
    from wld.tape import levels

    kinds, types, modes, flags = set(), set(), set(), 0
    for tape in TAPES:
        for block, payload in Segment(tape).blocks(lambda _: True, check_all=True):
            kinds.add(block.kind)
            if block.codec == layout.COLUMNS:
                for entry in codec.parse_directory(payload).values():
                    types.add(entry.kind)
                    if entry.kind == codec.SIZES:
                        modes.add(payload[entry.start])
                    if entry.kind == codec.PACKED:
                        flags |= payload[entry.start]
    assert kinds == set(layout.KIND_NAMES)
    assert types == set(range(7))
    assert modes == {levels.PLAIN, levels.KNOWN, levels.SORTED}
    assert flags == 0b111111


def test_the_second_hour_begins_with_the_book_of_the_first() -> None:
    first, second = wld.open_tape(V1 / "hours_0.bin"), wld.open_tape(V1 / "hours_1.bin")
    start, end = second.summary().first_time, first.summary().last_time
    assert start is not None
    assert end is not None
    before, after = first.book_at(end, "WLDUSDT"), second.book_at(start, "WLDUSDT")
    assert before.is_valid
    assert after.asks() == before.asks()
    assert len(after.bids()) == len(before.bids()) + 1
