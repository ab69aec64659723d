"""Owns what telemetry knows of one symbol: flows, positioning, book, liquidations, feed. Pure: events and time in, rows
of text out; the screen and other views draw the same rows.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wld import (
    SCALE,
    AggressorSide,
    BookDelta,
    BookInvalid,
    BookSnapshot,
    Event,
    Gap,
    GapReason,
    Instrument,
    Liquidation,
    OrderBook,
    PositionSide,
    Ticker,
    Trade,
)
from wld.tables import ticker_of
from wld.terminal import numbers

Row64 = npt.NDArray[np.int64]
"""A ticker's numbers in the order of `wld.tables.TICKER_NUMBERS`, ABSENT where there is none."""
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
OLD_NS = 30 * SECOND
"""A value older than this is not shown at all."""
BAND = 0.0025
"""The book within 25 bp of the middle."""
# How often each kind comes on a live symbol (research: tickers 100 ms, book 20 ms, a few trades a second); a value
# older than three intervals is marked old.
TICKER_INTERVAL = SECOND
BOOK_INTERVAL = SECOND
TRADE_INTERVAL = 5 * SECOND
BUCKET = 5 * SECOND
_E16 = SCALE * SCALE
_MINUTES = 24 * 60


class Row(NamedTuple):
    """One line of a group. `age` in ns, None where the value has none; `is_old`: to be shown as such."""

    label: str
    value: str
    age: int | None = None
    is_old: bool = False
    tone: str = ""
    """`long`, `short`, `warn` or empty: what the colour says; the text says it too."""


class Group(NamedTuple):
    """A titled set of rows."""

    name: str
    title: str
    rows: list[Row]


