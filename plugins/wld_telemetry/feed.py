"""Owns a set of Telemetry, one a symbol: which batch reaches which. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from wld import Batch, Event, Gap, Liquidation, Repair
from wld_telemetry.columns import apply_tables
from wld_telemetry.state import Telemetry

BOOKS = 16
"""Order books are kept for so many symbols; further ones show the ticker's best prices."""


class Feed:
    """Telemetry of every symbol that the stream speaks of."""

    def __init__(self) -> None:
        self.states: dict[str, Telemetry] = {}

    def take(self, events: Iterable[Event]) -> list[Liquidation]:
        """Take events of any symbols, a batch that holds columns without making them; the liquidations among them."""
        tables = events.tables if isinstance(events, Batch) else None
        liquidations = None if tables is None else apply_tables(tables, self.states)
        if liquidations is not None:
            return liquidations
        liquidations = []
        for event in events:
            if isinstance(event, Gap):
                for state in self.states.values():
                    if event.symbol in (None, state.symbol):
                        state.apply(event)
            elif not isinstance(event, Repair):
                self.state(event.symbol).apply(event)
                if isinstance(event, Liquidation):
                    liquidations.append(event)
        return liquidations

    def state(self, symbol: str) -> Telemetry:
        """The state of a symbol, made at its first sight."""
        state = self.states.get(symbol)
        if state is None:
            state = self.states[symbol] = Telemetry(symbol, with_book=len(self.states) < BOOKS)
        return state
