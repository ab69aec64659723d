"""Owns what a Radar needs beside its batches: quiet time that passes, scores that are refreshed, liquidations told once.

Whoever shows a Radar keeps it by this; it does not own how anything is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from wld.terminal import Line, Role
from wld_heatmap.history import LiquidationMark
from wld_heatmap.judgement import judge
from wld_heatmap.radar import Radar
from wld_heatmap.view import mark_spans

HEALTH_INTERVAL_S = 30.0
TICK_S = 0.5
MOST_TOLD = 50
"""Liquidations of one symbol told at once; of more, the latest."""


class Keeper:
    """Keeps one Radar. `clock` as in `wld.SinkContext`; `note` puts a line on an event tape: time ns, line, symbol."""

    def __init__(self, radar: Radar, clock: str, note: Callable[[int, Line, str | None], None] | None = None) -> None:
        self._radar = radar
        self._clock = clock
        self._note = note
        self._told: dict[str, LiquidationMark] = {}

    async def run(self, each: Callable[[int], None]) -> None:
        """Until cancelled; twice a second `each` is called with the time, ns: this host's on a live feed, else the
        input's.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._judge)
            while True:
                await trio.sleep(TICK_S)
                now = time.time_ns()
                if self._clock == "live":
                    self._radar.advance(now)
                else:
                    now = max((heatmap.model.now for heatmap in self._radar.maps.values()), default=0)
                self.tell()
                each(now)

    async def _judge(self) -> None:
        """Refresh the scores now and then, in a thread."""
        while True:
            for heatmap in list(self._radar.maps.values()):
                heatmap.refresh(await trio.to_thread.run_sync(judge, heatmap.sample(), abandon_on_cancel=True))
            await trio.sleep(HEALTH_INTERVAL_S)

    def skip(self) -> None:
        """Tell nothing of what is known by now."""
        for symbol, heatmap in self._radar.maps.items():
            if heatmap.liquidations:
                self._told[symbol] = heatmap.liquidations[-1]

    def tell(self) -> None:
        """Liquidations since the last call, with the heat that stood there."""
        if self._note is None:
            return
        for symbol, heatmap in self._radar.maps.items():
            fresh = heatmap.liquidations_since(self._told.get(symbol))
            if fresh:
                self._told[symbol] = fresh[-1]
            for mark in fresh[-MOST_TOLD:]:
                self._note(mark.time, (("liq ", Role.TEXT), *mark_spans(mark, heatmap.model.rules.tick)), symbol)
