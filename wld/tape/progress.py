"""Owns how long work on tapes shows itself and ends early: a bar on a terminal, and signals that leave nothing behind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import NoReturn, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from wld.errors import Interrupted


class Bar:
    """A progress bar of bytes on standard error where that is a terminal; silent elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._progress: Progress | None = None
        if sys.stderr.isatty():
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._progress.add_task(what, total=None)

    def total(self, count: int) -> None:
        """How many bytes there are."""
        if self._progress is not None:
            self._progress.update(self._task, total=count)

    def advance(self, count: int) -> None:
        """So many more are done."""
        if self._progress is not None:
            self._progress.advance(self._task, count)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def interruptible(target: str) -> Iterator[None]:
    """SIGTERM and SIGHUP end the work as Ctrl-C does: what was begun is taken away.

    Raises:
        Interrupted: which is said of `target`.
    """
    heard = signal.SIGINT

    def stop(number: int, _: FrameType | None) -> NoReturn:
        nonlocal heard
        heard = signal.Signals(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"{target}: interrupted; nothing was left there", heard) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
