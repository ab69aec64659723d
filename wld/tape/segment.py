"""Owns one tape file: where its blocks are, which of them are whole, what is damaged. Does not own events."""

from __future__ import annotations

import glob
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

from wld.errors import TapeDamaged, TapeError, TapeMissing, TapeVersion
from wld.tape import layout
from wld.tape.columns import Entry, Parts, closure, parse_directory
from wld.tape.layout import Block

JOURNAL_SUFFIX = ".bin.open"
SEALED_SUFFIX = ".bin"
RECOVERED_SUFFIX = ".recovered"
SHARD_FOLDERS = "shard-*-of-*"
"""Where the workers of one recording write (`wld.shards`)."""
_SEARCH_BYTES = 1 << 20
_THREADS = min(4, os.cpu_count() or 1)
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

    def __init__(self, path: Path, *, found: bool = False) -> None:
        """Open a tape; one that was `found` in a folder is damage where it cannot be read, not an error.

        Raises:
            TapeError: it cannot be read, or is no tape.
            TapeVersion: it is of a format version this wld does not know.
        """
        self.path = path
        self.is_journal = path.name.endswith((".open", RECOVERED_SUFFIX))
        self.damages: list[Damage] = []
        self.torn_at: int | None = None
        """Where an unsealed file's last whole block ends, if bytes follow it."""
        self.has_footer = False
        self.header: dict[str, Any] = {}
        self.size = 0
        self._foreign: str | None = None
        """Why nothing of it can be read."""
        try:
            with path.open("rb", buffering=0) as file:
                self.size = os.fstat(file.fileno()).st_size
                self._open(file)
        except OSError as error:
            if not found or isinstance(error, FileNotFoundError):
                raise TapeError(f"{path}: cannot be read: {error.strerror}") from None
            self._foreign = f"cannot be read: {error.strerror}"
        except TapeVersion:
            raise
        except TapeError:
            if not found:
                raise
            self._foreign = "not a wld tape"

    def _open(self, file: IO[bytes]) -> None:
        start = os.pread(file.fileno(), len(layout.FILE_START), 0)
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

    @contextmanager
    def _reading(self) -> Iterator[IO[bytes]]:
        """The file, opened. A journal that was sealed meanwhile is read from its sealed file."""
        if self._foreign is not None:
            self.damage(0, self.size, self._foreign)
            yield io.BytesIO()
            return
        try:
            try:
                file = self.path.open("rb", buffering=0)
            except FileNotFoundError:
                twin = sealed_twin(self) if self.is_journal else None
                if twin is None:
                    raise
                self.path, self.is_journal = twin, False
                file = self.path.open("rb", buffering=0)
            with file:
                self.size = os.fstat(file.fileno()).st_size
                yield file
        except OSError as error:
            raise TapeError(f"{self.path}: cannot be read: {error.strerror}") from None

    @property
    def id(self) -> str:
        """The same in a journal and in what it was sealed to; the path where the header is hurt."""
        return str(self.header.get("segment", self.path))

    def blocks(
        self, wanted: Callable[[Block], bool], *, check_all: bool = False, start: int = 0
    ) -> Iterator[tuple[Block, bytes]]:
        """Whole blocks for which `wanted`, in file order; what is damaged between them goes to `damages`.

        A sealed file's index says where they are, and nothing else is read. Without a good one, and with `check_all`
        (every byte is checked) or from the block at `start`, headers are walked and payloads of unwanted blocks
        stepped over. `wanted` must not look at lengths, codec or checksum, which the index does not know. After the
        last block of a sealed file stands its footer; a sealed file without one, or with bytes after it, is damaged.
        """
        with self._reading() as file:
            if self._foreign is not None:
                return
            if not self.is_journal:
                start = 0  # it was a journal when `start` was noted
            index = None if check_all or start or self.is_journal else self._read_index(file)
            if index is not None:
                self.has_footer = True
                yield from self._indexed(file, index, wanted)
            else:
                yield from self._blocks(file, wanted, check_all, start)

    def headers(self, wanted: Callable[[Block], bool]) -> list[Block]:
        """What the headers of whole blocks say, those `wanted`, without their payloads."""
        found: list[Block] = []

        def note(block: Block) -> bool:
            if wanted(block):
                found.append(block)
            return False

        for _ in self.blocks(note):
            pass
        return found

    def index(self) -> list[Block] | None:
        """What the index of a sealed file says of its blocks; None where there is none to be trusted."""
        with self._reading() as file:
            return None if self._foreign is not None else self._read_index(file)

    def _read_index(self, file: IO[bytes]) -> list[Block] | None:
        """What the index says of every block before it; None where there is none to be trusted."""
        at = self.size - layout.FOOTER_SIZE
        footer, offset = _read_block(file, at) if at > 0 else (None, None)
        if footer is None or offset is None or footer.kind != layout.FOOTER or len(offset) != 8:
            return None
        where = int.from_bytes(offset, "little")
        index, payload = _read_block(file, where) if where < at else (None, None)
        if index is None or payload is None or index.kind != layout.INDEX or index.end != at:
            return None
        try:
            return layout.parse_index(index, payload)
        except TapeDamaged:
            return None

    def parts(
        self, wanted: Callable[[Block], bool], names: Callable[[Block], frozenset[str]]
    ) -> Iterator[tuple[Block, bytes | Parts]]:
        """As `blocks`, but of a sealed file's columns only those `names` are read."""
        with self._reading() as file:
            if self._foreign is not None:
                return
            index = None if self.is_journal else self._read_index(file)
            if index is None:
                yield from self._blocks(file, wanted, False, 0)
                return
            self.has_footer = True
            for entry in index:
                if wanted(entry):
                    part = self._read_parts(file, entry, names(entry))
                    if part is not None:
                        yield part

    def each_part(
        self, entries: Sequence[Block], names: frozenset[str], use: Callable[[int, Block, bytes | Parts], None]
    ) -> None:
        """Call `use(place in entries, block, its columns)` for each, some at a time in threads: checksums, zstd and
        numpy leave the interpreter to the others. `use` must not raise."""
        with self._reading() as file:

            def one(place: int) -> None:
                part = self._read_parts(file, entries[place], names)
                if part is not None:
                    use(place, *part)

            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(one, range(len(entries))))

    def _read_parts(self, file: IO[bytes], entry: Block, names: frozenset[str]) -> tuple[Block, bytes | Parts] | None:
        fd = file.fileno()
        start = entry.payload_offset - entry.offset
        head = os.pread(fd, min(entry.end - entry.offset, start + _LIKELY_DIRECTORY), entry.offset)
        block = layout.parse_header(head[:start], entry.offset)
        if block is None or block.indexed != entry.indexed:
            self.damage(entry.offset, entry.end - entry.offset, "no whole block here")
            return None
        payload = head[start:]
        if not block.directory or block.stored_length <= _LIKELY_DIRECTORY:
            payload += os.pread(fd, block.stored_length - len(payload), block.payload_offset + len(payload))
            if layout.payload_is_whole(block, payload):
                return block, payload
            self.damage(block.offset, block.end - block.offset, _hurt(block))
            return None
        if block.directory > len(payload):
            payload += os.pread(fd, block.directory - len(payload), block.payload_offset + len(payload))
        try:
            if not layout.head_is_whole(block, payload):
                raise TapeDamaged(_hurt(block))
            entries = parse_directory(memoryview(payload)[: block.directory])
            bodies = {
                name: self._read_column(fd, block, payload, name, entries[name]) for name in closure(entries, names)
            }
        except TapeDamaged as error:
            self.damage(block.offset, block.end - block.offset, str(error))
            return None
        return block, Parts(entries, bodies)

    def _read_column(self, fd: int, block: Block, head: bytes, name: str, entry: Entry) -> memoryview:
        end = entry.start + entry.length
        if end > block.stored_length:
            raise TapeDamaged("lengths beyond the block")
        if end <= len(head):
            body = memoryview(head)[entry.start : end]
        else:
            body = memoryview(os.pread(fd, entry.length, block.payload_offset + entry.start))
        if zlib.crc32(body) != entry.crc:
            raise TapeDamaged(f"{_hurt(block)}, column {name}")
        return body

    def _indexed(
        self, file: IO[bytes], index: list[Block], wanted: Callable[[Block], bool]
    ) -> Iterator[tuple[Block, bytes]]:
        for entry in index:
            if not wanted(entry):
                continue
            content = os.pread(file.fileno(), entry.end - entry.offset, entry.offset)
            start = entry.payload_offset - entry.offset
            block = layout.parse_header(content[:start], entry.offset)
            if block is None or block.indexed != entry.indexed:
                self.damage(entry.offset, entry.end - entry.offset, "no whole block here")
                continue
            payload = content[start:]
            if layout.payload_is_whole(block, payload):
                yield block, payload
            else:
                self.damage(entry.offset, entry.end - entry.offset, _hurt(block))

    def _blocks(
        self, file: IO[bytes], wanted: Callable[[Block], bool], check_all: bool, start: int
    ) -> Iterator[tuple[Block, bytes]]:
        at = start or self._check_start(file)
        listed = {entry.offset: entry.indexed for entry in self._read_index(file) or ()}
        footer_end = 0
        while at < self.size:
            block = _read_header(file, at)
            if block is None or block.end > self.size:
                resumed = self._next_block(file, at + 1)
                if resumed is None:
                    self._tail(file, at, footer_end)
                    break
                self.damage(at, resumed - at, "no whole block here")
                at = resumed
                continue
            at = block.end
            if listed.get(block.offset, block.indexed) != block.indexed:
                self.damage(block.offset, block.end - block.offset, "not the block that the index names")
                continue
            if block.kind == layout.FOOTER:
                self.has_footer = True
                footer_end = at
            if not check_all and not wanted(block):
                continue
            payload = os.pread(file.fileno(), block.stored_length, block.payload_offset)
            if not layout.payload_is_whole(block, payload):
                self.damage(block.offset, block.end - block.offset, _hurt(block))
            elif wanted(block):
                yield block, payload
        if not self.is_journal and not self.has_footer:
            self.damage(at, 0, "cut short: no footer")
        elif footer_end and footer_end < self.size and at == self.size:
            self.damage(footer_end, self.size - footer_end, "bytes after the footer")

    def _check_start(self, file: IO[bytes]) -> int:
        start = os.pread(file.fileno(), len(layout.FILE_START), 0)
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

    def _tail(self, file: IO[bytes], at: int, footer_end: int) -> None:
        if self.is_journal:
            self.torn_at = at
            # A write that was cut short leaves the beginning of one block. Where others begin after it, bytes are gone.
            if any(self._marks(file, at + 1)):
                self.damage(at, self.size - at, "no whole block here, nor where others begin after it")
        else:
            reason = "bytes after the footer" if footer_end else "cut short or damaged to its end"
            self.damage(at, self.size - at, reason)

    def damage(self, offset: int, length: int, reason: str) -> None:
        """Note a place that cannot be trusted, once."""
        damage = Damage(str(self.path), offset, length, reason)
        if damage not in self.damages:
            self.damages.append(damage)

    def _next_block(self, file: IO[bytes], at: int) -> int | None:
        """The offset of the next whole block header at or after `at`."""
        for mark in self._marks(file, at):
            block = _read_header(file, mark)
            if block is not None and block.end <= self.size:
                return mark
        return None

    def _marks(self, file: IO[bytes], at: int) -> Iterator[int]:
        """The offsets of sync marks at or after `at`."""
        while at < self.size:
            chunk = os.pread(file.fileno(), min(_SEARCH_BYTES, self.size - at), at)
            found = chunk.find(layout.SYNC)
            while found >= 0:
                yield at + found
                found = chunk.find(layout.SYNC, found + 1)
            if len(chunk) < _SEARCH_BYTES:
                return
            at += len(chunk) - len(layout.SYNC) + 1


