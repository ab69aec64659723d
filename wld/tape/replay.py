"""Owns replay: recorded events back onto a ring, as fast as the sinks take them. Does not own the format."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import trio

from wld.events import Event
from wld.tape.reader import open_tape

BATCH_EVENTS = 4096
"""Events between two hops to the reading thread."""


class _Publisher(Protocol):
    async def publish_wait(self, events: list[Event]) -> object: ...


class ReplaySource:
    """Publishes a tape's events in ring order with their recorded times; waits for its sinks rather than lose."""

    def __init__(self, path: Path, symbols: tuple[str, ...] | None = None) -> None:
        self._path = path
        self._symbols = None if symbols == ("all",) else symbols

    async def run(self, ring: _Publisher, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish to the end. Raises: TapeError; TapeDamaged after every whole block was published."""
        tape = await trio.to_thread.run_sync(lambda: open_tape(self._path, symbols=self._symbols))
        events = iter(tape)
        task_status.started()
        while True:
            run: list[Event] = []

            def fill(run: list[Event] = run) -> Exception | None:
                try:
                    for event in events:
                        run.append(event)
                        if len(run) >= BATCH_EVENTS:
                            return None
                except Exception as error:
                    return error
                return StopIteration()

            end = await trio.to_thread.run_sync(fill)
            if run:
                await ring.publish_wait(run)
            if isinstance(end, StopIteration):
                return
            if end is not None:
                raise end