class _Sums:
    """Amounts, 1e-16 USDT, summed in buckets of time for windows that end now. Two sides, a count each. Whole numbers:
    however a stream is cut, the sums are the same.
    """

    def __init__(self, bucket: int, keep: int) -> None:
        self._bucket = bucket
        self._keep = keep
        self._sums: deque[list[int]] = deque()
        self._added = 0
        self._memo: dict[int, tuple[tuple[int, int], tuple[float, float, int, int]]] = {}

    def add(self, time: int, first: int, second: int, count: int, other: int) -> None:
        """Add what came at one time: each side's amount and how many that was."""
        start = time - time % self._bucket
        self._added += 1
        if not self._sums or self._sums[-1][0] < start:
            self._sums.append([start, 0, 0, 0, 0])
            while self._sums and self._sums[0][0] < start - self._keep:
                self._sums.popleft()
        entry = self._sums[-1]
        entry[1] += first
        entry[2] += second
        entry[3] += count
        entry[4] += other

    def window(self, now: int, length: int) -> tuple[float, float, int, int]:
        """(amount of the first side, of the second, counts of both) of the last `length` ns, to a bucket."""
        key = (now // self._bucket, self._added)
        if length in self._memo and self._memo[length][0] == key:
            return self._memo[length][1]
        first = second = count = other = 0
        for entry in reversed(self._sums):
            if entry[0] <= now - length:
                break
            first += entry[1]
            second += entry[2]
            count += entry[3]
            other += entry[4]
        found = first / _E16, second / _E16, count, other
        self._memo[length] = (key, found)
        return found


class LiquidationSeen(NamedTuple):
    """One real liquidation: receive time ns, side, USDT at the bankruptcy price, that price 1e-8."""

    time: int
    side: PositionSide
    notional: float
    price: int


class Telemetry:
    """Everything shown of one symbol. `with_book` False: no order book is kept (many symbols)."""

    def __init__(self, symbol: str, *, with_book: bool = True) -> None:
        self.symbol = symbol
        self.first_time: int | None = None
        """Receive time of the first event: windows not yet full say so."""
        self._ticker: Ticker | tuple[int, Row64] | None = None
        self.instrument: Instrument | None = None
        self.last_price: int | None = None
        self.trade_time: int | None = None
        self.book: OrderBook | None = OrderBook(symbol) if with_book else None
        self.liquidations: deque[LiquidationSeen] = deque(maxlen=50)
        self.largest: LiquidationSeen | None = None
        self.gaps: dict[str, int] = {}
        self._cvd = 0
        self._flow = _Sums(BUCKET, 6 * MINUTE)
        self._hour_flow = _Sums(MINUTE, HOUR + MINUTE)
        self._liquidated = _Sums(MINUTE, DAY)
        self._interest: deque[tuple[int, float]] = deque(maxlen=_MINUTES // 10)
        """(minute, open interest of both sides in coin), the last of each minute."""
        self._basis: deque[tuple[int, float]] = deque(maxlen=61)
        self._cvds: deque[tuple[int, float]] = deque(maxlen=61)

    # Events in.

    def apply(self, event: Event) -> None:
        """Take one event of this symbol, or a gap that concerns it."""
        received = event.receive_time
        if not isinstance(event, Gap):
            self.begin(received)
        if isinstance(event, BookDelta | BookSnapshot):
            self._levels(event)
        elif isinstance(event, Trade):
            amount = event.price * event.size
            if event.aggressor_side is AggressorSide.BUY:
                self.add_flow(received, amount, 0, 1, 0)
            else:
                self.add_flow(received, 0, amount, 0, 1)
            if not event.is_backfilled:
                self.traded(event.price, received)
        elif isinstance(event, Ticker):
            self.quote(received, event.open_interest, event.mark_price, event.index_price, event.last_price)
            self._ticker = event
        elif isinstance(event, Liquidation):
            amount = event.size * event.bankruptcy_price
            notional = amount / _E16
            seen = LiquidationSeen(received, event.position_side, notional, event.bankruptcy_price)
            self.liquidations.append(seen)
            is_long = event.position_side is PositionSide.LONG
            self._liquidated.add(received, is_long * amount, (not is_long) * amount, is_long, not is_long)
            if self.largest is None or notional > self.largest.notional:
                self.largest = seen
        elif isinstance(event, Gap):
            self.gaps[event.reason.value] = self.gaps.get(event.reason.value, 0) + 1
            if self.book is not None and event.topic in (None, "orderbook") and event.reason is not GapReason.UPDATE_ID:
                self.book.is_valid = False
        elif isinstance(event, Instrument):
            self.instrument = event

    def begin(self, time: int) -> None:
        """Something of this symbol came at `time`."""
        if self.first_time is None:
            self.first_time = time

    def add_flow(self, time: int, buys: int, sells: int, buy_count: int, sell_count: int) -> None:
        """Take sums of taker trades, 1e-16 USDT, that came within one `BUCKET` of time."""
        self._flow.add(time, buys, sells, buy_count, sell_count)
        self._hour_flow.add(time, buys, sells, buy_count, sell_count)
        self._cvd += buys - sells
        minute = time - time % MINUTE
        if self._cvds and self._cvds[-1][0] == minute:
            self._cvds[-1] = (minute, self.cvd)
        else:
            self._cvds.append((minute, self.cvd))

    @property
    def cvd(self) -> float:
        """Taker buys less taker sells since the start, USDT."""
        return float(self._cvd / _E16)

    def traded(self, price: int, time: int) -> None:
        """The last trade that was not late."""
        self.last_price = price
        self.trade_time = time

    def _levels(self, event: BookDelta | BookSnapshot) -> None:
        book = self.book
        if book is None or (book.depth not in (None, event.depth) and isinstance(event, BookDelta)):
            return
        with suppress(BookInvalid):  # the gap beside it says so; the next snapshot mends it
            book.apply(event)

    def quote(
        self, time: int, open_interest: int | None, mark_price: int | None, index_price: int | None,
        last_price: int | None,
    ) -> None:  # fmt: skip
        """Note what is kept of every ticker; `ticker` is the latest one, as a whole."""
        minute = time - time % MINUTE
        if open_interest is not None:
            entry = (minute, open_interest / SCALE)
            if self._interest and self._interest[-1][0] == minute:
                self._interest[-1] = entry
            else:
                self._interest.append(entry)
        if mark_price and index_price:
            basis = (mark_price / index_price - 1) * 1e4
            if self._basis and self._basis[-1][0] == minute:
                self._basis[-1] = (minute, basis)
            else:
                self._basis.append((minute, basis))
        if last_price is not None and self.trade_time is None:
            self.last_price = last_price

    def keep_ticker(self, tick_direction: int, values: Row64) -> None:
        """Keep the latest ticker as it stands in the columns of `wld.tables`; it is made when it is asked for."""
        self._ticker = (tick_direction, values)

    @property
    def ticker(self) -> Ticker | None:
        """The latest one."""
        if isinstance(self._ticker, tuple):
            direction, values = self._ticker
            self._ticker = ticker_of(self.symbol, direction, values.tolist())
        return self._ticker

    # Figures out.

    def interest_change(self, now: int, length: int) -> float | None:
        """Open interest now against `length` ns ago, as a fraction; None where it was not seen then."""
        if not self._interest or self.ticker is None or self.ticker.open_interest is None:
            return None
        before = [value for time, value in self._interest if time <= now - length]
        if not before or before[-1] == 0:
            return None
        return float(self.ticker.open_interest / SCALE / before[-1] - 1)

    def flow(self, now: int, length: int) -> tuple[float, float]:
        """(taker buys, taker sells) of the last `length` ns, USDT."""
        sums = self._flow if length <= 5 * MINUTE else self._hour_flow
        buys, sells, _, _ = sums.window(now, length)
        return buys, sells

    def liquidated(self, now: int, length: int) -> tuple[float, float, int, int]:
        """(longs USDT, shorts USDT, longs, shorts) liquidated in the last `length` ns."""
        return self._liquidated.window(now, length)

    def open_fraction(self, now: int, length: int) -> float | None:
        """Share of the volume that opened positions: (V + dOI) / 2V with the open interest of one side."""
        buys, sells = self.flow(now, length)
        change = self.interest_change(now, length)
        if change is None or self.ticker is None or self.ticker.open_interest is None or not self.last_price:
            return None
        volume = (buys + sells) / (self.last_price / SCALE)
        interest = self.ticker.open_interest / SCALE / 2
        difference = interest - interest / (1 + change)
        return min(1.0, max(0.0, (volume + difference) / (2 * volume))) if volume else None

    def book_band(self) -> tuple[float, float] | None:
        """(bids, asks) within 25 bp of the middle, USDT; None while the book is not valid."""
        book = self.book
        if book is None or not book.is_valid:
            return None
        bids, asks = book.bids(), book.asks()
        if not bids or not asks:
            return None
        middle = (bids[0][0] + asks[0][0]) / 2
        low, high = middle * (1 - BAND), middle * (1 + BAND)
        return (
            sum(price / SCALE * (size / SCALE) for price, size in bids if price >= low),
            sum(price / SCALE * (size / SCALE) for price, size in asks if price <= high),
        )

    def best(self) -> tuple[int, int, int] | None:
        """(best bid, best ask, receive time), from the book, else the ticker."""
        book = self.book
        if book is not None and book.is_valid:
            bid, ask = book.best_bid, book.best_ask
            if bid and ask:
                return bid[0], ask[0], book.receive_time
        ticker = self.ticker
        if ticker is not None and ticker.bid_price and ticker.ask_price:
            return ticker.bid_price, ticker.ask_price, ticker.receive_time
        return None

    # Rows out.

    @property
    def tick(self) -> int | None:
        """The price step, 1e-8."""
        return self.instrument.tick_size if self.instrument else None

    def _window(self, name: str, now: int, length: int) -> str:
        """The window's name, with a star while it has not been filled."""
        full = self.first_time is not None and now - self.first_time >= length
        return name if full else f"{name}*"

    def groups(self, now: int) -> list[Group]:
        """Price, positioning, flow, book, liquidations at time `now`."""
        return [self.price(now), self.positioning(now), self.taker_flow(now), self.book_group(now), self.forced(now)]

    def price(self, now: int) -> Group:
        """Last, mark, index, basis, spread, the day."""
        ticker, tick = self.ticker, self.tick
        age = None if ticker is None else now - ticker.receive_time
        limit = 3 * TICKER_INTERVAL
        change = _fraction(_of(ticker, "price_change_24h"))
        tone = "" if not change else "long" if change > 0 else "short"
        mark, index = _of(ticker, "mark_price"), _of(ticker, "index_price")
        rows = [
            _row("last", numbers.price(self.last_price, tick), _since(now, self.trade_time), 3 * TRADE_INTERVAL),
            _row("mark", f"{numbers.price(mark, tick)}  index {numbers.price(index, tick)}", age, limit),
        ]
        if mark and index:
            basis = (mark / index - 1) * 1e4
            mean = sum(value for _, value in self._basis) / len(self._basis)
            hour = self._window("1h", now, HOUR)
            rows.append(_row("basis", f"{basis:+.1f} bp ({hour} {mean:+.1f})", age, limit))
        best = self.best()
        if best:
            bid, ask, time = best
            spread = (ask - bid) / ((ask + bid) / 2) * 1e4
            text = f"{numbers.price(bid, tick)} | {numbers.price(ask, tick)}  {spread:.1f} bp"
            rows.append(_row("bid|ask", text, now - time, 3 * BOOK_INTERVAL))
        low, high = _of(ticker, "low_price_24h"), _of(ticker, "high_price_24h")
        turnover = _fraction(_of(ticker, "turnover_24h"))
        rows.append(_row("24h", f"{numbers.percent(change)}  turn. {numbers.amount(turnover)}", age, limit, tone))
        rows.append(_row("range", f"{numbers.price(low, tick)} .. {numbers.price(high, tick)}", age, limit))
        return Group("price", "PRICE (USDT)", rows)

    def positioning(self, now: int) -> Group:
        """Open interest and its changes, funding, the open fraction of the volume."""
        ticker = self.ticker
        age = None if ticker is None else now - ticker.receive_time
        limit = 3 * TICKER_INTERVAL
        interest = _fraction(_of(ticker, "open_interest"))
        mark = _fraction(_of(ticker, "mark_price"))
        value = interest * mark if interest is not None and mark is not None else None
        changes = " ".join(
            f"{name} {_short_percent(self.interest_change(now, length))}"
            for name, length in (("1m", MINUTE), ("5m", 5 * MINUTE), ("1h", HOUR))
        )
        rows = [
            _row("OI", f"{numbers.amount_long(interest)} = {numbers.amount(value)} USDT", age, limit),
            _row("dOI", changes, age, limit),
        ]
        if len(self._interest) > 2:
            rows.append(Row("OI 60m", numbers.spark([v for _, v in self._interest][-60:], 22), age))
        funding = _fraction(_of(ticker, "funding_rate"))
        due = _of(ticker, "next_funding_time")
        until = numbers.countdown(None if due is None else due - now)
        rows.append(_row("fund", f"{numbers.percent(funding, 4)} in {until}", age, limit))
        hours = _of(ticker, "funding_interval_hour") or 0
        if funding is not None and hours:
            yearly = funding * 24 / hours * 365
            rows.append(_row("yearly", f"{numbers.percent(yearly, 1)}, every {hours} h", age, limit))
        shares = [
            f"{name} {'--' if w is None else f'{w:.2f}'}"
            for name, w in (("1m", self.open_fraction(now, MINUTE)), ("5m", self.open_fraction(now, 5 * MINUTE)))
        ]
        rows.append(Row("opened", f"{' '.join(shares)} of vol.", age))
        return Group("positioning", "POSITIONING", rows)

    def taker_flow(self, now: int) -> Group:
        """Taker buys against sells over three windows, and their running difference."""
        rows = []
        age = _since(now, self.trade_time)
        for name, length in (("1m", MINUTE), ("5m", 5 * MINUTE), ("1h", HOUR)):
            buys, sells = self.flow(now, length)
            total = buys + sells
            label = self._window(name, now, length)
            if not total:
                rows.append(Row(label, "no trades", age, True))
                continue
            share = buys / total
            rows.append(
                Row(
                    label,
                    f"buy {share * 100:.0f}% {numbers.bar(share, 8)} {numbers.signed(buys - sells)}",
                    age,
                    False,
                    "long" if share >= 0.5 else "short",
                )
            )
        rows.append(Row("CVD", f"{numbers.signed(self.cvd)} since start", age, False))
        if len(self._cvds) > 2:
            rows.append(Row("CVD 60m", numbers.spark([v for _, v in self._cvds][-60:], 22), age))
        return Group("flow", "TAKER FLOW (USDT)", rows)

    def book_group(self, now: int) -> Group:
        """What rests within 25 bp of the middle."""
        band = self.book_band()
        if band is None:
            return Group("book", "BOOK 25 bp (USDT)", [Row("imbal.", "waiting for a snapshot", None, True)])
        assert self.book is not None
        bids, asks = band
        share = bids / (bids + asks) if bids + asks else math.nan
        imbalance = 2 * share - 1
        tone = "long" if imbalance > 0 else "short"
        text = f"{imbalance:+.2f} {numbers.bar(share, 6)} {numbers.amount(bids)}|{numbers.amount(asks)}"
        return Group(
            "book", "BOOK 25 bp (USDT)", [_row("imbal.", text, now - self.book.receive_time, 3 * BOOK_INTERVAL, tone)]
        )

    def forced(self, now: int, count: int = 5) -> Group:
        """Real liquidations: sums by side, the largest, the latest."""
        rows = []
        for name, length in (("1h", HOUR), ("24h", DAY)):
            longs, shorts, long_count, short_count = self.liquidated(now, length)
            rows.append(
                Row(
                    self._window(name, now, length),
                    f"L {numbers.amount(longs)} ({long_count})  S {numbers.amount(shorts)} ({short_count})",
                )
            )
        if self.largest is not None:
            rows.append(_forced_row("largest", self.largest, self.tick))
        for seen in list(self.liquidations)[-count:][::-1]:
            rows.append(_forced_row(numbers.clock(seen.time), seen, self.tick))
        return Group("liquidations", "LIQUIDATIONS (real, USDT)", rows)


def _forced_row(label: str, seen: LiquidationSeen, tick: int | None) -> Row:
    is_long = seen.side is PositionSide.LONG
    text = f"{'LONG ' if is_long else 'SHORT'} {numbers.amount(seen.notional):>5} @{numbers.price(seen.price, tick)}"
    return Row(label, text, None, False, "long" if is_long else "short")


def _row(label: str, value: str, age: int | None, limit: int, tone: str = "") -> Row:
    """A row that is marked when it is older than `limit` and emptied when older than half a minute."""
    if age is None:
        return Row(label, numbers.NONE, None, True)
    if age > OLD_NS:
        return Row(label, numbers.NONE, age, True)
    return Row(label, value, age, age > limit, tone)


def _short_percent(value: float | None) -> str:
    return numbers.percent(value, 0 if value is not None and abs(value) >= 0.0995 else 1)


def _since(now: int, time: int | None) -> int | None:
    return None if time is None else now - time


def _of(ticker: Ticker | None, name: str) -> int | None:
    value: int | None = getattr(ticker, name) if ticker is not None else None
    return value


def _fraction(value: int | None) -> float | None:
    return None if value is None else value / SCALE


def rows_text(groups: Sequence[Group]) -> list[str]:
    """Groups as plain lines, for logs and tests."""
    return [f"{group.title}: {row.label} {row.value}" for group in groups for row in group.rows]
