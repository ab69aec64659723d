"""Read a tape without wld, from data/FORMAT.md alone: its blocks, or with --events every event as a line of JSON.

python examples/read_tape.py FILE|FOLDER [--events]

Plain Python and a zstd binding, slow and short on purpose: a pattern for readers in other languages.
"""

import glob
import json
import struct
import sys
import uuid
import zlib

import zstandard

BLOCK = struct.Struct("<4sBBBBHHIIIIqqqqQII")
SYNC = b"\xf7WB\n"
KINDS = ["?", "header", "trade", "book", "liquidation", "ticker", "gap", "repair", "instrument", "meta", "checkpoint",
         "index", "footer"]  # fmt: skip
DIRECTIONS = [None, "PlusTick", "ZeroPlusTick", "MinusTick", "ZeroMinusTick"]
ABSENT = -(2**63)
NUMBERS = {"flags", "symbol", "is_snapshot", "bid_count", "ask_count", "is_long"}  # not fields of events


def signed64(value: int) -> int:
    """Arithmetic is modulo 2^64, read as signed."""
    return (value + 2**63) % 2**64 - 2**63


# Blocks


def blocks(content: bytes):
    """(kind, codec, flags, symbol, count, payload) of every whole block; says which bytes are none."""
    assert content[:8] == b"\x89WLD\r\n\x1a\x01", "not a version 1 tape"
    at = 8
    while at < len(content):
        head = content[at : at + 76]
        if len(head) == 76 and head[:4] == SYNC:
            f = BLOCK.unpack(head)
            kind, codec, flags, n, directory, count, stored, offset, payload_crc, crc = (
                f[i] for i in (1, 2, 3, 5, 6, 7, 10, 15, 16, 17)
            )
            symbol = content[at + 76 : at + 76 + n]
            payload = content[at + 76 + n : at + 76 + n + stored]
            if zlib.crc32(head[:72] + symbol) == crc and offset == at and len(payload) == stored:
                at += 76 + n + stored
                if zlib.crc32(payload[: directory or None]) == payload_crc:
                    yield kind, codec, flags, symbol.decode(), count, payload
                else:
                    print(f"offset {offset}: checksum fails", file=sys.stderr)
                continue
        resumed = content.find(SYNC, at + 1)
        resumed = len(content) if resumed < 0 else resumed
        print(f"offset {at}: {resumed - at} bytes are no block", file=sys.stderr)
        at = resumed


# Columns


