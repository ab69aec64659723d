"""The balance: what was sent is on the tape, or a Gap of its topic stands exactly where it belongs, or it is lost."""

from __future__ import annotations

import json

import wld
from wld.exchange.accounting import Balance, balance

MS = 1_000_000
BOOK, TICKER = "orderbook.50.WLDUSDT", "tickers.WLDUSDT"


def book(update_id: int, at: int, kind: str = "delta") -> str:
    content = {"s": "WLDUSDT", "b": [], "a": [], "u": update_id, "seq": 1_000 + update_id}
    return json.dumps({"topic": BOOK, "type": kind, "ts": at, "data": content})


def ticker(sequence: int, at: int) -> str:
    return json.dumps({"topic": TICKER, "type": "delta", "ts": at, "cs": sequence, "data": {"symbol": "WLDUSDT"}})


def trade(trade_id: str, at: int) -> str:
    return json.dumps({"topic": "publicTrade.WLDUSDT", "type": "snapshot", "ts": at, "data": [{"i": trade_id}]})


def on_tape(*frames: str) -> list[wld.Event]:
    """What a recorder makes of frames that come when they are sent."""
    events: list[wld.Event] = []
    for frame in frames:
        body = json.loads(frame)
        at, content = body["ts"] * MS, body["data"]
        if body["topic"] == BOOK:
            kind = wld.BookSnapshot if body["type"] == "snapshot" else wld.BookDelta
            events.append(kind("WLDUSDT", (), (), content["u"], content["seq"], at, at, at))
        elif body["topic"] == TICKER:
            events.append(wld.Ticker("WLDUSDT", sequence=body["cs"], sent_time=at, receive_time=at))
        else:
            side = wld.AggressorSide.BUY
            events.append(wld.Trade("WLDUSDT", 1, 1, side, content[0]["i"], event_time=at, receive_time=at))
    return events


def gap(topic: str | None = None, last_time: int | None = None) -> wld.Gap:
    symbol = "WLDUSDT" if topic else None
    return wld.Gap(1, wld.GapReason.DISCONNECT, topic, symbol, last_time=last_time)


def verdict(result: Balance) -> tuple[int, int, int, int]:
    return result.recorded, result.in_gap, result.before, len(result.lost)


FLOW = [book(10, 100, "snapshot"), *(book(10 + n, 100 + 20 * n) for n in range(1, 6))]


def test_what_is_missing_must_be_where_a_gap_of_its_topic_stands() -> None:
    first, last = on_tape(*FLOW[:3]), on_tape(*FLOW[4:])
    assert verdict(balance(FLOW, on_tape(*FLOW))) == (6, 0, 0, 0)
    assert balance(FLOW, [*first, *last]).lost == (f"{BOOK} (13, 1013)",)
    assert verdict(balance(FLOW, [*first, gap(), *last])) == (5, 1, 0, 0)
    assert verdict(balance(FLOW, [*first, gap("orderbook.50"), *last])) == (5, 1, 0, 0)
    assert verdict(balance(FLOW, [*first, gap("tickers"), *last])) == (5, 0, 0, 1)
    assert verdict(balance(FLOW, [*first[:-1], gap(), first[-1], *last])) == (5, 0, 0, 1)
    assert verdict(balance(FLOW, [*first, last[0], gap(), last[1]])) == (5, 0, 0, 1)


def test_what_had_not_come_at_the_end_is_lost_and_told_apart() -> None:
    """So that a recording ended too soon is not taken for one with holes."""
    other = [ticker(n, 100 + 20 * n) for n in range(1, 6)]
    sent = [frame for pair in zip(FLOW[1:], other, strict=True) for frame in pair]
    ended = balance([FLOW[0], *sent], on_tape(FLOW[0], *sent[:6]))
    assert (len(ended.lost), ended.at_the_end) == (4, 4)
    assert "LOST 4 (4 of them sent after all that is recorded)" in str(ended)
    silent = balance(
        [FLOW[0], *sent], on_tape(FLOW[0], *sent[:6], *other[3:])
    )  # the book's last, of a stream that went on
    assert (len(silent.lost), silent.at_the_end) == (2, 0)


