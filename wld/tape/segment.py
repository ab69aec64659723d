"""Owns one tape file: where its blocks are, which of them are whole, what is damaged. Does not own events."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from msgspec import Struct

from wld.errors import TapeDamaged, TapeError, TapeVersion
from wld.tape import layout
from wld.tape.layout import Block

JOURNAL_SUFFIX = ".bin.open"
SEALED_SUFFIX = ".bin"
RECOVERED_SUFFIX = ".recovered"
_SEARCH_BYTES = 1 << 20
_NAME = re.compile(r"^(?P<base>.+_\d{8}_\d{4})(?:_(?P<n>\d+))?\.bin(?:\.open)?$")


class Damage(Struct, frozen=True):
    """One place of a file that cannot be trusted: `length` bytes from `offset`."""

    path: str
    offset: int
    length: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: offset {self.offset}: {self.length} bytes: {self.reason}"


class Segment:
    """A tape file opened for reading. `damages` grows as its blocks are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_journal = path.name.endswith((".open", RECOVERED_SUFFIX))
        self.damages: list[Damage] = []
        self.torn_at: int | None = None
        """Where an unsealed file's last whole block ends, if bytes follow it."""
        self.has_footer = False
        self.header: dict[str, Any] = {}
        try:
            with path.open("rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                self._open(file)
        except OSError as error:
            raise TapeError(f"{path}: cannot be read: {error.strerror}") from None

    def _open(self, file: BinaryIO) -> None:
        start = file.read(len(layout.FILE_START))
        block, payload = _read_block(file, len(layout.FILE_START))
        if block is not None and block.kind == layout.HEADER and payload is not None:
            header = layout.parse_json(payload)
            if isinstance(header, dict):
                self.header = header
        if start == layout.FILE_START:
            return
        version = self.header.get("format", start[7] if len(start) == 8 else None)
        if start[:7] == layout.MAGIC and len(start) == 8 and version != layout.FORMAT_VERSION:
            raise TapeVersion(f"{self.path}: format version {version}; this wld reads version {layout.FORMAT_VERSION}")
        if len(start) < 8 and layout.FILE_START.startswith(start):
            return
        if not self.header:
            raise TapeError(f"{self.path}: not a wld tape")

    @property
    def id(self) -> str:
        """The same in a journal and in what it was sealed to; the path where the header is hurt."""
        return str(self.header.get("segment", self.path))

    def blocks(
        self, wanted: Callable[[Block], bool], *, check_all: bool = False, start: int = 0
    ) -> Iterator[tuple[Block, bytes]]:
        """Whole blocks for which `wanted`, in file order; what is damaged between them goes to `damages`.

        From the block at `start` where that is given. Payloads of unwanted blocks are stepped over unread, unless `check_all`. After the last block of a sealed
        file stands its footer; a sealed file without one, or with bytes after it, is damaged.
        """
        try:
            with self.path.open("rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                yield from self._blocks(file, wanted, check_all, start)
        except OSError as error:
            raise TapeError(f"{self.path}: cannot be read: {error.strerror}") from None

    def _blocks(
        self, file: BinaryIO, wanted: Callable[[Block], bool], check_all: bool, start: int
    ) -> Iterator[tuple[Block, bytes]]:
        at = start or self._check_start(file)
        footer_end = 0
        while at < self.size:
            block = _read_header(file, at)
            if block is None or block.end > self.size:
                resumed = self._next_block(file, at + 1)
                if resumed is None:
                    self._tail(at, footer_end)
                    break
                self.damage(at, resumed - at, "no whole block here")
                at = resumed
                continue
            at = block.end
            if block.kind == layout.FOOTER:
                self.has_footer = True
                footer_end = at
            if not check_all and not wanted(block):
                continue
            file.seek(block.payload_offset)
            payload = file.read(block.stored_length)
            if not layout.payload_is_whole(block, payload):
                kind = layout.KIND_NAMES.get(block.kind, f"kind {block.kind}")
                self.damage(block.offset, block.end - block.offset, f"checksum of a {kind} block fails")
            elif wanted(block):
                yield block, payload
        if not self.is_journal and not self.has_footer:
            self.damage(at, 0, "cut short: no footer")
        elif footer_end and footer_end < self.size and at == self.size:
            self.damage(footer_end, self.size - footer_end, "bytes after the footer")

    def _check_start(self, file: BinaryIO) -> int:
        file.seek(0)
        start = file.read(len(layout.FILE_START))
        if len(start) < len(layout.FILE_START):
            if self.is_journal:
                self.torn_at = 0
            else:
                self.damage(0, len(start), "cut short: no footer")
            self.has_footer = True  # said already
            return self.size
        if start != layout.FILE_START:
            self.damage(0, len(start), "file start is not the magic")
        return len(layout.FILE_START)

    def _tail(self, at: int, footer_end: int) -> None:
        if self.is_journal:
            self.torn_at = at
        else:
            reason = "bytes after the footer" if footer_end else "cut short or damaged to its end"
            self.damage(at, self.size - at, reason)

    def damage(self, offset: int, length: int, reason: str) -> None:
        """Note a place that cannot be trusted, once."""
        damage = Damage(str(self.path), offset, length, reason)
        if damage not in self.damages:
            self.damages.append(damage)

    def _next_block(self, file: BinaryIO, at: int) -> int | None:
        """The offset of the next whole block header at or after `at`."""
        while at < self.size:
            file.seek(at)
            chunk = file.read(_SEARCH_BYTES)
            found = chunk.find(layout.SYNC)
            while found >= 0:
                block = _read_header(file, at + found)
                if block is not None and block.end <= self.size:
                    return at + found
                found = chunk.find(layout.SYNC, found + 1)
            if len(chunk) < _SEARCH_BYTES:
                return None
            at += len(chunk) - len(layout.SYNC) + 1
        return None


def _read_header(file: BinaryIO, offset: int) -> Block | None:
    file.seek(offset)
    fixed = file.read(layout.HEADER_SIZE)
    if len(fixed) < layout.HEADER_SIZE or fixed[:4] != layout.SYNC:
        return None
    return layout.parse_header(fixed + file.read(layout.symbol_length(fixed)), offset)


def _read_block(file: BinaryIO, offset: int) -> tuple[Block | None, bytes | None]:
    block = _read_header(file, offset)
    if block is None:
        return None, None
    file.seek(block.payload_offset)
    payload = file.read(block.stored_length)
    return block, payload if layout.payload_is_whole(block, payload) else None


Paths = str | os.PathLike[str] | list[str | os.PathLike[str]]


def find_segments(paths: Paths) -> list[Segment]:
    """The segments of files and folders in order of their names, each once: the sealed file, else its journal.

    Raises:
        TapeError: a path that does not exist, a named file that is no tape, a folder without tapes.
    """
    listed = [Path(p) for p in (paths if isinstance(paths, list) else [paths])]
    found: list[Segment] = []
    for path in listed:
        if path.is_dir():
            files = sorted(
                (p for p in path.iterdir() if p.name.endswith((SEALED_SUFFIX, JOURNAL_SUFFIX))),
                key=segment_order,
            )
            if not files:
                raise TapeError(f"{path}: holds no tapes (market_data_*.bin)")
            found += (Segment(p) for p in files)
        elif path.exists():
            found.append(Segment(path))
        else:
            raise TapeError(f"{path}: no such file or folder")
    chosen: dict[str, Segment] = {}
    for segment in found:
        if segment.id not in chosen or chosen[segment.id].is_journal:
            chosen[segment.id] = segment
    return list(chosen.values())


def segment_order(path: Path) -> tuple[str, int, str]:
    """Sorts segments by start minute, then by collision number."""
    match = _NAME.match(path.name)
    return (match["base"], int(match["n"] or 1), path.name) if match else (path.name, 0, path.name)


def raise_damages(segments: list[Segment]) -> None:
    """Raises: TapeDamaged naming every damaged place, if there is one."""
    damages = [damage for segment in segments for damage in segment.damages]
    if damages:
        shown = "; ".join(str(damage) for damage in damages[:5])
        more = f"; and {len(damages) - 5} more" if len(damages) > 5 else ""
        raise TapeDamaged(shown + more)
