"""Seeded messages of the venue: 70 % book deltas of some 15 levels, 20 % trade messages, 9 % tickers, 1 % liquidations.

The same options give the same bytes, and every option bends the mix another way (`Mix`). Books never cross and update
ids never skip: whatever a reader reports as a gap is the reader's. A stream can follow itself again and again: each
round begins with snapshots, and `later` moves its times and trade ids on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

START_MS = 1_790_000_000_000
ROUND_MS = 100_000
"""Venue time of one round of a stream that follows itself."""
ROUND = b"17900000"
"""What all times and trade ids of the first round hold, and nothing else of eight digits should."""
REACH = 50


class Mix(Struct, frozen=True):
    """What a stream is made of; the defaults are the reference."""

    symbols: int = 1
    books: float = 0.70
    trades: float = 0.20
    tickers: float = 0.09
    """The rest is liquidations."""
    levels: float = 14.9
    """Changed levels a book delta, both sides together."""
    fills: float = 1.6
    """Trades a trade message."""
    unique: bool = False
    """Sizes with three decimals that hardly repeat, so that no cache of texts helps anybody."""
    long: bool = False
    """Sizes of 19 digits, as many as fit, with eight decimals."""
    snapshots: float = 0.0
    """Of the books' messages."""
    wide: bool = False
    """Tickers with a volume and a turnover beyond 64 bits at 1e-8, as coins of a thousandth of a cent have."""
    texts: bool = False
    """Tickers of dated futures: a delivery time, a phase, no funding."""
    together: bool = False
    """Two liquidation messages of each push time."""
    name: str = "B{:03d}USDT"
    """Of the symbol with a number."""
    seed: int = 7

    def names(self) -> tuple[str, ...]:
        """The symbols of the stream."""
        return tuple(self.name.format(i) for i in range(self.symbols))


