"""Owns the vocabulary: what happened, as frozen records. Does not own how it travels or is stored.

Numbers are integers: prices, sizes, rates and interest at 1e-8; times in nanoseconds since the Unix epoch, each
named after its clock: `event_time` the matching engine, `sent_time` the venue's push, `receive_time` this host.
None means: the venue did not send it.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec import Struct

Level = tuple[int, int]
"""(price, size), both 1e-8; size 0 in a delta removes the level."""


class AggressorSide(Enum):
    """The taker's side."""

    BUY = "buy"
    SELL = "sell"


class PositionSide(Enum):
    """The side of a position; a liquidated long is closed by a sell."""

    LONG = "long"
    SHORT = "short"


class TickDirection(Enum):
    """Price against the previous trade's, in the venue's words."""

    PLUS = "PlusTick"
    ZERO_PLUS = "ZeroPlusTick"
    MINUS = "MinusTick"
    ZERO_MINUS = "ZeroMinusTick"


class GapReason(Enum):
    """Why something is missing."""

    DISCONNECT = "disconnect"
    """A connection was lost."""
    UPDATE_ID = "update_id"
    """The book's update ids skip."""
    SILENCE = "silence"
    """Nothing came for too long, and the topic or the connection was given up."""
    OVERRUN = "overrun"
    """A sink was too slow and lost the oldest batches; only its own stream has it."""
    UNDECODABLE = "undecodable"
    """A message that cannot be read; of all topics (of a symbol) where not even its topic can."""
    CROSSED_BOOK = "crossed_book"
    """Best bid at or above best ask: something of the book was lost."""
    REJECTED_TOPIC = "rejected_topic"
    """The venue refuses the topic or took it off its list: without a last time as long as it does."""
    STORAGE = "storage"
    """The disk refused for longer than memory could hold."""
    SHUTDOWN = "shutdown"
    """The run ended before everything was taken."""


class Trade(Struct, frozen=True, gc=False, tag="trade"):
    """One fill. `price` 1e-8 quote units, `size` 1e-8 base coin, `sequence` the venue's cross sequence."""

    symbol: str
    price: int
    size: int
    aggressor_side: AggressorSide
    trade_id: str
    tick_direction: TickDirection | None = None
    sequence: int | None = None
    is_block_trade: bool = False
    is_rpi: bool | None = None
    is_backfilled: bool = False
    event_time: int = 0
    sent_time: int | None = None
    receive_time: int = 0


class BookSnapshot(Struct, frozen=True, gc=False, tag="book_snapshot"):
    """The whole book of a topic; it replaces whatever was there. Bids descending, asks ascending.

    `depth` is the topic's (50 for `orderbook.50`); each depth counts its own update ids.
    """

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    update_id: int
    sequence: int | None = None
    event_time: int | None = None
    sent_time: int | None = None
    receive_time: int = 0
    depth: int = 50


class BookDelta(Struct, frozen=True, gc=False, tag="book_delta"):
    """Levels that changed, each with its new absolute size; an empty one is an event too."""

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    update_id: int
    sequence: int | None = None
    event_time: int | None = None
    sent_time: int | None = None
    receive_time: int = 0
    depth: int = 50


class Liquidation(Struct, frozen=True, gc=False, tag="liquidation"):
    """A position closed by the venue. `bankruptcy_price` 1e-8 quote units: neither trigger nor fill price."""

    symbol: str
    position_side: PositionSide
    size: int
    bankruptcy_price: int
    event_time: int = 0
    sent_time: int | None = None
    receive_time: int = 0


class Ticker(Struct, frozen=True, gc=False, tag="ticker"):
    """The merged state of a symbol's ticker; a field not yet sent is None, never zero.

    `open_interest` and `open_interest_value` count both sides, the `single_` ones one side. Rates are fractions
    at 1e-8. Values may exceed 64 bits.
    """

    symbol: str
    last_price: int | None = None
    mark_price: int | None = None
    index_price: int | None = None
    open_interest: int | None = None
    open_interest_value: int | None = None
    single_open_interest: int | None = None
    single_open_interest_value: int | None = None
    funding_rate: int | None = None
    next_funding_time: int | None = None
    """ns since the Unix epoch."""
    funding_interval_hour: int | None = None
    funding_cap: int | None = None
    bid_price: int | None = None
    bid_size: int | None = None
    ask_price: int | None = None
    ask_size: int | None = None
    price_change_24h: int | None = None
    previous_price_24h: int | None = None
    previous_price_1h: int | None = None
    high_price_24h: int | None = None
    low_price_24h: int | None = None
    turnover_24h: int | None = None
    volume_24h: int | None = None
    basis: int | None = None
    basis_rate: int | None = None
    basis_rate_year: int | None = None
    delivery_fee_rate: int | None = None
    predicted_delivery_price: int | None = None
    pre_open_price: int | None = None
    pre_size: int | None = None
    delivery_time: str | None = None
    """As sent: an ISO 8601 text on dated futures."""
    pre_listing_phase: str | None = None
    tick_direction: TickDirection | None = None
    sequence: int | None = None
    event_time: int | None = None
    sent_time: int | None = None
    receive_time: int = 0


class Gap(Struct, frozen=True, gc=False, tag="gap"):
    """Something is missing here. `missed` None: unknown count; `topic` or `symbol` None: all of them.

    `first_time` and `last_time` are receive times around the hole: last message before, first after.
    """

    gap_id: int
    reason: GapReason
    topic: str | None = None
    symbol: str | None = None
    missed: int | None = None
    first_time: int | None = None
    last_time: int | None = None
    receive_time: int = 0


class Repair(Struct, frozen=True, gc=False, tag="repair"):
    """Follows a Gap that was filled from elsewhere: how much came back and how much is still missing."""

    gap_id: int
    recovered: int
    remaining: int | None = None
    first_time: int | None = None
    last_time: int | None = None
    receive_time: int = 0


class MarginTier(Struct, frozen=True, gc=False):
    """One risk-limit tier; all 1e-8. `limit` is its ceiling in quote units, the margins are fractions."""

    limit: int
    maintenance_margin: int
    initial_margin: int
    max_leverage: int
    maintenance_deduction: int | None = None


class Instrument(Struct, frozen=True, gc=False, tag="instrument"):
    """What the venue says a symbol is; sent again whenever it changes. Numbers 1e-8, interval in minutes."""

    symbol: str
    tick_size: int | None = None
    lot_size: int | None = None
    max_leverage: int | None = None
    margin_tiers: tuple[MarginTier, ...] = ()
    funding_interval: int | None = None
    """Minutes."""
    status: str | None = None
    contract_type: str | None = None
    launch_time: int | None = None
    """ns since the Unix epoch."""
    min_size: int | None = None
    max_size: int | None = None
    min_notional: int | None = None
    receive_time: int = 0


Event = Trade | BookSnapshot | BookDelta | Liquidation | Ticker | Gap | Repair | Instrument

_KINDS: dict[type[Any], str] = {
    Trade: "trade",
    BookSnapshot: "book_snapshot",
    BookDelta: "book_delta",
    Liquidation: "liquidation",
    Ticker: "ticker",
    Gap: "gap",
    Repair: "repair",
    Instrument: "instrument",
}


def kind_of(event: Event) -> str:
    """The event's tag, the word used in statistics and on tapes."""
    return _KINDS[type(event)]


KINDS: tuple[str, ...] = tuple(_KINDS.values())
