"""Owns Radar: a HeatMap for each symbol, and how the columns of many reads reach them without their events being made. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from wld import ABSENT, Batch, Event, Gap
from wld.reads import Joined, Reads
from wld.tables import BACKFILLED, BLOCK_TRADE, BUY, TICKER_PLACE, Columns
from wld_heatmap.config import HeatmapConfig, check
from wld_heatmap.history import TAKEN, HeatMap
from wld_heatmap.model import STEP_NS, HeatModel, Step

FULL_SYMBOLS = 12
"""With more symbols than about so many, each keeps fewer columns."""
MANY = 100
"""Prints of one symbol from which summing them with numpy is quicker than one by one."""
_TOLD = [TICKER_PLACE[name] for name in ("mark_price", "single_open_interest", "open_interest")]
_READING = {
    "trades": ("price", "size", "flags", "event_time"),
    "tickers": ("values",),
    "liquidations": ("is_long", "size", "bankruptcy_price", "event_time", "sent_time"),
}
"""The columns that are read."""


class Radar:
    """One HeatMap for each symbol that the stream speaks of."""

    def __init__(
        self, config: HeatmapConfig | None = None, symbols: Iterable[str] | None = None, **options: Any
    ) -> None:
        self.config = check(config or HeatmapConfig())
        self._maps: dict[str, HeatMap] = {}
        self._reads = Reads(_READING, self._take_joined, self._take)
        self._second = 0
        self.is_seeding = False
        """Set while history is replayed."""
        self._wanted = None if symbols is None else tuple(symbols)
        self._options = options
        self._share = 1.0
        for symbol in self._wanted or ():
            self._maps[symbol] = HeatMap(symbol, self.config, **options)
            self._share_columns()

    @property
    def maps(self) -> dict[str, HeatMap]:
        """By symbol; everything that came is in them."""
        self._reads.flush()
        return self._maps

    def apply(self, events: Iterable[Event]) -> None:
        """Take a batch of any symbols; of one that holds columns no events are made unless they are few."""
        batch = events if isinstance(events, Batch) else Batch(events)
        if batch.tables is not None:
            second = batch.tables.receive_time // STEP_NS
            if second != self._second:  # nothing that is shown hangs on a step before it is over
                self._reads.flush()
                self._second = second
        self._reads.add(batch)

    def _take(self, event: Event) -> None:
        if isinstance(event, TAKEN):
            heatmap = self.map_of(event.symbol)
            if heatmap is not None:
                heatmap.take(event)
        elif type(event) is Gap:
            for heatmap in self._maps.values():
                heatmap.take(event)

    def _take_joined(self, reads: Joined) -> None:
        """Reads of one second: everything in them is one step's."""
        steps: dict[int, tuple[HeatModel, Step] | None] = {}

        def step_of(i: int, time: int) -> tuple[HeatModel, Step] | None:
            if i not in steps:
                heatmap = self.map_of(reads.symbols[i])
                steps[i] = None if heatmap is None else (heatmap.model, heatmap.step_at(time))
            return steps[i]

        tickers, trades = reads.kinds.get("tickers"), reads.kinds.get("trades")
        for _, ticker in reads.tickers:
            self._take(ticker)
        if tickers is not None:
            values = tickers["values"][:, _TOLD].tolist()
            times = tickers["receive_time"].tolist()
            for i, time, (price, single, both) in zip(tickers["symbol"].tolist(), times, values, strict=True):
                place = step_of(i, time)
                if place is None:
                    continue
                if price != ABSENT:
                    place[0].mark_price(place[1], price)
                if single != ABSENT:
                    place[1].open_interest = single
                elif both != ABSENT:
                    place[1].open_interest = both // 2
        if trades is not None:
            self._take_trades(trades, step_of)
        for _, event in reads.liquidations():
            self._take(event)

    @staticmethod
    def _take_trades(trades: Columns, step_of: Callable[[int, int], tuple[HeatModel, Step] | None]) -> None:
        symbol, flags, times = trades["symbol"], trades["flags"], trades["receive_time"]
        is_told = flags & BLOCK_TRADE == 0
        singly = is_told
        for i in np.flatnonzero(np.bincount(symbol) >= MANY).tolist():
            rows = np.flatnonzero((symbol == i) & (flags & (BLOCK_TRADE | BACKFILLED) == 0))
            place = step_of(i, int(times[0]))
            if place is not None and len(rows):
                model, step = place
                model.trade_columns(step, trades["price"][rows], trades["size"][rows], flags[rows] & BUY != 0)
            singly = singly & ((symbol != i) | (flags & BACKFILLED != 0))
        columns = (trades[name][singly].tolist() for name in ("symbol", "price", "size", "flags", "event_time"))
        for i, price, size, flag, at, time in zip(*columns, times[singly].tolist(), strict=True):
            place = step_of(i, time)
            if place is not None:
                place[0].trade(place[1], price, size, flag & BUY != 0, at, flag & BACKFILLED != 0)

    def map_of(self, symbol: str) -> HeatMap | None:
        """The symbol's HeatMap, made when it is new; None where it is not among the wanted."""
        heatmap = self._maps.get(symbol)
        if heatmap is None and self._wanted is None:
            heatmap = self._maps[symbol] = HeatMap(symbol, self.config, **self._options)
            heatmap.is_seeding = self.is_seeding
            self._share_columns()
        return heatmap

    def _share_columns(self) -> None:
        """Many symbols share the memory of a few: some 25 MB each for `FULL_SYMBOLS` of them, in all."""
        count = len(self._maps)
        if count > FULL_SYMBOLS and count.bit_count() == 1:  # at 16, 32, 64 …
            self._share = FULL_SYMBOLS / (2 * count)
            for heatmap in self._maps.values():
                heatmap.keep(self._share)
        elif self._share < 1.0:
            next(reversed(self._maps.values())).keep(self._share)

    def advance(self, now: int) -> None:
        """Let time pass for every symbol."""
        for heatmap in self.maps.values():
            heatmap.advance(now)

    def finish(self) -> None:
        """The end of the input, for every symbol."""
        for heatmap in self.maps.values():
            heatmap.finish()
