"""Seeded messages of the venue: 70 % book deltas of some 15 levels, 20 % trade messages, 9 % tickers, 1 % liquidations.

The same seed gives the same bytes. `unique`: sizes with three decimals that hardly repeat, so that no cache of texts
helps anybody. Books never cross and update ids never skip: whatever a reader reports as a gap is the reader's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

START_MS = 1_790_000_000_000
REACH = 50


class _Symbol:
    def __init__(self, name: str, luck: random.Random, unique: bool, levels: float) -> None:
        self.name = name
        self.luck = luck
        self.levels = levels
        self.mid = luck.randint(8_000, 40_000)
        self.update = luck.randint(10**6, 10**8)
        self.sequence = luck.randint(10**11, 10**12)
        self.big = luck.choice([1.0, 1.0, 30.0, 4_000.0])
        self.size = self._unique if unique else self._plain
        self.interest = luck.uniform(1e6, 1e9)

    def _plain(self) -> str:
        return f"{max(0.1, self.luck.lognormvariate(6.0, 1.5)):.1f}"

    def _unique(self) -> str:
        return f"{max(0.001, self.luck.lognormvariate(6.0, 1.5) * self.big):.3f}"

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
        changed: tuple[dict[int, str], dict[int, str]] = ({}, {})
        for side, sign in ((0, -1), (1, 1)):
            for _ in range(max(0, round(luck.gauss(self.levels / 2, self.levels / 6)))):
                changed[side][self.mid + sign * min(REACH, 1 + int(luck.expovariate(1 / 12)))] = self.size()
        if luck.random() < 0.1:
            step = luck.choice((-1, 1))
            bids, asks = changed
            if step > 0:
                asks |= {self.mid + 1: "0", self.mid + REACH + 1: self.size()}
                bids |= {self.mid: self.size(), self.mid - REACH: "0"}
            else:
                bids |= {self.mid - 1: "0", self.mid - REACH - 1: self.size()}
                asks |= {self.mid: self.size(), self.mid + REACH: "0"}
            self.mid += step
        texts = [
            ",".join(f'["{self.price(tick)}","{size}"]' for tick, size in sorted(side.items(), reverse=i == 0))
            for i, side in enumerate(changed)
        ]
        return self._book("delta", *texts, ms)

    def trades(self, ms: int) -> bytes:
        luck, items = self.luck, []
        for _ in range(1 + min(40, int(luck.expovariate(1 / 0.6)))):
            self.sequence += 1
            side = luck.choice(("Buy", "Sell"))
            n = f"{luck.getrandbits(128):032x}"
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
        if kind == "delta":
            fields = {key: fields[key] for key in luck.sample(list(fields), luck.randint(3, 8))}
        text = ",".join(f'"{key}":"{value}"' for key, value in fields.items())
        return (
            f'{{"topic":"tickers.{self.name}","type":"{kind}","data":{{"symbol":"{self.name}",{text}}},'
            f'"cs":{self.sequence},"ts":{ms}}}'
        ).encode()

    def liquidation(self, ms: int) -> bytes:
        side = self.luck.choice(("Buy", "Sell"))
        return (
            f'{{"topic":"allLiquidation.{self.name}","type":"snapshot","ts":{ms + 400},"data":[{{"T":{ms},'
            f'"s":"{self.name}","S":"{side}","v":"{self.size()}","p":"{self.price(self.mid)}"}}]}}'
        ).encode()


def symbols_of(count: int) -> tuple[str, ...]:
    """The names that a stream of `count` symbols uses."""
    return tuple(f"B{i:03d}USDT" for i in range(count))


def stream(
    messages: int, *, symbols: int = 1, seed: int = 7, unique: bool = False, levels: float = 14.9, rate: float = 1000.0
) -> Iterator[bytes]:
    """A book and a ticker snapshot for each symbol, then `messages` of the mix, at `rate` a second of venue time."""
    luck = random.Random(seed)
    all_symbols = [_Symbol(name, luck, unique, levels) for name in symbols_of(symbols)]
    for symbol in all_symbols:
        yield symbol.snapshot(START_MS)
        yield symbol.ticker(START_MS, "snapshot")
    for i in range(messages):
        symbol = luck.choice(all_symbols)
        ms = START_MS + int(i * 1000 / rate)
        kind = luck.random()
        if kind < 0.70:
            yield symbol.delta(ms)
        elif kind < 0.90:
            yield symbol.trades(ms)
        elif kind < 0.99:
            yield symbol.ticker(ms)
        else:
            yield symbol.liquidation(ms)


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
