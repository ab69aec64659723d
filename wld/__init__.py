"""wld: a market-data engine for crypto perpetuals. These names are what plugins and notebooks may import."""

import importlib
from typing import TYPE_CHECKING, Any

from wld.batch import Batch
from wld.book import OrderBook
from wld.errors import (
    BookInvalid,
    ConfigError,
    PackError,
    PluginError,
    SourceError,
    TapeDamaged,
    TapeError,
    TapeLocked,
    TapeVersion,
    UnitError,
    WldError,
)
from wld.events import (
    AggressorSide,
    BookDelta,
    BookSnapshot,
    Event,
    Gap,
    GapReason,
    Instrument,
    Liquidation,
    MarginTier,
    PositionSide,
    Repair,
    TickDirection,
    Ticker,
    Trade,
)
from wld.hookspecs import Sink, SinkContext, SinkSpec, Source, SourceContext, SourceSpec, hookimpl
from wld.packed import pack_events, unpack_events
from wld.ring import Overflow, Ring, RingStatistics, Subscription
from wld.units import ABSENT, SCALE, format_fixed, parse_fixed

if TYPE_CHECKING:
    from wld.tape.reader import Tape, open_tape
    from wld.tape.retention import parse_keep
    from wld.tape.writer import TapeWriter

__version__ = "0.1.0"

__all__ = [
    "ABSENT",
    "SCALE",
    "AggressorSide",
    "Batch",
    "BookDelta",
    "BookInvalid",
    "BookSnapshot",
    "ConfigError",
    "Event",
    "Gap",
    "GapReason",
    "Instrument",
    "Liquidation",
    "MarginTier",
    "OrderBook",
    "Overflow",
    "PackError",
    "PluginError",
    "PositionSide",
    "Repair",
    "Ring",
    "RingStatistics",
    "Sink",
    "SinkContext",
    "SinkSpec",
    "Source",
    "SourceContext",
    "SourceError",
    "SourceSpec",
    "Subscription",
    "Tape",
    "TapeDamaged",
    "TapeError",
    "TapeLocked",
    "TapeVersion",
    "TapeWriter",
    "TickDirection",
    "Ticker",
    "Trade",
    "UnitError",
    "WldError",
    "format_fixed",
    "hookimpl",
    "open_tape",
    "pack_events",
    "parse_fixed",
    "parse_keep",
    "unpack_events",
]

_LATE = {
    "Tape": "wld.tape.reader",
    "TapeWriter": "wld.tape.writer",
    "open_tape": "wld.tape.reader",
    "parse_keep": "wld.tape.retention",
}
"""Loaded when first used: a run that only watches starts a tenth of a second sooner without the tape."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATE[name]), name)
    return value
