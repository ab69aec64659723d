"""Owns what entries of a stream mean: events in, entries out, and back, with every hole told. Pure: no Redis, no clock.

`docs/reference-redis.md` specifies the entries for programs in other languages.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from wld import (
    BookDelta,
    BookInvalid,
    BookSnapshot,
    Event,
    Gap,
    GapReason,
    Instrument,
    OrderBook,
    Repair,
    Ticker,
    pack_events,
    unpack_events,
)

EVENTS, CHECKPOINT, END = b"events", b"checkpoint", b"end"
LEVEL = 3
"""Of zstd: the size of 6 at a third of its time."""
_OVERRUNS = 1 << 31
_OWN_GAPS = 1 << 32
_RUNS_SHIFT = 33


class Entry(Struct, frozen=True):
    """One entry of a stream."""

    kind: bytes
    """`events`, `checkpoint` (what a reader that joins here needs to know), or `end` (the publisher stopped)."""
    publisher: bytes
    """Who writes; the same after a restart. Several may write to one stream."""
    run: bytes
    """The publisher from one start to its end; 8 hex digits."""
    at: int
    """How many events the run published before this entry: what a reader continues by."""
    count: int
    """How many events `data` holds."""
    time: int
    """Receive time of the run's latest event, ns."""
    data: bytes
    """`wld.pack_events`."""

    def fields(self) -> dict[str | bytes, bytes | int]:
        """As the fields of a Redis Streams entry."""
        return {
            "kind": self.kind, "publisher": self.publisher, "run": self.run, "at": self.at, "count": self.count,
            "time": self.time, "data": self.data,
        }  # fmt: skip

    @classmethod
    def of(cls, fields: dict[bytes, bytes]) -> Entry:
        """From the fields of a Redis Streams entry. Raises: ValueError where it is none of ours."""
        try:
            at, count, time = (int(fields[name]) for name in (b"at", b"count", b"time"))
            return cls(
                fields[b"kind"], fields[b"publisher"], fields[b"run"], at, count, time, fields[b"data"],
            )  # fmt: skip
        except (KeyError, ValueError) as error:
            raise ValueError(f"not an entry of wld: {error!r}") from None


class Publication:
    """One run of a publisher: counts its events and keeps the state that a joining reader needs."""

    def __init__(self, publisher: bytes, run: bytes) -> None:
        self._who = publisher, run
        self._at = 0
        self._time = 0
        self._books: dict[tuple[str, int], OrderBook] = {}
        self._tickers: dict[str, Ticker] = {}
        self._instruments: dict[str, Instrument] = {}

    def publish(self, events: Sequence[Event]) -> Entry:
        """The entry of the next events, at least one."""
        for event in events:
            self._keep(event)
        at, self._at = self._at, self._at + len(events)
        self._time = max(self._time, events[-1].receive_time)
        return Entry(
            EVENTS, *self._who, at, len(events), self._time, pack_events(events, first_number=at, level=LEVEL)
        )  # fmt: skip

    def checkpoint(self) -> Entry:
        """The state as it stands: instruments, merged tickers, whole books, all at the time of the latest event."""
        books = [
            BookSnapshot(
                book.symbol, tuple(book.bids()), tuple(book.asks()), book.update_id, book.sequence, None, None,
                self._time, book.depth or 0,
            )
            for book in self._books.values()
            if book.is_valid
        ]  # fmt: skip
        state: list[Event] = [*self._instruments.values(), *self._tickers.values()]
        events = [replace(event, receive_time=self._time) for event in state] + books
        data = pack_events(events, first_number=self._at, level=LEVEL)
        return Entry(CHECKPOINT, *self._who, self._at, len(events), self._time, data)

    def end(self) -> Entry:
        """The run stops here on purpose."""
        return Entry(END, *self._who, self._at, 0, self._time, pack_events([], level=None))

    def _keep(self, event: Event) -> None:
        if isinstance(event, BookSnapshot | BookDelta):
            book = self._books.setdefault((event.symbol, event.depth), OrderBook(event.symbol))
            with contextlib.suppress(BookInvalid):  # the gap before it says so; the next snapshot mends it
                book.apply(event)
        elif isinstance(event, Ticker):
            self._tickers[event.symbol] = event
        elif isinstance(event, Instrument):
            self._instruments[event.symbol] = event


class Track(Struct, frozen=True):
    """How far a reader has followed one publisher."""

    run: bytes
    at: int
    """The events of the run that it has seen or knows of."""
    time: int
    """Receive time of the latest of them, ns."""
    has_ended: bool = False
    """Whether the run has said that it stopped on purpose."""


class Position(Struct, frozen=True):
    """Where a reader stands in a stream."""

    id: bytes
    """Of the last entry it took."""
    time: int
    """That entry's."""
    tracks: dict[str, Track]
    """By publisher."""


