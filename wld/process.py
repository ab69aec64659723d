"""Owns what the engine asks of its own process: how memory is kept and how threads share the interpreter."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

SWITCH_INTERVAL_S = 0.0005
"""A worker thread that encodes a flush gives way to the event loop after this; Python's own 5 ms show in latencies."""
KEPT_BYTES = 64 * 1024 * 1024
"""Freed memory below this stays with the process."""
_PR_SET_PDEATHSIG = 1  # sys/prctl.h
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
    """Be told to stop (SIGTERM) when that process dies, even by kill -9; on Linux only, elsewhere this does nothing."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (AttributeError, OSError, TypeError):
        return
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)
