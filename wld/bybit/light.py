"""Owns the light decoding of a message: its fields typed as the row decoder types them, its numbers left as text. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from wld.bybit.messages import Outer
from wld.bybit.websocket import Message


class _WithTopic(Outer, kw_only=True, gc=False):
    topic: str


class BookData(Struct, gc=False):
    s: str
    b: Raw
    a: Raw
    u: int
    seq: int | None = None


class LightTrade(Struct, gc=False):
    T: int
    s: str
    S: str
    v: Raw
    p: Raw
    i: str
    L: str | None = None
    BT: bool = False
    RPI: bool | None = None
    seq: int | None = None


class LightLiquidation(Struct, gc=False):
    T: int
    s: str
    S: str
    v: Raw
    p: Raw


class _BookMessage(_WithTopic, kw_only=True, gc=False):
    data: BookData


class _TradeMessage(_WithTopic, kw_only=True, gc=False):
    data: list[LightTrade]


class _LiquidationMessage(_WithTopic, kw_only=True, gc=False):
    data: list[LightLiquidation]


class _TickerMessage(_WithTopic, kw_only=True, gc=False):
    data: dict[str, Any]


BOOK, TRADES, TICKERS, LIQUIDATIONS = b"opta"
"""First letters of the topics."""
KINDS = bytes((BOOK, TRADES, TICKERS, LIQUIDATIONS))
DECODE: dict[int, Callable[[Any], Any]] = {
    BOOK: msgspec.json.Decoder(_BookMessage).decode,
    TRADES: msgspec.json.Decoder(_TradeMessage).decode,
    TICKERS: msgspec.json.Decoder(_TickerMessage).decode,
    LIQUIDATIONS: msgspec.json.Decoder(_LiquidationMessage).decode,
}
_TOPIC = re.compile(rb'"topic"\s*:\s*"([opta])')


def kind_of(message: Message) -> int | None:
    """The first letter of a message's topic, wherever it stands."""
    content = message.encode() if isinstance(message, str) else message
    at = place_of(content)
    return content[at] if at >= 0 else None


def place_of(message: Message) -> int:
    """Where the first letter of a message's topic stands; -1: nowhere."""
    found = _TOPIC.search(message.encode() if isinstance(message, str) else message)
    return found.start(1) if found else -1
