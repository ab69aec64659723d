"""Owns several lines as a test has them: a venue, a queue for each line, and what must be true of the stream they make."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from tests.bybit import frames
from tests.bybit.frames import MS, T0
from wld.bybit.arbitration import Arbiter
from wld.bybit.decoder import MarketDecoder
from wld.bybit.items import topic_of
from wld.events import BookDelta, BookSnapshot, Event, Gap, GapReason, Liquidation, Ticker, Trade

BOOK, TRADES, TICKER, LIQUIDATIONS = TOPICS = (
    "orderbook.50.WLDUSDT", "publicTrade.WLDUSDT", "tickers.WLDUSDT", "allLiquidation.WLDUSDT",
)  # fmt: skip
START = T0 * MS


class Venue:
    """What the exchange publishes: every line that is subscribed gets it, in order."""

    def __init__(self) -> None:
        self.update_id = 100
        self.cross = 1_000
        self.trades = 0
        self.quote = self.book_cross = self.cross
        self.time = 0
        self.bid = 910
        self.bids = {900: 5}
        self.published: dict[str, list[Any]] = {topic: [] for topic in TOPICS}

    def _stamp(self, topic: str, frame: str, **more: Any) -> str:
        body = json.loads(frame)
        body["ts"] = T0 + self.time
        body.update(more)
        return json.dumps(body)

    def book(self) -> str:
        self.update_id += 1
        self.cross += 3
        self.bid = 900 + (self.bid + 7) % 20
        self.bids[self.bid] = self.update_id
        self.book_cross = self.cross
        self.published[BOOK].append((self.update_id, self.cross))
        row = [(f"0.{self.bid}", str(self.update_id))]
        return self._stamp(BOOK, frames.book(self.update_id, row, sequence=self.cross))

    def whole_book(self) -> str:
        bids = [(f"0.{price}", str(size)) for price, size in sorted(self.bids.items(), reverse=True)]
        frame = frames.book(self.update_id, bids, [("1.1", "6")], kind="snapshot", sequence=self.book_cross)
        return self._stamp(BOOK, frame)

    def restart(self) -> str:
        self.update_id = 1
        self.cross += 3
        self.book_cross = self.cross
        self.published[BOOK].append((1, self.cross))
        return self.whole_book()

    def trade(self, count: int) -> str:
        items = []
        for _ in range(count):
            self.trades += 1
            self.cross += 1
            self.published[TRADES].append(frames.trade(self.trades)["i"])
            items.append(frames.trade(self.trades, seq=self.cross, T=T0 + self.time))
        return self._stamp(TRADES, frames.trades(*items))

    def ticker(self) -> str:
        self.cross += 1
        self.quote = self.cross
        self.published[TICKER].append(self.cross)
        frame = frames.ticker(cs=self.cross, lastPrice=f"1.{self.cross}")
        return self._stamp(TICKER, frame)

    def liquidations(self, count: int) -> str:
        item = {"T": T0 + self.time, "s": "WLDUSDT", "S": "Buy", "v": "43", "p": "0.11793"}
        self.published[LIQUIDATIONS] += [self.time] * count
        return self._stamp(LIQUIDATIONS, frames.liquidation(*[item] * count))

    def snapshots(self) -> list[str]:
        """What a new line is sent first."""
        return [
            self.whole_book(),
            self._stamp(TICKER, frames.ticker("snapshot", cs=self.quote, lastPrice=f"1.{self.quote}")),
        ]


class Lines:
    """Lines between a venue and an arbiter: a queue each; what is in it is delivered when the test says so.

    In a queue are frames, None for a confirmation, and a number for a pong: when its ping left. A line of `lags` is sent
    its frames so many ms late, but its pongs at once: as by a server of the venue that is behind the others.
    """

    def __init__(self, hold_s: float = 10.0) -> None:
        self.venue = Venue()
        self.arbiter = Arbiter(TOPICS, hold_s=hold_s)
        self.queues: dict[int, deque[str | int | None]] = {}
        self.lags: dict[int, int] = {}
        self.late: dict[int, deque[tuple[int, str]]] = {}
        self.decoders: dict[int, MarketDecoder] = {}
        self.out: list[Event] = []
        self.numbers = 0
        self.resyncs: list[tuple[int, str]] = []

    @property
    def now(self) -> int:
        return START + self.venue.time * MS

    def pass_time(self, ms: int) -> None:
        for _ in range(ms // 10):
            self.venue.time += 10
            for line in self.late:
                self._send_what_is_due(line)
        self.venue.time += ms % 10
        self.out += self.arbiter.tick(self.now)

    def _send_what_is_due(self, line: int) -> None:
        late = self.late.get(line)
        while late and late[0][0] <= self.venue.time:
            self.queues[line].append(late.popleft()[1])

    def ping(self, line: int) -> None:
        """Ask on a line; the venue answers at once."""
        self._send_what_is_due(line)
        self.queues[line].append(self.now)

    def probe(self) -> list[int]:
        """Ask where the arbiter wants to be answered, and deliver that."""
        asked = self.arbiter.take_probes()
        for line in asked:
            self.ping(line)
            self.deliver(line)
        return asked

    def connect(self, lag: int = 0) -> int:
        self.numbers += 1
        line = self.numbers
        self.decoders[line] = MarketDecoder()
        for topic in TOPICS:
            self.decoders[line].expect(topic)
        self.queues[line] = deque([*self.venue.snapshots(), None])
        if lag:
            self.lags[line], self.late[line] = lag, deque()
        self.arbiter.connected(line, self.now)
        return line

    def publish(self, frame: str, *, but: int | None = None) -> None:
        for line in self.queues:
            if line != but:
                self.send(line, frame)

    def send(self, line: int, frame: str) -> None:
        if line in self.lags:
            self.late[line].append((self.venue.time + self.lags[line], frame))
        else:
            self.queues[line].append(frame)

    def deliver(self, line: int, count: int | None = None) -> None:
        queue = self.queues[line]
        for _ in range(len(queue) if count is None else min(count, len(queue))):
            frame = queue.popleft()
            if frame is None:
                self.out += self.arbiter.subscribed(line, TOPICS, self.now)
            elif isinstance(frame, int):
                self.out += self.arbiter.answered(line, frame, self.now)
            else:
                self.out += self.arbiter.receive(line, self.decoders[line].decode(frame, self.now), self.now)
            for resync_line, topic in self.arbiter.take_resyncs():
                self.resyncs.append((resync_line, topic))
                if topic == BOOK and resync_line in self.queues:
                    self.queues[resync_line].extend(self.venue.snapshots()[:1])

    def deliver_all(self) -> None:
        for line in list(self.queues):
            self.deliver(line)

    def kill(self, line: int, reason: GapReason = GapReason.DISCONNECT) -> None:
        del self.queues[line], self.decoders[line]
        self.lags.pop(line, None)
        self.late.pop(line, None)
        self.out += self.arbiter.disconnected(line, reason, self.now)

    def settle(self) -> None:
        """Everything arrives, and enough is sent after it that each line is known to cover every topic."""
        self.deliver_all()
        for _ in range(3):
            self.pass_time(200)
            self.publish(self.venue.ticker())
            self.publish(self.venue.book())
            if self.late:
                self.pass_time(max(self.lags.values()))
            self.deliver_all()

    def gaps(self) -> list[Gap]:
        return [e for e in self.out if isinstance(e, Gap)]

    def names(self, topic: str) -> list[Any]:
        """The topic's output by what names each event; a Gap of the topic is None."""
        out: list[Any] = []
        for event in self.out:
            if isinstance(event, Gap):
                own = f"{event.topic}.{event.symbol}" if event.topic else None
                if own in (None, topic):
                    out.append(None)
            elif topic_of(event) == topic:
                out.append(name_of(event))
        return out


