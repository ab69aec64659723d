"""Owns Radar: a HeatMap for each symbol, and how the columns of many reads reach them without their events being made. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from wld import ABSENT, Batch, Event, Gap
from wld.reads import Joined, Reads
from wld.tables import BACKFILLED, BLOCK_TRADE, BUY, TICKER_PLACE, Columns, Ints
from wld_heatmap.config import HeatmapConfig, check
from wld_heatmap.history import TAKEN, HeatMap
from wld_heatmap.model import HeatModel
from wld_heatmap.step import STEP_NS, Step

FULL_SYMBOLS = 12
"""With more symbols than about so many, each keeps fewer columns."""
_TOLD = [TICKER_PLACE[name] for name in ("mark_price", "single_open_interest", "open_interest")]
_READING = {
    "trades": ("price", "size", "flags", "event_time"),
    "tickers": ("values",),
    "liquidations": ("is_long", "size", "bankruptcy_price", "event_time", "sent_time"),
}
"""The columns that are read."""
StepOf = Callable[[int, int], tuple[HeatModel, Step] | None]
"""Model and open step of a symbol's place in a read, at a receive time; None where it is not wanted."""


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

        for _, ticker in reads.tickers:
            self._take(ticker)
        for kind, take in (
            ("tickers", self._take_tickers), ("trades", self._take_trades), ("liquidations", self._take_liquidations),
        ):  # fmt: skip
            if kind in reads.kinds:
                take(reads, reads.kinds[kind], step_of)

    @staticmethod
    def _take_tickers(reads: Joined, tickers: Columns, step_of: StepOf) -> None:
        """Of each symbol the first, highest, lowest and last mark price, and the last open interest."""
        symbol, times = tickers["symbol"], tickers["receive_time"]
        places = {i: step_of(i, int(times[row])) for i, row in reads.last(tickers).items()}
        price, single, both = (tickers["values"][:, place] for place in _TOLD)
        rows = np.flatnonzero(price > 0)
        rows = rows[np.argsort(symbol[rows], kind="stable")]
        price, (starts, found) = price[rows], _runs(symbol[rows])
        if len(rows):
            highs, lows = np.maximum.reduceat(price, starts), np.minimum.reduceat(price, starts)
            lasts = np.append(starts[1:], len(rows)) - 1
            told = np.column_stack((price[starts], highs, lows, price[lasts])).tolist()
            for i, prices in zip(found.tolist(), told, strict=True):
                if (place := places[i]) is not None:
                    place[0].mark_prices(place[1], *prices)
        for i, row in reads.last(tickers, (single != ABSENT) | (both != ABSENT)).items():
            if (place := places[i]) is not None:
                place[1].open_interest = int(single[row]) if single[row] != ABSENT else int(both[row]) // 2

    @staticmethod
    def _take_trades(reads: Joined, trades: Columns, step_of: StepOf) -> None:
        """Sum prints by symbol, price, margin tier and side; the few that came late one by one."""
        symbol, price, size, flags = (trades[name] for name in ("symbol", "price", "size", "flags"))
        is_told = flags & BLOCK_TRADE == 0
        places = {i: step_of(i, int(trades["receive_time"][row])) for i, row in reads.last(trades, is_told).items()}
        models = {i: place[0] for i, place in places.items() if place is not None}
        is_kept = is_told & (price > 0) & (size > 0)
        for i, model in models.items():
            if model.grid is None and (first := np.flatnonzero(is_kept & (symbol == i))[:1]).size:
                model.bin_of(int(price[first[0]]))  # the first price that comes sets the grid
        is_late = flags & BACKFILLED != 0
        for row in np.flatnonzero(is_kept & is_late).tolist():
            if (place := places[int(symbol[row])]) is not None:
                is_buy, event_time = bool(flags[row] & BUY), int(trades["event_time"][row])
                place[0].trade(place[1], int(price[row]), int(size[row]), is_buy, event_time, True)
        is_kept &= ~is_late
        last = {i: int(price[row]) for i, row in reads.last(trades, is_kept).items()}
        if not last:
            return
        symbol, price, size, flags = symbol[is_kept], price[is_kept], size[is_kept], flags[is_kept]
        kinds = flags & BUY
        value = price.astype(np.float64) * size / 1e16
        for i, model in models.items():
            if len(model.rules.tiers) > 1 and value.max() > model.rules.tiers[0][0]:
                limits = np.array([limit for limit, *_ in model.rules.tiers[:-1]])
                kinds += 2 * np.where(symbol == i, np.searchsorted(limits, value, side="left"), 0)
        order = np.lexsort((kinds, price, symbol))
        symbol, price, size, kinds = symbol[order], price[order], size[order], kinds[order]
        is_first = np.append(True, (price[1:] != price[:-1]) | (kinds[1:] != kinds[:-1]) | (symbol[1:] != symbol[:-1]))
        starts = np.flatnonzero(is_first)
        sums = np.column_stack((price[starts], kinds[starts], np.add.reduceat(size, starts))).tolist()
        edges, found = _runs(symbol[starts])
        for i, low, high in zip(found.tolist(), edges.tolist(), [*edges[1:].tolist(), len(starts)], strict=True):
            if (place := places[i]) is not None:
                place[0].trade_sums(place[1], sums[low:high], last[i])

    @staticmethod
    def _take_liquidations(reads: Joined, liquidations: Columns, step_of: StepOf) -> None:
        columns = [
            liquidations[name].tolist()
            for name in ("symbol", "receive_time", "event_time", "is_long", "size", "bankruptcy_price")
        ]
        for i, time, event_time, is_long, size, price in zip(*columns, strict=True):
            if (place := step_of(i, time)) is not None:
                place[1].liquidations.append((event_time, bool(is_long), size, price))

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


def _runs(values: Ints) -> tuple[Ints, Ints]:
    """(where each run of equal values starts, its value)."""
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1])) if len(values) else np.zeros(0, np.int64)
    return starts, values[starts]
