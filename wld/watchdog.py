"""Owns the loop watchdog: a thread that sees when the event loop stands still, and says which sink holds it, and where.

Knows sinks only by their specs. Cannot see code that never lets go of the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

import trio

from wld.hookspecs import SinkSpec

log = logging.getLogger(__name__)

BEAT_S = 0.2
"""How often the loop is asked to answer, where it does not show that it turns: five wake-ups a second."""
BLOCKED_S = 0.5
"""No answer for so long is told; with two beats that is within a second."""
NOBODY = "something that is no sink"
FRAMES = 8
"""How much of the stack is told, innermost first."""


class _Watch:
    """The thread's side; `beat` runs on the loop."""

    def __init__(
        self,
        sinks: Mapping[str, SinkSpec],
        token: trio.lowlevel.TrioToken,
        thread_id: int,
        progress: Callable[[], int] | None = None,
    ) -> None:
        self._places = {name: _place_of(spec) for name, spec in sinks.items()}
        self._token = token
        self._thread_id = thread_id
        self._progress = progress
        self._stop = threading.Event()
        self._answered = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="wld-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._answered.set()

    def _watch(self) -> None:
        before = None
        while not self._stop.wait(BEAT_S):
            if self._progress is not None and before != (before := self._progress()):
                continue  # the loop has turned since: asking it would only wake it
            self._answered.clear()
            asked = time.monotonic()
            try:
                self._token.run_sync_soon(self._answered.set)
            except trio.RunFinishedError:
                return
            if self._answered.wait(BLOCKED_S):
                continue
            if self._stop.is_set():
                return  # the run ended between the question and its answer
            owner = self._tell(asked)
            if not self._stop.is_set():
                log.warning("%s blocked the event loop for %.1f s", owner, time.monotonic() - asked)

    def _tell(self, asked: float) -> str:
        """Say who holds the loop, looking again while it is nobody known; returns with the end of it, or with `stop`."""
        told = None
        while True:
            owner, stack = self._look()
            if owner != told:
                level = logging.ERROR if owner != NOBODY else logging.WARNING
                so_far = time.monotonic() - asked
                log.log(level, "%s blocks the event loop, %.1f s so far; everything waits: %s", owner, so_far, stack)
                told = owner
            if self._answered.wait(None if owner != NOBODY else BLOCKED_S):
                return owner

    def _look(self) -> tuple[str, str]:
        frame = sys._current_frames().get(self._thread_id)
        owner = None
        lines: list[str] = []
        while frame is not None:
            if len(lines) < FRAMES:
                lines.append(_line(frame))
            owner = owner or self._owner(frame)
            frame = frame.f_back
        return owner or NOBODY, " < ".join(lines) or "no stack"

    def _owner(self, frame: FrameType) -> str | None:
        """The sink whose own files the frame is in, or whose supervisor it is."""
        file = frame.f_code.co_filename
        for name, place in self._places.items():
            if place and (file == place or file.startswith(f"{place}/")):
                return f"sink {name}"
        if frame.f_code.co_name == "_supervise" and file.endswith("service.py"):
            entry = frame.f_locals.get("entry")
            return f"sink {entry.name}" if entry is not None else None
        return None


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _place_of(spec: SinkSpec) -> str:
    """The folder of the sink's package, or its file where it is a single module."""
    top = sys.modules.get(str(getattr(spec.create, "__module__", "")).split(".")[0])
    file = getattr(top, "__file__", None)
    if not file:
        return ""
    return str(Path(file).parent) if hasattr(top, "__path__") else file


@contextlib.contextmanager
def watch_loop(sinks: Mapping[str, SinkSpec], progress: Callable[[], int] | None = None) -> Iterator[None]:
    """Inside, in a Trio run: a loop that does not turn for half a second is an error in the log, with the sink and the
    innermost frames, while it lasts; a second line says how long it took.

    `progress` gives a number that only a loop that turns changes, such as that of the events published.
    """
    watch = _Watch(sinks, trio.lowlevel.current_trio_token(), threading.get_ident(), progress)
    watch.start()
    try:
        yield
    finally:
        watch.stop()
