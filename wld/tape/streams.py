"""Owns integers of any length and streams of bytes: how they are written, compressed and taken apart again. Pure."""

from __future__ import annotations

import functools

import zstandard

from wld.errors import TapeDamaged

MAX_BYTES = 64 * 1024 * 1024
"""No block is larger, stored or decoded; a reader refuses longer lengths before it allocates."""
SMALL = 16
"""Bytes that no compressor makes smaller."""
_SHORT = 64
"""So few bytes are not worth trying where most of them differ."""


_QUICK, _NEAR, _THOROUGH = range(3)


@functools.lru_cache(maxsize=4)
def _compressor(how: int) -> zstandard.ZstdCompressor:
    # Short matches make planes of noise larger and slower: without them what is left is entropy coding, which most
    # planes want. What repeats wants the matches, and where much of it does, the optimal parser pays
    # (docs/explanation-tape.md).
    options: dict[int, tuple[int, dict[str, int]]] = {
        _QUICK: (1, {"min_match": 7}),
        _NEAR: (3, {"min_match": 5}),
        _THOROUGH: (13, {
            "strategy": zstandard.STRATEGY_BTOPT, "search_log": 1, "min_match": 5, "chain_log": 13, "hash_log": 13,
        }),
    }  # fmt: skip
    level, more = options[how]
    parameters = zstandard.ZstdCompressionParameters.from_level(level, write_content_size=False, **more)
    return zstandard.ZstdCompressor(compression_params=parameters)


_SHORT_VARINTS = tuple(bytes((value,) if value < 128 else (value & 127 | 128, value >> 7)) for value in range(1024))


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the top bit says that more follow."""
    if value < 1024:
        return _SHORT_VARINTS[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_varint(value: int) -> bytes:
    """0, -1, 1, -2, 2 … as 0, 1, 2, 3, 4 …"""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


class Reader:
    """Takes a payload apart; refuses lengths beyond it, and a total beyond what a block may hold."""

    def __init__(self, payload: bytes | memoryview) -> None:
        self.start(payload)
        self.room = MAX_BYTES

    def start(self, payload: bytes | memoryview) -> None:
        """Go on with other bytes, within the same room."""
        self.payload = memoryview(payload)
        self.at = 0
        self.end = len(payload)

    def byte(self) -> int:
        value = self.payload[self.at]
        self.at += 1
        return value

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise TapeDamaged("a number of more than 64 bits")

    def signed_varint(self) -> int:
        value = self.varint()
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def take(self, length: int) -> memoryview:
        if length > self.end - self.at:
            raise TapeDamaged("lengths beyond the block")
        self.at += length
        return self.payload[self.at - length : self.at]

    def text(self) -> str:
        return bytes(self.take(self.byte())).decode()

    def allow(self, length: int) -> None:
        """Raises: TapeDamaged where `length` more bytes are more than a block may decode to."""
        self.room -= length
        if length < 0 or self.room < 0:
            raise TapeDamaged("columns larger than a block may be")

    def stream(self, expected: int | None = None) -> bytes | memoryview:
        length, stored = self.varint(), self.varint()
        if expected is not None and length != expected:
            raise TapeDamaged(f"a stream of {length} bytes, expected {expected}")
        self.allow(length)
        if not stored:
            return self.take(length)
        content = self.take(stored)
        # The library trusts a size written in the frame over `max_output_size`; ours carry none.
        if zstandard.frame_content_size(content) > length:
            raise TapeDamaged("a frame larger than it says")
        plain = zstandard.ZstdDecompressor().decompress(content, max_output_size=max(length, 1))
        if len(plain) != length:
            raise TapeDamaged(f"a stream of {len(plain)} bytes, expected {length}")
        return plain


_NOISE = 0.9
"""Of its length: what hardly shrinks is not compressed in another way."""
_REPEATING = 0.3
"""Of its length: what shrinks to less is worth the slowest compressor, some 100 ns a byte; it gains 10 to 20 % there and
1.5 % elsewhere."""


def pack_stream(content: bytes, *, pack: bool = True, thorough: bool = True) -> bytes:
    """Length, stored length or 0, and the bytes, compressed where that is smaller."""
    length = len(content)
    if pack and length > SMALL and not (length <= _SHORT and 2 * len(set(content)) > length):
        best = _compressor(_QUICK).compress(content)
        if thorough and len(best) < _NOISE * length:
            best = min(best, _compressor(_NEAR).compress(content), key=len)
            if len(best) < _REPEATING * length:
                best = min(best, _compressor(_THOROUGH).compress(content), key=len)
        if len(best) < length:
            return varint(length) + varint(len(best)) + best
    return varint(length) + b"\0" + content
