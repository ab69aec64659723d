"""Owns the fast way from the messages of one read to columns, with exactly the row decoder's results. Pure.

Each message is decoded lightly, its numbers left as text; all numbers of the read become integers in one pass
(`wld.bybit.decimals`); update ids, duplicates and crossed books are checked against the state that
`wld.bybit.decoder` keeps. Nothing is changed before everything is known to be plain. What is not plain goes to the row
decoder: a topic's messages of this read where one of them is odd, the whole read where the trouble is not one
topic's own. So the row decoder stays the definition of what a stream means, and this module never makes a Gap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from wld.batch import Batch
from wld.bybit.book_columns import Books, book_numbers
from wld.bybit.decimals import Ints, Text
from wld.bybit.decoder import MarketDecoder
from wld.bybit.deltas import read_deltas, without_spaces
from wld.bybit.levels import KnownLevels, Levels
from wld.bybit.light import BOOK, DECODE, KINDS, LIQUIDATIONS, TICKERS, TRADES, kind_of, place_of
from wld.bybit.places import Places, find_lists
from wld.bybit.plain import MAX_MS, ODD_READS, Again, Strange
from wld.bybit.ticker_columns import TickerChanges, odd_tickers
from wld.bybit.topics import Topic
from wld.bybit.trade_columns import Liquidations, Trades
from wld.bybit.websocket import BinaryMessage, Message
from wld.events import Event
from wld.tables import Columns, Tables
from wld.units import ABSENT

COLUMNS_FROM = 16
"""Reads of fewer messages go by rows: a columnar read costs as much as so many rows before its first message (benchmarks)."""
DELTAS_FROM = 95
"""Fewer book messages are decoded one by one: looking at all at once costs as much as decoding so many (benchmarks)."""
_TRIES = 5
"""A read is tried so often, each time without the topics that were odd the last time."""
_UNUSUAL_READS = 64
"""So many reads book messages are decoded one by one, after some that are not written as usual."""


class ColumnDecoder:
    """Decodes reads into one Batch each; holds no state of the stream but caches.

    `by_rows` decodes one message the usual way and is called in the order of the wire.
    """

    def __init__(self, market: MarketDecoder, by_rows: Callable[[Message, int], Sequence[Event]]) -> None:
        self._market = market
        self._by_rows = by_rows
        self._cells = KnownLevels()
        self._unusual = 0
        """So many more reads are not tried as usual deltas."""
        self._symbols: tuple[str, ...] = ()
        self._places: dict[str, int] = {}
        self.reads = 0
        """Reads that became columns, as a whole or in part."""

    def decode(self, messages: Sequence[Message], receive_time: int) -> Batch | list[Event]:
        """The events of one read, in order: columns where the read is large and plain enough, else rows."""
        if len(messages) >= COLUMNS_FROM and not self._market.has_pending_gap:
            try:
                return self._columns(messages, max(receive_time, self._market.time))
            except Strange:
                pass
        events: list[Event] = []
        for message in messages:
            events += self._by_rows(message, receive_time)
        return events

    def _columns(self, messages: Sequence[Message], receive_time: int) -> Batch:
        read = _Read(self, messages, receive_time)
        for _ in range(_TRIES):
            try:
                batch = read.decode()
            except Again as again:
                read.odd |= again.topics
                for topic in again.topics:
                    topic.goes_by_rows = max(topic.goes_by_rows, 2)
                continue
            self.reads += 1
            return batch
        raise Strange

    def place(self, topic: Topic) -> int:
        """The topic's symbol in the table of symbols, entered there if it is new."""
        place = self._places.get(topic.symbol)
        if place is None:
            place = self._places[topic.symbol] = len(self._symbols)
            self._symbols = (*self._symbols, topic.symbol)
        topic.place = place
        return place


