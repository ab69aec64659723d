"""wld: a market-data engine for crypto perpetuals. These names are what plugins and notebooks may import."""

TYPE_CHECKING = False  # as in typing, whose own loading is not for the first moments of the program
if TYPE_CHECKING:
    from typing import Any

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
    from wld.tape.gathered import Gathered
    from wld.tape.reader import Tape, open_tape
    from wld.tape.retention import parse_keep
    from wld.tape.writer import TapeWriter
    from wld.units import ABSENT, SCALE, format_fixed, parse_fixed

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
    "Gathered",
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

_ROOMS = (
    "batch", "book", "errors", "events", "packed", "ring", "units", "hookspecs",
    "tape.reader", "tape.retention", "tape.writer",
)  # fmt: skip
"""Where they live, the light ones first. Each is loaded when a name is first asked for: the program takes Ctrl-C before
it has loaded anything, and a run that only watches never loads the tape."""


def __getattr__(name: str) -> "Any":
    if name in __all__:
        import importlib

        for room in _ROOMS:
            module = importlib.import_module(f"wld.{room}")
            if name in module.__dict__:
                value = globals()[name] = module.__dict__[name]
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
