"""Owns left-over journals: what a killed recorder left becomes a sealed file. Does not lock the folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from wld.errors import TapeError, TapeMissing, TapeVersion
from wld.tape.lock import lock_folder
from wld.tape.seal import SEALING_SUFFIX, is_event, seal, sync_folder
from wld.tape.segment import JOURNAL_SUFFIX, RECOVERED_SUFFIX, SEALED_SUFFIX, SHARD_FOLDERS, Segment, sealed_twin


class Recovered(Struct, frozen=True):
    """One journal and what it became."""

    journal: str
    """Its name now: bytes unchanged, `.recovered`; readers ignore it."""
    sealed: str | None
    """None where it held no event."""
    torn_bytes: int
    """Bytes after its last whole block."""
    damages: tuple[str, ...]


def recover(path: str | os.PathLike[str], *, holds_lock: bool = False) -> list[Recovered]:
    """Seal a left-over journal, or all of a folder and its workers' folders; each is then renamed to
    `….bin.open.recovered`.

    A journal whose sealed file already stands (a kill between the two renames) is only renamed. A sealed file, named
    itself, that is damaged becomes one of its whole blocks; the original `….bin.recovered`. The folder is locked
    meanwhile, unless the caller `holds_lock`: a journal that is being written is not left over.

    Raises:
        TapeLocked: a recorder writes in the folder.
        TapeError: not a tape, or the folder cannot be written.
    """
    place = Path(path)
    if not place.exists():
        raise TapeMissing(f"{place}: no such file or folder")
    if not place.is_dir():
        return _locked(place.parent, [place], holds_lock)
    done: list[Recovered] = []
    shards = [folder for folder in sorted(place.glob(SHARD_FOLDERS)) if folder.is_dir()]
    for folder in [place, *([] if holds_lock else shards)]:
        journals = _files(folder, JOURNAL_SUFFIX)
        leftovers = _files(folder, SEALING_SUFFIX)
        if journals or leftovers:
            done += _locked(folder, journals, holds_lock, leftovers)
    return done


def _files(folder: Path, suffix: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{suffix}") if not path.is_dir())


def _locked(folder: Path, paths: list[Path], holds_lock: bool, leftovers: Sequence[Path] = ()) -> list[Recovered]:
    lock = None if holds_lock else lock_folder(folder)
    try:
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return [_recover(path) for path in paths if path.exists()]
    except OSError as error:
        raise TapeError(f"{folder}: cannot be written: {error.strerror}") from None
    finally:
        if lock is not None:
            os.close(lock)


def _recover(journal: Path) -> Recovered:
    if journal.name.endswith(SEALED_SUFFIX):
        return _recover_sealed(journal)
    if not journal.name.endswith(JOURNAL_SUFFIX):
        raise TapeError(f"{journal}: neither a tape (*{SEALED_SUFFIX}) nor an open journal (*{JOURNAL_SUFFIX})")
    try:
        segment = Segment(journal)
    except TapeVersion:
        raise
    except TapeError as error:
        if not journal.is_file():
            raise
        # A file of somebody else under our name: aside, unchanged, so that it does not stop a recorder.
        return Recovered(str(set_aside(journal)), None, 0, (str(error),))
    sealed = sealed_twin(segment)
    events = sum(block.count for block, _ in segment.blocks(is_event, check_all=True))
    damages = dict.fromkeys(segment.damages)
    if sealed is None and events:
        made = seal(journal)
        sealed = made.path
        damages |= dict.fromkeys(made.damages)  # blocks whose checksums are right and that make no sense
    kept = set_aside(journal)
    torn = 0 if segment.torn_at is None else segment.size - segment.torn_at
    return Recovered(str(kept), None if sealed is None else str(sealed), torn, tuple(str(d) for d in damages))


def _recover_sealed(path: Path) -> Recovered:
    segment = Segment(path)
    events = sum(block.count for block, _ in segment.blocks(is_event, check_all=True))
    if not segment.damages:
        raise TapeError(f"{path}: every checksum is right; nothing to recover")
    kept = set_aside(path)
    try:
        sealed = seal(kept).path if events else None
    except TapeError:
        os.rename(kept, path)
        raise
    return Recovered(str(kept), None if sealed is None else str(sealed), 0, tuple(str(d) for d in segment.damages))


def set_aside(journal: Path) -> Path:
    """Rename a journal so that readers ignore it, its bytes unchanged; its new name. Raises: TapeError."""
    kept = _free(journal)
    try:
        os.rename(journal, kept)
        sync_folder(journal.parent)
    except OSError as error:
        raise TapeError(f"{journal}: cannot be renamed: {error.strerror}") from None
    return kept


def _free(journal: Path) -> Path:
    kept = journal.with_name(journal.name + RECOVERED_SUFFIX)
    n = 2
    while kept.exists():
        kept = journal.with_name(f"{journal.name}.{n}{RECOVERED_SUFFIX}")
        n += 1
    return kept
