"""Owns the fast way from the messages of one read to columns, with exactly the row decoder's results. Pure.

Each message is decoded lightly, its numbers left as text; all numbers of the read become integers in one pass
(`wld.bybit.decimals`); update ids, duplicates and crossed books are checked against the state that
`wld.bybit.decoder` keeps. Nothing is changed before everything is known to be plain. What is not plain goes to the row
decoder: a topic's messages of this read where one of them is odd, the whole read where the trouble is not one
topic's own. So the row decoder stays the definition of what a stream means, and this module never makes a Gap.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Raw, Struct

from wld.batch import Batch
from wld.bybit.decimals import Ints, Quoted, quoted_decimals
from wld.bybit.decoder import STRICT_DEPTH, MarketDecoder, Sides, Topic
from wld.bybit.messages import MAX_ID, TICKER_FIELDS, TICKER_OTHER
from wld.bybit.websocket import Message
from wld.errors import UnitError
from wld.events import Event, TickDirection
from wld.tables import (
    BLOCK_TRADE,
    BUY,
    DIRECTION_SHIFT,
    DIRECTIONS,
    RPI,
    RPI_KNOWN,
    TICKER_NUMBERS,
    TICKER_PLACE,
    Columns,
    Tables,
)
from wld.units import ABSENT, INT64_MAX, INT64_MIN

COLUMNS_FROM = 20
"""Reads of fewer messages go by rows: a columnar read costs as much as so many rows before its first message (benchmarks)."""
_ODD_READS = 64
"""A topic with numbers that no column takes is left to the rows for so many reads."""
_MAX_MS = INT64_MAX // 1_000_000


class _Outer(Struct, gc=False):
    """What any message may carry, typed as the row decoder types it, so that both refuse the same."""

    topic: str
    type: str | None = None
    ts: int | None = None
    cts: int | None = None
    cs: int | None = None
    op: str | None = None
    success: bool | None = None
    ret_msg: str | None = None
    ret_code: int | None = None
    req_id: str | None = None
    conn_id: str | None = None


class _BookData(Struct, gc=False):
    s: str
    b: Raw
    a: Raw
    u: int
    seq: int | None = None


class _Trade(Struct, gc=False):
    T: int
    s: str
    S: str
    v: Raw
    p: Raw
    i: str
    L: str | None = None
    BT: bool = False
    RPI: bool | None = None
    seq: int | None = None


class _Liquidation(Struct, gc=False):
    T: int
    s: str
    S: str
    v: Raw
    p: Raw


class _BookMessage(_Outer, kw_only=True, gc=False):
    data: _BookData


class _TradeMessage(_Outer, kw_only=True, gc=False):
    data: list[_Trade]


class _LiquidationMessage(_Outer, kw_only=True, gc=False):
    data: list[_Liquidation]


class _TickerMessage(_Outer, kw_only=True, gc=False):
    data: dict[str, Any]


_BOOK, _TRADES, _TICKERS, _LIQUIDATIONS = b"opta"
"""First letters of the topics."""
_KNOWN = bytes((_BOOK, _TRADES, _TICKERS, _LIQUIDATIONS))
_DECODE: dict[int, Callable[[Any], Any]] = {
    _BOOK: msgspec.json.Decoder(_BookMessage).decode,
    _TRADES: msgspec.json.Decoder(_TradeMessage).decode,
    _TICKERS: msgspec.json.Decoder(_TickerMessage).decode,
    _LIQUIDATIONS: msgspec.json.Decoder(_LiquidationMessage).decode,
}
_PREFIX = {_TRADES: "publicTrade", _TICKERS: "tickers", _LIQUIDATIONS: "allLiquidation"}
_TOPIC = re.compile(rb'"topic"\s*:\s*"([opta])')

_SIDE_FLAG = {"Buy": BUY, "Sell": 0}
_IS_LONG = {"Buy": 1, "Sell": 0}
_RPI_FLAG = {None: 0, False: RPI_KNOWN, True: RPI_KNOWN | RPI}
_DIRECTION_CODE: dict[TickDirection | None, int] = {direction: i for i, direction in enumerate(DIRECTIONS)}
_DIRECTION_FLAG: dict[str | None, int] = {
    None: 0, "": 0, **{d.value: i << DIRECTION_SHIFT for i, d in enumerate(DIRECTIONS) if d is not None},
}  # fmt: skip
_PLACE_OF = {key: TICKER_PLACE[name] for key, name in TICKER_FIELDS.items()}
_DIRECTION_PLACE = len(TICKER_NUMBERS)
_SEQUENCE, _SENT, _RECEIVED = (TICKER_PLACE[name] for name in ("sequence", "sent_time", "receive_time"))


class _Strange(Exception):
    """This read is for the rows."""


class _Again(Exception):
    """These topics are for the rows; decode the read again without them."""

    def __init__(self, topics: set[Topic]) -> None:
        self.topics = topics


class ColumnDecoder:
    """Decodes reads into one Batch each; holds no state of the stream but caches.

    `by_rows` decodes one message the usual way and is called in the order of the wire.
    """

    def __init__(self, market: MarketDecoder, by_rows: Callable[[Message, int], Sequence[Event]]) -> None:
        self._market = market
        self._by_rows = by_rows
        self._cells = _KnownLevels()
        self._symbols: tuple[str, ...] = ()
        self._places: dict[str, int] = {}
        self.reads = 0
        """Reads that became columns, as a whole or in part."""

    def decode(self, messages: Sequence[Message], receive_time: int) -> Batch | list[Event]:
        """The events of one read, in order: columns where the read is large and plain enough, else rows."""
        if len(messages) >= COLUMNS_FROM and not self._market.has_pending_gap:
            try:
                return self._columns(messages, max(receive_time, self._market.time))
            except _Strange:
                pass
        events: list[Event] = []
        for message in messages:
            events += self._by_rows(message, receive_time)
        return events

    def _columns(self, messages: Sequence[Message], receive_time: int) -> Batch:
        read = _Read(self, messages, receive_time)
        for _ in range(3):
            try:
                batch = read.decode()
            except _Again as again:
                read.odd |= again.topics
                for topic in again.topics:
                    topic.goes_by_rows = max(topic.goes_by_rows, 2)
                continue
            self.reads += 1
            return batch
        raise _Strange

    def place(self, topic: Topic) -> int:
        """The topic's symbol in the table of symbols, entered there if it is new."""
        place = self._places.get(topic.symbol)
        if place is None:
            place = self._places[topic.symbol] = len(self._symbols)
            self._symbols = (*self._symbols, topic.symbol)
        topic.place = place
        return place


