"""Owns reading a recording while it goes on: new events of journals as they are flushed, across rotation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from wld.errors import TapeError
from wld.tape import layout
from wld.tape.layout import Block
from wld.tape.seal import ordered
from wld.tape.segment import SHARD_FOLDERS, Paths, Segment, find_segments, raise_damages, tape_files
from wld.tape.table import Numbered

POLL_S = 0.2
"""Between two looks; the recorder flushes once a second."""


def follow(paths: Paths, wants: Callable[[Block], bool]) -> Iterator[Numbered]:
    """Every event, each once, then those to come; never ends by itself.

    A recorder opens the next segment after the last flush of the one before, so a segment is done when there is a
    later one and nothing new came after that was seen.

    Raises:
        TapeDamaged: as soon as a damaged block was met, after the whole ones around it.
    """
    offsets: dict[str, int] = {}
    numbers: dict[str, int] = {}
    done: set[str] = set()
    names: dict[str, str] = {}
    """Files of segments that are done: not opened again."""
    while True:
        for segment in _present(paths, names):
            if segment.id in done:
                names[str(segment.path)] = segment.id
                continue
            for item in ordered(segment, (p for p in _new_blocks(segment, offsets) if wants(p[0]))):
                if item[0] > numbers.get(segment.id, -1):
                    numbers[segment.id] = item[0]
                    yield item
            if not segment.is_journal:
                done.add(segment.id)
            raise_damages([segment])
        time.sleep(POLL_S)


def _present(paths: Paths, done: dict[str, str]) -> list[Segment]:
    listed = [Path(p) for p in (paths if isinstance(paths, list) else [paths])]
    try:
        folders = [folder for path in listed if path.is_dir() for folder in (path, *path.glob(SHARD_FOLDERS))]
        files = [*(file for folder in folders for file in tape_files(folder)), *(p for p in listed if not p.is_dir())]
        return find_segments([file for file in files if str(file) not in done]) if files else []
    except (TapeError, OSError):
        return []  # not there yet, or renamed while we looked


def _new_blocks(segment: Segment, offsets: dict[str, int]) -> Iterator[tuple[Block, bytes]]:
    """Of a journal the new blocks up to the last flush that is wholly there; of a sealed file all."""
    if not segment.is_journal:
        yield from segment.blocks(lambda _: True)
        return
    start = offsets.get(segment.id, 0)
    group: list[tuple[Block, bytes]] = []
    try:
        for block, payload in segment.blocks(lambda _: True, start=start):
            group.append((block, payload))
            if block.flags & layout.GROUP_END:
                offsets[segment.id] = block.end
                yield from group
                group = []
    except TapeError:
        pass  # sealed and unlinked while we looked; the rest comes from the sealed file
