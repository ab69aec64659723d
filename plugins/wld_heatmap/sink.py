"""Owns the heatmap sink's loop: batches to the radar, the clock, health in a thread. Not the drawing (view)."""

from __future__ import annotations

import time

import trio

from wld import SinkContext, Subscription
from wld_heatmap.config import HeatmapConfig, check
from wld_heatmap.evaluation import judge
from wld_heatmap.history import Radar

HEALTH_INTERVAL_S = 30.0


class Heatmap:
    """Feeds a Radar; without a screen it reports its figures to the status line."""

    def __init__(self, config: HeatmapConfig, context: SinkContext) -> None:
        self.config = check(config)
        self.context = context
        self.radar = Radar(config, context.symbols)

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
        self._report()

    async def _tick(self) -> None:
        """Let quiet time pass too, once a second; runs until cancelled."""
        while True:
            await trio.sleep(1.0)
            if self.context.clock == "live":
                self.radar.advance(time.time_ns())
            self._report()

    async def _judge(self) -> None:
        """Refresh the score now and then, in a thread; runs until cancelled."""
        while True:
            await trio.sleep(HEALTH_INTERVAL_S)
            for heatmap in list(self.radar.maps.values()):
                report = await trio.to_thread.run_sync(judge, heatmap.sample(), abandon_on_cancel=True)
                heatmap.refresh(report)

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
