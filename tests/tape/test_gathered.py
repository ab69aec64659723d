"""Batches gathered before they are written make the tape that the batches themselves would make."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import wld
from wld.bybit import columns
from wld.tape import writer as tape_writer
from wld.tape.verify import verify

from .test_columns_to_tape import reads
from .test_tape import HOUR, mixed, trade

Numbered = tuple[int, wld.Event]


def gathered(batches: list[wld.Batch]) -> wld.Gathered:
    group = wld.Gathered()
    for batch in batches:
        group.add(batch)
    return group


def numbered(folder: Path) -> list[Numbered]:
    tape = wld.open_tape(folder)
    assert verify(folder).is_intact
    return [(int(n), event) for n, event in zip(tape.trades()["number"], tape.only(["trade"]), strict=True)]


@pytest.mark.parametrize("trouble", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(6))
def test_the_tape_is_the_same_however_it_is_gathered(
    seed: int, trouble: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "COLUMNS_FROM", 10)  # some reads by rows, some by columns
    luck = random.Random(seed)
    batches, number = [], luck.randrange(3)
    for batch in reads(seed, trouble, 30):
        batches.append(wld.Batch(batch, number))
        number += len(batch) + luck.choice([0, 0, 0, 5])  # the ring's numbers may leave some out
    groups, rest = [], list(batches)
    while rest:
        size = luck.randrange(1, 9)
        groups.append(rest[:size])
        rest = rest[size:]
    with wld.TapeWriter(tmp_path / "one", source="test", rotate_minutes=1) as writer:
        for batch in batches:
            writer.append(batch)
    with wld.TapeWriter(tmp_path / "all", source="test", rotate_minutes=1) as writer:
        for group in groups:
            writer.append(gathered(group))
            if luck.random() < 0.5:
                writer.flush()
    assert list(wld.open_tape(tmp_path / "all")) == list(wld.open_tape(tmp_path / "one"))
    assert numbered(tmp_path / "all") == numbered(tmp_path / "one")


def test_hours_change_within_what_was_gathered(tmp_path: Path) -> None:
    events = [trade(0), trade(1), trade(2, trade(0).receive_time + HOUR), trade(3, trade(0).receive_time + 2 * HOUR)]
    with wld.TapeWriter(tmp_path, source="test") as writer:
        writer.append(gathered([wld.Batch([trade(0)], 0)]))
        writer.append(gathered([wld.Batch(events[1:3], 1), wld.Batch(events[3:], 3)]))
        later = trade(4, events[-1].receive_time + HOUR)
        writer.append(gathered([wld.Batch([later], 4)]))
    events.append(later)
    assert list(wld.open_tape(tmp_path)) == events
    assert len(list(tmp_path.glob("*.bin"))) == 4


def test_numbers_that_do_not_rise_are_given_anew(tmp_path: Path) -> None:
    events = mixed(8)
    with wld.TapeWriter(tmp_path, source="test") as writer:
        writer.append(gathered([wld.Batch(events[:2], 10)]))
        writer.append(gathered([wld.Batch(events[2:4], 3), wld.Batch(events[4:6], 0)]))
        writer.append(gathered([wld.Batch(events[6:], 0)]))
    assert list(wld.open_tape(tmp_path)) == events


def test_full_snapshots_and_empty_batches(tmp_path: Path) -> None:
    events = mixed(6)
    with wld.TapeWriter(tmp_path, source="test", depth="snapshot") as writer:
        writer.append(gathered([]))
        writer.append(gathered([wld.Batch([]), wld.Batch(events)]))
    kinds = {type(event) for event in wld.open_tape(tmp_path)}
    assert wld.BookSnapshot in kinds
    assert wld.BookDelta not in kinds


def test_a_disk_that_refuses_costs_nothing_and_lets_no_more_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape_writer, "BUFFER_EVENTS", 10)
    events = [trade(i) for i in range(40)]
    groups = [
        gathered([wld.Batch(events[i : i + 3], i), wld.Batch(events[i + 3 : i + 8], i + 3)]) for i in range(8, 40, 8)
    ]
    writer = wld.TapeWriter(tmp_path, source="test")
    writer.append(wld.Batch(events[:8]))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
        for _ in range(5):
            with pytest.raises(wld.TapeError):
                writer.append(groups[0])
        assert len(groups[0]) == 8
    for group in groups:
        writer.append(group)
        writer.append(group)  # given twice: it is in already
    writer.close()
    assert list(wld.open_tape(tmp_path)) == events
