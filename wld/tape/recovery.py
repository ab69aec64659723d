"""Owns left-over journals: what a killed recorder left becomes a sealed file. Does not lock the folder."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from wld.errors import TapeError, TapeVersion
from wld.tape.seal import is_event, seal, sync_folder
from wld.tape.segment import JOURNAL_SUFFIX, RECOVERED_SUFFIX, Segment, sealed_twin


class Recovered(Struct, frozen=True):
    """One journal and what it became."""

    journal: str
    """Its name now: bytes unchanged, `.recovered`; readers ignore it."""
    sealed: str | None
    """None where it held no event."""
    torn_bytes: int
    """Bytes after its last whole block."""
    damages: tuple[str, ...]


def recover(path: str | os.PathLike[str]) -> list[Recovered]:
    """Seal a left-over journal, or all of a folder; each is then renamed to `….bin.open.recovered`.

    A journal whose sealed file already stands (a kill between the two renames) is only renamed.

    Raises:
        TapeError: not a tape, or the folder cannot be written.
    """
    place = Path(path)
    if not place.exists():
        raise TapeError(f"{place}: no such file or folder")
    folder = place if place.is_dir() else place.parent
    if place.is_dir():
        for leftover in place.glob("*.sealing"):
            leftover.unlink(missing_ok=True)
    journals = sorted(place.glob(f"*{JOURNAL_SUFFIX}")) if place.is_dir() else [place]
    return [_recover(journal, folder) for journal in journals]


def _recover(journal: Path, folder: Path) -> Recovered:
    if not journal.name.endswith(JOURNAL_SUFFIX):
        raise TapeError(f"{journal}: not an open journal (*{JOURNAL_SUFFIX})")
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
    if sealed is None and events:
        sealed = seal(journal).path
    kept = set_aside(journal)
    torn = 0 if segment.torn_at is None else segment.size - segment.torn_at
    return Recovered(str(kept), None if sealed is None else str(sealed), torn, tuple(str(d) for d in segment.damages))


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
