"""Owns how one symbol trades: clustered taker orders, makers who requote, mark price, liquidations, funding.

Pure and seeded: time comes in as ms, luck from a `random.Random`. Does not own what clients are told
(publication).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, floor, log, sqrt

from wld.exchange.instruments import SymbolSpec
from wld.exchange.limitbook import HalfBook, LimitBook
from wld.exchange.positions import Ledger, Position

LEVELS = 1_150
_MIN_LEVELS = 1_020
_KEEP = 60
_FAR = 1_250
_CHURN_PER_S = 26.0
_TAKERS_PER_S = 0.55
_BRANCHING = 0.68
_DECAY_PER_MS = 0.0011
_DEPTH_SCALE = 11.0
_IMPACT = 0.22
_SIGN_MEMORY = 0.66
_RPI_SHARE = 0.012
_BLOCK_SHARE = 0.0004
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Regime:
    """How a market feels for a while: factors on flow and volatility, drift in log-price per second."""

    name: str
    flow: float
    volatility: float
    drift: float
    mean_ms: float
    weight: float


REGIMES = (
    Regime("calm", 0.5, 0.6, 0.0, 45_000, 4),
    Regime("normal", 1.0, 1.0, 0.0, 60_000, 5),
    Regime("busy", 2.2, 1.6, 0.0, 25_000, 3),
    Regime("rally", 3.5, 2.0, 0.0005, 13_000, 2),
    Regime("selloff", 3.5, 2.0, -0.0005, 13_000, 2),
)


@dataclass(frozen=True, slots=True)
class Fill:
    """One print: price in ticks, size in lots, matching-engine `time_ms`, `sequence` of its taker order."""

    time_ms: int
    is_buy: bool
    price: int
    size: int
    sequence: int
    trade_id: str
    direction: str
    is_block: bool
    is_rpi: bool


@dataclass(frozen=True, slots=True)
class LiquidationRecord:
    """One liquidation, with what the venue does not tell: trigger, mark price, whose position it was."""

    time_ms: int
    is_long: bool
    size: int
    bankruptcy: int
    trigger: int
    mark: int
    leverage: int
    position_id: int


class SymbolFlow:
    """One symbol's market, advanced in steps by its owner.

    `next_sequence` gives the cross sequence that all symbols share. After each `step`, `fills` and
    `liquidations` hold what is new; the owner takes and clears them.
    """

    def __init__(
        self, spec: SymbolSpec, rng: random.Random, now_ms: int, rate: float, next_sequence: Callable[[], int]
    ) -> None:
        self.spec = spec
        self.book = LimitBook()
        self.fills: list[Fill] = []
        self.liquidations: list[LiquidationRecord] = []
        self.changed_ms = now_ms
        self.sequence = next_sequence()
        self._rng = rng
        self._rate = rate
        self._next_sequence = next_sequence
        self._fair = float(spec.start_price)
        self._now = now_ms
        self._regime = REGIMES[1]
        self._regime_until = now_ms + 20_000.0
        self._excite = 0.0
        self._excited_at = float(now_ms)
        self._last_buy = True
        self._churn_rate = max(1e-9, _CHURN_PER_S * spec.activity * rate / 1000)
        self._base_rate = max(1e-9, _TAKERS_PER_S * spec.activity * rate / 1000)
        self._next_churn = now_ms + rng.expovariate(self._churn_rate)
        self._next_taker = now_ms + rng.expovariate(self._base_rate)
        self._fair_at = now_ms
        self.last_price = spec.start_price
        self.last_direction = "ZeroPlusTick"
        self.mark_price = spec.start_price
        self._spot = rng.gauss(0.0, 0.0006)  # how far the spot price stands below the contract, as a fraction
        self.index_price = spec.start_price * (1 - self._spot)
        self._basis = spec.start_price - self.index_price
        self._premium = self._spot
        self.funding_ppb = 0
        self.update_funding()
        tier = spec.tiers[0]
        self._largest = max(1, _tier_lots(spec) * 4 // 5)
        self.ledger = Ledger(rng, spec.max_leverage, tier.maintenance_ppm)
        self._fill_book()

    @property
    def next_event_ms(self) -> float:
        """When this market next does something by itself, ms; before that, `step` changes nothing."""
        return min(self._next_churn, self._next_taker)

    # The book's makers.

    def _size(self, distance: int) -> int:
        """Size of a resting level, lots: thin at the touch, thicker behind, heavy-tailed."""
        scale = self.spec.order_lots * (0.5 + min(distance / 12.0, 4.0))
        return 1 + int(scale * self._rng.lognormvariate(0.0, 0.8))

    def _fill_book(self) -> None:
        start = self.spec.start_price
        for half in (self.book.bids, self.book.asks):
            self._extend(half, start - half.sign * 1)

    def _extend(self, half: HalfBook, first: int) -> None:
        """Add levels outward from price `first` (ticks) until the side is full or prices run out."""
        rng, gap, sign = self._rng, self.spec.gap, half.sign
        lowest = max(1, self.spec.start_price // 50)
        price = first
        new: list[int] = []
        need = LEVELS - len(half.keys)
        while len(new) < need and price >= lowest:
            new.append(price * sign)
            half.sizes[price * sign] = self._size(len(half.keys) + len(new))
            price -= sign * (gap if gap == 1 and rng.random() < 0.9 else 1 + int(rng.expovariate(1.0) * gap))
        half.keys[:0] = reversed(new)

    def _requote(self, now: int) -> None:
        """Makers follow the fair price: stale quotes are pulled or hit, and the gap behind them is filled."""
        rng = self._rng
        gap = self.spec.gap
        fair = self._fair
        bids, asks = self.book.bids, self.book.asks
        target_bid = floor(fair - 0.35 * gap)
        target_ask = target_bid + 1
        for half, other, target in ((asks, bids, target_ask), (bids, asks, target_bid)):
            sign = half.sign
            best = half.best
            beyond = (best - target) * sign  # > 0: this side stands on the wrong side of the fair price
            if beyond > 2 * gap and rng.random() < 0.4:
                self._take(half is asks, 1 << 60, now, limit=target + sign, impact=False)
            while (half.best - target) * sign > 0 and len(half.keys) > _KEEP:
                half.set(half.best, 0)
            room = (target - half.best) * sign
            if room > 0 and (target - other.best) * sign < 0:
                price = half.best + sign
                step = gap
                if room > 60 * gap:  # a jump: nobody quotes the whole way
                    price = target - sign * 40 * gap
                while (target - price) * sign >= 0:
                    if rng.random() < 0.8:
                        half.set(price, self._size(abs(target - price) // gap))
                    price += sign * (step if step == 1 else 1 + int(rng.random() * 2 * step))

    def _churn(self, now: int) -> None:
        """One maker acts: improves, joins, resizes or leaves a level near the touch."""
        rng = self._rng
        book = self.book
        half, other = (book.bids, book.asks) if rng.random() < 0.5 else (book.asks, book.bids)
        sign = half.sign
        gap = self.spec.gap
        draw = rng.random()
        distance = int(rng.expovariate(1.0) * _DEPTH_SCALE)
        if draw < 0.25:
            price = half.best + sign * (1 + int(rng.random() * gap))
            if (other.best - price) * sign > 0 and (self._fair - price) * sign > -0.5 * gap:
                half.set(price, self._size(0))
            else:
                half.set(half.best, self._size(0))
        elif draw < 0.42 and len(half.keys) > _KEEP + distance:
            half.set(half.keys[-1 - distance] * sign, 0)
        else:
            if gap > 1 and draw < 0.75 and len(half.keys) > distance:
                price = half.keys[-1 - distance] * sign
            else:
                price = half.best - sign * distance * gap
            if price > 0:
                half.set(price, self._size(distance))
        self._touch(now)

    def _touch(self, now: int) -> None:
        self.changed_ms = now
        self.sequence = self._next_sequence()

    def _maintain(self) -> None:
        for half in (self.book.bids, self.book.asks):
            count = len(half.keys)
            if count > _FAR:
                half.trim(LEVELS)
            elif count < _MIN_LEVELS:
                last = half.keys[0] * half.sign
                self._extend(half, last - half.sign * self.spec.gap)

    # Takers.

    def _intensity(self, now: float) -> float:
        self._excite *= exp(-(now - self._excited_at) * _DECAY_PER_MS * self._rate)
        self._excited_at = now
        return self._base_rate * self._regime.flow + self._excite

    def _schedule_taker(self, now: float) -> None:
        self._next_taker = now + self._rng.expovariate(self._intensity(now))

    def _taker(self, due: float, now: int) -> None:
        """One candidate of the self-exciting arrivals (Ogata's thinning: intensity only falls between)."""
        before = self._base_rate * self._regime.flow + self._excite
        if self._rng.random() * before <= self._intensity(due):
            self._excite += _BRANCHING * _DECAY_PER_MS * self._rate
            self._order(now)
        self._schedule_taker(due)

    def _order(self, now: int) -> None:
        rng = self._rng
        drift = self._regime.drift
        if drift and rng.random() < 0.35:
            is_buy = drift > 0
        else:
            is_buy = self._last_buy if rng.random() < _SIGN_MEMORY else rng.random() < 0.5
        self._last_buy = is_buy
        lots = max(1, int(self.spec.order_lots * rng.lognormvariate(-0.4, 1.25)))
        if rng.random() < 0.5:  # people like round numbers
            magnitude = 10 ** max(0, len(str(lots)) - 1)
            lots = max(magnitude, lots // magnitude * magnitude)
        lots = min(lots, self._largest)
        ledger = self.ledger
        target = self.spec.order_lots * 2_500
        wish = 0.5 + 0.3 * (1 - ledger.single_open_interest / target)
        if ledger.count(not is_buy) and rng.random() > wish:
            position = ledger.pick(not is_buy)
            part = position.size if rng.random() < 0.6 else max(1, position.size // 2)
            filled, _ = self._take(is_buy, min(part, lots * 4), now)
            if filled:
                ledger.reduce(position, filled)
        else:
            filled, cost = self._take(is_buy, lots, now)
            if filled:
                ledger.open(is_buy, filled, cost, self.mark_price, now)

    def _take(
        self, is_buy: bool, lots: int, now: int, *, limit: int | None = None, impact: bool = True
    ) -> tuple[int, int]:
        """A taker order walks the book. Returns (filled lots, ticks x lots) and prints the fills.

        `impact=False` is the arbitrage that only follows the fair price: makers trade among themselves.
        """
        half = self.book.asks if is_buy else self.book.bids
        if impact and limit is None and self._rng.random() < _RPI_SHARE:
            levels, is_rpi = [(half.best, lots)], True  # retail price improvement: matched with hidden size
        else:
            levels, is_rpi = half.take(lots, _KEEP, limit), False
        if not levels:
            return 0, 0
        self._touch(now)
        filled = cost = 0
        for price, size in levels:
            filled += size
            cost += price * size
            self._print(now, is_buy, price, size, is_rpi)
        if impact:
            sign = 1 if is_buy else -1
            self._fair += sign * _IMPACT * self.spec.gap * sqrt(filled / self.spec.order_lots)
        else:
            self.ledger.exchange(filled)
        return filled, cost

    def _print(self, now: int, is_buy: bool, price: int, size: int, is_rpi: bool) -> None:
        """Record the fills of one level: a level holds several orders, so large fills come in pieces."""
        rng = self._rng
        while size:
            piece = size
            if size > self.spec.order_lots and rng.random() < 0.7:
                piece = 1 + int(rng.random() * (size - 1))
            size -= piece
            self._fill(now, is_buy, price, piece, is_rpi=is_rpi)

    def _fill(
        self, now: int, is_buy: bool, price: int, size: int, *, is_rpi: bool = False, is_block: bool = False
    ) -> None:
        if price > self.last_price:
            self.last_direction = "PlusTick"
        elif price < self.last_price:
            self.last_direction = "MinusTick"
        elif self.last_direction == "PlusTick":
            self.last_direction = "ZeroPlusTick"
        elif self.last_direction == "MinusTick":
            self.last_direction = "ZeroMinusTick"
        self.last_price = price
        trade_id = _uuid(self._rng)
        direction = self.last_direction
        self.fills.append(Fill(now, is_buy, price, size, self.sequence, trade_id, direction, is_block, is_rpi))

    # Time.

    def step(self, to_ms: int) -> None:
        """Let everything due up to `to_ms` happen, in order of time."""
        churned = False
        while True:
            if self._next_churn <= self._next_taker:
                due = self._next_churn
                if due > to_ms:
                    break
                now = max(self._now, int(due))
                self._drift(now)
                if not churned:
                    self._requote(now)
                    churned = True
                self._churn(now)
                self._next_churn = due + self._rng.expovariate(self._churn_rate * sqrt(self._regime.flow))
            else:
                due = self._next_taker
                if due > to_ms:
                    break
                now = max(self._now, int(due))
                self._drift(now)
                self._taker(due, now)
                if self._rng.random() < _BLOCK_SHARE:
                    self._block(now)
            self._now = now
        self._now = to_ms
        self._maintain()

    def _block(self, now: int) -> None:
        """A block trade: negotiated off the book, between makers, at the last price."""
        lots = self.spec.order_lots * 50
        self._touch(now)
        self.ledger.exchange(lots)
        self._fill(now, self._rng.random() < 0.5, self.last_price, lots, is_block=True)

    def _drift(self, now: int) -> None:
        """Move the fair price by noise and by the mood, gently pulled back to where the market started."""
        elapsed = (now - self._fair_at) / 1000
        if elapsed <= 0:
            return
        self._fair_at = now
        rng, regime, start = self._rng, self._regime, self.spec.start_price
        if now >= self._regime_until:
            self._regime = rng.choices(REGIMES, [r.weight for r in REGIMES])[0]
            self._regime_until = now + rng.expovariate(1 / self._regime.mean_ms)
            self._schedule_taker(max(float(now), self._excited_at))
        fair = self._fair
        seconds = elapsed * self._rate
        sigma = self.spec.volatility / _PPM * regime.volatility * sqrt(seconds)
        pull = log(start / fair) / 10_000 * seconds
        fair *= exp(rng.gauss(0.0, sigma) + regime.drift * seconds + pull)
        self._fair = min(max(fair, start * 0.25), start * 4.0)

    def update_prices(self, now_ms: int) -> None:
        """Move index and mark price; liquidate what the mark price reaches. Called every 100 ms."""
        mid = self.book.mid2 / 2
        self._spot += self._rng.gauss(0.0, 0.000_012) - 0.000_2 * self._spot
        pace = min(0.25, 0.03 + 0.03 * self._rate)
        self.index_price += pace * (mid * (1 - self._spot) - self.index_price)
        self._basis += 0.02 * (mid - self.index_price - self._basis)
        self._premium += 0.001 * ((mid - self.index_price) / self.index_price - self._premium)
        self.mark_price = max(1, round(self.index_price + self._basis))
        for position in self.ledger.triggered(self.mark_price):
            self._liquidate(position, now_ms)

    def update_funding(self) -> None:
        """Funding rate from the premium: P + clamp(0.01 % - P, -0.05 %, 0.05 %), capped at 1 %; in 1e-9."""
        premium = int(self._premium * 1e9)
        rate = premium + max(-500_000, min(500_000, 100_000 - premium))
        self.funding_ppb = max(-10_000_000, min(10_000_000, rate))

    def _liquidate(self, position: Position, now_ms: int) -> None:
        """The engine takes the position over and closes it in the market; what the book cannot take waits."""
        half = self.book.bids if position.is_long else self.book.asks
        levels = half.take(position.size, _KEEP)
        filled = sum(size for _, size in levels)
        if filled:
            self._touch(now_ms)
            for price, size in levels:
                self._print(now_ms, not position.is_long, price, size, False)
            sign = -1 if position.is_long else 1
            self._fair += sign * _IMPACT * self.spec.gap * sqrt(filled / self.spec.order_lots)
            self._excite += 0.5 * _BRANCHING * _DECAY_PER_MS * self._rate
            self._schedule_taker(max(float(now_ms), self._excited_at))
            self.ledger.reduce(position, filled)
            self.liquidations.append(
                LiquidationRecord(
                    now_ms,
                    position.is_long,
                    filled,
                    position.bankruptcy,
                    position.trigger,
                    self.mark_price,
                    position.leverage,
                    position.position_id,
                )
            )
        if position.size:
            self.ledger.requeue(position)

    def seed_position(self, is_long: bool, price: int, opened_ms: int, worst: int) -> None:
        """Open a position of the time before the start, at `price` ticks, that `worst` did not liquidate."""
        lots = self._seeded_lots()
        self.ledger.open(is_long, lots, price * lots, worst, opened_ms)

    def seed_trouble(self, is_long: bool, distance: float, opened_ms: int) -> None:
        """Open a position of the time before the start that is `distance` (a fraction) from its trigger."""
        leverage = max(2, self.spec.max_leverage // self._rng.choice((1, 1, 2, 3)))
        trigger = self.mark_price * (1 - distance if is_long else 1 + distance)
        lots = self._seeded_lots()
        entry = self.ledger.entry_for(is_long, trigger, leverage)
        self.ledger.open(is_long, lots, entry * lots, self.mark_price, opened_ms, leverage)

    def _seeded_lots(self) -> int:
        return min(self._largest, max(1, int(self.spec.order_lots * self._rng.lognormvariate(0.6, 1.1))))


def _tier_lots(spec: SymbolSpec) -> int:
    """How many lots the first risk tier holds at the start price."""
    lot_value = spec.start_price * spec.tick_units * spec.lot_units
    return int(spec.tiers[0].limit * 10 ** (spec.price_decimals + spec.size_decimals)) // lot_value


def _uuid(rng: random.Random) -> str:
    """A version 5 UUID in form; drawn, not hashed."""
    text = f"{rng.getrandbits(128):032x}"
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