_Kind = TypeVar("_Kind", Trades, Liquidations)
_NO_ITEMS: dict[Any, Any] = {kind: kind((), ()) for kind in (Trades, Liquidations)}
_NO_CHANGES = TickerChanges((), ())


class _Read:
    """One read on its way to columns."""

    def __init__(self, decoder: ColumnDecoder, messages: Sequence[Message], receive_time: int) -> None:
        self._decoder = decoder
        self._market = decoder._market
        self._messages = messages
        self._time = receive_time
        self.odd: set[Topic] = set()
        """Topics that go by rows."""
        self._decoded: dict[int, tuple[list[int], list[Any], list[Topic]]] = {}
        """By the topic's first letter: places in the read, messages, topics."""
        self._tries_deltas = not decoder._unusual
        decoder._unusual = max(0, decoder._unusual - 1)
        self._made: dict[Any, Any] = {}
        """The items of all that is decoded of a kind."""
        self._delta_places: list[int] = []
        """Places of book messages that are not decoded one by one."""
        self._delta_topics: tuple[list[Topic], Ints] | None = None
        """Their topics, and which of them each is of, once they are known."""
        self._has_text = False
        """Whether any of the messages is `str`."""
        self._kind: npt.NDArray[np.uint8]
        """The first letter of each message's topic."""
        self._parse()

    # -- light decoding: no state

    def _parse(self) -> None:
        messages = self._messages
        types = set(map(type, messages))
        if BinaryMessage in types:
            raise Strange
        self._has_text = str in types
        kinds = self._letters(10) or self._letters(place_of(messages[0])) or self._kinds()
        try:
            self._decode_kinds(kinds)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            try:
                self._decode_kinds(self._kinds())  # a letter in that place by accident
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise Strange from None

    def _letters(self, at: int) -> bytearray | None:
        """What each message has in that place; None where one has no topic's first letter there."""
        try:
            letters = bytearray(map(itemgetter(at), self._messages))  # text: TypeError
        except (IndexError, TypeError):
            return None
        return None if letters.translate(None, KINDS) else letters

    def _kinds(self) -> bytearray:
        """The first letter of each message's topic, wherever it stands."""
        kinds = list(map(kind_of, self._messages))
        if None in kinds:
            raise Strange
        return bytearray(kinds)  # type: ignore[arg-type]  # no None: see above

    def _decode_kinds(self, kinds: bytearray) -> None:
        self._kind = np.frombuffer(kinds, np.uint8)
        self._decoded.clear()
        for kind in set(kinds):
            at = (self._kind == kind).nonzero()[0].tolist()
            if kind == BOOK and self._tries_deltas and len(at) >= DELTAS_FROM:
                self._delta_places = at
            else:
                self._decode_kind(kind, at)

    def _decode_kind(self, kind: int, at: list[int]) -> None:
        messages, topics, decode = self._messages, self._market.topics, DECODE[kind]
        decoded = list(map(decode, map(messages.__getitem__, at)))
        try:
            states = [topics[message.topic] for message in decoded]
        except KeyError:
            raise Strange from None
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
                if state.goes_by_rows or state.doubt is not None or state.kind != kind:
                    self._is_odd(state)
                if state.place < 0:
                    self._decoder.place(state)
            if kind == BOOK:
                for message, state in zip(decoded, states, strict=True):
                    if message.type not in ("delta", "snapshot") or message.data.s != state.symbol:
                        self._is_odd(state)
            elif kind == TRADES:
                self.odd |= self._items(Trades, decoded, states).odd()
            elif kind == TICKERS:
                self.odd |= odd_tickers(decoded, states)
            else:
                self.odd |= self._items(Liquidations, decoded, states).odd()

    def _items(self, kind: type[_Kind], messages: list[Any], topics: list[Topic]) -> _Kind:
        """The items of those messages; of all there are, made once."""
        found: _Kind | None = self._made.get(kind) if messages else _NO_ITEMS[kind]
        if found is None or (messages and found.messages is not messages):
            found = self._made[kind] = kind(messages, topics)
        return found

    def _is_odd(self, topic: Topic) -> None:
        self.odd.add(topic)

    # -- all of it

    def decode(self) -> Batch:
        self._find_odd()
        trades, tickers, liquidations = self._plain(TRADES), self._plain(TICKERS), self._plain(LIQUIDATIONS)
        sold, liquidated = self._items(Trades, *trades[1:]), self._items(Liquidations, *liquidations[1:])
        single = [*sold.texts, *liquidated.texts]
        changes = TickerChanges(tickers[1], tickers[2]) if tickers[1] else _NO_CHANGES
        books, values = self._numbers(single, changes)
        if not (books.at or trades[0] or tickers[0] or liquidations[0]):
            raise Strange
        items = len(single)
        made_trades = sold.columns(values[: 2 * sold.count])
        made_liquidations = liquidated.columns(values[2 * sold.count : items])
        made_books = None
        if books.at:
            stands = books.advance(self._decoder._cells)
            # From here on nothing fails: the state moves on.
            made_books = books.columns()
            for topic, update_id, sequence, its_sides in stands:
                topic.last_update = update_id
                topic.sequence, topic.last_time = None if sequence == ABSENT else sequence, self._time
                topic.sides, topic.awaiting = its_sides, False
        sold.keep(self._time)
        liquidated.keep(self._time)
        made_tickers = None
        if tickers[0]:
            made_tickers = changes.merge(tickers[1], values[items:], self._time)
        return self._assemble(
            (BOOK, books.at, made_books, None), (TRADES, trades[0], made_trades, sold.lengths),
            (LIQUIDATIONS, liquidations[0], made_liquidations, liquidated.lengths),
            (TICKERS, tickers[0], made_tickers, None),
        )  # fmt: skip

    def _numbers(self, single: list[Any], changes: TickerChanges) -> tuple[Books, Ints]:
        """The books, and every other number of the read, in order."""
        tail = b"".join((*single, changes.text))
        strings = len(single) + changes.count
        found = self._usual_books(tail, strings) if self._delta_places else None
        text, books, places = found or self._any_books(tail, strings)
        values, bad = text.decimals(places.first, places.length)
        count = len(values) - strings
        levels = count >> 1
        if bad:
            ahead = count + len(single)
            if bad[-1] >= ahead:
                raise changes.odd([i - ahead for i in bad if i >= ahead])
            ends = np.cumsum(places.counts[0::2] + places.counts[1::2])
            in_books = np.searchsorted(ends, [i % levels for i in bad if i < count], "right")
            topics = {books.topics[i] for i in books.which[in_books].tolist()}
            owners = self._owners()
            topics |= {owners[i - count] for i in bad if i >= count}
            for topic in topics:
                topic.goes_by_rows = ODD_READS
            raise Again(topics)
        if np.count_nonzero(values[: count + len(single)] < 0):
            raise Strange
        books.levels = Levels(values[:levels], values[levels:count], places.counts)
        return books, values[count:]

    def _owners(self) -> list[Topic]:
        """Whose each number between the levels and the tickers is."""
        owners: list[Topic] = []
        for kind in (TRADES, LIQUIDATIONS):
            for message, state in zip(*self._plain(kind)[1:], strict=True):
                owners += [state] * (2 * len(message.data))
        return owners

    def _usual_books(self, tail: bytes, strings: int) -> tuple[Text, Books, Places] | None:
        """The book messages that are not decoded yet, all at once; None where they are not as usual, but decoded now."""
        at = self._delta_places
        if self._delta_topics is not None:
            topics, which = self._delta_topics
            at = [i for i, topic in zip(at, which.tolist(), strict=True) if topics[topic] not in self.odd]
        if not at:
            return None
        messages: list[Any] = list(map(self._messages.__getitem__, at))
        read = None
        with suppress(UnicodeEncodeError):
            if self._has_text:
                messages = [message.encode() if isinstance(message, str) else message for message in messages]
            if b" " not in messages[0] or (messages := without_spaces(messages)):
                read = read_deltas(messages, tail, strings)
        if read is None:
            self._decoder._unusual = _UNUSUAL_READS
            self._decode_late()
            return None
        text, found = read
        try:
            topics = [self._market.topics[name] for name in found.topics]
        except KeyError:
            raise Strange from None
        if self._delta_topics is None:
            self._delta_topics = topics, found.which
            odd = {topic for topic in topics if topic.goes_by_rows or topic.kind != BOOK}
            for topic in topics:
                if topic.place < 0:
                    self._decoder.place(topic)
            if odd:
                raise Again(odd)
        if int(found.sent_ms.max()) > MAX_MS or int(found.event_ms.max()) > MAX_MS:
            raise Strange
        books = Books(
            at, topics, found.which, found.update_id, found.sequence, found.event_ms * 1_000_000,
            found.sent_ms * 1_000_000, found.is_snapshot,
        )  # fmt: skip
        return text, books, found.places

    def _decode_late(self) -> None:
        """Decode the book messages one by one after all."""
        at, self._delta_places, self._delta_topics = self._delta_places, [], None
        try:
            self._decode_kind(BOOK, at)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Strange from None
        self._find_odd()

    def _any_books(self, tail: bytes, strings: int) -> tuple[Text, Books, Places]:
        """The book messages that were decoded one by one."""
        at, decoded, states = self._plain(BOOK)
        found = find_lists([raw for message in decoded for raw in (message.data.b, message.data.a)], tail, strings)
        if found is None:
            raise Strange
        place: dict[Topic, int] = {}
        which = np.fromiter([place.setdefault(state, len(place)) for state in states], np.int64, len(states))
        numbers = book_numbers(decoded)
        is_snapshot = np.fromiter([message.type == "snapshot" for message in decoded], np.bool_, len(decoded))
        books = Books(at, list(place), which, *numbers, is_snapshot)
        text, places = found
        return text, books, places

    def _assemble(self, *kinds: tuple[int, list[int], Columns | None, list[int] | None]) -> Batch:
        """Number everything in the order of the wire, with the odd messages decoded by rows in their places."""
        market, messages, kind_of_each = self._market, self._messages, self._kind
        counts = np.ones(len(messages), np.int64)
        for _, at, _, lengths in kinds:
            if lengths:
                counts[at] = lengths
        by_rows: list[tuple[int, Sequence[Event]]] = []
        if sum(len(at) for _, at, _, _ in kinds) < len(messages):
            kind_of_each = np.zeros(len(messages), np.uint8)
            for kind, at, _, _ in kinds:
                kind_of_each[at] = kind
            for topic in self.odd:
                topic.goes_by_rows = max(0, topic.goes_by_rows - 1)
            for i in (kind_of_each == 0).nonzero()[0].tolist():
                events = self._decoder._by_rows(messages[i], self._time)
                counts[i] = len(events)
                by_rows.append((i, events))
        market.time = self._time
        market.last_data_time = self._time
        kind_of_each = kind_of_each.repeat(counts)  # of events now
        for kind, _, columns, _ in kinds:
            if columns is not None:
                columns["number"] = (kind_of_each == kind).nonzero()[0]
        starts = np.add.accumulate(counts) - counts if by_rows else counts
        (_, _, books, _), (_, _, trades, _), (_, _, liquidations, _), (_, _, tickers, _) = kinds
        return Batch(
            Tables(
                count=len(kind_of_each),
                symbols=self._decoder._symbols,
                receive_time=self._time,
                trades=trades,
                books=books,
                liquidations=liquidations,
                tickers=tickers,
                rows=[(int(starts[i]) + j, event) for i, events in by_rows for j, event in enumerate(events)],
            )
        )
