"""Owns the wire: Structs that mirror the venue's names, and their conversion to events. No state, no I/O.

Fields and meanings: Bybit V5 public WebSocket documentation; unknown fields are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw, Struct

from wld.errors import RemoteProtocolError, UnitError
from wld.events import (
    AggressorSide,
    BookDelta,
    BookSnapshot,
    Level,
    Liquidation,
    PositionSide,
    TickDirection,
    Trade,
)
from wld.units import INT64_MAX, PLACES, ms_to_ns, parse_fixed, parse_fixed64


class Outer(Struct, kw_only=True, gc=False):
    """What any message may carry beside its topic and data."""

    type: str | None = None
    ts: int | None = None
    cts: int | None = None
    cs: int | None = None
    op: str | None = None
    success: bool | None = None
    ret_msg: str | None = None
    ret_code: int | None = None
    req_id: str | None = None
    conn_id: str | None = None


class Envelope(Outer, kw_only=True, gc=False):
    """Every message: data has a topic, an answer has an op (option and spread answers: a type)."""

    topic: str | None = None
    data: Raw = Raw(b"")


class WireBook(Struct, gc=False):
    """`orderbook.{depth}.{symbol}` data."""

    s: str
    b: Raw
    a: Raw
    u: int
    seq: int | None = None


class WireTrade(Struct, gc=False):
    """One item of `publicTrade.{symbol}` data; S is the taker's side."""

    T: int
    s: str
    S: str
    v: str
    p: str
    i: str
    L: str | None = None
    BT: bool = False
    RPI: bool | None = None
    seq: int | None = None


class WireLiquidation(Struct, gc=False):
    """One item of `allLiquidation.{symbol}` data; S = Buy: a LONG was liquidated; p is the bankruptcy price."""

    T: int
    s: str
    S: str
    v: str
    p: str


class _Named(Struct, gc=False):
    """Whatever names its symbol, as books and items or as tickers do."""

    s: str | None = None
    symbol: str | None = None


_envelope = msgspec.json.Decoder(Envelope)
_names: msgspec.json.Decoder[_Named | list[_Named]] = msgspec.json.Decoder(_Named | list[_Named])
_book = msgspec.json.Decoder(WireBook)
_trades = msgspec.json.Decoder(list[WireTrade])
_trade = msgspec.json.Decoder(WireTrade)
_liquidations = msgspec.json.Decoder(list[WireLiquidation])
_liquidation = msgspec.json.Decoder(WireLiquidation)
_items = msgspec.json.Decoder(list[Raw])
_ticker = msgspec.json.Decoder(dict[str, Any])
_level_texts = msgspec.json.Decoder(list[tuple[str, str]])

_AGGRESSOR = {"Buy": AggressorSide.BUY, "Sell": AggressorSide.SELL}
_POSITION = {"Buy": PositionSide.LONG, "Sell": PositionSide.SHORT}
_DIRECTION = {d.value: d for d in TickDirection}
_ZEROS = tuple(b"0" * (PLACES - places) for places in range(PLACES + 1))
"""What makes a number of so many decimals one of eight."""
_MAX_SYMBOL = 40
MOST_BAD = 1_024
"""Bad items of one message that are looked at one by one; from there on the rest of it counts as bad, so that a message
holds up the loop for some 50 ms at most. The venue sends 1,024 items in a message."""
MAX_ID = 128

