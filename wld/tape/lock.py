"""Owns the lock of a data folder: one process writes there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from wld.errors import TapeError, TapeLocked

LOCK_NAME = ".wld.lock"


def lock_folder(folder: Path) -> int:
    """Hold the folder until the returned descriptor is closed, by whatever end of the process; made where missing.

    Raises:
        TapeLocked: another process holds it.
        TapeError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        why = "it is a file, not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise TapeError(f"{folder}: cannot be written: {why}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise TapeLocked(
            f"{folder}: another recorder (pid {holder}) writes here; stop it or choose another --data-dir"
        ) from None
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(fd)
        raise TapeError(f"{folder}: cannot be written: {error.strerror}") from None
    return fd
