"""Merge: two recorders of one feed, each with holes, made into one without those that the other can fill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wld
from tests.exchange.test_serve import SYMBOLS, recording
from wld.tape.merge import MergeResult, merge
from wld.tape.verify import verify

T0 = 1_764_000_000_000_000_000
MS = 1_000_000
SECOND = 1_000_000_000
STREAM = recording(seconds=6, seed=3)
STEPS = 120
"""Messages come each 50 ms; a hole is a range of such steps."""


def step_of(event: wld.Event) -> int:
    return (event.receive_time - T0) // (50 * MS)


def recorded(stream: list[wld.Event], holes: list[tuple[int, int]], late: int = 0) -> list[wld.Event]:
    """What a recorder writes that lost its connection in some steps: a Gap, then snapshots of the state, then deltas.

    `late` is how much later than the other this host receives, ns.
    """
    out: list[wld.Event] = []
    books = {symbol: wld.OrderBook(symbol) for symbol in SYMBOLS}
    tickers: dict[str, wld.Ticker] = {}
    lost: set[int] = set()
    for first, last in holes:
        lost |= set(range(first, last))
    was_lost = False
    last_time: int | None = None
    gap_id = 0
    for event in stream:
        is_lost = step_of(event) in lost
        if not is_lost:
            if was_lost and last_time is not None:
                gap_id += 1
                now = event.receive_time
                out.append(
                    wld.Gap(gap_id, wld.GapReason.DISCONNECT, first_time=last_time, last_time=now, receive_time=now)
                )
                for symbol, book in books.items():
                    if book.is_valid:
                        times = {"event_time": now - 20 * MS, "sent_time": now - 10 * MS, "receive_time": now}
                        levels = (tuple(book.bids()), tuple(book.asks()))
                        out.append(wld.BookSnapshot(symbol, *levels, book.update_id, book.sequence, **times))
                    if symbol in tickers:
                        sent = {"sent_time": now - 10 * MS, "receive_time": now}
                        out.append(msgspec.structs.replace(tickers[symbol], **sent))
            elif was_lost:
                for symbol, book in books.items():
                    if book.is_valid:
                        times = {"sent_time": event.receive_time - 10 * MS, "receive_time": event.receive_time}
                        levels = (tuple(book.bids()), tuple(book.asks()))
                        out.append(wld.BookSnapshot(symbol, *levels, book.update_id, book.sequence, **times))
            was_lost = False
            out.append(event)
            last_time = event.receive_time
        else:
            was_lost = True
        if isinstance(event, wld.BookSnapshot | wld.BookDelta):
            books[event.symbol].apply(event)
        elif isinstance(event, wld.Ticker):
            tickers[event.symbol] = event
    if late:
        shift = {"receive_time": late}
        out = [_later(event, shift["receive_time"]) for event in out]
    return out


def _later(event: wld.Event, late: int) -> wld.Event:
    names = ("receive_time", *(("first_time", "last_time") if isinstance(event, wld.Gap) else ()))
    return msgspec.structs.replace(event, **{name: getattr(event, name) + late for name in names})


def write(folder: Path, *runs: list[wld.Event]) -> str:
    for events in runs:
        with wld.TapeWriter(folder, source="test") as writer:
            writer.append(events)
    return str(folder)


def merged(place: Path, *recordings: list[wld.Event]) -> tuple[list[wld.Event], MergeResult]:
    names = [write(place / f"r{i}", events) for i, events in enumerate(recordings)]
    result = merge(names, place / "out")
    return list(wld.open_tape(place / "out")), result


def market(events: list[wld.Event]) -> list[wld.Event]:
    return [e for e in events if not isinstance(e, wld.Gap | wld.Repair | wld.Instrument)]


def by_topic(events: list[wld.Event]) -> dict[Any, list[wld.Event]]:
    found: dict[Any, list[wld.Event]] = {}
    for event in market(events):
        kind = "book" if isinstance(event, wld.BookSnapshot | wld.BookDelta) else type(event).__name__
        found.setdefault((kind, event.symbol), []).append(msgspec.structs.replace(event, receive_time=0))
    return found


def test_each_ones_hole_is_filled_from_the_other_and_the_gap_is_gone(tmp_path: Path) -> None:
    a, b = recorded(STREAM, [(20, 40)]), recorded(STREAM, [(70, 75), (90, 100)])
    events, result = merged(tmp_path, a, b)
    assert events == STREAM
    assert (result.summary.gaps_closed, result.summary.gaps_left, result.summary.divergent) == (3, 0, 0)
    report = verify(tmp_path / "out")
    assert report.is_complete
    assert {topic.covered for topic in report.topics} == {1.0}


def test_of_a_hole_in_both_only_what_both_lack_is_left(tmp_path: Path) -> None:
    a, b = recorded(STREAM, [(20, 60)]), recorded(STREAM, [(40, 80)])
    events, result = merged(tmp_path, a, b)
    kept = [event for event in STREAM if not 40 <= step_of(event) < 60]
    (gap,) = (event for event in events if isinstance(event, wld.Gap))
    assert gap.first_time is not None
    assert gap.last_time is not None
    assert (gap.first_time, gap.last_time) == (T0 + 39 * 50 * MS, T0 + 60 * 50 * MS)
    assert result.summary.gaps_left == 1
    for (kind, symbol), found in by_topic(events).items():
        if kind in ("Trade", "Liquidation"):
            assert found == by_topic(kept)[kind, symbol]
    for symbol in SYMBOLS:
        book = wld.OrderBook(symbol)
        for event in events:
            if isinstance(event, wld.BookSnapshot | wld.BookDelta) and event.symbol == symbol:
                book.apply(event)  # refuses a hole that no snapshot mends
        assert book.bids() == wld.open_tape(write(tmp_path / "all", STREAM)).book_at(T0 + 9 * SECOND, symbol).bids()
    place = events.index(gap)
    assert all(step_of(event) < 40 for event in market(events[:place]))
    assert all(step_of(event) >= 60 for event in market(events[place:]))
    report = verify(tmp_path / "out")
    assert report.is_intact
    assert [len(topic.holes) for topic in report.topics] == [1] * len(report.topics)


HOLES = st.lists(st.tuples(st.integers(0, STEPS), st.integers(1, 30)), max_size=4).map(
    lambda found: [(first, min(first + length, STEPS)) for first, length in found]
)


CUTS = given(holes_a=HOLES, holes_b=HOLES, late=st.sampled_from([0, 3 * MS, -2 * SECOND, 5 * SECOND]))
RARELY = [HealthCheck.function_scoped_fixture]


@settings(deadline=None, max_examples=10, suppress_health_check=RARELY)
@CUTS
def test_a_stream_cut_two_ways_comes_back(
    tmp_path: Path, holes_a: list[tuple[int, int]], holes_b: list[tuple[int, int]], late: int
) -> None:
    """Whatever each recorder lost, on whatever clock: what one of them has is there once, in order."""
    check_cuts(tmp_path, holes_a, holes_b, late)


@pytest.mark.slow
@settings(deadline=None, max_examples=200, suppress_health_check=RARELY)
@CUTS
def test_a_stream_cut_many_ways_comes_back(
    tmp_path: Path, holes_a: list[tuple[int, int]], holes_b: list[tuple[int, int]], late: int
) -> None:
    check_cuts(tmp_path, holes_a, holes_b, late)


def without_echoes(events: list[wld.Event]) -> list[wld.Event]:
    """Without what only tells the state again: where the other did not record, nobody can say that it is one too many."""
    kept: list[wld.Event] = []
    for event in events:
        before = kept[-1] if kept else None
        is_echo = False
        if isinstance(event, wld.BookSnapshot) and isinstance(before, wld.BookSnapshot | wld.BookDelta):
            is_echo = event.update_id == before.update_id
        elif isinstance(event, wld.Ticker) and isinstance(before, wld.Ticker):
            is_echo = msgspec.structs.replace(event, sent_time=before.sent_time) == before
        if is_echo:
            continue
        kept.append(event)
    return kept


def check_cuts(tmp_path: Path, holes_a: list[tuple[int, int]], holes_b: list[tuple[int, int]], late: int) -> None:
    place = Path(mkdtemp(dir=tmp_path))
    lost_a, lost_b = ({step for first, last in holes for step in range(first, last)} for holes in (holes_a, holes_b))
    a, b = recorded(STREAM, holes_a), recorded(STREAM, holes_b, late)
    if not a or not b:
        return
    events, _ = merged(place, a, b)
    lost = lost_a & lost_b
    kept = [event for event in STREAM if step_of(event) not in lost]
    found, expected = by_topic(events), by_topic(kept)
    for key, original in expected.items():
        if key[0] in ("Trade", "Liquidation") or not lost:
            assert without_echoes(found[key]) == without_echoes(original), key
    times = [event.receive_time for event in events]
    assert times == sorted(times)
    gaps = [event for event in events if isinstance(event, wld.Gap)]
    inner = {step for step in lost if min(map(step_of, kept)) < step < max(map(step_of, kept))} if kept else set()
    # Holes that touch may have one between them: what was sent in the instant that neither saw is not known.
    is_near = any(step + d in lost_b for step in lost_a for d in (-1, 0, 1))
    assert bool(gaps) == bool(inner) or (is_near and not inner)
    for symbol in SYMBOLS:
        book = wld.OrderBook(symbol)
        ids: list[int] = []
        for event in without_echoes(found.get(("book", symbol), [])):
            if isinstance(event, wld.BookSnapshot | wld.BookDelta):
                book.apply(event)
                ids.append(event.update_id)
        assert len(ids) == len(set(ids))
    report = verify(place / "out")
    assert report.is_intact
    assert not any(hole.reason == "unexplained" for topic in report.topics for hole in topic.holes)


def test_a_recording_merged_with_a_part_of_it_is_itself(tmp_path: Path) -> None:
    events, result = merged(tmp_path, STREAM, STREAM[100:200])
    assert events == STREAM
    assert result.summary.filled[1] == 0
    events, result = merged(tmp_path / "other", STREAM[100:200], STREAM)
    assert by_topic(events) == by_topic(STREAM)


def test_three_recordings_are_one(tmp_path: Path) -> None:
    parts = [recorded(STREAM, holes) for holes in ([(10, 50)], [(10, 30), (80, 90)], [(40, 85)])]
    events, _ = merged(tmp_path, *parts)
    assert events == STREAM
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        path.name for path in sorted((tmp_path / "out").glob("*.bin"))
    ]


def trade(number: int, *, backfilled: bool = False, at: int | None = None) -> wld.Trade:
    time = T0 + number * SECOND
    return wld.Trade(
        "AUSDT", 1, 1, wld.AggressorSide.BUY, f"t{number}", is_backfilled=backfilled, event_time=time,
        sent_time=None if backfilled else time, receive_time=time if at is None else T0 + at * SECOND,
    )  # fmt: skip


def test_a_trade_that_was_sent_is_better_than_the_same_one_fetched_later(tmp_path: Path) -> None:
    gap = wld.Gap(
        1, wld.GapReason.DISCONNECT, first_time=T0 + SECOND, last_time=T0 + 4 * SECOND, receive_time=T0 + 4 * SECOND
    )
    fetched = [trade(2, backfilled=True, at=5), trade(3, backfilled=True, at=5)]
    a = [
        trade(0),
        trade(1),
        gap,
        trade(4),
        trade(5),
        *fetched,
        wld.Repair(1, 2, 0, receive_time=T0 + 5 * SECOND),
        trade(6),
    ]
    sent = [trade(n) for n in range(7)]
    assert merged(tmp_path / "1", a, sent)[0] == sent
    assert merged(tmp_path / "2", sent, a)[0] == sent
    alone, _ = merged(tmp_path / "3", a, [trade(0), trade(1)])
    assert alone == a  # nobody else recorded then: the Gap stays, with its Repair


def test_what_both_fetched_draws_nothing_that_was_sent_before_it(tmp_path: Path) -> None:
    def gap(last: int) -> wld.Gap:
        now = T0 + last * SECOND
        return wld.Gap(1, wld.GapReason.DISCONNECT, first_time=T0, last_time=now, receive_time=now)

    def fetched(last: int, at: int) -> list[wld.Event]:
        return [trade(n, backfilled=True, at=at) for n in range(1, last)]

    first = [trade(0), gap(3), *map(trade, (3, 4)), *fetched(3, 5), *map(trade, range(5, 12))]
    second = [trade(0), gap(6), *map(trade, range(6, 10)), *fetched(6, 9), *map(trade, (10, 11))]
    events, _ = merged(tmp_path, first, second)
    sent = [event.event_time for event in events if isinstance(event, wld.Trade) and not event.is_backfilled]
    assert sent == sorted(sent)
    assert len(market(events)) == 12


def test_a_gap_of_both_stands_before_the_first_event_behind_it_whoever_is_sooner(tmp_path: Path) -> None:
    def tick(number: int, time: int) -> wld.Event:
        return wld.Ticker("AUSDT", number, sequence=number, sent_time=time, receive_time=time)

    def cut(late: int) -> list[wld.Event]:
        """Both are cut for a second; this one is back so many ms late, within what two lines differ."""
        back = T0 + 2 * SECOND + late * MS
        hole = wld.Gap(1, wld.GapReason.DISCONNECT, first_time=T0 + SECOND, last_time=back, receive_time=back)
        before = [tick(n, T0 + n * 10 * MS) for n in range(101)]
        return [*before, hole, *(tick(200 + n, T0 + 2 * SECOND + n * 10 * MS) for n in range(late // 10, 100))]

    for late in ((0, 20), (20, 0)):
        place = tmp_path / str(late[0])
        events, result = merged(place, *map(cut, late))
        at = next(i for i, event in enumerate(events) if isinstance(event, wld.Gap))
        assert result.summary.gaps_left == 1
        assert all(event.sent_time <= T0 + SECOND for event in events[:at] if isinstance(event, wld.Ticker))


def test_recordings_by_several_workers_are_merged_as_one_each(tmp_path: Path) -> None:
    def sharded(name: str, events: list[wld.Event]) -> str:
        for i, symbol in enumerate(SYMBOLS, 1):
            own = [event for event in events if getattr(event, "symbol", symbol) in (symbol, None)]
            write(tmp_path / name / f"shard-{i}-of-2", own)
        return str(tmp_path / name)

    a, b = sharded("a", recorded(STREAM, [(20, 40)])), sharded("b", recorded(STREAM, [(60, 70)]))
    result = merge([a, b], tmp_path / "out")
    assert (result.summary.gaps_closed, result.summary.gaps_left) == (4, 0)
    assert by_topic(list(wld.open_tape(tmp_path / "out"))) == by_topic(STREAM)
    report = verify(tmp_path / "out")
    assert report.is_complete
    assert not report.not_recorded


def test_identical_liquidations_of_one_message_stay_as_many_as_they_were(tmp_path: Path) -> None:
    def message(second: int, count: int) -> list[wld.Event]:
        times = {"event_time": T0 + second * SECOND, "sent_time": T0 + second * SECOND}
        one = wld.Liquidation("AUSDT", wld.PositionSide.LONG, 5, 7, **times, receive_time=T0 + second * SECOND)
        return [one] * count

    a = [*message(1, 3), *message(2, 1)]
    b = [*message(1, 3), *message(2, 1), *message(3, 2)]
    assert merged(tmp_path, a, b)[0] == b


def test_time_that_neither_recorded_stays_not_recorded(tmp_path: Path) -> None:
    early, late = [trade(n) for n in range(10)], [trade(n) for n in range(100, 110)]
    first = write(tmp_path / "a", early[:6], late[5:])
    second = write(tmp_path / "b", early[3:], late[:7])
    merge([first, second], tmp_path / "out")
    assert list(wld.open_tape(tmp_path / "out")) == [*early, *late]
    assert verify(tmp_path / "out").not_recorded == ((T0 + 9 * SECOND, T0 + 100 * SECOND),)


def test_books_that_differ_under_one_update_id_are_counted(tmp_path: Path) -> None:
    def books(size: int) -> list[wld.Event]:
        times = {"sent_time": T0, "receive_time": T0}
        return [
            wld.BookSnapshot("AUSDT", ((5, 1),), (), 1, 1, **times),
            wld.BookDelta("AUSDT", ((5, size),), (), 2, 2, **times),
        ]

    events, result = merged(tmp_path, books(8), books(9))
    assert events == books(8)
    assert result.summary.divergent == 1


def test_a_damaged_recording_is_mended_from_the_other(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", STREAM), write(tmp_path / "b", STREAM)
    (path,) = Path(a).glob("*.bin")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    result = merge([a, b], tmp_path / "out")
    assert result.damages
    assert by_topic(list(wld.open_tape(tmp_path / "out"))) == by_topic(STREAM)


def test_the_program_says_what_it_filled_and_never_overwrites(tmp_path: Path) -> None:
    a, b = (write(tmp_path / name, recorded(STREAM, holes)) for name, holes in (("a", [(20, 40)]), ("b", [(50, 60)])))
    command = [sys.executable, "-m", "wld", "merge", a, b, "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 gaps closed, 0 left" in done.stdout
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 2
    assert "exists; a merge never overwrites" in again.stderr
    command[-1] = str(tmp_path / "again")
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["summary"]["gaps_left"] == 0
    one = subprocess.run([*command[:4], a, "-o", "x"], capture_output=True, text=True, timeout=60, check=False)
    assert one.returncode == 2


def test_a_merge_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = write(tmp_path / "a", STREAM)
    with pytest.raises(wld.TapeError, match="no such file"):
        merge([a, str(tmp_path / "nowhere")], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_snapshot_stamped_before_its_own_update_goes_behind_what_led_to_it(
    tmp_path: Path, order: tuple[int, int]
) -> None:
    """The venue's gateways stamp each for itself; and a message with a push time far ahead moves the clock of all."""

    def delta(update_id: int) -> wld.BookDelta:
        now = T0 + update_id * 20 * MS
        levels = ((update_id * 100, 100),)
        return wld.BookDelta("WLDUSDT", levels, (), update_id, update_id, now, now + 9 * MS, now)

    def snapshot(update_id: int) -> wld.BookSnapshot:
        now = T0 + update_id * 20 * MS
        return wld.BookSnapshot("WLDUSDT", ((100, 100),), ((10**9, 1),), update_id, update_id, now, now, now)

    ahead = wld.Liquidation("BTCUSDT", wld.PositionSide.LONG, 1, 1, T0, T0 + 700 * MS, T0 + 300 * MS)
    whole = [snapshot(1), *map(delta, range(2, 16)), ahead, *map(delta, range(16, 50))]
    late = [snapshot(30), *map(delta, range(31, 50))]
    events, _ = merged(tmp_path, *[(whole, late)[i] for i in order])
    ids = [e.update_id for e in events if isinstance(e, wld.BookDelta)]
    assert ids == list(range(2, 50))
    assert verify(tmp_path / "out").is_complete
