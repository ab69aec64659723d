"""Owns what the engine asks of its own process: how memory is kept and how threads share the interpreter."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

SWITCH_INTERVAL_S = 0.0002
"""A worker thread that encodes a flush gives way to the event loop after this; Python's own 5 ms show in latencies."""
KEPT_BYTES = 64 * 1024 * 1024
"""Freed memory below this stays with the process."""
GROWN_BYTES = 8 * 1024 * 1024
"""A process that has grown by so much since it last gave freed memory back does so again."""
TRIES = 6
"""At the interval of the engine, a minute."""
ARENAS = 2
"""Heaps of glibc: the event loop's, and one for all worker threads, which mostly wait for the interpreter anyway."""
COLLECT_AFTER = 700, 10, 100
"""Python's own thresholds but for the last: ten times as rarely a full collection."""
CACHED_BELOW, CACHED_EACH = 1024, 7
"""numpy keeps so many freed arrays of each size in bytes below that, for good (numpy 2.4, multiarray/alloc.c: NBUCKETS,
NCACHE): 3.7 MB when all are there."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def tune() -> None:
    """Make columns cheap and waits short; once, before the event loop runs.

    glibc maps every array above 128 KiB afresh and gives it back at once: touching the new pages costs more than all
    the arithmetic on them (30 ns a number instead of 110, benchmarks). So freed memory is kept; that it does not add up,
    heap by heap, is the work of `Heap`. Elsewhere than on glibc this does nothing.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    mallopt = _libc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_ARENA_MAX, ARENAS)
    fill_cache()


def fill_cache() -> None:
    """Let numpy keep at once all the small arrays that it ever will; 12 ms.

    Sizes that come seldom take days to be there seven times, and so long memory grows by ever less, as if it leaked: 0.06 MB
    a minute after ten minutes of 100 symbols. Nor do they then lie where larger pieces could be given back.
    """
    for size in range(1, CACHED_BELOW):
        kept = [np.empty(size, np.uint8) for _ in range(CACHED_EACH)]
        kept.clear()  # all of one size at once: it is freeing that fills the cache


def settle() -> None:
    """Everything is loaded and stays: the garbage collector need not look at it again and again.

    A full collection of all that is loaded takes 15 to 20 ms, in which nothing is received, and at 5,000 messages a
    second came each 1.4 s; of the events that wait, 8 ms. Nothing that events are made of forms cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


class Heap:
    """Freed memory that the process keeps, and when it is worth giving back."""

    def __init__(
        self, resident: Callable[[], int | None] | None = None, trim: Callable[[], object] | None = None
    ) -> None:
        self._resident = resident or resident_bytes
        self._trim = trim or give_freed_back
        self._least: int | None = None
        self._tries = 0

    def give_back(self) -> None:
        """Return to the system what is freed and kept, while the process is larger by it; some ms, in any thread.

        What stays for a minute of tries is no longer what a burst or a seal left behind, and is from then on its size.
        """
        now = self._resident()
        if now is None:
            return
        if self._least is not None and now - self._least < GROWN_BYTES:
            self._least, self._tries = min(self._least, now), 0
            return
        self._trim()
        self._tries += 1
        after = self._resident() or 0
        if self._least is None or after - self._least < GROWN_BYTES or self._tries >= TRIES:
            self._least, self._tries = after, 0


def resident_bytes() -> int | None:
    """Memory of this process that is in RAM; None where the system does not say (/proc/self/statm)."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return None


def give_freed_back() -> None:
    """Return to the system what is freed and kept, of every heap; some ms, in any thread."""
    trim = _libc("malloc_trim")
    if trim is not None:
        trim(0)


def _libc(name: str) -> Any:
    """A function of this process's C library; None where it has no such."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None


def end_with(parent: int) -> None:
    """Be told to stop (SIGTERM) within a second when that process dies, even by kill -9.

    Linux has a signal for it (PR_SET_PDEATHSIG), but that comes when the *thread* that started this process ends, and
    Trio starts processes from a thread that ends when it has been idle for 10 s.
    """
    threading.Thread(target=_stop_after, args=(parent,), name="wld-parent", daemon=True).start()


def _stop_after(parent: int) -> None:
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
