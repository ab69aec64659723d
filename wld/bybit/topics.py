"""Owns what is known of one topic on the current connection, and the prices of its book. Pure state, no decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from wld.bybit.trade_ids import BLOCK_IDS, REMEMBERED, Hashes, OlderIds
from wld.events import GapReason, Level
from wld.tables import DIRECTIONS, TICKER_NUMBERS
from wld.units import ABSENT

STRICT_DEPTH = 50
"""From this depth on the update id must grow by exactly 1; depth 1 repeats it every 3 s."""
PUSHES = 256
"""Liquidation messages remembered per topic, two minutes at two a second: one that comes again, to the byte, was delivered
twice. Its items may repeat each other within a message, and from one push time to another."""
TICKER_TIMES = 32
"""Tickers remembered per topic: which of those that come late came before, and where the others belong."""
MOST_GONE = 100
"""Removals remembered for the caches; to learn a book of 50 levels a side anew costs no more."""
NO_BID, NO_ASK = -1, 1 << 63
"""Best prices of a side that is empty."""


Push = tuple[int, tuple[tuple[int, bool, int, int], ...]]
"""A liquidation message: its push time in ms, and of each item the time in ms, whether long, size and price."""
TickerPush = tuple[str | None, int | None, int | None, dict[str, Any]]
"""A ticker message: type, cross sequence, push time in ms, and its fields as sent."""
LastTrade = tuple[str, int]
"""(trade id, event time in ns)"""


class Sides:
    """Which prices of a book have a size: all that it takes to see that a book is crossed.

    The best prices are bounds: true when they were set, and made true again only when they meet. `owner` names this
    state in the caches of `wld.bybit.columns`; whoever changes the state without them gives the name up.
    """

    __slots__ = ("asks", "best_ask", "best_bid", "bids", "gone", "owner")

    def __init__(self, bids: Iterable[Level] = (), asks: Iterable[Level] = ()) -> None:
        self.bids = {price for price, size in bids if size}
        self.asks = {price for price, size in asks if size}
        self.owner: int | None = None
        self.gone: list[tuple[int, bool]] = []
        """(price, is ask) removed here and still in those caches."""
        self.set_best()

    def set_best(self) -> None:
        """Make the bounds true."""
        self.best_bid = max(self.bids, default=NO_BID)
        self.best_ask = min(self.asks, default=NO_ASK)

    def apply(self, bids: tuple[Level, ...], asks: tuple[Level, ...]) -> None:
        """Take in a delta."""
        for price, size in bids:
            if size:
                self.bids.add(price)
                if price > self.best_bid:
                    self.best_bid = price
            else:
                self.bids.discard(price)
                self.went(price, False)
        for price, size in asks:
            if size:
                self.asks.add(price)
                if price < self.best_ask:
                    self.best_ask = price
            else:
                self.asks.discard(price)
                self.went(price, True)

    def went(self, price: int, is_ask: bool) -> None:
        """Note for those caches that a price went."""
        if self.owner is not None:
            self.gone.append((price, is_ask))
            if len(self.gone) > MOST_GONE:
                self.owner, self.gone = None, []

    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask."""
        if self.best_bid < self.best_ask:
            return False
        # A bound that a side holds is true.
        if self.best_bid not in self.bids:
            self.best_bid = max(self.bids, default=NO_BID)
        if self.best_ask not in self.asks:
            self.best_ask = min(self.asks, default=NO_ASK)
        return self.best_bid >= self.best_ask


def precedes(push: TickerPush, last: TickerPush) -> bool:
    """Whether a ticker message is older than another by both of the venue's counts: sequence and push time."""
    return (
        None not in (push[1], push[2], last[1], last[2])
        and push[1] < last[1]  # type: ignore[operator]
        and push[2] < last[2]  # type: ignore[operator]
    )


