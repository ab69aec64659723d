"""The verdict of verify: per symbol and topic, complete from when to when, or the exact holes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec import structs

import wld
from wld.tape import show
from wld.tape.verdict import NOT_RECORDED, UNEXPLAINED, TopicVerdict
from wld.tape.verify import VerifyReport, verify

T0 = 1_764_000_000_000_000_000
SECOND = 1_000_000_000


def trade(at: float, symbol: str = "AUSDT") -> wld.Trade:
    time = T0 + int(at * SECOND)
    return wld.Trade(symbol, 1, 1, wld.AggressorSide.BUY, "", event_time=time, receive_time=time)


def book(at: float, update_id: int, symbol: str = "AUSDT", *, is_snapshot: bool = False, depth: int = 50) -> wld.Event:
    kind = wld.BookSnapshot if is_snapshot else wld.BookDelta
    return kind(symbol, ((1, 1),), ((2, 1),), update_id, receive_time=T0 + int(at * SECOND), depth=depth)


def gap(gap_id: int, first: float, last: float, **scope: Any) -> wld.Gap:
    reason = scope.pop("reason", wld.GapReason.DISCONNECT)
    times = {"first_time": T0 + int(first * SECOND), "last_time": T0 + int(last * SECOND)}
    return wld.Gap(gap_id, reason, receive_time=times["last_time"], **times, **scope)


def repair(gap_id: int, at: float, remaining: int | None = 0) -> wld.Repair:
    return wld.Repair(gap_id, 3, remaining, receive_time=T0 + int(at * SECOND))


def judge(folder: Path, *runs: list[wld.Event]) -> VerifyReport:
    for events in runs:
        with wld.TapeWriter(folder, source="test") as writer:
            writer.append(events)
    return verify(folder)


def of(report: VerifyReport, symbol: str, topic: str) -> TopicVerdict:
    (found,) = (t for t in report.topics if (t.symbol, t.topic) == (symbol, topic))
    return found


def test_a_feed_without_a_hole_is_complete_from_its_first_event_to_its_last(tmp_path: Path) -> None:
    events = [book(0, 7, is_snapshot=True), trade(1), *(book(i, 6 + i) for i in range(2, 11))]
    report = judge(tmp_path, events)
    assert [(t.topic, t.events, t.is_complete, t.covered) for t in report.topics] == [
        ("orderbook.50", 10, True, 1.0),
        ("publicTrade", 1, True, 1.0),
    ]
    assert {(t.first_time, t.last_time) for t in report.topics} == {(T0, T0 + 10 * SECOND)}
    assert report.is_complete


def test_a_gap_is_a_hole_in_every_topic_it_names_and_in_no_other(tmp_path: Path) -> None:
    events = [
        trade(0), trade(0, "BUSDT"), book(0, 1, is_snapshot=True),
        gap(1, 2, 4), gap(2, 6, 7, topic="publicTrade", symbol="AUSDT", reason=wld.GapReason.UNDECODABLE, missed=1),
        trade(10), trade(10, "BUSDT"),
    ]  # fmt: skip
    report = judge(tmp_path, events)
    trades = of(report, "AUSDT", "publicTrade")
    assert [(h.reason, h.missed) for h in trades.holes] == [("disconnect", None), ("undecodable", 1)]
    assert (trades.gaps, trades.covered) == (2, 0.7)
    assert [h.reason for h in of(report, "AUSDT", "orderbook.50").holes] == ["disconnect"]
    assert of(report, "BUSDT", "publicTrade").covered == 0.8


def test_overlapping_holes_are_counted_once(tmp_path: Path) -> None:
    report = judge(tmp_path, [trade(0), gap(1, 2, 6), gap(2, 4, 7), trade(10)])
    assert of(report, "AUSDT", "publicTrade").covered == 0.5


def test_a_repair_closes_its_gap_and_only_in_its_own_run(tmp_path: Path) -> None:
    first = [trade(0), gap(1, 2, 3), repair(1, 3), trade(4)]
    second = [trade(5000), gap(1, 5001, 5002), trade(5004)]
    report = judge(tmp_path, first, second)
    verdict = of(report, "AUSDT", "publicTrade")
    assert verdict.repaired == 1
    assert [h.reason for h in verdict.holes] == [NOT_RECORDED, "disconnect"]
    assert [g.first_time for g in report.gaps] == [T0 + 5001 * SECOND]
    assert len(report.repaired) == 1


def test_a_repair_of_a_hole_in_all_topics_brings_back_trades_and_nothing_else(tmp_path: Path) -> None:
    events = [trade(0), book(0, 1, is_snapshot=True), gap(1, 2, 3), trade(2.5), repair(1, 3), trade(4)]
    report = judge(tmp_path, events)
    assert of(report, "AUSDT", "publicTrade").is_complete
    assert [h.reason for h in of(report, "AUSDT", "orderbook.50").holes] == ["disconnect"]
    assert not report.is_complete
    assert len(report.repaired) == 1


def test_a_worker_that_lost_its_connection_costs_the_symbols_of_others_nothing(tmp_path: Path) -> None:
    judge(tmp_path / "shard-1-of-2", [trade(0), gap(1, 2, 4), trade(10)])
    judge(tmp_path / "shard-2-of-2", [trade(0, "BUSDT"), trade(10, "BUSDT")])
    report = verify(tmp_path)
    assert of(report, "AUSDT", "publicTrade").covered == 0.8
    assert of(report, "BUSDT", "publicTrade").is_complete
    assert not report.not_recorded


def test_a_partial_repair_leaves_what_remains(tmp_path: Path) -> None:
    report = judge(tmp_path, [trade(0), gap(1, 2, 3, missed=9), repair(1, 3, remaining=4), trade(4)])
    assert [h.missed for h in of(report, "AUSDT", "publicTrade").holes] == [4]


def test_time_between_recordings_is_shown_and_is_no_hole_in_the_feed(tmp_path: Path) -> None:
    report = judge(tmp_path, [trade(0), trade(10)], [trade(30), trade(40)])
    verdict = of(report, "AUSDT", "publicTrade")
    assert report.not_recorded == ((T0 + 10 * SECOND, T0 + 30 * SECOND),)
    assert (verdict.is_complete, verdict.covered) == (True, 0.5)
    assert report.is_complete


def test_update_ids_that_skip_are_a_hole_even_where_no_gap_says_so(tmp_path: Path) -> None:
    events = [book(0, 5, is_snapshot=True), book(1, 6), book(2, 9), book(3, 10), book(4, 10)]
    report = judge(tmp_path, events)
    assert [(h.reason, h.missed) for h in of(report, "AUSDT", "orderbook.50").holes] == [
        (UNEXPLAINED, 2),
        (UNEXPLAINED, None),
    ]
    with_gap = [*events[:2], gap(1, 1, 2, topic="orderbook.50", symbol="AUSDT", missed=2), *events[2:4]]
    report = judge(tmp_path / "said", with_gap)
    assert [h.reason for h in of(report, "AUSDT", "orderbook.50").holes] == ["disconnect"]


def test_depth_1_repeats_ids_and_restarts_are_no_hole(tmp_path: Path) -> None:
    events = [book(0, 5, depth=1, is_snapshot=True), book(1, 5, depth=1), book(2, 9, depth=1)]
    events += [book(3, 900, is_snapshot=True), book(4, 1, is_snapshot=True), book(5, 2)]
    assert all(topic.is_complete for topic in judge(tmp_path, events).topics)


def test_a_topic_that_was_refused_is_listed_with_nothing(tmp_path: Path) -> None:
    refused = gap(1, 0, 0, topic="tickers", symbol="CUSDT", reason=wld.GapReason.REJECTED_TOPIC)
    verdict = of(judge(tmp_path, [trade(0), refused, trade(1)]), "CUSDT", "tickers")
    assert (verdict.events, verdict.covered, verdict.is_complete) == (0, 0.0, False)


def refusal(gap_id: int, first: float, at: float, last: float | None = None) -> wld.Gap:
    made = gap(gap_id, first, at, topic="tickers", symbol="AUSDT", reason=wld.GapReason.REJECTED_TOPIC)
    return structs.replace(made, last_time=None if last is None else T0 + int(last * SECOND))


def ticker(at: float) -> wld.Ticker:
    return wld.Ticker("AUSDT", receive_time=T0 + int(at * SECOND))


def test_a_topic_refused_for_good_is_a_hole_to_the_end(tmp_path: Path) -> None:
    verdict = of(judge(tmp_path, [trade(0), ticker(0), refusal(1, 0, 2), trade(10)]), "AUSDT", "tickers")
    assert [(h.first_time, h.last_time) for h in verdict.holes] == [(T0, T0 + 10 * SECOND)]
    assert verdict.covered == 0.0


def test_a_topic_refused_for_a_while_is_a_hole_until_the_venue_serves_it_again(tmp_path: Path) -> None:
    events = [trade(0), ticker(1), refusal(1, 1, 2), refusal(2, 2, 6, 6), ticker(7), trade(10)]
    verdict = of(judge(tmp_path, events), "AUSDT", "tickers")
    assert [(h.first_time, h.last_time) for h in verdict.holes] == [
        (T0 + SECOND, T0 + 2 * SECOND),
        (T0 + 2 * SECOND, T0 + 6 * SECOND),
    ]
    assert verdict.covered == 0.5


def test_a_message_that_may_have_been_of_any_topic_is_no_hole_in_a_book_whose_update_ids_go_on(tmp_path: Path) -> None:
    unread = {"reason": wld.GapReason.UNDECODABLE, "symbol": "AUSDT"}
    report = judge(tmp_path, [book(0, 5, is_snapshot=True), trade(0), gap(1, 0, 1, **unread), book(2, 6), trade(2)])
    assert of(report, "AUSDT", "orderbook.50").is_complete
    assert [h.reason for h in of(report, "AUSDT", "publicTrade").holes] == ["undecodable"]
    report = judge(tmp_path / "skips", [book(0, 5, is_snapshot=True), gap(1, 0, 1, **unread), book(2, 7)])
    assert [h.reason for h in of(report, "AUSDT", "orderbook.50").holes] == ["undecodable"]


def test_what_a_person_and_a_program_are_told(tmp_path: Path) -> None:
    judge(tmp_path, [trade(0), trade(0, "BUSDT"), gap(1, 2, 4, topic="publicTrade", symbol="AUSDT"), trade(10)])
    lines: list[str] = []
    assert show.verify([str(tmp_path)], complete=False, as_json=False, out=lines.append) == 0
    text = "\n".join(lines)
    assert "BUSDT: complete from" in text
    assert "  publicTrade: NOT COMPLETE, 2 events, 1 gap, 80.0000 % of the time covered" in text
    assert "(2.000 s) disconnect: unknown count" in text
    assert text.endswith("intact; not complete")
    lines.clear()
    assert show.verify([str(tmp_path)], complete=True, as_json=True, out=lines.append) == 1
    body = json.loads(lines[0])
    first = body["topics"][0]
    assert (first["symbol"], first["topic"], first["gaps"], first["complete"]) == ("AUSDT", "publicTrade", 1, False)
    assert (first["events"], first["covered"], len(first["holes"])) == (2, 0.8, 1)