class Reading:
    """One reader of one stream: entries in, events out; what is missing between them is a Gap in its place.

    After a hole a book is not continued: its deltas are dropped until a snapshot, from the venue or from a checkpoint.
    """

    def __init__(self, stream: str, position: Position | None = None) -> None:
        self._stream = stream
        self.position = position
        # Resumed without a hole, deltas go on; a new reader has no book to continue.
        self._followed = {
            name: _Followed(track, takes_all=True) for name, track in (position.tracks if position else {}).items()
        }

    def take(self, entry_id: bytes, entry: Entry, *, restores: bool = True) -> Iterator[Event]:
        """The events of the next entry; `restores` False leaves a checkpoint for a later one, where the reader holds
        what follows it already. Raises: wld.PackError where it cannot be read.
        """
        events = unpack_events(entry.data) if entry.kind != END else ()
        name = entry.publisher.decode(errors="replace")
        followed = self._followed.setdefault(name, _Followed(None))
        before = followed.track
        is_same_run = before is not None and entry.run == before.run
        if before is not None and not is_same_run:
            reason = GapReason.SHUTDOWN if before.has_ended else GapReason.DISCONNECT
            if entry.at > 0:
                reason = GapReason.OVERRUN  # the stream was trimmed past the new run's beginning
            yield self._hole(followed, entry, reason, None, before.time, _first_time(entry, events))
        elif before is not None and entry.at > before.at:
            missed = entry.at - before.at
            yield self._hole(followed, entry, GapReason.OVERRUN, missed, before.time, _first_time(entry, events))
        skip = max(0, before.at - entry.at) if before is not None and is_same_run else 0
        if entry.kind == EVENTS:
            for event in list(events)[skip:]:
                yield from self._pass(followed, entry, event)
        elif entry.kind == CHECKPOINT and followed.wants_state and restores:
            yield from self._restore(followed, entry, events)
        at = entry.at + (entry.count if entry.kind == EVENTS else 0)
        if before is not None and is_same_run:
            at = max(at, before.at)
        time = max(entry.time, before.time if before else 0)
        followed.track = Track(entry.run, at, time, entry.kind == END)
        tracks = {name: known.track for name, known in self._followed.items() if known.track is not None}
        self.position = Position(entry_id, entry.time, tracks)

    def _pass(self, followed: _Followed, entry: Entry, event: Event) -> Iterator[Event]:
        if isinstance(event, BookSnapshot):
            yield from self._mend(followed, entry, event)
        elif isinstance(event, BookDelta) and not followed.takes_all:
            key = event.symbol, event.depth
            if key not in followed.whole:
                followed.dropped[key] = followed.dropped.get(key, 0) + 1
                return
        yield self._own_ids(entry, event)

    def _restore(self, followed: _Followed, entry: Entry, events: Iterable[Event]) -> Iterator[Event]:
        """Take over what a checkpoint knows and this reader does not."""
        for event in events:
            if isinstance(event, BookSnapshot):
                if (event.symbol, event.depth) in followed.whole:
                    continue
                yield from self._mend(followed, entry, event)
            yield event
        followed.wants_state = followed.takes_all = False

    def _mend(self, followed: _Followed, entry: Entry, event: BookSnapshot) -> Iterator[Event]:
        key = event.symbol, event.depth
        followed.whole.add(key)
        dropped = followed.dropped.pop(key, 0)
        if dropped and followed.hole_time is not None:
            yield Gap(
                self._gap_id(entry, event.update_id), GapReason.OVERRUN, f"orderbook.{event.depth}", event.symbol,
                dropped, followed.hole_time, event.receive_time, event.receive_time,
            )  # fmt: skip

    def _hole(
        self, followed: _Followed, entry: Entry, reason: GapReason, missed: int | None, first: int, last: int
    ) -> Gap:
        followed.whole.clear()
        followed.takes_all = False
        followed.wants_state = True
        followed.hole_time = first
        return Gap(self._gap_id(entry, entry.at), reason, None, None, missed, first, last, last)

    def _gap_id(self, entry: Entry, number: int) -> int:
        return (self._run_number(entry) << _RUNS_SHIFT) + _OWN_GAPS + number % _OWN_GAPS

    def _run_number(self, entry: Entry) -> int:
        """Every run numbers its gaps from 1; here runs and streams meet, and each gets a range of its own."""
        return zlib.crc32(self._stream.encode() + entry.publisher + entry.run) & 0xFFFFFFF

    def _own_ids(self, entry: Entry, event: Event) -> Event:
        if isinstance(event, Gap | Repair):
            number = event.gap_id if event.gap_id < _OVERRUNS else _OVERRUNS + event.gap_id % _OVERRUNS
            return replace(event, gap_id=(self._run_number(entry) << _RUNS_SHIFT) + number)
        return event


class _Followed:
    """What a reader knows of one publisher."""

    def __init__(self, track: Track | None, *, takes_all: bool = False) -> None:
        self.track = track
        self.takes_all = takes_all
        """Whether deltas go on without a book of this reader's own."""
        self.wants_state = True
        self.whole: set[tuple[str, int]] = set()
        self.dropped: dict[tuple[str, int], int] = {}
        self.hole_time: int | None = None


def _first_time(entry: Entry, events: Sequence[Event]) -> int:
    return events[0].receive_time if events else entry.time
