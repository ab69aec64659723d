"""Every event of a recording against the messages it was made of, with `decimal` and `json` and nothing of wld's decoding."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from wld.events import AggressorSide, BookDelta, BookSnapshot, Event, Gap, Liquidation, PositionSide, Ticker, Trade

E8 = Decimal(10) ** 8
MS = 1_000_000
TICKER = {
    "lastPrice": "last_price", "markPrice": "mark_price", "indexPrice": "index_price", "openInterest": "open_interest",
    "openInterestValue": "open_interest_value", "turnover24h": "turnover_24h", "volume24h": "volume_24h",
    "fundingRate": "funding_rate", "bid1Price": "bid_price", "bid1Size": "bid_size", "ask1Price": "ask_price",
    "ask1Size": "ask_size", "price24hPcnt": "price_change_24h",
}  # fmt: skip


def e8(text: str) -> int:
    value = Decimal(text) * E8
    assert value == int(value), text
    return int(value)


def levels(items: list[list[str]]) -> tuple[tuple[int, int], ...]:
    return tuple((e8(price), e8(size)) for price, size in items)


def expected(messages: Iterable[bytes]) -> Iterable[tuple[Any, ...]]:
    """What each message means, as plain tuples."""
    merged: dict[str, dict[str, int]] = {}
    for content in messages:
        message = json.loads(content)
        data, topic, ts = message["data"], message["topic"], message["ts"] * MS
        if topic.startswith("orderbook"):
            yield (
                message["type"], data["s"], levels(data["b"]), levels(data["a"]), data["u"], data["seq"],
                message["cts"] * MS, ts,
            )  # fmt: skip
        elif topic.startswith("publicTrade"):
            for t in data:
                yield (
                    "trade", t["s"], e8(t["p"]), e8(t["v"]), t["S"], t["i"], t["L"], t["seq"], t["BT"], t["RPI"],
                    t["T"] * MS, ts,
                )  # fmt: skip
        elif topic.startswith("tickers"):
            symbol = data["symbol"]
            known = merged.setdefault(symbol, {})
            known |= {TICKER[key]: e8(text) for key, text in data.items() if key in TICKER and text}  # "" says nothing
            yield ("ticker", symbol, dict(known), message["cs"], ts)
        else:
            for t in data:
                yield ("liquidation", t["s"], t["S"], e8(t["v"]), e8(t["p"]), t["T"] * MS, ts)


def meaning(event: Event) -> tuple[Any, ...]:
    """An event as such a tuple."""
    if isinstance(event, BookSnapshot | BookDelta):
        return (
            "snapshot" if isinstance(event, BookSnapshot) else "delta", event.symbol, event.bids, event.asks,
            event.update_id, event.sequence, event.event_time, event.sent_time,
        )  # fmt: skip
    if isinstance(event, Trade):
        return (
            "trade", event.symbol, event.price, event.size, "Buy" if event.aggressor_side is AggressorSide.BUY else "Sell",
            event.trade_id, event.tick_direction.value if event.tick_direction else None, event.sequence,
            event.is_block_trade, event.is_rpi, event.event_time, event.sent_time,
        )  # fmt: skip
    if isinstance(event, Ticker):
        fields = {name: getattr(event, name) for name in TICKER.values() if getattr(event, name) is not None}
        return ("ticker", event.symbol, fields, event.sequence, event.sent_time)
    assert isinstance(event, Liquidation)
    side = "Buy" if event.position_side is PositionSide.LONG else "Sell"
    return (
        "liquidation", event.symbol, side, event.size, event.bankruptcy_price, event.event_time, event.sent_time,
    )  # fmt: skip


def topic_of(want: tuple[Any, ...]) -> tuple[str, str]:
    """(kind, symbol): what keeps its order on the way; between topics, connections may differ."""
    return ("book" if want[0] in ("snapshot", "delta") else want[0], want[1])


def compare(events: Iterable[Event], messages: Iterable[bytes]) -> int:
    """How many events there are. Raises: AssertionError where one is missing, too many, moved, or off by a unit."""
    wanted: dict[tuple[str, str], deque[tuple[Any, ...]]] = {}
    for want in expected(messages):
        wanted.setdefault(topic_of(want), deque()).append(want)
    count = 0
    for event in events:
        if isinstance(event, Gap):
            assert event.reason.value == "shutdown", f"a gap: {event}"
            continue
        got = meaning(event)
        waiting = wanted.get(topic_of(got))
        assert waiting, f"event {count} was not sent: {event}"
        want = waiting.popleft()
        assert got == want, f"event {count}: {event} is not {want}"
        count += 1
    assert not any(wanted.values()), f"only {count} events"
    return count