def name_of(event: Event) -> Any:
    if isinstance(event, Trade):
        return event.trade_id
    if isinstance(event, BookSnapshot | BookDelta):
        return event.update_id, event.sequence
    if isinstance(event, Ticker):
        return event.sequence
    assert isinstance(event, Liquidation)
    return event.event_time // MS - T0


def two_lines(hold_s: float = 10.0) -> tuple[Lines, int, int]:
    lines = Lines(hold_s)
    first, second = lines.connect(), lines.connect()
    lines.settle()
    return lines, first, second


def everything(lines: Lines) -> None:
    lines.venue.time += 1
    for frame in (
        lines.venue.book(), lines.venue.trade(2), lines.venue.ticker(), lines.venue.liquidations(2), lines.venue.book(),
    ):  # fmt: skip
        lines.publish(frame)


def complete(lines: Lines) -> bool:
    """Every topic came out whole, in order, once, without a Gap."""
    published = lines.venue.published
    first_book, first_ticker = lines.names(BOOK)[0], lines.names(TICKER)[0]
    return (
        lines.names(BOOK) == [first_book, *[u for u in published[BOOK] if u != first_book]]
        and lines.names(TRADES) == published[TRADES]
        and lines.names(LIQUIDATIONS) == published[LIQUIDATIONS]
        and list(dict.fromkeys(lines.names(TICKER))) == [first_ticker, *published[TICKER]]
        and not lines.gaps()
    )


def told(lines: Lines) -> list[Any]:
    """The trades by number, and Gaps, in order."""
    return ["gap" if isinstance(e, Gap) else int(e.trade_id[-12:], 16) for e in lines.out if isinstance(e, Trade | Gap)]


def garbage_in_place_of_a_trade(lines: Lines, line: int) -> None:
    lines.venue.time += 7
    lines.publish(lines.venue.trade(1), but=line)
    lines.send(line, "{garbage")


def accounted(published: list[Any], names: list[Any], *, is_book: bool) -> None:
    """The output is the published sequence, runs of it replaced by Gaps and by nothing else.

    What lies in a Gap may come after it all the same, once: another line had it.
    """
    at = 0
    has_gap = False
    begun = False
    in_gap: list[Any] = []
    known = set(published)
    for name in names:
        if name is None:
            has_gap = True
            continue
        if name not in known or (begun and at and published[at - 1] == name and name not in published[at:]):
            continue  # a snapshot of what was published before the recording, or of what was the last
        if name in in_gap and not is_book:
            in_gap.remove(name)
            continue
        place = published.index(name, at)
        assert place == at or has_gap or not begun, (published[at : place + 1], names)
        in_gap += published[at:place]
        at = place + 1
        has_gap = False
        begun = True
    assert at == len(published) or has_gap or not begun, (published[at:], names)
