"""Owns the heatmap sink's loop: batches to the radar, history and state from disk, the picture on the screen. Not how it
looks (view), nor the radar's clock and health (keeper).
"""

from __future__ import annotations

import logging

import trio

from wld import ConfigError, SinkContext, Subscription, TapeError, WldError
from wld_heatmap.config import HeatmapConfig, check
from wld_heatmap.keeper import Keeper
from wld_heatmap.memory import load_history, load_state, pack_state, write_state
from wld_heatmap.radar import Radar
from wld_heatmap.view import FOOTER, HELP, HeatPane, Panels, Selection

_log = logging.getLogger("wld.heatmap")

STATE_TIMEOUT_S = 2.0
SNAPPED_SYMBOLS = 8
"""One-second columns are kept for so few symbols; with more only those of ten seconds."""


class Heatmap:
    """Feeds a Radar and hangs its picture on the screen; without one it reports its figures to the status line."""

    def __init__(self, config: HeatmapConfig, context: SinkContext) -> None:
        self.config = check(config)
        self.context = context
        self.radar = Radar(config, context.symbols)
        self.selection = Selection(self.radar)
        self.pane = HeatPane(self.selection)
        screen = context.screen
        self.keeper = Keeper(self.radar, context.clock, None if screen is None else screen.note)
        self._snapped = 0
        """When the picture last kept a second of its own, ns."""
        self._state_refused = False
        if screen is not None:
            self._hang()

    def _hang(self) -> None:
        screen, pane, panels = self.context.screen, self.pane, Panels(self.selection)
        assert screen is not None
        screen.pane("heatmap", draw=pane.draw, key=pane.key, help=HELP, footer=FOOTER, picture=pane.picture)
        screen.panel(
            "liquidations", title=panels.LIQUIDATIONS, order=50, weight=80,
            lines=panels.liquidation_lines, brief=panels.liquidation_brief,
        )  # fmt: skip
        screen.panel(
            "zones", title=panels.ZONES, order=60, weight=88,
            lines=panels.zone_lines, brief=panels.zone_brief,
        )  # fmt: skip
        screen.panel(
            "model", title=panels.MODEL, order=70, weight=72, lines=panels.model_lines, brief=panels.model_brief
        )

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Read what is known from before, then consume until the batches end.

        Raises:
            ConfigError: the history or the state file cannot be read.
        """
        # Ready at once: others, the recorder first of all, do not wait for history. The ring holds what comes meanwhile.
        task_status.started()
        await self._remember()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.keeper.run, self._show)
            if self.config.state is not None:
                nursery.start_soon(self._keep_state, self.config.state)
            async for batch in batches:
                self.radar.apply(batch)
            nursery.cancel_scope.cancel()
        self.radar.finish()
        if self.config.state is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STATE_TIMEOUT_S):
                await self._write_state(self.config.state)
        self.keeper.tell()
        self._report()

    async def _remember(self) -> None:
        """State file and tapes, in threads that are left behind when the run ends first."""
        config, selection = self.config, self.selection
        try:
            if config.state is not None:
                selection.loading = f"reading {config.state}"
                notes = await trio.to_thread.run_sync(load_state, self.radar, config.state, abandon_on_cancel=True)
                for note in notes:
                    _log.info("%s: %s", config.state, note)
            if config.history is not None:
                await trio.to_thread.run_sync(self._read_history, config.history, abandon_on_cancel=True)
        except TapeError as error:
            raise ConfigError(f"sinks.heatmap.history: {error}") from None
        except WldError as error:
            raise ConfigError(str(error)) from None
        finally:
            selection.loading = None
        self.keeper.skip()

    def _read_history(self, path: str) -> None:
        def progress(count: int) -> None:
            self.selection.loading = f"reading history {path}: {count:,} events"

        self.selection.loading = f"reading history {path}"
        count = load_history(self.radar, path, self.context.symbols, progress)
        _log.info("history %s: %d events; what is older than now is drawn dimmed", path, count)

    async def _keep_state(self, path: str) -> None:
        """Write the state file at its interval; runs until cancelled."""
        while True:
            await trio.sleep(self.config.state_interval)
            await self._write_state(path)

    async def _write_state(self, path: str) -> None:
        packed = pack_state(self.radar)
        try:
            await trio.to_thread.run_sync(write_state, path, packed)
        except WldError as error:
            if not self._state_refused:
                _log.error("%s; trying again each %g s", error, self.config.state_interval)
            self._state_refused = True
        else:
            self._state_refused = False

    def _show(self, now: int) -> None:
        # A replay faster than its own clock has its columns soon enough.
        if self.context.screen is not None and len(self.radar.maps) <= SNAPPED_SYMBOLS:
            if (now and now - self._snapped < 3_000_000_000) or not self._snapped:
                self.pane.snap(now)
            self._snapped = now
        self._report()

    def _report(self) -> None:
        """One line holds one symbol's figures: the last one's."""
        symbol, heatmap = next(reversed(self.radar.maps.items()), (None, None))
        if heatmap is None:
            return
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
