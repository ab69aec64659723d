"""Owns recorded text input: venue messages line by line, bare or behind a receive time, and the predecessor's pipe lines.

`LineDecoder` is pure; `LineSource` is its shell around a readable file.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from typing import BinaryIO

import msgspec
import trio

from wld.bybit.complaints import Complaints
from wld.bybit.decoder import MarketDecoder
from wld.errors import RemoteProtocolError, UnitError
from wld.events import (
    AggressorSide,
    BookSnapshot,
    Event,
    GapReason,
    Level,
    Liquidation,
    PositionSide,
    Ticker,
    Trade,
)
from wld.ring import Publisher
from wld.units import ms_to_ns, parse_fixed64

log = logging.getLogger(__name__)

_PREFIXED = re.compile(rb"^(\d{16,19})\s+(\{.*)$", re.DOTALL)
"""hftbacktest's collector: receive time in ns, a space, the message."""
MAX_LINE = 16 * 1024 * 1024
CHUNK = 256 * 1024
_NS_FROM = 10**16


class _Times(msgspec.Struct):
    ts: int | None = None


_times = msgspec.json.Decoder(_Times)


class LineDecoder:
    """Lines in, events out. The receive time is the line's own, else the message's event or push time."""

    def __init__(self) -> None:
        self.market = MarketDecoder(accept_any=True)
        self._time = 0
        self._updates: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()

    def decode(self, line: bytes) -> list[Event]:
        """The events of one line; never raises for bad input: what cannot be read is counted and is a Gap."""
        line = line.strip()
        if not line:
            return []
        if line[:1] not in b"{0123456789" and line.partition(b"|")[0] in _PIPE:
            return self._pipe(line)
        match = _PREFIXED.match(line)
        receive_time = 0
        if match:
            receive_time, line = int(match[1]), match[2]
        else:
            receive_time = self._time_of(line)
        self._time = max(self._time, receive_time)
        try:
            text = line.decode()
        except UnicodeDecodeError:
            return [self._bad("utf8", "a line that is not UTF-8")]
        events = self.market.decode(text, self._time)
        for topic, _ in self.market.take_resyncs():
            self.counters[f"hole in {topic}"] += 1
        for answer in self.market.take_control():
            self.counters["answer" if answer.success else "refusal"] += 1
        self.market.take_restarts()
        return events

    def _time_of(self, line: bytes) -> int:
        try:
            stamp = _times.decode(line).ts
            return ms_to_ns(stamp) if stamp is not None else 0
        except (msgspec.DecodeError, UnitError, UnicodeDecodeError, RecursionError):
            return 0

    def _bad(self, kind: str, sentence: str) -> Event:
        self.market.counters[kind] += 1
        self.market.note(kind, sentence)
        return self.market.make_gap(
            GapReason.UNDECODABLE,
            None,
            self._time,
            first_time=self._time or None,
            last_time=self._time or None,
        )

    # -- the predecessor's lines: TYPE|ts|symbol|…, ts in ms

    def _pipe(self, line: bytes) -> list[Event]:
        try:
            kind, stamp, symbol, *rest = line.decode("ascii").split("|")
            event_time = _stamp(stamp)
            self._time = max(self._time, event_time)
            self.market.time = max(self.market.time, self._time)
            return [self._pipe_event(kind, event_time, symbol, rest)]
        except (UnicodeDecodeError, ValueError, KeyError, IndexError, RemoteProtocolError) as error:
            return [self._bad("pipe", f"not a line of the predecessor: {line[:60]!r} ({type(error).__name__})")]

    def _pipe_event(self, kind: str, event_time: int, symbol: str, rest: list[str]) -> Event:
        if not symbol or len(symbol) > 40:
            raise ValueError(symbol)
        received = self._time
        if kind == "TRADE":
            side, price, size = rest
            return Trade(
                symbol=symbol,
                price=parse_fixed64(price),
                size=parse_fixed64(size),
                aggressor_side=AggressorSide(side.lower()),
                trade_id="",
                event_time=event_time,
                receive_time=received,
            )
        if kind == "LIQ":
            side, price, size = rest
            return Liquidation(
                symbol=symbol,
                position_side={"buy": PositionSide.LONG, "sell": PositionSide.SHORT}[side.lower()],
                size=parse_fixed64(size),
                bankruptcy_price=parse_fixed64(price),
                event_time=event_time,
                receive_time=received,
            )
        if kind == "DEPTH":
            bids, asks = rest
            self._updates[symbol] += 1
            return BookSnapshot(
                symbol=symbol,
                bids=_levels(bids),
                asks=_levels(asks),
                update_id=self._updates[symbol],
                event_time=event_time,
                receive_time=received,
            )
        interest, funding, mark = (parse_fixed64(text) or None for text in rest)
        return Ticker(
            symbol=symbol,
            open_interest=interest,
            funding_rate=funding,
            mark_price=mark,
            event_time=event_time,
            receive_time=received,
        )


_PIPE = (b"TRADE", b"DEPTH", b"LIQ", b"TICKER")


def _stamp(text: str) -> int:
    value = int(text)
    if value >= _NS_FROM:
        return value
    return ms_to_ns(value)


def _levels(text: str) -> tuple[Level, ...]:
    pairs = (pair.split(":") for pair in text.split(",") if pair)
    return tuple((parse_fixed64(price), parse_fixed64(size)) for price, size in pairs)


class LineSource:
    """Reads lines to the end of a file, such as standard input; waits for its sinks rather than lose."""

    def __init__(self, file: BinaryIO, symbols: tuple[str, ...] | None = None) -> None:
        self._file = file
        self._symbols = None if symbols in (None, ("all",)) else frozenset(symbols or ())
        self.decoder = LineDecoder()
        self.lines = 0

    def figures(self) -> dict[str, int]:
        """What the status line says: lines read, and trouble by kind where there was any."""
        return {"lines": self.lines, **self.decoder.market.counters, **self.decoder.counters}

    async def run(self, ring: Publisher, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish every line's events; returns at the end of the input."""
        task_status.started()
        rest, is_overlong = b"", False
        complaints = Complaints(log)
        while True:
            # No limit: a pipe may be quiet for as long as it likes; a stop abandons the reading thread.
            chunk = await trio.to_thread.run_sync(_read, self._file, abandon_on_cancel=True)
            *lines, rest = (rest + chunk).split(b"\n")
            if not chunk and rest:
                lines, rest = [rest], b""
            events: list[Event] = []
            if is_overlong and lines:
                del lines[0]  # the end of the line that was given up
                is_overlong = False
            if len(rest) > MAX_LINE:
                if not is_overlong:
                    events.append(self.decoder._bad("oversize", f"a line longer than {MAX_LINE >> 20} MiB"))
                is_overlong, rest = True, b""
            self.lines += len(lines)
            for line in lines:
                events += self.decoder.decode(line)
            complaints.tell_all(self.decoder.market.take_notes())
            if self._symbols is not None:
                events = [e for e in events if getattr(e, "symbol", None) in self._symbols or _is_for_all(e)]
            if events:
                await ring.publish_wait(events)
            if not chunk:
                return


def _is_for_all(event: Event) -> bool:
    return getattr(event, "symbol", None) is None


def _read(file: BinaryIO) -> bytes:
    read = getattr(file, "read1", file.read)
    return bytes(read(CHUNK))
