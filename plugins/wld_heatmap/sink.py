"""Owns the heatmap sink's loop: batches to the radar, the clock, health in a thread, the picture on the screen. Not how
it looks (view).
"""

from __future__ import annotations

import time

import trio

from wld import SinkContext, Subscription
from wld.terminal import Role
from wld_heatmap.config import HeatmapConfig, check
from wld_heatmap.evaluation import judge
from wld_heatmap.history import LiquidationMark, Radar
from wld_heatmap.view import FOOTER, HELP, HeatView, mark_spans

HEALTH_INTERVAL_S = 30.0
TICK_S = 0.5
SNAPPED_SYMBOLS = 8
"""One-second columns are kept for so few symbols; with more only those of ten seconds."""


class Heatmap:
    """Feeds a Radar and hangs its picture on the screen; without one it reports its figures to the status line."""

    def __init__(self, config: HeatmapConfig, context: SinkContext) -> None:
        self.config = check(config)
        self.context = context
        self.radar = Radar(config, context.symbols)
        self.view = HeatView(self.radar)
        self._told: dict[str, LiquidationMark] = {}
        if context.screen is not None:
            self._hang()

    def _hang(self) -> None:
        screen, view = self.context.screen, self.view
        assert screen is not None
        screen.pane("heatmap", draw=view.draw, key=view.key, help=HELP, footer=FOOTER, picture=view.picture)
        screen.panel(
            "liquidations", title="LIQUIDATIONS (real, USDT)", order=50, weight=80,
            lines=view.liquidation_lines, brief=view.liquidation_brief,
        )  # fmt: skip
        screen.panel(
            "zones", title="ZONES (estimate, USDT)", order=60, weight=88,
            lines=view.zone_lines, brief=view.zone_brief,
        )  # fmt: skip
        screen.panel("model", title="HEAT MODEL", order=70, weight=72, lines=view.model_lines, brief=view.model_brief)

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Consume until the batches end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            nursery.start_soon(self._judge)
            task_status.started()
            async for batch in batches:
                self.radar.apply(batch)
            nursery.cancel_scope.cancel()
        self.radar.finish()
        self.tell()
        self._report()

    async def _tick(self) -> None:
        """Let quiet time pass too; runs until cancelled."""
        last_snap = 0
        while True:
            await trio.sleep(TICK_S)
            now = time.time_ns()
            if self.context.clock == "live":
                self.radar.advance(now)
            else:
                times = [heatmap.model.now for heatmap in self.radar.maps.values()]
                now = max(times, default=0)
            # A replay faster than its own clock has its columns soon enough.
            if self.context.screen is not None and len(self.radar.maps) <= SNAPPED_SYMBOLS:
                if (now and now - last_snap < 3_000_000_000) or not last_snap:
                    self.view.snap(now)
                last_snap = now
            self.tell()
            self._report()

    async def _judge(self) -> None:
        """Refresh the score now and then, in a thread; runs until cancelled."""
        while True:
            await trio.sleep(HEALTH_INTERVAL_S)
            for heatmap in list(self.radar.maps.values()):
                report = await trio.to_thread.run_sync(judge, heatmap.sample(), abandon_on_cancel=True)
                heatmap.refresh(report)

    def tell(self) -> None:
        """New liquidations on the event tape, with the heat that stood there."""
        screen = self.context.screen
        if screen is None:
            return
        for symbol, heatmap in self.radar.maps.items():
            told = self._told.get(symbol)
            fresh: list[LiquidationMark] = []
            for mark in reversed(heatmap.liquidations):
                if mark is told or len(fresh) >= 50:
                    break
                fresh.append(mark)
            if fresh:
                self._told[symbol] = fresh[0]
            for mark in reversed(fresh):
                spans = (("liq ", Role.TEXT), *mark_spans(mark, heatmap.model.rules.tick))
                screen.note(mark.time, spans, symbol)

    def _report(self) -> None:
        for symbol, heatmap in self.radar.maps.items():
            health = heatmap.health
            self.context.status(
                "heatmap",
                {
                    "symbol": symbol,
                    "liquidations": len(heatmap.liquidations),
                    "verdict": health.verdict,
                    "coverage": health.coverage_long,
                },
            )
