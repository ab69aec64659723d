"""Owns a set of Telemetry, one a symbol: which batch reaches which. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter

from wld import Batch, Event, Gap, Liquidation, Repair
from wld.reads import Joined, Reads
from wld_telemetry.columns import READING, apply_books, apply_tickers, apply_trades
from wld_telemetry.state import Telemetry

BOOKS = 16
"""Order books are kept for so many symbols; further ones show the ticker's best prices."""


class Feed:
    """Telemetry of every symbol that the stream speaks of; `on_liquidation` is called for each when it comes."""

    def __init__(self, on_liquidation: Callable[[Liquidation], None] | None = None) -> None:
        self._states: dict[str, Telemetry] = {}
        self._reads = Reads(READING, self._take_joined, self._take)
        self._tell = on_liquidation

    @property
    def states(self) -> dict[str, Telemetry]:
        """By symbol, in the order in which they were first seen."""
        self._reads.flush()
        return self._states

    def state(self, symbol: str) -> Telemetry:
        """The state of a symbol, made at its first sight."""
        self._reads.flush()
        return self._state(symbol)

    def _state(self, symbol: str) -> Telemetry:
        state = self._states.get(symbol)
        if state is None:
            state = self._states[symbol] = Telemetry(symbol, with_book=len(self._states) < BOOKS)
        return state

    def take(self, events: Iterable[Event]) -> None:
        """Take events of any symbols; of a batch that holds columns none are made unless they are few."""
        batch = events if isinstance(events, Batch) else Batch(events)
        self._reads.add(batch)
        if self._tell is not None:
            for event in batch if batch.tables is None else batch.tables.liquidation_events():
                if isinstance(event, Liquidation):
                    self._tell(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, Gap):
            for state in self._states.values():
                if event.symbol in (None, state.symbol):
                    state.apply(event)
        elif not isinstance(event, Repair):
            self._state(event.symbol).apply(event)

    def _take_joined(self, reads: Joined) -> None:
        for symbol, time in reads.present().items():
            self._state(symbol).begin(time)
        for kind, apply in (("trades", apply_trades), ("books", apply_books), ("tickers", apply_tickers)):
            if kind in reads.kinds:
                apply(reads, reads.kinds[kind], self._states)
        events: list[tuple[int, Event]] = [*reads.tickers, *reads.liquidations()]
        for _, event in sorted(events, key=itemgetter(0)):
            self._take(event)