TICKER_FIELDS: dict[str, str] = {
    "lastPrice": "last_price",
    "markPrice": "mark_price",
    "indexPrice": "index_price",
    "openInterest": "open_interest",
    "openInterestValue": "open_interest_value",
    "singleOpenInterest": "single_open_interest",
    "singleOpenInterestValue": "single_open_interest_value",
    "fundingRate": "funding_rate",
    "fundingCap": "funding_cap",
    "bid1Price": "bid_price",
    "bid1Size": "bid_size",
    "ask1Price": "ask_price",
    "ask1Size": "ask_size",
    "price24hPcnt": "price_change_24h",
    "prevPrice24h": "previous_price_24h",
    "prevPrice1h": "previous_price_1h",
    "highPrice24h": "high_price_24h",
    "lowPrice24h": "low_price_24h",
    "turnover24h": "turnover_24h",
    "volume24h": "volume_24h",
    "basis": "basis",
    "basisRate": "basis_rate",
    "basisRateYear": "basis_rate_year",
    "deliveryFeeRate": "delivery_fee_rate",
    "predictedDeliveryPrice": "predicted_delivery_price",
    "preOpenPrice": "pre_open_price",
    "preQty": "pre_size",
}
"""The venue's decimal ticker fields and ours."""
TICKER_WIDE = {
    "openInterest", "openInterestValue", "singleOpenInterest", "singleOpenInterestValue", "bid1Size", "ask1Size",
    "turnover24h", "volume24h",
}  # fmt: skip
"""Of these, those that may need more than 64 bits."""
_WIDE_LIMIT = 1 << 126


def decode_envelope(frame: str | bytes) -> Envelope:
    """The outer object of a frame. Raises: RemoteProtocolError of kind `utf8`, `json` or `envelope`."""
    try:
        return _envelope.decode(frame)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError("envelope", str(error)) from None
    except msgspec.DecodeError as error:
        raise RemoteProtocolError("json", str(error)) from None
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise RemoteProtocolError("utf8", str(error)) from None
    except RecursionError:
        raise RemoteProtocolError("json", "nested too deep") from None


def _decode(decoder: msgspec.json.Decoder[Any], data: Raw, topic: str) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError("fields", f"{topic}: {error}") from None


def _side(table: dict[str, Any], text: str, topic: str) -> Any:
    try:
        return table[text]
    except KeyError:
        raise RemoteProtocolError("fields", f"{topic}: S: expected Buy or Sell, got {text[:20]!r}") from None


def _count(value: int | None, name: str, topic: str) -> int | None:
    if value is not None and not 0 <= value <= INT64_MAX:
        raise RemoteProtocolError("number", f"{topic}: {name}: does not fit 63 bits: {value}")
    return value


def _symbol(text: str, topic: str) -> str:
    if not text or len(text) > _MAX_SYMBOL or not text.isascii() or not text.isprintable():
        raise RemoteProtocolError("fields", f"{topic}: not a symbol: {text[:_MAX_SYMBOL]!r}")
    named = topic.rpartition(".")[2]
    if text != named and not text.startswith(f"{named}-"):  # an option's trades come under its base coin
        raise RemoteProtocolError("fields", f"{topic}: a message of {text}", text)
    return text


def _amount(text: str) -> int:
    value = parse_fixed64(text)
    if value < 0:
        raise UnitError(f"negative: {text!r}")
    return value


_price_places = re.compile(rb'\[\["\d+(?:\.(\d+))?"').match
_size_places = re.compile(rb'\.(\d+)"\]').search


@lru_cache(maxsize=256)
def _usual_levels(price_places: int, size_places: int) -> Callable[[bytes], object]:
    """Whether levels are written as the venue writes them: no space, each number with so many decimals, none too large."""
    price, size = (rb"\d{1,10}" + (rb"\.\d{%d}" % places if places else b"") for places in (price_places, size_places))
    level = rb'\["%b","(?:0|%b)"\]' % (price, size)
    return re.compile(rb"\[(?:%b,)*%b\]" % (level, level)).fullmatch


def _levels(raw: Raw, topic: str) -> tuple[Level, ...]:
    """Raises: RemoteProtocolError, UnitError."""
    text = bytes(raw)
    if text == b"[]":
        return ()
    if first := _price_places(text):
        one = _size_places(text)
        price_places, size_places = len(first[1] or b""), len(one[1]) if one else 0
        if max(price_places, size_places) <= PLACES and _usual_levels(price_places, size_places)(text):
            # With zeros up to the eighth place and no points all are integers.
            text = text.replace(b'","', _ZEROS[price_places] + b'","').replace(b'"]', _ZEROS[size_places] + b'"]')
            numbers = map(int, text.translate(None, b'[]".').decode().split(","))
            return tuple(zip(numbers, numbers, strict=True))
    levels: list[tuple[str, str]] = _decode(_level_texts, raw, topic)
    return tuple([(_amount(price), _amount(size)) for price, size in levels])


