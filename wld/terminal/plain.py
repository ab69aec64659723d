"""Owns the screen of a run without a terminal: one plain line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import trio

from wld.ring import Subscription
from wld.terminal.cells import line_text
from wld.terminal.facts import status_line
from wld.terminal.surface import Surface

PLAIN_INTERVAL_S = 10.0


class PlainScreen(Surface):
    """One plain line every ten seconds, for a pipe, a log or a dumb terminal: no escape sequence at all."""

    def __init__(
        self,
        *,
        symbols: Sequence[str],
        clock: str,
        write: Callable[[str], None],
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(symbols=symbols, clock=clock, wall=wall)
        self._write = write

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Consume batches and say a line at each interval, and one at the end."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak)
            async for batch in batches:
                self.facts.apply(batch)
            nursery.cancel_scope.cancel()
        self._say()

    async def _speak(self) -> None:
        while True:
            await trio.sleep(PLAIN_INTERVAL_S)
            self._say()

    def line(self) -> str:
        """The line as it stands now."""
        self._choose_symbol()
        self.view.now = self._now()
        text = status_line(self.facts, self.view.symbol, self.view.now, clock=self._clock)
        for panel in sorted(self.panels.ordered(), key=lambda p: -p.weight):
            if panel.name in ("zones", "liquidations"):
                for brief in panel.brief(self.view, 60):
                    text += f" | {line_text(brief)}"
        return text.encode("ascii", "replace").decode()

    def _say(self) -> None:
        with suppress(OSError):  # the reader may have gone away: the run goes on
            self._write(self.line())

    def attach(self, *, stop: Callable[[], None], stopping: trio.Event, lost: Callable[[str], None]) -> None:
        """It asks for nothing."""

    def open(self) -> None:
        """Nothing to take."""

    async def hold(self) -> None:
        """Nothing to look at: the run ends with its input."""

    def close(self) -> bool:
        """Nothing to give back."""
        return True
