"""A read's columns go to the tape as columns and come back as the events they stand for."""

from __future__ import annotations

import random
import uuid
from operator import itemgetter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wld
import wld.bybit.columns
from tests.bybit.test_columns import Exchange, S
from wld.batch import pack_uuids, trade_id_bytes
from wld.bybit.protocol import BybitProtocol
from wld.bybit.subscriptions import topics_for
from wld.config import TOPICS
from wld.events import BookDelta, Event
from wld.tape import collector
from wld.tape import table as tape_table

SYMBOLS = ("WLDUSDT", "1000PEPEUSDT", "BTC-27NOV26", "AUSDT")


@pytest.fixture(autouse=True)
def small_reads_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wld.bybit.columns, "COLUMNS_FROM", 1)


def reads(seed: int, trouble: float, count: int, symbols: tuple[str, ...] = SYMBOLS) -> list[wld.Batch]:
    """Batches of one connection, numbered by nobody yet."""
    luck = random.Random(seed)
    exchange, protocol = Exchange(luck, trouble, symbols), BybitProtocol(topics_for(symbols, TOPICS, 50))
    protocol.open(0)
    out = []
    for now in range(count):
        events = protocol.receive_read([exchange.message() for _ in range(luck.choice([2, 20, 60]))], (now + 1) * S)
        if events:
            out.append(wld.Batch(events))
    return out


def record(batches: list[wld.Batch], folder: Path, flush_every: int) -> list[Event]:
    number = 0
    with wld.TapeWriter(folder, source="test") as writer:
        for i, batch in enumerate(batches):
            writer.append(wld.Batch(batch, number))
            number += len(batch)
            if i % flush_every == 0:
                writer.flush()
    return list(wld.open_tape(folder))


@pytest.mark.parametrize("trouble", [0.0, 0.3])
@pytest.mark.parametrize("flush_every", [1, 7, 1000])
def test_events_come_back_equal_and_in_order(trouble: float, flush_every: int, tmp_path: Path) -> None:
    batches = reads(5, trouble, 45)
    assert sum(batch.tables is not None for batch in batches) > 10
    expected = [event for batch in batches for event in list(wld.Batch(batch))]
    assert record(batches, tmp_path, flush_every) == expected


def test_two_connections_with_their_own_symbol_tables(tmp_path: Path) -> None:
    both = [b for pair in zip(reads(5, 0, 15), reads(6, 0, 15), strict=False) for b in pair]
    expected = [event for batch in both for event in batch]
    assert record(both, tmp_path, 4) == sorted(expected, key=lambda e: 0)


def test_one_symbol(tmp_path: Path) -> None:
    only = [b for b in reads(9, 0, 15, ("WLDUSDT",)) if b.tables is not None]
    expected = [event for batch in only for event in batch]
    assert record(only, tmp_path, 3) == expected


def test_no_event_object_is_made_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [b for b in reads(5, 0, 25) if b.tables is not None and not b.tables.rows]
    assert batches
    with wld.TapeWriter(tmp_path / "warm", source="test") as writer:
        writer.append([BookDelta("A", (), (), 1, receive_time=1)])  # opens the journal's hour
        monkeypatch.setattr(wld.tables.Tables, "events", lambda _: pytest.fail("rows were made"))
        for batch in batches:
            writer.append(batch)
        monkeypatch.undo()


def test_an_overrun_gap_stands_before_the_columns(tmp_path: Path) -> None:
    batch = next(b for b in reads(5, 0, 25) if b.tables is not None)
    gap = wld.Gap(gap_id=1, reason=wld.GapReason.OVERRUN, missed=7, receive_time=batch.first_receive_time)
    behind = wld.Batch(batch, 10).after(gap)
    assert behind.first_number == 9
    assert behind.tables is not None
    assert list(behind) == [gap, *batch]
    assert behind.trades["number"].tolist() == [n + 10 for n in wld.Batch(batch).trades["number"].tolist()]
    assert record([behind], tmp_path, 1) == [gap, *batch]


def test_a_flush_names_only_the_symbols_that_came() -> None:
    batch = next(b for b in reads(5, 0, 25) if b.tables is not None and b.tables.trades is not None)
    assert batch.tables is not None
    tables = collector.from_reads([(batch.tables, 0)])
    for one in tables:
        present = {event.symbol for _, event in tape_table.to_events(one)}
        assert set(one.symbols) == present


def test_one_symbols_wide_value_or_text_makes_no_lists_of_the_others() -> None:
    wide, text = 10**20, "2026-11-27T08:00:00Z"
    events = [
        wld.Ticker("WIDE", volume_24h=wide, receive_time=1),
        wld.Ticker("PLAIN", volume_24h=5, receive_time=1),
        wld.Ticker("DATED", delivery_time=text, receive_time=1),
    ]
    gathered = collector.Collector()
    gathered.add_numbered(enumerate(events))
    [whole] = gathered.tables()
    apart = {part.symbols[0]: part.columns for part in tape_table.by_symbol(whole)}
    assert apart["WIDE"]["volume_24h"] == [wide]
    assert apart["PLAIN"]["volume_24h"].tolist() == [5]  # type: ignore[union-attr]
    assert apart["DATED"]["delivery_time"] == [text]
    assert "delivery_time" not in apart["PLAIN"]
    assert "volume_24h" not in apart["DATED"]
    again = [event for part in tape_table.by_symbol(whole) for event in tape_table.to_events(part)]
    assert sorted(again, key=itemgetter(0)) == list(enumerate(events))


_ID = st.uuids().map(str)
_NEARLY = st.builds(
    lambda text, at, letter: text[:at] + letter + text[at + 1 :], _ID, st.integers(0, 35), st.sampled_from("-aAgG é\n")
)


@given(st.lists(_ID | _NEARLY | st.text(max_size=40), max_size=6))
def test_ids_are_packed_only_where_their_text_comes_back(ids: list[str]) -> None:
    packed, is_uuid = pack_uuids(ids)
    for text, raw, is_plain in zip(ids, packed, is_uuid, strict=True):
        expected = trade_id_bytes(text)
        assert is_plain == (expected is not None)
        assert bytes(raw) == (expected or bytes(16))
    assert [text for text, is_plain in zip(ids, is_uuid, strict=True) if is_plain] == tape_table.uuid_texts(
        packed[is_uuid]
    )


def test_ids_of_another_length_do_not_borrow_from_their_neighbour() -> None:
    one, two = (str(uuid.UUID(int=n)) for n in (1, 2))
    assert pack_uuids([one + two[0], two[1:]])[1].tolist() == [False, False]