def named_symbol(envelope: Envelope) -> str | None:
    """The symbol that a message's content names, whatever its topic; None: none that can be read."""
    found: _Named | list[_Named] = []
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _names.decode(envelope.data)
    return next((one.s or one.symbol for one in (found if isinstance(found, list) else [found])), None)


def decode_book(envelope: Envelope, depth: int, receive_time: int) -> BookSnapshot | BookDelta:
    """A book message to its event; u = 1 makes a delta a snapshot, as the venue says of a restart.

    Raises:
        RemoteProtocolError: kind `fields` or `number`.
    """
    topic = envelope.topic or ""
    wire: WireBook = _decode(_book, envelope.data, topic)
    update_id = _count(wire.u, "u", topic)
    if envelope.type not in ("snapshot", "delta"):
        raise RemoteProtocolError("fields", f"{topic}: type: expected snapshot or delta, got {envelope.type!r}")
    kind = BookSnapshot if envelope.type == "snapshot" or update_id == 1 else BookDelta
    try:
        return kind(
            symbol=_symbol(wire.s, topic),
            bids=_levels(wire.b, topic),
            asks=_levels(wire.a, topic),
            update_id=wire.u,
            sequence=_count(wire.seq, "seq", topic),
            event_time=None if envelope.cts is None else ms_to_ns(envelope.cts),
            sent_time=None if envelope.ts is None else ms_to_ns(envelope.ts),
            receive_time=receive_time,
            depth=depth,
        )
    except UnitError as error:
        raise RemoteProtocolError("number", f"{topic}: {error}") from None


def _to_trade(wire: WireTrade, topic: str, sent_time: int | None, receive_time: int) -> Trade:
    try:
        direction = None
        if wire.L:
            direction = _DIRECTION.get(wire.L)
            if direction is None:
                raise RemoteProtocolError("fields", f"{topic}: L: unknown tick direction {wire.L[:20]!r}")
        if len(wire.i) > MAX_ID:
            raise RemoteProtocolError("fields", f"{topic}: i: longer than {MAX_ID} characters")
        return Trade(
            symbol=_symbol(wire.s, topic),
            price=_amount(wire.p),
            size=_amount(wire.v),
            aggressor_side=_side(_AGGRESSOR, wire.S, topic),
            trade_id=wire.i,
            tick_direction=direction,
            sequence=_count(wire.seq, "seq", topic),
            is_block_trade=wire.BT,
            is_rpi=wire.RPI,
            event_time=ms_to_ns(wire.T),
            sent_time=sent_time,
            receive_time=receive_time,
        )
    except UnitError as error:
        raise RemoteProtocolError("number", f"{topic}: {error}") from None


def _to_liquidation(wire: WireLiquidation, topic: str, sent_time: int | None, receive_time: int) -> Liquidation:
    try:
        return Liquidation(
            symbol=_symbol(wire.s, topic),
            position_side=_side(_POSITION, wire.S, topic),
            size=_amount(wire.v),
            bankruptcy_price=_amount(wire.p),
            event_time=ms_to_ns(wire.T),
            sent_time=sent_time,
            receive_time=receive_time,
        )
    except UnitError as error:
        raise RemoteProtocolError("number", f"{topic}: {error}") from None


_CONVERTERS: dict[bool, Callable[..., Trade | Liquidation]] = {True: _to_trade, False: _to_liquidation}


