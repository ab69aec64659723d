"""What entries mean, without Redis: everything published is read once, in order, or told as missing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wld_redis.stream import Entry, Publication, Reading

import wld
from wld import testing


def trades(first: int, count: int) -> list[wld.Event]:
    return [testing.make_trade(size=n + 1, trade_id=str(n), time=testing.TIME + n) for n in range(first, first + count)]


def entry_id(n: int) -> bytes:
    return b"%d-0" % n


def read(reading: Reading, entries: Sequence[tuple[int, Entry]]) -> list[wld.Event]:
    return [event for n, entry in entries for event in reading.take(entry_id(n), entry)]


def published(publication: Publication, batches: Sequence[Sequence[wld.Event]]) -> list[Entry]:
    return [publication.publish(batch) for batch in batches]


def test_everything_comes_out_as_it_went_in() -> None:
    publication = Publication(b"host:a", b"0000000a")
    entries = published(publication, [trades(0, 3), trades(3, 1)])
    assert [(e.at, e.count) for e in entries] == [(0, 3), (3, 1)]
    assert read(Reading("wld"), list(enumerate(entries))) == trades(0, 4)


def test_an_entry_survives_redis() -> None:
    [entry] = published(Publication(b"host:a", b"0000000a"), [trades(0, 2)])
    fields = {str(k).encode(): v if isinstance(v, bytes) else str(v).encode() for k, v in entry.fields().items()}
    assert Entry.of(fields) == entry
    with pytest.raises(ValueError, match="not an entry of wld"):
        Entry.of({b"x": b"y"})


def test_an_entry_added_twice_is_taken_once() -> None:
    a, b = published(Publication(b"host:a", b"0000000a"), [trades(0, 3), trades(3, 2)])
    assert read(Reading("wld"), [(0, a), (1, a), (2, b), (3, b)]) == trades(0, 5)


def test_a_stream_trimmed_past_the_reader_is_a_gap_with_its_count() -> None:
    a, b, c = published(Publication(b"host:a", b"0000000a"), [trades(0, 2), trades(2, 3), trades(5, 1)])
    reading = Reading("wld")
    read(reading, [(0, a)])
    again = Reading("wld", reading.position)
    gap, trade = read(again, [(2, c)])
    assert isinstance(gap, wld.Gap)
    assert (gap.reason, gap.missed) == (wld.GapReason.OVERRUN, 3)
    assert (gap.first_time, gap.last_time) == (testing.TIME + 1, testing.TIME + 5)
    assert [trade] == trades(5, 1)
    assert b.count == 3


@pytest.mark.parametrize(("ends", "reason"), [(False, "disconnect"), (True, "shutdown")])
def test_a_new_run_of_the_publisher_is_a_gap(ends: bool, reason: str) -> None:
    first, second = Publication(b"host:a", b"0000000a"), Publication(b"host:a", b"0000000b")
    entries = published(first, [trades(0, 2)]) + ([first.end()] if ends else []) + published(second, [trades(7, 1)])
    *before, gap, after = read(Reading("wld"), list(enumerate(entries)))
    assert [*before, after] == trades(0, 2) + trades(7, 1)
    assert isinstance(gap, wld.Gap)
    assert (gap.reason.value, gap.missed, gap.first_time, gap.last_time) == (
        reason,
        None,
        testing.TIME + 1,
        testing.TIME + 7,
    )


def test_a_reader_that_joins_takes_the_books_from_a_checkpoint() -> None:
    publication = Publication(b"host:a", b"0000000a")
    published(publication, [[testing.make_instrument(), testing.make_ticker(), testing.make_book_snapshot()]])
    published(publication, [[testing.make_book_delta(update_id=2)]])
    checkpoint = publication.checkpoint()
    later = published(publication, [[testing.make_book_delta(update_id=3, bids=(("1.98", 0),), time=testing.TIME + 9)]])
    events = read(Reading("wld"), [(5, checkpoint), (6, *later)])
    assert [type(e) for e in events] == [wld.Instrument, wld.Ticker, wld.BookSnapshot, wld.BookDelta]
    book = wld.OrderBook("WLDUSDT")
    for event in events[2:]:
        assert isinstance(event, wld.BookSnapshot | wld.BookDelta)
        book.apply(event)
    assert book.bids() == [(199_000_000, 120 * wld.SCALE)]


def test_a_reader_that_is_whole_passes_over_checkpoints() -> None:
    publication = Publication(b"host:a", b"0000000a")
    events = [testing.make_book_snapshot(), testing.make_book_delta(update_id=2)]
    [entry] = published(publication, [events])
    reading = Reading("wld")
    seen = read(reading, [(0, entry), (1, publication.checkpoint()), (2, publication.checkpoint())])
    assert seen == events


def test_a_reader_without_a_book_drops_deltas_until_there_is_one() -> None:
    publication = Publication(b"host:a", b"0000000a")
    published(publication, [[testing.make_book_snapshot()]])
    [missed] = published(publication, [[testing.make_book_delta(update_id=2), *trades(0, 1)]])
    reading = Reading("wld")
    assert read(reading, [(1, missed)]) == trades(0, 1)
    [snapshot] = read(reading, [(2, publication.checkpoint())])
    assert isinstance(snapshot, wld.BookSnapshot)
    assert snapshot.update_id == 2


def test_after_a_hole_books_are_not_continued_and_what_was_dropped_is_told() -> None:
    publication = Publication(b"host:a", b"0000000a")
    [a] = published(publication, [[testing.make_book_snapshot()]])
    published(publication, [[testing.make_book_delta(update_id=2)]])
    [c] = published(publication, [[testing.make_book_delta(update_id=3)]])
    checkpoint = publication.checkpoint()
    [d] = published(publication, [[testing.make_book_delta(update_id=4)]])
    reading = Reading("wld")
    read(reading, [(0, a)])
    hole, dropped, snapshot, delta = read(reading, [(2, c), (3, checkpoint), (4, d)])
    assert isinstance(hole, wld.Gap)
    assert isinstance(dropped, wld.Gap)
    assert (hole.missed, dropped.missed, dropped.topic, dropped.symbol) == (1, 1, "orderbook.50", "WLDUSDT")
    book = wld.OrderBook("WLDUSDT")
    for event in (snapshot, delta):
        assert isinstance(event, wld.BookSnapshot | wld.BookDelta)
        book.apply(event)
    assert book.update_id == 4


def test_a_resumed_reader_goes_on_without_a_hole_and_gets_the_books_at_the_next_checkpoint() -> None:
    publication = Publication(b"host:a", b"0000000a")
    [a, b] = published(publication, [[testing.make_book_snapshot()], [testing.make_book_delta(update_id=2)]])
    reading = Reading("wld")
    read(reading, [(0, a)])
    again = Reading("wld", reading.position)
    delta, snapshot = read(again, [(1, b), (2, publication.checkpoint()), (3, publication.checkpoint())])
    assert isinstance(delta, wld.BookDelta)
    assert isinstance(snapshot, wld.BookSnapshot)


def test_a_checkpoint_that_lies_before_what_the_reader_holds_is_left_for_a_later_one() -> None:
    publication = Publication(b"host:a", b"0000000a")
    [a] = published(publication, [[testing.make_book_snapshot()]])
    early = publication.checkpoint()
    [b] = published(publication, [[testing.make_book_delta(update_id=2)]])
    late = publication.checkpoint()
    reading = Reading("wld")
    read(reading, [(0, a)])
    again = Reading("wld", reading.position)
    assert list(again.take(entry_id(1), early, restores=False)) == []
    delta, snapshot = read(again, [(2, b), (3, late)])
    assert isinstance(delta, wld.BookDelta)
    assert isinstance(snapshot, wld.BookSnapshot)


def test_gaps_of_different_runs_keep_their_ids_apart_and_their_repairs() -> None:
    events = [testing.make_gap(gap_id=1), testing.make_repair(1), testing.make_gap("overrun", gap_id=(1 << 48) + 1)]
    seen: list[wld.Event] = []
    for run in (b"0000000a", b"0000000b"):
        seen += read(Reading("wld"), list(enumerate(published(Publication(b"host:a", run), [events]))))
    ids = [e.gap_id for e in seen if isinstance(e, wld.Gap | wld.Repair)]
    assert ids[0] == ids[1]
    assert ids[3] == ids[4]
    assert len(set(ids)) == 4
    assert max(ids) < 1 << 63


def test_several_publishers_share_a_stream_and_each_is_continued_by_itself() -> None:
    one, two = Publication(b"host:a", b"0000000a"), Publication(b"host:b", b"0000000b")
    a = published(one, [trades(0, 2), trades(2, 2), trades(4, 1)])
    b = published(two, [trades(10, 1), trades(11, 3)])
    reading = Reading("wld")
    entries = [(0, a[0]), (1, b[0]), (2, a[1]), (3, b[1])]
    assert read(reading, entries) == trades(0, 2) + trades(10, 1) + trades(2, 2) + trades(11, 3)
    again = Reading("wld", reading.position)
    restarted = published(Publication(b"host:b", b"0000000c"), [trades(20, 1)])
    events = read(again, [(4, a[2]), (5, restarted[0])])
    assert [type(event) for event in events] == [wld.Trade, wld.Gap, wld.Trade]


def test_a_position_survives_redis() -> None:
    import msgspec
    from wld_redis.stream import Track

    reading = Reading("wld")
    read(reading, list(enumerate(published(Publication(b"host:a", b"0000000a"), [trades(0, 2)]))))
    assert reading.position is not None
    tracks = msgspec.json.decode(msgspec.json.encode(reading.position.tracks), type=dict[str, Track])
    assert tracks == reading.position.tracks


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
    st.integers(0, 11),
    st.sets(st.integers(0, 11)),
)
@settings(deadline=None, max_examples=100)
def test_events_and_gaps_account_for_all_that_was_published(
    sizes: list[int], lost: set[int], restart: int, doubled: set[int]
) -> None:
    publication, at = Publication(b"host:a", b"0000000a"), 0
    entries = []
    for size in sizes:
        entries += published(publication, [trades(at, size)])
        at += size
    reading, seen = Reading("wld"), []
    for n, entry in enumerate(entries):
        if n == restart:
            reading = Reading("wld", reading.position)
        if n in lost:
            continue
        for _ in range(2 if n in doubled else 1):
            seen += read(reading, [(n, entry)])
    first = next((n for n in range(len(sizes)) if n not in lost), None)
    if first is None:
        assert seen == []
        return
    last = max(n for n in range(len(sizes)) if n not in lost)
    missed = sum(e.missed or 0 for e in seen if isinstance(e, wld.Gap))
    got = [e.size for e in seen if isinstance(e, wld.Trade)]
    assert got == sorted(set(got))
    assert missed + len(got) == sum(sizes[first : last + 1])
