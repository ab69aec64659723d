"""Seeded market data for the tape's benchmarks: (receive time ns, venue message) pairs, and the events they decode to.

`reference_mix`: 70 % book deltas of some 15 levels, 20 % trade messages, 9 % tickers, 1 % liquidations, one symbol;
prices walk over 180 ticks, sizes are lognormal to 0.1. `exchange_mix`: what the simulated exchange pushes for a symbol.
`capture`: real messages, one JSON object a line.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from wld.bybit.decoder import MarketDecoder
from wld.events import Event
from wld.exchange.instruments import spec_for
from wld.exchange.market import Market

Line = tuple[int, bytes]
"""(receive time ns, message as JSON)."""

START_MS = 1_790_000_000_000
SYMBOL = "WLDUSDT"
_TICK = 0.0001
_MID = 24_000
_REACH = 50


def _json(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def reference_mix(messages: int, seed: int = 7, rate: float = 50.0) -> Iterator[Line]:
    """The mix, at `rate` messages a second."""
    rng = random.Random(seed)
    low = _MID - 90 - _REACH
    price_text = [f"{(low + i) * _TICK:.4f}" for i in range(180 + 2 * _REACH + 4)]
    mid, update, sequence, last = _MID, 20_000_000, 800_000_000_000, _MID
    day_volume, interest = 250_000_000.0, 90_000_000.0
    now = float(START_MS)

    def size() -> str:
        return f"{max(0.1, rng.lognormvariate(6.0, 1.5)):.1f}"

    def side(best: int, step: int, old_best: int, count: int) -> list[list[str]]:
        """Changed levels from the best outwards: sizes near the top, and what a moved best adds and removes."""
        ticks = {best + step * min(int(rng.expovariate(1 / 12)), _REACH - 1) for _ in range(count)}
        levels = {tick: size() for tick in ticks}
        for i in range(min(best, old_best) - _REACH, max(best, old_best) + _REACH + 1):
            is_now, was = 0 <= (i - best) * step < _REACH, 0 <= (i - old_best) * step < _REACH
            if is_now and not was:
                levels[i] = size()
            elif was and not is_now:
                levels[i] = "0"
        return [[price_text[tick - low], levels[tick]] for tick in sorted(levels, reverse=step < 0)]

    yield (
        int(now * 1e6) + 1_500_000,
        _json({
            "topic": f"orderbook.50.{SYMBOL}", "type": "snapshot", "ts": int(now) + 1,
            "data": {
                "s": SYMBOL, "b": [[price_text[mid - i - low], size()] for i in range(_REACH)],
                "a": [[price_text[mid + 1 + i - low], size()] for i in range(_REACH)], "u": update, "seq": sequence,
            }, "cts": int(now),
        }),
    )  # fmt: skip
    first_ticker = True
    for _ in range(messages - 1):
        now += rng.expovariate(rate / 1000)
        sequence += 1 + int(rng.expovariate(1 / 20))
        event = int(now)
        sent = event + int(rng.expovariate(1 / 2))
        received = int((sent + rng.lognormvariate(0.5, 0.5)) * 1e6) + rng.randrange(1000)
        kind = rng.random()
        message: dict[str, object]
        if kind < 0.70:
            update += 1
            old = mid
            mid = min(max(mid + rng.choice((-1, 0, 0, 0, 1)), _MID - 89), _MID + 89)
            message = {
                "topic": f"orderbook.50.{SYMBOL}", "type": "delta", "ts": sent,
                "data": {
                    "s": SYMBOL, "b": side(mid, -1, old, rng.randrange(3, 15)),
                    "a": side(mid + 1, 1, old + 1, rng.randrange(3, 15)), "u": update, "seq": sequence,
                }, "cts": event,
            }  # fmt: skip
        elif kind < 0.90:
            buys = rng.random() < 0.5
            trades = []
            for _ in range(min(1 + int(rng.expovariate(1 / 0.9)), 12)):
                price = mid + 1 if buys else mid
                word = "PlusTick" if price > last else "MinusTick" if price < last else (
                    "ZeroPlusTick" if buys else "ZeroMinusTick"
                )  # fmt: skip
                last = price
                trades.append({
                    "T": event, "s": SYMBOL, "S": "Buy" if buys else "Sell", "v": size(), "p": price_text[price - low],
                    "L": word, "i": str(uuid.UUID(int=rng.getrandbits(128), version=5)), "BT": False, "RPI": False,
                    "seq": sequence,
                })  # fmt: skip
                day_volume += float(trades[-1]["v"])
            message = {"topic": f"publicTrade.{SYMBOL}", "type": "snapshot", "ts": sent, "data": trades}
        elif kind < 0.99:
            interest += rng.gauss(0, 300)
            fields = {
                "symbol": SYMBOL, "bid1Price": price_text[mid - low], "bid1Size": size(),
                "ask1Price": price_text[mid + 1 - low], "ask1Size": size(),
            }  # fmt: skip
            if first_ticker or rng.random() < 0.7:
                fields |= {"lastPrice": price_text[last - low], "volume24h": f"{day_volume:.1f}",
                           "turnover24h": f"{day_volume * 2.4:.4f}", "tickDirection": "ZeroPlusTick"}  # fmt: skip
            if first_ticker or rng.random() < 0.5:
                fields |= {"markPrice": f"{(mid + rng.gauss(0, 2)) * _TICK:.4f}",
                           "indexPrice": f"{(mid + rng.gauss(0, 2)) * _TICK:.4f}"}  # fmt: skip
            if first_ticker or rng.random() < 0.3:
                fields |= {"openInterest": f"{interest:.1f}", "openInterestValue": f"{interest * 2.4:.2f}"}
            if first_ticker:
                fields |= {
                    "price24hPcnt": "0.0213", "prevPrice24h": "2.3511", "prevPrice1h": "2.3911",
                    "highPrice24h": "2.4511", "lowPrice24h": "2.3101", "fundingRate": "0.0001",
                    "nextFundingTime": str(START_MS // 28_800_000 * 28_800_000 + 28_800_000),
                }  # fmt: skip
            message = {
                "topic": f"tickers.{SYMBOL}", "type": "snapshot" if first_ticker else "delta", "data": fields,
                "cs": sequence, "ts": sent,
            }  # fmt: skip
            first_ticker = False
        else:
            message = {
                "topic": f"allLiquidation.{SYMBOL}", "type": "snapshot", "ts": sent,
                "data": [{
                    "T": event, "s": SYMBOL, "S": rng.choice(("Buy", "Sell")), "v": size(),
                    "p": price_text[min(max(mid + rng.randrange(-40, 40), low), low + 279) - low],
                }],
            }  # fmt: skip
        yield received, _json(message)


def exchange_mix(seconds: int, seed: int = 7, symbol: str = SYMBOL) -> Iterator[Line]:
    """What the simulated exchange pushes for one symbol; received 2 to 6 ms after it was sent."""
    rng = random.Random(seed)
    market = Market([spec_for(symbol)], seed, START_MS)
    received = 0
    for topic in (f"orderbook.50.{symbol}", f"tickers.{symbol}"):
        body = market.snapshot(topic)
        received = START_MS * 1_000_000 + 2_000_000
        yield received, _json(body)
    for ms in range(START_MS + 10, START_MS + seconds * 1000, 10):
        for message in market.advance(ms):
            received = max(received + 1_000, int((ms + 1.5 + rng.lognormvariate(0.5, 0.5)) * 1e6) + rng.randrange(1000))
            yield received, _json(message.body)


def capture(path: Path) -> Iterator[Line]:
    """Real messages; received 2 to 6 ms after they were sent (the venue's archive does not say)."""
    rng = random.Random(7)
    for line in path.read_bytes().splitlines():
        sent: int = json.loads(line)["ts"]
        yield int((sent + 1.5 + rng.lognormvariate(0.5, 0.5)) * 1e6) + rng.randrange(1000), line


def decode(lines: Iterable[Line]) -> list[Event]:
    """The events of messages; none of these has a gap."""
    decoder = MarketDecoder(accept_any=True)
    events: list[Event] = []
    for received, message in lines:
        events += decoder.decode(message, received)
    return events
