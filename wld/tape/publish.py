"""Owns folders that appear whole or not at all: what an export or a merge writes stands under its final name when every
byte of it is on the disk, and not before.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from wld.errors import TapeError
from wld.tape.seal import sync_folder

_PARTIAL = ".partial-"
_LOCK = ".lock"


@contextlib.contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """A folder beside the target to write in, gone afterwards; left-overs of killed exports are removed."""
    parent = target.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f".{target.name}{_PARTIAL}*"):
            _remove_if_dead(left)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}{_PARTIAL}", dir=parent))
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise TapeError(f"{target}: cannot be written: {error.strerror or error}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path) -> tuple[int, int]:
    """Give a finished folder its final name, everything in it on the disk; returns its files and bytes."""
    (folder / _LOCK).unlink()
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    _sync(files)
    folder.chmod(0o777 & ~_umask())
    os.rename(folder, target)
    sync_folder(target.parent)
    return len(files), size


def _remove_if_dead(left: Path) -> None:
    """A killed export holds no lock any more."""
    try:
        lock = os.open(left / _LOCK, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(left, ignore_errors=True)
    finally:
        os.close(lock)


def _sync(files: Iterable[Path]) -> None:
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
