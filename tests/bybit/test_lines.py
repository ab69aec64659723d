"""Recorded text, line by line: what each form of line becomes, and that no line is fatal."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.bybit import frames
from wld.bybit.lines import MAX_LINE, LineDecoder, LineSource
from wld.events import (
    AggressorSide,
    BookDelta,
    BookSnapshot,
    Event,
    Gap,
    GapReason,
    Liquidation,
    PositionSide,
    Ticker,
    Trade,
)

MS = 1_000_000
T0 = frames.T0


def decode(*lines: str | bytes) -> list[Event]:
    decoder = LineDecoder()
    return [event for line in lines for event in decoder.decode(line.encode() if isinstance(line, str) else line)]


class Sink:
    """Takes what a source publishes."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def publish_wait(self, events: Any) -> None:
        self.events += events

    def publish(self, events: Any) -> None:
        raise AssertionError("recorded input waits for its sinks")


async def read(text: bytes, symbols: tuple[str, ...] | None = None) -> list[Event]:
    sink = Sink()
    await LineSource(io.BytesIO(text), symbols).run(sink)
    return sink.events


def test_a_bare_message_has_the_venues_push_time_for_its_receive_time() -> None:
    (event,) = decode(frames.trades(frames.trade(1)))
    assert isinstance(event, Trade)
    assert event.receive_time == T0 * MS


def test_a_collectors_line_keeps_its_own_receive_time() -> None:
    events = decode(f"{T0 * MS + 123_456} {frames.snapshot(7)}", f"{T0 * MS + 999_999}\t{frames.book(8)}\r")
    assert [event.receive_time for event in events] == [T0 * MS + 123_456, T0 * MS + 999_999]
    assert [type(event) for event in events] == [BookSnapshot, BookDelta]


def test_receive_times_never_go_backwards() -> None:
    events = decode(f"{T0 * MS + 500} {frames.snapshot(7)}", f"{T0 * MS} {frames.book(8)}")
    assert [event.receive_time for event in events] == [T0 * MS + 500] * 2


def test_a_recording_may_begin_in_mid_stream_and_any_depth_and_symbol_is_taken() -> None:
    events = decode(
        frames.book(7, [("1.0", "2")], depth=200),
        frames.book(8, [("1.0", "3")], depth=200),
        frames.snapshot(3, depth=500, symbol="XRPUSDT"),
        frames.snapshot(3, depth=1),
    )
    assert [(type(e), e.depth) for e in events if isinstance(e, BookDelta | BookSnapshot)] == [
        (BookDelta, 200), (BookDelta, 200), (BookSnapshot, 500), (BookSnapshot, 1),
    ]  # fmt: skip


def test_a_hole_in_recorded_books_is_a_gap() -> None:
    events = decode(frames.snapshot(7), frames.book(9), frames.book(10), frames.snapshot(20))
    assert [type(event) for event in events] == [BookSnapshot, Gap, Gap, BookSnapshot]


def test_answers_and_pongs_of_a_recorded_conversation_are_no_events() -> None:
    assert decode(
        '{"success":true,"ret_msg":"","conn_id":"c","req_id":"s1","op":"subscribe"}',
        '{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"","op":"ping"}',
        '{"success":false,"ret_msg":"error:handler not found,topic:x","conn_id":"c","req_id":"e","op":"subscribe"}',
        "",
        "   ",
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        b"{broken",
        b"\xff\xfe",
        b'{"topic":"publicTrade.X"',
        b"hello",
        b"12345",
        b"TRADE|1",
        b"NOPE|1|X",
        b"{" + b"[" * 9999,
    ],
)
def test_a_line_that_cannot_be_read_is_a_gap_and_no_more(line: bytes) -> None:
    events = decode(frames.snapshot(7), line, frames.book(8))
    assert [type(event) for event in events] == [BookSnapshot, Gap, BookDelta]
    assert isinstance(events[1], Gap)
    assert events[1].reason is GapReason.UNDECODABLE


# The predecessor's lines.


def test_pipe_trade() -> None:
    (trade,) = decode(f"TRADE|{T0}|WLDUSDT|Sell|0.29|10.5")
    assert trade == Trade(
        "WLDUSDT", 29_000_000, 1_050_000_000, AggressorSide.SELL, "", event_time=T0 * MS, receive_time=T0 * MS
    )


