"""Arbitrary events, for hypothesis."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from wld import events as ev

SMALL = st.integers(-(2**31), 2**31)
INT64 = st.integers(-(2**63), 2**63 - 1)
ANY = st.integers(-(2**90), 2**90) | INT64 | SMALL
SYMBOLS = st.sampled_from(["WLDUSDT", "BTCUSDT", "1000PEPEUSDT"]) | st.text(max_size=5)
TEXT = st.text(max_size=12)
LEVELS = st.lists(st.tuples(INT64, INT64), max_size=4).map(tuple)
UUIDS = st.uuids().map(str)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


TIERS = st.builds(ev.MarginTier, SMALL, SMALL, SMALL, SMALL, maybe(ANY))
TRADES = st.builds(
    ev.Trade, SYMBOLS, ANY, INT64, st.sampled_from(ev.AggressorSide), UUIDS | TEXT,
    maybe(st.sampled_from(ev.TickDirection)), maybe(ANY), st.booleans(), maybe(st.booleans()), st.booleans(), INT64,
    maybe(INT64), INT64,
)  # fmt: skip
BOOK_ARGUMENTS = (
    SYMBOLS,
    LEVELS,
    LEVELS,
    ANY,
    maybe(INT64),
    maybe(INT64),
    maybe(INT64),
    INT64,
    st.integers(1, 1000),
)
TICKER_NUMBERS = {
    field.name: ANY if field.name == "receive_time" else maybe(ANY)
    for field in msgspec.structs.fields(ev.Ticker)
    if field.name not in ("symbol", "delivery_time", "pre_listing_phase", "tick_direction")
}
EVENTS: st.SearchStrategy[ev.Event] = st.one_of(
    TRADES,
    st.builds(ev.BookSnapshot, *BOOK_ARGUMENTS),
    st.builds(ev.BookDelta, *BOOK_ARGUMENTS),
    st.builds(ev.Liquidation, SYMBOLS, st.sampled_from(ev.PositionSide), INT64, INT64, INT64, maybe(INT64), INT64),
    st.builds(
        ev.Ticker, symbol=SYMBOLS, delivery_time=maybe(TEXT), pre_listing_phase=maybe(TEXT),
        tick_direction=maybe(st.sampled_from(ev.TickDirection)), **TICKER_NUMBERS,
    ),
    st.builds(
        ev.Gap, INT64, st.sampled_from(ev.GapReason), maybe(TEXT), maybe(SYMBOLS), maybe(ANY), maybe(INT64),
        maybe(INT64), INT64,
    ),
    st.builds(ev.Repair, INT64, ANY, maybe(ANY), maybe(INT64), maybe(INT64), INT64),
    st.builds(
        ev.Instrument, SYMBOLS, maybe(ANY), maybe(ANY), maybe(ANY), st.lists(TIERS, max_size=2).map(tuple),
        maybe(SMALL), maybe(TEXT), maybe(TEXT), maybe(INT64), maybe(ANY), maybe(ANY), maybe(ANY), INT64,
    ),
)  # fmt: skip
