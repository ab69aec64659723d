"""Owns the packed form of events, for pipes and brokers: MessagePack, compressed where asked. Not the tape's format.

`docs/reference-redis.md` specifies it for readers in other languages. Pure: bytes in, events out.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import zstandard

from wld.batch import Batch
from wld.errors import PackError
from wld.events import Event

MSGPACK, JSON = 1, 2
COMPRESSED = 0x10
"""Set beside the codec in the first byte: the rest is one zstd frame."""
MAX_BYTES = 64 * 1024 * 1024
"""No run of events is larger unpacked; more is refused before it is allocated."""

_msgpack_encoder = msgspec.msgpack.Encoder()
_json_encoder = msgspec.json.Encoder()
_msgpack_decoder = msgspec.msgpack.Decoder(tuple[int, list[Event]])
_json_decoder = msgspec.json.Decoder(tuple[int, list[Event]])


def pack_events(events: Sequence[Event], *, first_number: int | None = None, level: int | None = None) -> bytes:
    """A run of events as bytes; `first_number` is the ring number of the first (a Batch brings its own).

    `level` is zstd's, None for uncompressed. Every integer is kept exactly, beyond 64 bits too.
    """
    if first_number is None:
        first_number = events.first_number if isinstance(events, Batch) else 0
    content = (first_number, list(events))
    codec = MSGPACK
    try:
        packed = _msgpack_encoder.encode(content)
    except OverflowError:  # MessagePack integers end at 64 bits
        codec, packed = JSON, _json_encoder.encode(content)
    if level is not None:
        codec, packed = codec | COMPRESSED, zstandard.ZstdCompressor(level=level).compress(packed)
    return bytes([codec]) + packed


def unpack_events(packed: bytes | memoryview) -> Batch:
    """What `pack_events` was given, with its ring numbers.

    Unknown fields are ignored and missing ones take their defaults, so versions may differ on the two ends.

    Raises:
        PackError: anything else.
    """
    view = memoryview(packed)
    if not view:
        raise PackError("packed events: empty")
    codec, body = view[0], view[1:]
    content: bytes | memoryview = body
    try:
        if codec & COMPRESSED:
            size = zstandard.frame_content_size(body)
            if not 0 <= size <= MAX_BYTES:
                raise PackError(f"packed events: {size} bytes unpacked, at most {MAX_BYTES} are accepted")
            content = zstandard.ZstdDecompressor().decompress(body, max_output_size=MAX_BYTES)
        if codec & ~COMPRESSED == MSGPACK:
            number, events = _msgpack_decoder.decode(content)
        elif codec & ~COMPRESSED == JSON:
            number, events = _json_decoder.decode(content)
        else:
            raise PackError(f"packed events: unknown codec {codec}; written by a newer version?")
    except (msgspec.DecodeError, zstandard.ZstdError, UnicodeDecodeError) as error:
        raise PackError(f"packed events: cannot be read: {error}") from None
    return Batch(events, number)