class _Read:
    """One read on its way to columns."""

    def __init__(self, decoder: ColumnDecoder, messages: Sequence[Message], receive_time: int) -> None:
        self._decoder = decoder
        self._market = decoder._market
        self._messages = messages
        self._time = receive_time
        self.odd: set[Topic] = set()
        """Topics that go by rows."""
        self._last_books: dict[Topic, Any] = {}
        """The last message's data of each book."""
        self._decoded: dict[int, tuple[list[int], list[Any], list[Topic]]] = {}
        """By the topic's first letter: places in the read, messages, topics."""
        self._parse()

    # -- light decoding: no state

    def _parse(self) -> None:
        messages = self._messages
        try:
            kinds = bytearray([message[10] for message in messages])  # type: ignore[misc]  # text: see below
        except (IndexError, TypeError):
            kinds = bytearray(len(messages))
        if kinds.translate(None, _KNOWN):
            kinds = self._kinds()
        try:
            self._decode_kinds(kinds)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            try:
                self._decode_kinds(self._kinds())  # a letter in the tenth place by accident
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise _Strange from None

    def _kinds(self) -> bytearray:
        """The first letter of each message's topic, wherever it stands."""
        kinds = bytearray()
        for message in self._messages:
            found = _TOPIC.search(message.encode() if isinstance(message, str) else message)
            if found is None:
                raise _Strange
            kinds += found[1]
        return kinds

    def _decode_kinds(self, kinds: bytearray) -> None:
        letters = np.frombuffer(kinds, np.uint8)
        messages, topics = self._messages, self._market.topics
        self._decoded.clear()
        for kind in set(kinds):
            decode = _DECODE[kind]
            at = np.flatnonzero(letters == kind).tolist()
            decoded = [decode(messages[i]) for i in at]
            try:
                states = [topics[message.topic] for message in decoded]
            except KeyError:
                raise _Strange from None
            self._decoded[kind] = (at, decoded, states)

    def _plain(self, kind: int) -> tuple[list[int], list[Any], list[Topic]]:
        at, decoded, states = self._decoded.get(kind, ([], [], []))
        if self.odd.isdisjoint(states):
            return at, decoded, states
        keep = [j for j, state in enumerate(states) if state not in self.odd]
        return [at[j] for j in keep], [decoded[j] for j in keep], [states[j] for j in keep]

    # -- checks against the state, which they do not change

    def _find_odd(self) -> None:
        for kind, (_, decoded, states) in self._decoded.items():
            for state in set(states):
                if state.goes_by_rows or state.kind != kind:
                    self._is_odd(state)
                if state.place < 0:
                    self._decoder.place(state)
            if kind == _BOOK:
                self._check_books(decoded, states)
            elif kind == _TRADES:
                self._check_trades(decoded, states)
            elif kind == _TICKERS:
                self._check_tickers(decoded, states)
            else:
                for message, state in zip(decoded, states, strict=True):
                    symbol = state.symbol
                    if any(item.s != symbol or item.S not in _IS_LONG for item in message.data):
                        self._is_odd(state)

    def _is_odd(self, topic: Topic) -> None:
        self.odd.add(topic)

    def _check_books(self, decoded: list[Any], states: list[Topic]) -> None:
        last: dict[Topic, Any] = {}
        self._last_books = last
        odd = self.odd
        for message, state in zip(decoded, states, strict=True):
            data = message.data
            before = last.get(state)
            if before is None:
                if state.awaiting or state.depth < STRICT_DEPTH or state.last_update is None:
                    odd.add(state)
                    continue
                update_id, sequence = state.last_update, state.sequence
            else:
                update_id, sequence = before.u, before.seq
            if (
                data.u != update_id + 1
                or update_id < 1
                or message.type != "delta"
                or data.s != state.symbol
                or (sequence is not None and data.seq is not None and data.seq < sequence)
            ):
                odd.add(state)
            last[state] = data

    def _check_trades(self, decoded: list[Any], states: list[Topic]) -> None:
        seen: dict[Topic, set[str]] = {}
        odd = self.odd
        for message, state in zip(decoded, states, strict=True):
            symbol = state.symbol
            ids = {item.i for item in message.data}
            before = seen.get(state)
            if (
                len(ids) != len(message.data)
                or not ids.isdisjoint(state.recent)
                or (bool(ids) and state.older.meets(ids, min([item.T for item in message.data]) * 1_000_000))
                or (before is not None and not ids.isdisjoint(before))
                or "" in ids
            ):
                odd.add(state)
            for item in message.data:
                if item.s != symbol or len(item.i) > MAX_ID:
                    odd.add(state)
            if before is None:
                seen[state] = ids
            else:
                before |= ids

    def _check_tickers(self, decoded: list[Any], states: list[Topic]) -> None:
        for message, state in zip(decoded, states, strict=True):
            cs = message.cs
            if (
                message.type not in ("snapshot", "delta")
                or state.silent_since is not None
                or message.data.get("symbol") != state.symbol
                or (cs is not None and not 0 <= cs <= INT64_MAX)
            ):
                self._is_odd(state)
            elif state.ticker_columns is None and not _ticker_to_columns(state):
                state.goes_by_rows = _ODD_READS
                self._is_odd(state)

    # -- all of it

    def decode(self) -> Batch:
        self._find_odd()
        books, trades = self._plain(_BOOK), self._plain(_TRADES)
        tickers, liquidations = self._plain(_TICKERS), self._plain(_LIQUIDATIONS)
        if not (books[0] or trades[0] or tickers[0] or liquidations[0]):
            raise _Strange
        fragments = [raw for message in books[1] for raw in (message.data.b, message.data.a)]
        single: list[Any] = []
        owners: list[tuple[int, Topic]] = []
        for message, state in zip(trades[1] + liquidations[1], trades[2] + liquidations[2], strict=True):
            owners.append((len(single), state))
            for item in message.data:
                single += (item.p, item.v)
        changes = _TickerChanges()
        try:
            for message, state in zip(tickers[1], tickers[2], strict=True):
                owners.append((len(single) + len(changes.texts), state))
                changes.add(message, state)
        except _NoColumn as no:
            no.topic.goes_by_rows = _ODD_READS
            raise _Again({no.topic}) from None
        levels, values = self._numbers(fragments, single, changes.texts, books[2], owners)
        items = len(single)
        made_trades = self._trades(trades, values)
        made_liquidations = self._liquidations(liquidations, values, 2 * sum(len(m.data) for m in trades[1]))
        made_books = self._books(books, levels)
        sent = [(message.ts, message.cs) for message in tickers[1]]
        ticker_times = _times([ts for ts, _ in sent])
        slow = self._settle(books, levels) if books[0] else None
        # From here on nothing fails: the state moves on.
        self._decoder._cells.learn(slow)
        self._commit(trades, liquidations)
        made_tickers = self._tickers(tickers, changes, values[items:], sent, ticker_times)
        return self._assemble(
            (books[0], made_books, None), (trades[0], made_trades, [len(m.data) for m in trades[1]]),
            (liquidations[0], made_liquidations, [len(m.data) for m in liquidations[1]]),
            (tickers[0], made_tickers, None),
        )  # fmt: skip

    def _numbers(
        self, fragments: list[Any], single: list[Any], texts: list[str], book_topics: list[Topic],
        owners: list[tuple[int, Topic]],
    ) -> tuple[_Levels, Ints]:  # fmt: skip
        """Every number of the read: the levels, and the single ones in order."""
        tail = b"".join(single)
        if texts:
            try:
                tail += b'"' + '""'.join(texts).encode("ascii") + b'"'
            except UnicodeEncodeError:
                raise _Strange from None
        text = b"".join((_EDGE, *fragments, _EDGE))
        singles = len(single) + len(texts)
        try:
            found = quoted_decimals(text + tail)
            levels = _levels_of(text, tail, found, singles, len(fragments))
            if levels is None:
                found, levels = _without_spaces(text, tail, found, singles, len(fragments))
        except ValueError:
            raise _Strange from None
        count = 2 * (len(levels.price) + 2)
        if len(found.bad):
            bad = set()
            ends = np.cumsum(levels.counts[0::2] + levels.counts[1::2])
            starts = [start for start, _ in owners]
            for i in found.bad.tolist():
                if i < count:
                    topic = book_topics[int(np.searchsorted(ends, i // 2 - 1, "right"))]
                else:
                    topic = owners[bisect_right(starts, i - count) - 1][1]
                topic.goes_by_rows = _ODD_READS
                bad.add(topic)
            raise _Again(bad)
        values = found.value[count:]
        if (levels.price < 0).any() or (levels.size < 0).any() or (values[: len(single)] < 0).any():
            raise _Strange
        return levels, values

    def _trades(self, found: tuple[list[int], list[Any], list[Topic]], values: Ints) -> Columns | None:
        _, decoded, states = found
        items = [item for message in decoded for item in message.data]
        if not items:
            return None
        lengths = [len(message.data) for message in decoded]
        pairs = values[: 2 * len(items)]
        try:
            flags = [
                _SIDE_FLAG[item.S] | _DIRECTION_FLAG[item.L] | _RPI_FLAG[item.RPI] | (item.BT and BLOCK_TRADE)
                for item in items
            ]
        except KeyError:
            raise _Again({state for m, state in zip(decoded, states, strict=True) if _is_unknown_word(m)}) from None
        return {
            "symbol": np.repeat(np.array([state.place for state in states], np.int64), lengths),
            "price": pairs[0::2],
            "size": pairs[1::2],
            "event_time": _times([item.T for item in items]),
            "sequence": _counts([item.seq for item in items]),
            "sent_time": np.repeat(_times([message.ts for message in decoded]), lengths),
            "flags": np.array(flags, np.int64),
            "trade_id": [item.i for item in items],
        }

    def _liquidations(self, found: tuple[list[int], list[Any], list[Topic]], values: Ints, at: int) -> Columns | None:
        _, decoded, states = found
        items = [item for message in decoded for item in message.data]
        if not items:
            return None
        lengths = [len(message.data) for message in decoded]
        pairs = values[at : at + 2 * len(items)]
        return {
            "symbol": np.repeat(np.array([state.place for state in states], np.int64), lengths),
            "is_long": np.array([_IS_LONG[item.S] for item in items], np.int64),
            "size": pairs[1::2],
            "bankruptcy_price": pairs[0::2],
            "event_time": _times([item.T for item in items]),
            "sent_time": np.repeat(_times([message.ts for message in decoded]), lengths),
        }

    def _books(self, found: tuple[list[int], list[Any], list[Topic]], levels: _Levels) -> Columns | None:
        _, decoded, states = found
        if not decoded:
            return None
        return {
            "symbol": np.array([state.place for state in states], np.int64),
            "is_snapshot": np.zeros(len(decoded), np.int64),
            "depth": np.array([state.depth for state in states], np.int64),
            "update_id": _counts([message.data.u for message in decoded]),
            "sequence": _counts([message.data.seq for message in decoded]),
            "event_time": _times([message.cts for message in decoded]),
            "sent_time": _times([message.ts for message in decoded]),
            "bid_count": levels.counts[0::2],
            "ask_count": levels.counts[1::2],
            "level_price": levels.price,
            "level_size": levels.size,
        }

    def _settle(self, found: tuple[list[int], list[Any], list[Topic]], levels: _Levels) -> _Slow:
        """Bring the books' sides up to date. Raises: _Again for books that cross, everything as it was before."""
        states = found[2]
        cells = self._decoder._cells
        slow = cells.unknown([state.sides for state in states], levels)
        log: list[tuple[set[int], int, bool]] = []
        touched: set[Sides] = set()
        crossed: set[Topic] = set()
        event, sides, suspect = -1, None, False
        for price, fragment, is_gone in zip(
            slow.price.tolist(), slow.fragment.tolist(), slow.is_gone.tolist(), strict=True
        ):
            if fragment >> 1 != event:
                if suspect and sides is not None and sides.is_crossed():
                    crossed.add(states[event])
                event, suspect = fragment >> 1, False
                sides = states[event].sides
                touched.add(sides)
            assert sides is not None
            live = sides.asks if fragment & 1 else sides.bids
            if is_gone:
                if price in live:
                    live.remove(price)
                    log.append((live, price, False))
            elif price not in live:
                live.add(price)
                log.append((live, price, True))
                if fragment & 1:
                    if price < sides.best_ask:
                        sides.best_ask = price
                        suspect = suspect or sides.best_bid >= price
                elif price > sides.best_bid:
                    sides.best_bid = price
                    suspect = suspect or price >= sides.best_ask
        if suspect and sides is not None and sides.is_crossed():
            crossed.add(states[event])
        if crossed:
            for live, price, was_added in reversed(log):
                if was_added:
                    live.discard(price)
                else:
                    live.add(price)
            for sides in touched:
                sides.set_best()
            raise _Again(crossed)
        return slow

    def _commit(
        self,
        trades: tuple[list[int], list[Any], list[Topic]],
        liquidations: tuple[list[int], list[Any], list[Topic]],
    ) -> None:
        now = self._time
        for state, data in self._last_books.items():
            if state not in self.odd:
                state.last_update, state.sequence, state.last_time = data.u, data.seq, now
        for message, state in zip(trades[1], trades[2], strict=True):
            state.recent.update([item.i for item in message.data])
            if message.data:
                state.last_trade = (message.data[-1].i, message.data[-1].T * 1_000_000)
                state.newest = max(state.newest, max([item.T for item in message.data]) * 1_000_000)
            state.forget_old_trades()
            state.awaiting, state.last_time = False, now
        for state in liquidations[2]:
            state.awaiting, state.last_time = False, now

    def _tickers(
        self, found: tuple[list[int], list[Any], list[Topic]], changes: _TickerChanges, values: Ints,
        sent: list[tuple[int | None, int | None]], sent_times: Ints,
    ) -> Columns | None:  # fmt: skip
        _, decoded, states = found
        if not decoded:
            return None
        merged = np.empty((len(decoded), len(TICKER_NUMBERS) + 1), np.int64)
        places = np.array(changes.places, np.int64)
        ends = changes.ends
        start = 0
        for i, (message, state) in enumerate(zip(decoded, states, strict=True)):
            row = state.ticker_columns
            if message.type == "snapshot":
                row[:] = ABSENT
            end = ends[i]
            row[places[start:end]] = values[start:end]
            for place, value in changes.others[i]:
                row[place] = value
            merged[i] = row
            start = end
            state.awaiting, state.sequence, state.last_time = False, message.cs, self._time
        merged[:, _SEQUENCE] = [ABSENT if cs is None else cs for _, cs in sent]
        merged[:, _SENT] = sent_times
        merged[:, _RECEIVED] = self._time
        direction = merged[:, _DIRECTION_PLACE]
        return {
            "symbol": np.array([state.place for state in states], np.int64),
            "tick_direction": np.where(direction == ABSENT, 0, direction),
            "values": merged[:, :_DIRECTION_PLACE],
        }

    def _assemble(self, *kinds: tuple[list[int], Columns | None, list[int] | None]) -> Batch:
        """Number everything in the order of the wire, with the odd messages decoded by rows in their places."""
        market, messages = self._market, self._messages
        counts = np.ones(len(messages), np.int64)
        for at, _, lengths in kinds:
            if lengths is not None:
                counts[at] = lengths
        by_rows: list[tuple[int, Sequence[Event]]] = []
        if sum(len(at) for at, _, _ in kinds) < len(messages):
            plain = np.zeros(len(messages), bool)
            for at, _, _ in kinds:
                plain[at] = True
            for topic in self.odd:
                topic.goes_by_rows = max(0, topic.goes_by_rows - 1)
            for i in np.flatnonzero(~plain).tolist():
                events = self._decoder._by_rows(messages[i], self._time)
                counts[i] = len(events)
                by_rows.append((i, events))
        market.time = self._time
        market.last_data_time = self._time
        ends = np.cumsum(counts)
        starts = ends - counts
        for at, columns, lengths in kinds:
            if columns is None:
                continue
            number = starts[at]
            if lengths is not None:
                repeats = counts[at]
                within = np.arange(int(repeats.sum())) - np.repeat(np.cumsum(repeats) - repeats, repeats)
                number = np.repeat(number, repeats) + within
            columns["number"] = number
        (_, books, _), (_, trades, _), (_, liquidations, _), (_, tickers, _) = kinds
        return Batch(
            Tables(
                count=int(ends[-1]),
                symbols=self._decoder._symbols,
                receive_time=self._time,
                trades=trades,
                books=books,
                liquidations=liquidations,
                tickers=tickers,
                rows=[(int(starts[i]) + j, event) for i, events in by_rows for j, event in enumerate(events)],
            )
        )


def _is_unknown_word(message: Any) -> bool:
    return any(item.S not in _SIDE_FLAG or item.L not in _DIRECTION_FLAG for item in message.data)


def _counts(values: list[int | None]) -> Ints:
    """Counts of the venue (ids, sequences), `ABSENT` for None. Raises: _Strange where one is out of range."""
    try:
        column = np.array(values, np.int64)
        if len(column) and column.min() < 0:
            raise _Strange
        return column
    except TypeError:
        if any(value is not None and not 0 <= value <= INT64_MAX for value in values):
            raise _Strange from None
        return np.array([ABSENT if value is None else value for value in values], np.int64)
    except OverflowError:
        raise _Strange from None


def _times(values: list[int | None]) -> Ints:
    """Milliseconds to nanoseconds. Raises: _Strange where one is no time."""
    column = _counts(values)
    if len(column) and column.max() > _MAX_MS:
        raise _Strange
    if len(column) and column.min() < 0:
        return np.where(column == ABSENT, ABSENT, np.where(column == ABSENT, 0, column) * 1_000_000)
    return column * 1_000_000


# Tickers -----------------------------------------------------------------------------------------------------------


class _NoColumn(Exception):
    def __init__(self, topic: Topic) -> None:
        self.topic = topic


class _TickerChanges:
    """The fields that ticker messages carry: decimals as texts for the common pass, the others converted."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.places: list[int] = []
        self.ends: list[int] = []
        self.others: list[list[tuple[int, int]]] = []

    def add(self, message: Any, topic: Topic) -> None:
        """Take one message. Raises: _NoColumn where a field is odd, or a text that columns do not hold."""
        texts, places = self.texts, self.places
        others: list[tuple[int, int]] = []
        for key, text in message.data.items():
            place = _PLACE_OF.get(key)
            if place is None:
                if key in TICKER_OTHER and text != "":
                    others.append(self._other(key, text, topic))
            elif type(text) is not str:
                raise _NoColumn(topic)
            elif text:
                texts.append(text)
                places.append(place)
        self.ends.append(len(places))
        self.others.append(others)

    @staticmethod
    def _other(key: str, text: Any, topic: Topic) -> tuple[int, int]:
        name, convert = TICKER_OTHER[key]
        if type(text) is not str:
            raise _NoColumn(topic)
        try:
            value = convert(text)
        except (UnitError, ValueError):
            raise _NoColumn(topic) from None
        if isinstance(value, TickDirection):
            return _DIRECTION_PLACE, _DIRECTION_CODE[value]
        if not isinstance(value, int):
            raise _NoColumn(topic)
        return TICKER_PLACE[name], value


def _ticker_to_columns(topic: Topic) -> bool:
    """Lay a topic's merged ticker out as a row of numbers; False where one does not fit."""
    row = np.full(len(TICKER_NUMBERS) + 1, ABSENT, np.int64)
    for name, value in topic.ticker.items():
        if isinstance(value, TickDirection):
            row[_DIRECTION_PLACE] = _DIRECTION_CODE[value]
            continue
        place = TICKER_PLACE.get(name)
        if place is None or not isinstance(value, int) or not INT64_MIN < value <= INT64_MAX:
            return False
        row[place] = value
    topic.ticker_columns = row
    return True


# Levels ------------------------------------------------------------------------------------------------------------

_EDGE = b'[["0","0"]]'
"""Stands before and behind the levels, so that every real level has neighbours."""
_WORD = {name: int.from_bytes(name, "little") for name in (b'"],[', b'"]][')}


class _Levels(Struct):
    """The levels of a read's books, flat."""

    price: Ints
    size: Ints
    counts: Ints
    """Levels of each side in turn: bids and asks of the first message, of the second, …"""


def _levels_of(text: bytes, tail: bytes, found: Quoted, singles: int, fragments: int) -> _Levels | None:
    """The levels, if the text is what it should be: lists of pairs of strings, without white space, then the tail.

    Each fragment is known to be JSON, so its brackets pair. It is `[["p","s"],["p","s"]]` or `[]` exactly if before
    every size stands `","`, between two levels `"],["`, and between two fragments `"]]`, any number of `[]`, `[["`.
    """
    start, end = found.start, found.end
    strings = len(start) - singles
    if strings < 4 or strings & 1:
        return None
    tail_start, tail_end = start[strings:], end[strings:]
    if singles and not (
        tail_start[0] == len(text)
        and tail_end[-1] == len(text) + len(tail) - 1
        and (tail_start[1:] == tail_end[:-1] + 1).all()
    ):
        return None
    if not singles and tail:
        return None
    start, end = start[:strings], end[:strings]
    letters = np.frombuffer(text, np.uint8)
    price_end = end[0::2]
    price_start, size_end = start[2::2], end[1:-1:2]  # of the next level; of this one
    gap = price_start - size_end
    words = np.ndarray((len(text) - 3,), "<u4", text, 0, (1,))[size_end]
    is_inner = gap == 4
    if not (
        (start[1::2] == price_end + 2).all()
        and (letters.take(price_end + 1) == ord(",")).all()
        and (words == np.where(is_inner, _WORD[b'"],['], _WORD[b'"]]['])).all()
        and (letters.take(price_start - 1) == ord("[")).all()
        and start[0] == 2
        and end[-1] == len(text) - 3
    ):
        return None
    ends = np.flatnonzero(~is_inner)  # the level that ends each fragment; the first is the edge
    empties = (gap[ends] - 5) >> 1
    many = empties > 0
    if many.any() and not _are_empties(letters, size_end[ends[many]] + 3, gap[ends[many]] - 3):
        return None
    if int(gap[ends].min()) < 5 or len(ends) - 1 + int(empties.sum()) != fragments:
        return None
    counts = np.zeros(fragments, np.int64)
    counts[np.arange(len(ends) - 1) + np.cumsum(empties)[:-1]] = np.diff(ends)
    return _Levels(found.value[2 : strings - 2 : 2], found.value[3 : strings - 2 : 2], counts)


def _are_empties(letters: npt.NDArray[np.uint8], start: Ints, length: Ints) -> bool:
    """Whether each stretch is `[]` some times and then `[[`."""
    within = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    seen = letters.take(np.repeat(start, length) + within)
    is_close = (within & 1 == 1) & (within != np.repeat(length, length) - 1)
    return not (length & 1).any() and bool((seen == np.where(is_close, ord("]"), ord("["))).all())


def _without_spaces(text: bytes, tail: bytes, found: Quoted, singles: int, fragments: int) -> tuple[Quoted, _Levels]:
    """The same of a text with white space between its tokens. Raises: _Strange where that is not the reason."""
    bare = text.translate(None, b" \t\r\n")
    if len(bare) == len(text):
        raise _Strange
    again = quoted_decimals(bare + tail)
    if len(again.start) != len(found.start) or (again.end - again.start != found.end - found.start).any():
        raise _Strange  # the white space was inside a string
    levels = _levels_of(bare, tail, again, singles, fragments)
    if levels is None:
        raise _Strange
    return again, levels


class _Slow(Struct):
    """Levels of a read that may change which prices of a book have a size, in the order of the wire."""

    price: Ints
    fragment: Ints
    """Twice the place of the message among the books, and one more for asks."""
    is_gone: npt.NDArray[np.bool_]
    owner: Ints
    cell: Ints


_CELL_BITS = 18
_MIX_OWNER, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_CELL_SHIFT = np.uint64(64 - _CELL_BITS)


class _KnownLevels:
    """A cache of (side of a book, price) pairs that are known to have a size: most levels of a delta are of these.

    A pair that is not found may still have one; whoever is found has one for sure.
    """

    def __init__(self) -> None:
        self._price = np.zeros(1 << _CELL_BITS, np.int64)
        self._owner = np.full(1 << _CELL_BITS, -1, np.int64)
        self._dirty = np.zeros(1 << _CELL_BITS, bool)
        self._next_owner = 0

    def _cells(self, price: Ints, owner: Ints) -> Ints:
        mixed = (price.view(np.uint64) + owner.view(np.uint64) * _MIX_OWNER) * _MIX
        return (mixed >> _CELL_SHIFT).view(np.int64)

    def unknown(self, sides: Sequence[Sides], levels: _Levels) -> _Slow:
        """The levels that the cache cannot vouch for: unknown ones, removals, and what follows a removal."""
        for one in set(sides):
            if one.owner is None:
                self._adopt(one)
            elif one.gone:
                price = np.array([price for price, _ in one.gone], np.int64)
                owner = np.array([one.owner + is_ask for _, is_ask in one.gone], np.int64)
                cell = self._cells(price, owner)
                self._owner[cell] = -1
                one.gone.clear()
        owners = np.empty(2 * len(sides), np.int64)
        owners[0::2] = [one.owner or 0 for one in sides]
        owners[1::2] = owners[0::2] + 1
        owner = np.repeat(owners, levels.counts)
        price = np.ascontiguousarray(levels.price)
        cell = self._cells(price, owner)
        is_gone = levels.size == 0
        unknown = (self._price.take(cell) != price) | (self._owner.take(cell) != owner)
        slow = unknown | is_gone
        changed = cell[slow]
        if len(changed):
            # What follows a change in this read is no longer known by the cache, but by the update before it.
            self._dirty[changed] = True
            which = np.flatnonzero(self._dirty.take(cell))
            self._dirty[changed] = False
            which = which[self._is_news(which, cell, price, owner, is_gone, unknown)]
        else:
            which = np.flatnonzero(slow)
        fragment = np.searchsorted(np.cumsum(levels.counts), which, "right")
        return _Slow(price[which], fragment, is_gone[which], owner[which], cell[which])

    @staticmethod
    def _is_news(
        which: Ints, cell: Ints, price: Ints, owner: Ints, is_gone: npt.NDArray[np.bool_],
        unknown: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.bool_]:  # fmt: skip
        """Which of those levels say something else than the level's update before, in this read or in the cache."""
        order = np.argsort(cell[which], kind="stable")
        sorted_ = which[order]
        price, owner, is_gone = price[sorted_], owner[sorted_], is_gone[sorted_]
        same = (price[1:] == price[:-1]) & (owner[1:] == owner[:-1])
        repeated = np.zeros(len(which), bool)
        repeated[1:] = same & (is_gone[1:] == is_gone[:-1])
        first = np.ones(len(which), bool)
        first[1:] = cell[sorted_[1:]] != cell[sorted_[:-1]]
        repeated |= first & ~unknown[sorted_] & ~is_gone
        news = np.empty(len(which), bool)
        news[order] = ~repeated
        return news

    def _adopt(self, sides: Sides) -> None:
        """Give a book's state a name, and learn its levels."""
        sides.owner = self._next_owner
        self._next_owner += 2
        sides.gone.clear()
        price = np.array([*sides.bids, *sides.asks], np.int64)
        owner = np.full(len(price), sides.owner, np.int64)
        owner[len(sides.bids) :] += 1
        cell = self._cells(price, owner)
        self._price[cell], self._owner[cell] = price, owner

    def learn(self, slow: _Slow | None) -> None:
        """Remember how those levels stand now; the last word on a cell counts."""
        if slow is not None:
            self._price[slow.cell] = slow.price
            self._owner[slow.cell] = np.where(slow.is_gone, -1, slow.owner)