class _Symbol:
    def __init__(self, name: str, luck: random.Random, mix: Mix) -> None:
        self.name = name
        self.luck = luck
        self.levels = mix.levels
        self.more = 1 - 1 / mix.fills
        self.mid = luck.randint(8_000, 40_000)
        self.update = luck.randint(10**6, 10**8)
        self.sequence = luck.randint(10**11, 10**12)
        self.big = luck.choice([1.0, 1.0, 30.0, 4_000.0])
        self.size = self._long if mix.long else self._unique if mix.unique else self._plain
        self.interest = luck.uniform(1e6, 1e9)
        self.mix = mix
        self.pushed = 0

    def _plain(self) -> str:
        return f"{max(0.1, self.luck.lognormvariate(6.0, 1.5)):.1f}"

    def _unique(self) -> str:
        return f"{max(0.001, self.luck.lognormvariate(6.0, 1.5) * self.big):.3f}"

    def _long(self) -> str:
        return f"{self.luck.randrange(10**10, 9 * 10**10)}.{self.luck.randrange(10**8):08d}"

    @staticmethod
    def price(tick: int) -> str:
        return f"{tick * 0.0001:.4f}"

    def snapshot(self, ms: int) -> bytes:
        bids = ",".join(f'["{self.price(self.mid - i)}","{self.size()}"]' for i in range(1, REACH + 1))
        asks = ",".join(f'["{self.price(self.mid + i)}","{self.size()}"]' for i in range(1, REACH + 1))
        return self._book("snapshot", bids, asks, ms)

    def _book(self, kind: str, bids: str, asks: str, ms: int) -> bytes:
        self.update += 1
        self.sequence += self.luck.randint(1, 40)
        return (
            f'{{"topic":"orderbook.50.{self.name}","type":"{kind}","ts":{ms + 2},"data":{{"s":"{self.name}",'
            f'"b":[{bids}],"a":[{asks}],"u":{self.update},"seq":{self.sequence}}},"cts":{ms}}}'
        ).encode()

    def delta(self, ms: int) -> bytes:
        luck = self.luck
        if self.mix.snapshots and luck.random() < self.mix.snapshots:
            return self.snapshot(ms)
        changed: tuple[dict[int, str], dict[int, str]] = ({}, {})
        count = max(1, round(luck.gauss(self.levels - 0.4, self.levels / 4)))
        bids = (count + luck.getrandbits(1)) // 2
        for side, sign, wanted in ((0, -1, bids), (1, 1, count - bids)):
            while len(changed[side]) < min(REACH - 5, wanted):  # near the middle of the book rather than far from it
                changed[side].setdefault(self.mid + sign * min(REACH, 1 + int(luck.expovariate(1 / 12))), self.size())
        if luck.random() < 0.1:
            step = luck.choice((-1, 1))
            below, above = changed
            if step > 0:
                above |= {self.mid + 1: "0", self.mid + REACH + 1: self.size()}
                below |= {self.mid: self.size(), self.mid - REACH: "0"}
            else:
                below |= {self.mid - 1: "0", self.mid - REACH - 1: self.size()}
                above |= {self.mid: self.size(), self.mid + REACH: "0"}
            self.mid += step
        texts = [
            ",".join(f'["{self.price(tick)}","{size}"]' for tick, size in sorted(side.items(), reverse=i == 0))
            for i, side in enumerate(changed)
        ]
        return self._book("delta", *texts, ms)

    def trades(self, ms: int) -> bytes:
        luck, items = self.luck, []
        while not items or luck.random() < self.more:
            self.sequence += 1
            side = luck.choice(("Buy", "Sell"))
            n = f"{luck.getrandbits(80):020x}{ROUND.decode()}{luck.getrandbits(16):04x}"
            items.append(
                f'{{"T":{ms},"s":"{self.name}","S":"{side}","v":"{self.size()}","p":"{self.price(self.mid)}",'
                f'"L":"{luck.choice(("PlusTick", "ZeroPlusTick", "MinusTick", "ZeroMinusTick"))}",'
                f'"i":"{n[:8]}-{n[8:12]}-{n[12:16]}-{n[16:20]}-{n[20:]}","BT":false,"RPI":false,"seq":{self.sequence}}}'
            )
        return (
            f'{{"topic":"publicTrade.{self.name}","type":"snapshot","ts":{ms + 2},"data":[{",".join(items)}]}}'
        ).encode()

    def ticker(self, ms: int, kind: str = "delta") -> bytes:
        luck = self.luck
        self.interest += luck.uniform(-500, 500)
        self.sequence += 1
        fields = {
            "lastPrice": self.price(self.mid), "markPrice": self.price(self.mid), "indexPrice": self.price(self.mid - 1),
            "openInterest": f"{self.interest:.1f}", "openInterestValue": f"{self.interest * 1.7:.2f}",
            "turnover24h": f"{self.interest * 7.1:.4f}", "volume24h": f"{self.interest * 3.3:.4f}",
            "fundingRate": f"{luck.gauss(0, 1e-4):.8f}", "bid1Price": self.price(self.mid - 1), "bid1Size": self.size(),
            "ask1Price": self.price(self.mid + 1), "ask1Size": self.size(), "nextFundingTime": "1790006400000",
            "tickDirection": "PlusTick", "price24hPcnt": f"{luck.gauss(0, 0.02):.6f}",
        }  # fmt: skip
        if self.mix.wide:
            fields |= {"turnover24h": f"{self.interest * 7e4:.4f}", "volume24h": f"{self.interest * 3e4:.1f}"}
        if self.mix.texts:
            fields |= {
                "deliveryTime": "2026-11-27T08:00:00Z",
                "curPreListingPhase": "",
                "fundingRate": "",
                "nextFundingTime": "",
            }
        if kind == "delta":
            fields = {key: fields[key] for key in luck.sample(list(fields), luck.randint(3, 8))}
        text = ",".join(f'"{key}":"{value}"' for key, value in fields.items())
        return (
            f'{{"topic":"tickers.{self.name}","type":"{kind}","data":{{"symbol":"{self.name}",{text}}},'
            f'"cs":{self.sequence},"ts":{ms}}}'
        ).encode()

    def liquidation(self, ms: int) -> bytes:
        if self.mix.together:
            ms, self.pushed = self.pushed or ms, 0 if self.pushed else ms
        side = self.luck.choice(("Buy", "Sell"))
        return (
            f'{{"topic":"allLiquidation.{self.name}","type":"snapshot","ts":{ms + 400},"data":[{{"T":{ms},'
            f'"s":"{self.name}","S":"{side}","v":"{self.size()}","p":"{self.price(self.mid)}"}}]}}'
        ).encode()


def stream(count: int, mix: Mix | None = None) -> Iterator[bytes]:
    """A book and a ticker snapshot for each symbol, then `count` of the mix, evenly over half a round of venue time."""
    mix = mix or Mix()
    luck = random.Random(mix.seed)
    symbols = [_Symbol(name, luck, mix) for name in mix.names()]
    for symbol in symbols:
        yield symbol.snapshot(START_MS)
        yield symbol.ticker(START_MS, "snapshot")
    trades, tickers = mix.books + mix.trades, mix.books + mix.trades + mix.tickers
    for i in range(count):
        symbol = luck.choice(symbols)
        ms = START_MS + i * (ROUND_MS // 2) // count
        kind = luck.random()
        if kind < mix.books:
            yield symbol.delta(ms)
        elif kind < trades:
            yield symbol.trades(ms)
        elif kind < tickers:
            yield symbol.ticker(ms)
        else:
            yield symbol.liquidation(ms)


def later(content: bytes, turn: int) -> bytes:
    """A message, or a frame that holds one, in a later round: of the same size, at a later time, with new trade ids."""
    return content.replace(ROUND, b"%d" % (int(ROUND) + turn)) if turn else content


def write(path: Path, messages: Iterator[bytes]) -> int:
    """One message a line; how many."""
    count = 0
    with path.open("wb") as file:
        for message in messages:
            file.write(message + b"\n")
            count += 1
    return count


def read(path: Path) -> list[bytes]:
    """What `write` wrote."""
    return path.read_bytes().split(b"\n")[:-1]
