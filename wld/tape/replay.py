"""Owns replay: recorded events back onto a ring, at their recorded pace, N times it, or as fast as the sinks take them.

Does not own the format (reader) nor which path a name means (`wld.sources`).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import trio

from wld.errors import TapeError
from wld.events import Event
from wld.ring import Publisher
from wld.tape.reader import Tape, open_tape

log = logging.getLogger(__name__)

CHUNK_EVENTS = 4096
"""Events between two hops to the reading thread; also the largest batch."""
CHUNKS_AHEAD = 2
"""Chunks read ahead of the pace, so that a slow disk does not make it stutter."""
TICK_S = 0.005
"""Paced events that fall due within so much go out as one batch: what a socket read gives live."""
LONGEST_WAIT_S = 60.0
"""A recorded silence longer than this (nothing was recorded) is skipped by a paced replay, and said."""


class ReplaySource:
    """Publishes recorded events in ring order with their recorded times; waits for its sinks rather than lose.

    `speed` 1 is the recorded pace (of receive times), 10 ten times that, infinity as fast as the sinks take it.
    """

    def __init__(
        self, paths: Path | Sequence[Path], symbols: tuple[str, ...] | None = None, speed: float = math.inf
    ) -> None:
        self._paths: list[str | os.PathLike[str]] = [paths] if isinstance(paths, Path) else list(paths)
        self._symbols = None if symbols == ("all",) else symbols
        self._speed = speed

    async def run(self, ring: Publisher, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish to the end. Raises: TapeError; TapeDamaged after every whole block was published."""
        tape = await trio.to_thread.run_sync(lambda: open_tape(self._paths, symbols=self._symbols))
        if self._symbols is not None and not await trio.to_thread.run_sync(_has_anything, tape):
            raise TapeError(f"{', '.join(map(str, self._paths))}: holds none of {', '.join(self._symbols)}")
        events = iter(tape)
        task_status.started()
        failures: list[Exception] = []
        send, receive = trio.open_memory_channel[list[Event]](CHUNKS_AHEAD)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, events, send, failures)
            async with receive:
                if math.isinf(self._speed):
                    async for chunk in receive:
                        await ring.publish_wait(chunk)
                else:
                    await _publish_paced(receive, ring, self._speed)
        if failures:
            raise failures[0]


def _has_anything(tape: Tape) -> bool:
    return bool(tape.symbols) or any(segment.damages for segment in tape.segments)


async def _read(
    events: Iterator[Event], chunks: trio.MemorySendChannel[list[Event]], failures: list[Exception]
) -> None:
    """Read to the end in a thread, a chunk at a time; what went wrong is handed over after what was whole."""
    async with chunks:
        while True:
            chunk: list[Event] = []

            def fill(chunk: list[Event] = chunk) -> bool:
                try:
                    for event in events:
                        chunk.append(event)
                        if len(chunk) >= CHUNK_EVENTS:
                            return True
                except Exception as error:
                    failures.append(error)
                return False

            is_more = await trio.to_thread.run_sync(fill)
            if chunk:
                await chunks.send(chunk)
            if not is_more:
                return


class Pace:
    """When a recorded time falls due on the loop's clock."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._first: int | None = None
        self._begun = 0.0

    def due(self, time_ns: int) -> float:
        """The loop time at which an event of that recorded time is due; the first one now."""
        now = trio.current_time()
        if self._first is None:
            self._first, self._begun = time_ns, now
        at = self._begun + (time_ns - self._first) / 1e9 / self.speed
        if at - now > LONGEST_WAIT_S:
            log.info("nothing recorded for %.0f s: skipped", (at - now) * self.speed)
            self._first, self._begun = time_ns, now
            return now
        return at


async def _publish_paced(chunks: trio.MemoryReceiveChannel[list[Event]], ring: Publisher, speed: float) -> None:
    pace = Pace(speed)
    async for chunk in chunks:
        at = 0
        while at < len(chunk):
            due = pace.due(chunk[at].receive_time)
            if due > trio.current_time():
                await trio.sleep_until(due)
            horizon = trio.current_time() + TICK_S
            end = at + 1
            while end < len(chunk) and pace.due(chunk[end].receive_time) <= horizon:
                end += 1
            await ring.publish_wait(chunk[at:end])
            at = end