def decode_items(envelope: Envelope, receive_time: int) -> tuple[list[Trade | Liquidation | RemoteProtocolError], bool]:
    """The items of a publicTrade or allLiquidation message, in order.

    A bad item is its error, in its place, and the good ones around it survive; the flag says whether any is bad.

    Raises:
        RemoteProtocolError: the message as a whole cannot be read.
    """
    topic = envelope.topic or ""
    is_trade = topic.startswith("publicTrade.")
    many: msgspec.json.Decoder[Any]
    one: msgspec.json.Decoder[Any]
    if is_trade:
        many, one = _trades, _trade
    else:
        many, one = _liquidations, _liquidation
    convert: Callable[..., Trade | Liquidation] = _CONVERTERS[is_trade]
    try:
        sent_time = None if envelope.ts is None else ms_to_ns(envelope.ts)
    except UnitError as error:
        raise RemoteProtocolError("number", f"{topic}: ts: {error}") from None
    try:
        return [convert(w, topic, sent_time, receive_time) for w in many.decode(envelope.data)], False
    except (msgspec.DecodeError, UnicodeDecodeError, RemoteProtocolError):
        pass
    out: list[Trade | Liquidation | RemoteProtocolError] = []
    bad = 0
    items = _decode(_items, envelope.data, topic)
    for i, raw in enumerate(items):
        try:
            out.append(convert(_decode(one, raw, topic), topic, sent_time, receive_time))
        except RemoteProtocolError as error:
            out.append(error)
            bad += 1
            if bad == MOST_BAD:
                out += [error] * (len(items) - i - 1)
                break
    return out, True


def decode_ticker(envelope: Envelope) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(symbol, the fields this message carries, in our names and units, the same as sent); "" is left out of the former.

    Raises:
        RemoteProtocolError: kind `fields` or `number`.
    """
    topic = envelope.topic or ""
    wire: dict[str, Any] = _decode(_ticker, envelope.data, topic)
    symbol = wire.get("symbol")
    if not isinstance(symbol, str):
        raise RemoteProtocolError("fields", f"{topic}: symbol: expected text, got {symbol!r:.40}")
    fields: dict[str, Any] = {}
    try:
        for key, text in wire.items():
            name = TICKER_FIELDS.get(key)
            if name is None and key not in TICKER_OTHER:
                continue
            if not isinstance(text, str):
                raise RemoteProtocolError("fields", f"{topic}: {key}: expected text, got {text!r:.40}")
            if text == "":
                continue
            if name is None:
                own_name, convert = TICKER_OTHER[key]
                fields[own_name] = convert(text)
            elif key in TICKER_WIDE:
                fields[name] = parse_wide(text)
            else:
                fields[name] = parse_fixed64(text)
    except (UnitError, ValueError) as error:
        raise RemoteProtocolError("number", f"{topic}: {key}: {error}") from None
    return _symbol(symbol, topic), fields, wire


def parse_wide(text: str) -> int:
    """A decimal of `TICKER_WIDE`. Raises: UnitError."""
    value = parse_fixed(text)
    if not -_WIDE_LIMIT < value < _WIDE_LIMIT:
        raise UnitError(f"does not fit 127 bits: {text!r}")
    return value


def _whole(text: str) -> int:
    value = parse_fixed64(text)
    if value % 100_000_000:
        raise UnitError(f"expected a whole number, got {text!r}")
    return value // 100_000_000


def _time_ms(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise UnitError(f"not a time in ms: {text[:24]!r}")
    return ms_to_ns(int(text))


def _direction(text: str) -> TickDirection:
    try:
        return _DIRECTION[text]
    except KeyError:
        raise UnitError(f"unknown tick direction {text[:20]!r}") from None


def _text(text: str) -> str:
    if len(text) > 64:
        raise UnitError("longer than 64 characters")
    return text


TICKER_OTHER: dict[str, tuple[str, Any]] = {
    "nextFundingTime": ("next_funding_time", _time_ms),
    "fundingIntervalHour": ("funding_interval_hour", _whole),
    "tickDirection": ("tick_direction", _direction),
    "deliveryTime": ("delivery_time", _text),
    "curPreListingPhase": ("pre_listing_phase", _text),
}