def test_a_message_that_every_line_is_sent_counts_once() -> None:
    assert verdict(balance([*FLOW, *FLOW], on_tape(*FLOW))) == (6, 0, 0, 0)
    doubled = balance([trade("a", 1)], on_tape(trade("a", 1), trade("a", 1)))
    assert not doubled.is_exact


def test_a_later_lines_snapshot_is_the_state_that_others_deltas_led_to() -> None:
    sent = [*FLOW[:3], book(12, 145, "snapshot"), *FLOW[3:]]
    assert verdict(balance(sent, on_tape(*FLOW))) == (6, 0, 0, 0)


def test_a_later_lines_snapshot_of_a_state_that_no_line_brought_is_lost_unless_a_gap_says_so() -> None:
    """Update 13 was sent to nobody but as the snapshot of a line that died of it."""
    sent = [*FLOW[:3], book(13, 165, "snapshot"), *FLOW[4:]]
    tape = on_tape(*FLOW[:3], *FLOW[4:])
    assert balance(sent, tape).lost == (f"{BOOK} (13, 1013)",)
    assert verdict(balance(sent, [*tape[:3], gap(), *tape[3:]])) == (5, 1, 0, 0)


def test_a_kill_costs_what_lies_between_two_runs() -> None:
    again = [book(16, 300, "snapshot"), book(17, 320)]
    two_runs = [*on_tape(*FLOW[:3]), gap(), *on_tape(*again)]
    assert verdict(balance([*FLOW, *again], two_runs)) == (5, 3, 0, 0)
    quiet = [book(15, 300, "snapshot"), book(16, 320)]  # the state that the last, lost message led to
    two_runs = [*on_tape(*FLOW[:3]), gap(), *on_tape(*quiet)]
    assert verdict(balance([*FLOW, *quiet], two_runs)) == (5, 2, 0, 0)


def test_a_symbol_that_is_listed_again_counts_from_elsewhere() -> None:
    anew = [book(3, 400, "snapshot"), book(4, 420), book(5, 440)]
    assert verdict(balance([*FLOW, *anew], [*on_tape(*FLOW), gap(), *on_tape(*anew[1:])])) == (8, 1, 0, 0)
    assert balance([*FLOW, *anew], on_tape(*FLOW, *anew[1:])).lost == (f"{BOOK} (3, 1003)",)


def test_what_the_slower_line_brought_of_a_time_before_the_recording_is_not_part_of_it() -> None:
    assert verdict(balance(FLOW, on_tape(*FLOW[2:]))) == (4, 0, 2, 0)


def test_what_precedes_a_topics_first_event_but_not_its_symbols_needs_a_gap_however_late() -> None:
    sent = [*FLOW, ticker(1, 110), ticker(2, 130), ticker(3, 150)]
    tape = on_tape(*FLOW, ticker(3, 150))
    assert list(balance(sent, tape).lost) == [f"{TICKER} (1, {110 * MS})", f"{TICKER} (2, {130 * MS})"]
    assert verdict(balance(sent, [*tape, gap("tickers", last_time=150 * MS)])) == (7, 2, 0, 0)
    assert verdict(balance(sent, [*tape, gap("tickers", last_time=151 * MS)])) == (7, 0, 0, 2)


def test_a_gap_that_is_told_late_counts_where_its_times_lie_around_what_is_missing() -> None:
    sent = [ticker(n, 100 * n) for n in range(1, 7)]
    first, last = on_tape(*sent[:2]), on_tape(*sent[4:])

    def late(begin: int, end: int) -> list[wld.Event]:
        return [
            *first,
            *last,
            wld.Gap(1, wld.GapReason.SILENCE, first_time=begin * MS, last_time=end * MS, receive_time=700 * MS),
        ]

    assert verdict(balance(sent, late(200, 500))) == (4, 2, 0, 0)
    assert verdict(balance(sent, late(250, 450))) == (4, 2, 0, 0)
    assert verdict(balance(sent, late(100, 500))) == (4, 0, 0, 2)
    assert verdict(balance(sent, late(200, 600))) == (4, 0, 0, 2)