def test_pipe_depth_is_a_whole_book_with_update_ids_of_its_own() -> None:
    first, second = decode(f"DEPTH|{T0}|WLDUSDT|1.0:5,0.9:7|1.1:6", f"DEPTH|{T0 + 1}|WLDUSDT||")
    assert isinstance(first, BookSnapshot)
    assert isinstance(second, BookSnapshot)
    assert first.bids == ((100_000_000, 500_000_000), (90_000_000, 700_000_000))
    assert (first.asks, first.update_id) == (((110_000_000, 600_000_000),), 1)
    assert (second.bids, second.asks, second.update_id) == ((), (), 2)


@pytest.mark.parametrize(("word", "side"), [("Buy", PositionSide.LONG), ("Sell", PositionSide.SHORT)])
def test_pipe_liquidation_sides_are_the_venues(word: str, side: PositionSide) -> None:
    (event,) = decode(f"LIQ|{T0}|WLDUSDT|{word}|1.25|3")
    assert isinstance(event, Liquidation)
    assert (event.position_side, event.bankruptcy_price, event.size) == (side, 125_000_000, 300_000_000)


@pytest.mark.parametrize(
    ("fields", "interest", "funding", "mark"),
    [
        ("100|0.0001|1.5", 10_000_000_000, 10_000, 150_000_000),
        ("0|-0.0001|0", None, -10_000, None),
        ("0|0|1.5", None, None, 150_000_000),
        ("0.0|0|0.00", None, None, None),
    ],
)
def test_pipe_ticker_writes_zero_for_a_field_that_was_not_sent(
    fields: str, interest: int | None, funding: int | None, mark: int | None
) -> None:
    (event,) = decode(f"TICKER|{T0}|WLDUSDT|{fields}")
    assert isinstance(event, Ticker)
    assert (event.open_interest, event.funding_rate, event.mark_price) == (interest, funding, mark)


def test_pipe_times_may_be_ms_or_ns() -> None:
    ms, ns = decode(f"TRADE|{T0}|X|Buy|1|1", f"TRADE|{T0 * MS + 7}|X|Buy|1|1")
    assert isinstance(ms, Trade)
    assert isinstance(ns, Trade)
    assert (ms.event_time, ns.event_time) == (T0 * MS, T0 * MS + 7)


# The shell around it.


async def test_the_last_line_needs_no_end_and_ends_may_be_windows_own() -> None:
    events = await read(f"{frames.snapshot(7)}\r\n\r\n{frames.book(8)}".encode())
    assert [type(event) for event in events] == [BookSnapshot, BookDelta]


async def test_symbols_may_be_chosen_and_what_concerns_all_stays() -> None:
    text = "\n".join([frames.snapshot(7), frames.snapshot(7, symbol="XRPUSDT"), "{broken"]).encode()
    events = await read(text, ("XRPUSDT",))
    assert [getattr(event, "symbol", None) for event in events] == ["XRPUSDT", None]


async def test_a_line_longer_than_the_limit_is_one_gap_and_the_next_line_is_read() -> None:
    text = b'{"topic":"' + b"x" * (MAX_LINE + 600_000) + b'"}\n' + frames.snapshot(7).encode() + b"\n"
    events = await read(text)
    assert [type(event) for event in events] == [Gap, BookSnapshot]


async def test_nothing_at_all_is_fine() -> None:
    assert await read(b"") == []


async def test_figures_count_lines_and_trouble() -> None:
    source = LineSource(io.BytesIO(b"{broken\n" + frames.snapshot(7).encode()))
    await source.run(Sink())
    assert source.figures() == {"lines": 2, "json": 1}


def test_the_frame_of_a_wrapped_line_is_what_counts() -> None:
    """Captures that put the message into an object of their own are unwrapped first, as with jq -c .frame."""
    wrapped = {"mark_price_at_receipt": 1.0, "frame": json.loads(frames.snapshot(7))}
    (event,) = decode(json.dumps(wrapped["frame"]))
    assert isinstance(event, BookSnapshot)