def _hurt(block: Block) -> str:
    return f"checksum of a {layout.KIND_NAMES.get(block.kind, f'kind {block.kind}')} block fails"


_LIKELY_SYMBOL = 20
_LIKELY_DIRECTORY = 4096
"""Bytes read at first of a block of which some columns are wanted; a smaller block is read whole."""


def _read_header(file: IO[bytes], offset: int) -> Block | None:
    head = os.pread(file.fileno(), layout.HEADER_SIZE + _LIKELY_SYMBOL, offset)
    if len(head) < layout.HEADER_SIZE or head[:4] != layout.SYNC:
        return None
    length = layout.HEADER_SIZE + layout.symbol_length(head)
    if length > len(head):
        head = os.pread(file.fileno(), length, offset)
    return layout.parse_header(head[:length], offset)


def _read_block(file: IO[bytes], offset: int) -> tuple[Block | None, bytes | None]:
    block = _read_header(file, offset)
    if block is None:
        return None, None
    payload = os.pread(file.fileno(), block.stored_length, block.payload_offset)
    return block, payload if layout.payload_is_whole(block, payload) else None


Paths = str | os.PathLike[str] | list[str | os.PathLike[str]]


def find_segments(paths: Paths) -> list[Segment]:
    """The segments of files and folders in order of their names, each once: the sealed file, else its journal.

    A folder's own `shard-i-of-n` folders, one a worker, belong to it.

    Raises:
        TapeMissing: a path that does not exist, a folder without tapes.
        TapeError: a named file that is no tape.
    """
    listed = [Path(p) for p in (paths if isinstance(paths, list) else [paths])]
    found: list[Segment] = []
    for path in listed:
        if path.is_dir():
            shards = sorted(p for p in path.glob(SHARD_FOLDERS) if p.is_dir())
            inside = [segment for folder in (path, *shards) for segment in _in_folder(folder)]
            inside.sort(key=lambda segment: segment_order(segment.path))
            if not inside:
                raise TapeMissing(f"{path}: holds no tapes (market_data_*.bin)")
            found += inside
        elif path.exists():
            found.append(Segment(path))
        else:
            raise TapeMissing(f"{path}: no such file or folder")
    chosen: dict[str, Segment] = {}
    for segment in found:
        if segment.id not in chosen or chosen[segment.id].is_journal:
            chosen[segment.id] = segment
    return list(chosen.values())


