"""Owns what the engine asks of its own process: how memory is kept and how threads share the interpreter."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

SWITCH_INTERVAL_S = 0.0005
"""A worker thread that encodes a flush gives way to the event loop after this; Python's own 5 ms show in latencies."""
KEPT_BYTES = 64 * 1024 * 1024
"""Freed memory below this stays with the process."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def tune() -> None:
    """Make columns cheap and waits short; once, before the event loop runs.

    glibc maps every array above 128 KiB afresh and gives it back at once: touching the new pages costs more than all
    the arithmetic on them (30 ns a number instead of 110, benchmarks). Elsewhere than on glibc this does nothing.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


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
