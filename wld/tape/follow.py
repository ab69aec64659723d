"""Owns reading a recording while it goes on: new events of journals as they are flushed, across rotation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from wld.errors import TapeError
from wld.tape import layout
from wld.tape.layout import Block
from wld.tape.seal import ordered
from wld.tape.segment import Paths, Segment, find_segments, raise_damages
from wld.tape.table import Numbered

POLL_S = 0.2
"""Between two looks; the recorder flushes once a second."""


def follow(paths: Paths, wants: Callable[[Block], bool]) -> Iterator[Numbered]:
    """Every event, each once, then those to come; never ends by itself.

    A segment is only begun when those before it are read to their end: a recorder opens the next one after the last
    flush of the one before.

    Raises:
        TapeDamaged: as soon as a damaged block was met, after the whole ones around it.
    """
    offsets: dict[str, int] = {}
    numbers: dict[str, int] = {}
    done: set[str] = set()
    while True:
        for segment in _present(paths):
            if segment.id in done:
                continue
            if segment.is_journal:
                blocks = _complete_groups(segment, offsets)
            else:
                blocks = list(segment.blocks(lambda _: True))
                done.add(segment.id)
            for item in ordered(segment, (pair for pair in blocks if wants(pair[0]))):
                if item[0] > numbers.get(segment.id, -1):
                    numbers[segment.id] = item[0]
                    yield item
            raise_damages([segment])
        time.sleep(POLL_S)


def _present(paths: Paths) -> list[Segment]:
    try:
        return find_segments(paths)
    except TapeError:
        return []  # not there yet, or renamed while we looked


def _complete_groups(segment: Segment, offsets: dict[str, int]) -> list[tuple[Block, bytes]]:
    """The new blocks up to the last flush that is wholly there."""
    blocks: list[tuple[Block, bytes]] = []
    whole = 0
    try:
        for block, payload in segment.blocks(lambda _: True, start=offsets.get(segment.id, 0)):
            blocks.append((block, payload))
            if block.flags & layout.GROUP_END:
                whole = len(blocks)
                offsets[segment.id] = block.end
    except TapeError:
        pass  # sealed and unlinked while we looked; the rest comes from the sealed file
    return blocks[:whole]