def _in_folder(folder: Path) -> list[Segment]:
    """Every tape there. A recorder may be at work: a journal that goes away while we look has become a sealed file."""
    for _ in range(_LOOKS):
        found: list[Segment] = []
        try:
            for path in tape_files(folder):
                try:
                    found.append(Segment(path, found=bool(_NAME.match(path.name))))
                except TapeError:
                    if path.exists() and _NAME.match(path.name):
                        raise
                    if not path.exists():
                        break  # look again
            else:
                return found
        except OSError as error:
            raise TapeError(f"{folder}: cannot be read: {error.strerror}") from None
    return found


_LOOKS = 5


def tape_files(folder: Path) -> list[Path]:
    """The files of a folder that are tapes by their name, in order. Raises: OSError."""
    names = (p for p in folder.iterdir() if p.name.endswith((SEALED_SUFFIX, JOURNAL_SUFFIX)) and not p.is_dir())
    return sorted(names, key=segment_order)


def sealed_twin(journal: Segment) -> Path | None:
    """The sealed file that a journal became, beside it."""
    if not journal.header:
        return None
    stem = journal.path.name.removesuffix(RECOVERED_SUFFIX).removesuffix(JOURNAL_SUFFIX)
    match = _NAME.match(stem + SEALED_SUFFIX)
    base = match["base"] if match else stem
    for candidate in sorted(journal.path.parent.glob(f"{glob.escape(base)}*{SEALED_SUFFIX}")):
        try:
            twin = Segment(candidate)
        except TapeError:
            continue
        if twin.header.get("segment") == journal.header.get("segment"):
            return candidate
    return None


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
