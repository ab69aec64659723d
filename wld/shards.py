"""Owns the parts that symbols are divided into, for processes that share nothing. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

MOST_WORKERS = 64


def parse_shard(text: str) -> tuple[int, int]:
    """`2/4`: the second of four parts. Raises: ValueError."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and text.isascii()):
        raise ValueError(f'expected I/N such as 1/4, got "{text}"')
    i, n = int(part), int(parts)
    if not 1 <= i <= n <= MOST_WORKERS:
        raise ValueError(f"expected I/N with I from 1 to N and N at most {MOST_WORKERS}, got {text}")
    return i, n


def shard_folder(shard: tuple[int, int]) -> str:
    """The folder of a part inside the data directory."""
    return f"shard-{shard[0]}-of-{shard[1]}"


def shard_symbols(symbols: Sequence[str], shard: tuple[int, int], *, is_listed: bool) -> tuple[str, ...]:
    """The part's symbols. Named ones go round in turn, so that the parts are even.

    Of a list that changes (`is_listed`) each symbol's part hangs on its name alone, so that none ever moves.
    """
    i, n = shard
    if is_listed:
        return tuple(symbol for symbol in symbols if zlib.crc32(symbol.encode()) % n == i - 1)
    return tuple(dict.fromkeys(symbols))[i - 1 :: n]