class Bytes:
    """A place in a payload."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, length: int) -> bytes:
        self.at += length
        assert self.at <= len(self.content), "beyond the payload"
        return self.content[self.at - length : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed_varint(self) -> int:
        value = self.varint()
        return -(value + 1) // 2 if value % 2 else value // 2

    def name(self) -> str:
        return self.take(self.byte()).decode()

    def stream(self) -> bytes:
        length, stored = self.varint(), self.varint()
        if not stored:
            return self.take(length)
        return zstandard.ZstdDecompressor().decompress(self.take(stored), max_output_size=max(length, 1))

    def bits(self, count: int) -> list[bool]:
        packed = self.stream()
        return [bool(packed[i // 8] >> i % 8 & 1) for i in range(count)]


def integers(source: Bytes, rows: int, done: dict[str, list]) -> list:
    """Packed integers; -2^63 in the rows that are absent."""
    flags = source.byte()
    there = source.bits(rows) if flags & 1 else [True] * rows
    sibling = done[source.name()] if flags & 2 else [0] * rows
    values = iter(numbers(source, sum(there), flags))
    return [
        signed64(next(values) + (ABSENT if near is None else near)) if is_there else ABSENT
        for is_there, near in zip(there, sibling, strict=True)
    ]


def numbers(source: Bytes, count: int, flags: int) -> list[int]:
    if flags & 4:
        changed = source.bits(count)
        values = iter(numbers(source, sum(changed), flags & ~4))
        out: list[int] = []
        for is_new in changed:
            out.append(next(values) if is_new else out[-1])
        return out
    first = source.signed_varint() if flags & 8 else 0
    rows = count - 1 if flags & 8 else count
    base, step = source.signed_varint(), source.varint()
    offsets = magnitudes(source, rows) if flags & 32 else planes(source, rows)
    if flags & 16:
        offsets = [-(u + 1) // 2 if u % 2 else u // 2 for u in offsets]
    values = [signed64(u * step + base) for u in offsets]
    if not flags & 8:
        return values
    out = [first]
    for value in values:
        out.append(signed64(out[-1] + value))
    return out


def planes(source: Bytes, count: int) -> list[int]:
    streams = [source.stream() for _ in range(source.byte())]
    return [sum(stream[i] << 8 * k for k, stream in enumerate(streams)) for i in range(count)]


def magnitudes(source: Bytes, count: int) -> list[int]:
    classes, packed = source.stream(), source.stream()
    assert len(classes) == count
    lengths = [max((c >> 2) - 1, 0) for c in classes]
    low = [0] * count
    at = 0
    for length in range(1, 62):
        here = [i for i in range(count) if lengths[i] == length]
        size = (len(here) * length + 7) // 8
        group = int.from_bytes(packed[at : at + size], "little")
        at += size
        for k, i in enumerate(here):
            low[i] = group >> k * length & (1 << length) - 1
    return [(c - (n << 2) << n) | rest for c, n, rest in zip(classes, lengths, low, strict=True)]


def sides(done: dict[str, list]) -> list[tuple[bool, bool]]:
    """(is a bid, is the first of its event and side) of every level."""
    out = []
    for bids, asks in zip(done["bid_count"], done["ask_count"], strict=True):
        out += [(True, i == 0) for i in range(bids)] + [(False, i == 0) for i in range(asks)]
    return out


def level_prices(source: Bytes, rows: int, done: dict[str, list]) -> list[int]:
    levels = sides(done)
    first_bids = iter(integers(source, sum(is_bid and is_first for is_bid, is_first in levels), {}))
    first_asks = iter(integers(source, sum(not is_bid and is_first for is_bid, is_first in levels), {}))
    steps = iter(integers(source, sum(not is_first for _, is_first in levels), {}))
    out: list[int] = []
    for is_bid, is_first in levels:
        if is_first:
            out.append(next(first_bids if is_bid else first_asks))
        else:
            out.append(signed64(out[-1] + (-next(steps) if is_bid else next(steps))))
    return out


def level_sizes(source: Bytes, rows: int, done: dict[str, list]) -> list[int]:
    mode = source.byte()
    if mode == 0:
        return integers(source, rows, done)
    places = [(price, is_bid) for (is_bid, _), price in zip(sides(done), done["level_price"], strict=True)]
    zero = source.bits(rows)
    if mode == 2:
        sizes = [0] * rows
        here = [i for i in sorted(range(rows), key=lambda i: places[i]) if not zero[i]]
        for i, value in zip(here, integers(source, len(here), {}), strict=True):
            sizes[i] = value
        return sizes
    known, before = 0, {}
    for place, is_zero in zip(places, zero, strict=True):
        known += not is_zero and not before.get(place, True)
        before[place] = is_zero
    changes = iter(integers(source, known, {}))
    others = iter(integers(source, sum(not z for z in zero) - known, {}))
    last: dict[tuple[int, bool], int] = {}
    sizes = []
    for place, is_zero in zip(places, zero, strict=True):
        if is_zero:
            sizes.append(0)
        elif last.get(place):
            sizes.append(signed64(last[place] + next(changes)))
        else:
            sizes.append(next(others))
        last[place] = sizes[-1]
    return sizes


def raw(source: Bytes, rows: int, done: dict[str, list]) -> list:
    return with_none(struct.unpack(f"<{rows}q", source.take(8 * rows)))


def packed(source: Bytes, rows: int, done: dict[str, list]) -> list:
    return with_none(integers(source, rows, done))


def with_none(values) -> list:
    return [None if value == ABSENT else value for value in values]


def fixed(source: Bytes, rows: int, done: dict[str, list]) -> list[bytes]:
    width = source.varint()
    content = source.stream()
    return [content[i * width : (i + 1) * width] for i in range(rows)]


def wide(source: Bytes, rows: int, done: dict[str, list]) -> list:
    there = source.bits(rows)
    low = numbers(source, sum(there), source.byte())
    high = numbers(source, sum(there), source.byte())
    values = iter([h * 2**64 + v % 2**64 for v, h in zip(low, high, strict=True)])
    return [next(values) if is_there else None for is_there in there]


TYPES = [raw, lambda source, rows, done: json.loads(source.stream()), fixed, packed, wide, level_prices, level_sizes]


def columns(payload: bytes) -> dict[str, list]:
    """Name to values, None where absent."""
    source = Bytes(payload)
    directory = []
    for _ in range(int.from_bytes(source.take(2), "little")):
        name, kind, rows, length = source.name(), source.byte(), source.varint(), source.varint()
        directory.append((name, kind, rows, length, int.from_bytes(source.take(4), "little")))
    out: dict[str, list] = {}
    for name, kind, rows, length, crc in directory:
        body = source.take(length)
        assert zlib.crc32(body) == crc, f"checksum of column {name} fails"
        out[name] = TYPES[kind](Bytes(body), rows, out)
    return out


# Events


def events(kind: str, flags: int, symbol: str, count: int, payload: bytes):
    """(ring number, fields) of a block, in its order."""
    if kind in ("gap", "repair", "instrument"):
        for number, fields in json.loads(payload):
            yield number, fields
        return
    c = columns(payload)
    if "record" in c:
        records = [struct.unpack("<qqqB", record) for record in c.pop("record")]
        rest = c.pop("event_ns", [0] * count)
        c["event_time"] = [record[0] * 1_000_000 + ns for record, ns in zip(records, rest, strict=True)]
        c |= {name: [record[i] for record in records] for i, name in ((1, "price"), (2, "size"), (3, "flags"))}
    names = c.pop("symbols", None)
    ids, texts = c.pop("trade_id", [b""] * count), c.pop("trade_id_text", [None] * count)
    prices, sizes = c.pop("level_price", []), c.pop("level_size", [])
    at = 0
    for i in range(count):
        row = {name: column[i] for name, column in c.items()}
        fields = {"symbol": names[row["symbol"]] if flags & 2 else symbol}
        fields |= {k: v for k, v in row.items() if k not in NUMBERS and k != "number" and v is not None}
        if kind == "trade":
            bits = row["flags"]
            fields |= {
                "type": "trade", "aggressor_side": "buy" if bits & 1 else "sell", "is_block_trade": bool(bits & 2),
                "is_backfilled": bool(bits & 4), "is_rpi": bool(bits & 16) if bits & 8 else None,
                "tick_direction": DIRECTIONS[bits >> 5],
                "trade_id": texts[i] if texts[i] is not None else str(uuid.UUID(bytes=ids[i])),
            }  # fmt: skip
        elif kind == "book":
            fields["type"] = "book_snapshot" if row["is_snapshot"] else "book_delta"
            for side, n in (("bids", row["bid_count"]), ("asks", row["ask_count"])):
                fields[side] = [list(level) for level in zip(prices[at : at + n], sizes[at : at + n], strict=True)]
                at += n
        elif kind == "liquidation":
            fields |= {"type": "liquidation", "position_side": "long" if row["is_long"] else "short"}
        else:
            fields |= {"type": "ticker", "tick_direction": DIRECTIONS[row.get("tick_direction") or 0]}
        yield row["number"], fields


def main(path: str, *options: str) -> None:
    with open(path, "rb") as file:
        content = file.read()
    found = []
    for kind, _codec, flags, symbol, count, payload in blocks(content):
        name = KINDS[kind] if kind < len(KINDS) else f"kind {kind}"
        if "--events" not in options:
            print(name, symbol, count, len(payload), json.loads(payload) if name == "header" else "")
        elif name in ("trade", "book", "liquidation", "ticker", "gap", "repair", "instrument"):
            found += events(name, flags, symbol, count, payload)
    for number, fields in sorted(found, key=lambda item: item[0]):
        print(json.dumps({"number": number} | {k: v for k, v in fields.items() if v is not None}, sort_keys=True))


if __name__ == "__main__":
    given = sys.argv[1:] or ["--help"]
    if given[0].startswith("-"):
        sys.exit("usage: read_tape.py FILE|FOLDER [--events]")
    for tape in sorted(glob.glob(f"{given[0]}/market_data_*.bin")) or given[:1]:
        main(tape, *given[1:])