class Topic:
    """What is known of one topic on the current connection."""

    __slots__ = (
        "awaiting",
        "depth",
        "doubt",
        "dropped",
        "goes_by_rows",
        "kind",
        "last_time",
        "last_trade",
        "last_update",
        "lost_reason",
        "lost_time",
        "name",
        "newest",
        "older",
        "place",
        "prefix",
        "push",
        "push_times",
        "pushes",
        "recent",
        "sequence",
        "sides",
        "silent_since",
        "symbol",
        "ticker",
        "ticker_columns",
        "ticker_extra",
        "told",
    )  # fmt: skip

    def __init__(self, name: str, remembered: int = REMEMBERED) -> None:
        self.name = name
        head, _, self.symbol = name.rpartition(".")
        self.prefix = head
        self.kind = ord(name[0]) if name else 0
        """First letter of the topic, as `wld.bybit.columns` tells kinds apart."""
        self.place = -1
        """The symbol's place in the table of symbols of `wld.bybit.columns`; -1: not yet there."""
        self.depth = int(head.partition(".")[2]) if head.startswith("orderbook.") else 0
        self.recent: dict[str, int] = {}
        """Ids of the latest trades, oldest first, to drop what is delivered twice."""
        is_trade, has_snapshots = head == "publicTrade", bool(self.depth) or head == "tickers"
        self.older = OlderIds(remembered if is_trade else 0)
        self.reset()
        self.newest = -1
        """The latest event time of a trade, ns."""
        self.last_trade: LastTrade | None = None
        self.last_time: int | None = None
        self.told: int | None = None
        """When a Gap last said that this topic may have carried nothing for a while, ns."""
        self.pushes = Hashes(0 if is_trade or has_snapshots else PUSHES)
        self.push_times: deque[tuple[int, int]] = deque(maxlen=TICKER_TIMES if head == "tickers" else 0)
        """Of the latest tickers: push time in ms (0: none), and receive time."""

    def reset(self) -> None:
        """Forget everything that a fresh subscription starts without; trade ids stay, they tell a repeated trade."""
        self.last_update: int | None = None
        self.sequence: int | None = None
        self.push: TickerPush | None = None
        self.awaiting = True
        self.silent_since: tuple[int | None, int | None] | None = None
        self.doubt: tuple[int | None] | None = None
        """Of trades and liquidations: a book or ticker of the symbol fell silent, after this time, and was asked whether
        it lost anything. What comes before the answer has a Gap before it: the answer could only put it behind."""
        self.sides = Sides()
        self.ticker: dict[str, Any] = {}
        self.ticker_columns: Any = None
        """The merged ticker as numbers in the order of `TICKER_NUMBERS`, the direction's code and a cell of no meaning,
        where `wld.bybit.columns` has it; then `ticker` is out of date."""
        self.ticker_extra: dict[str, Any] = {}
        """Beside `ticker_columns`: texts, and numbers beyond 64 bits."""
        self.goes_by_rows = 0
        """So many more reads `wld.bybit.columns` leaves this topic to the rows."""
        self.dropped = 0
        self.lost_reason = GapReason.UPDATE_ID
        self.lost_time: int | None = None

    def has_pushed(self, push_time: int) -> bool:
        """Whether a late ticker came before, or is older than all that are remembered."""
        times = [pushed for pushed, _ in self.push_times]
        return push_time in times or (len(times) == TICKER_TIMES and push_time < min(times))

    def received_before(self, push_time: int) -> int | None:
        """When the last ticker came that was pushed before a late one, ns."""
        return max((received for pushed, received in self.push_times if pushed < push_time), default=None)

    def take_ticker_back(self) -> None:
        """The merged ticker as a dictionary again."""
        if self.ticker_columns is None:
            return
        *values, direction, _ = self.ticker_columns.tolist()
        self.ticker = {name: v for name, v in zip(TICKER_NUMBERS, values, strict=True) if v != ABSENT}
        if direction:
            self.ticker["tick_direction"] = DIRECTIONS[direction]
        self.ticker |= self.ticker_extra
        self.ticker_columns, self.ticker_extra = None, {}

    def forget_old_trades(self) -> None:
        """Keep the ids of the last trades, some thousands; called after each message."""
        if len(self.recent) >= BLOCK_IDS:
            self.older.hand_over(self.recent, self.newest)
            self.recent = {}
