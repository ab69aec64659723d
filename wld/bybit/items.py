"""Owns what of a message is compared between lines: its items by name, content and order. Pure; knows no line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import structs

from wld.bybit.topics import STRICT_DEPTH
from wld.events import BookDelta, BookSnapshot, Event, Liquidation, Ticker, Trade

FAR_NS = 1_000_000_000
"""Trades of one listing that are so far apart, by the matching engine's clock, have sequences in the same order."""
Order = tuple[int | None, int]
"""Cross sequence, and the second measure: update id, event time or push time."""
Prices = tuple[set[int], set[int]]
"""Of bids and asks, 1e-8."""


class Item:
    """What is compared: `key` names it, `content` tells a different one of the same name, `order` old from new."""

    __slots__ = ("content", "events", "is_flow", "is_snapshot", "key", "order", "time")

    def __init__(self, key: Any, content: int, order: Order, events: list[Event]) -> None:
        self.key = key
        self.content = content
        self.order = order
        self.events = events
        self.is_snapshot = type(events[0]) is BookSnapshot
        self.is_flow = not self.is_snapshot
        """Every line is sent it, unlike the snapshot that a new line begins with."""
        self.time = events[0].receive_time


def topic_of(event: Event) -> str | None:
    """The venue's topic that an event came on; None for what comes on none."""
    if isinstance(event, BookSnapshot | BookDelta):
        return f"orderbook.{event.depth}.{event.symbol}"
    if isinstance(event, Trade):
        return f"publicTrade.{event.symbol}"
    if isinstance(event, Liquidation):
        return f"allLiquidation.{event.symbol}"
    if isinstance(event, Ticker):
        return f"tickers.{event.symbol}"
    return None


def sent_time(events: Sequence[Event]) -> int:
    for event in events:
        sent = getattr(event, "sent_time", None)
        if sent is not None:
            return int(sent)
    return 0


def differ(first: Prices, second: Prices) -> bool:
    """Whether two books differ within the levels that both hold."""
    if first == second:
        return False
    for is_bids, one, other in ((True, first[0], second[0]), (False, first[1], second[1])):
        common = min(len(one), len(other))
        if sorted(one, reverse=is_bids)[:common] != sorted(other, reverse=is_bids)[:common]:
            return True
    return False


def merge(side: dict[int, int], levels: Iterable[tuple[int, int]]) -> None:
    for price, size in levels:
        if size:
            side[price] = size
        else:
            side.pop(price, None)


def kind_of(name: str) -> tuple[str, bool]:
    if name.startswith("publicTrade."):
        return "trade", False
    if name.startswith("allLiquidation."):
        return "liquidation", False
    if name.startswith("orderbook."):
        is_strict = int(name.split(".")[1]) >= STRICT_DEPTH
        return ("book" if is_strict else "state"), is_strict
    return "state", False


def items_of(kind: str, is_strict: bool, events: list[Event]) -> list[Item]:
    """A message as what is compared: trade by trade, everything else as a whole."""
    if kind == "trade":
        return [_trade_item(e) for e in events if isinstance(e, Trade)]
    if kind == "liquidation":
        key = tuple(sorted(liquidation_key(e) for e in events))
        sent = events[0].sent_time if isinstance(events[0], Liquidation) else None
        return [Item(key, 0, (None, sent or events[0].receive_time), events)]
    return [_state_item(is_strict, e) for e in events]


def _trade_item(event: Trade) -> Item:
    key: Any = event.trade_id or (event.event_time, event.price, event.size, event.aggressor_side.value)
    content = hash((event.price, event.size, event.aggressor_side, event.event_time))
    return Item(key, content, (event.sequence, event.event_time), [event])


def liquidation_key(event: Any) -> tuple[int, str, int, int]:
    return event.event_time, event.position_side.value, event.size, event.bankruptcy_price


def _state_item(is_strict: bool, event: Event) -> Item:
    if isinstance(event, BookSnapshot | BookDelta):
        content = hash((event.bids, event.asks))
        if is_strict:
            return Item(event.update_id, content, (event.sequence, event.update_id), [event])
        return Item((event.update_id, event.sequence, content), 0, (event.sequence, event.sent_time or 0), [event])
    assert isinstance(event, Ticker)
    content = hash(structs.replace(event, event_time=None, sent_time=None, receive_time=0))
    return Item((event.sequence, content), 0, (event.sequence, event.sent_time or 0), [event])


def is_older(kind: str, order: Order, than: Order) -> bool:
    """Whether an item belongs before an entry: by cross sequence where both have it, else by its second measure.

    A symbol that is listed anew may count from elsewhere: trades far apart in time go by that.
    """
    is_far = kind == "trade" and abs(order[1] - than[1]) > FAR_NS
    if order[0] is not None and than[0] is not None and order[0] != than[0] and not is_far:
        return order[0] < than[0]
    if kind == "trade":
        return order[1] < than[1]
    return order[1] <= than[1]


def restamped(event: Event, now: int) -> Event:
    return event if event.receive_time >= now else structs.replace(event, receive_time=now)
