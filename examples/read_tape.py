"""Read a tape without wld, from data/FORMAT.md alone: prints each block, and the trades with --trades.

python examples/read_tape.py FILE.bin [--trades]
"""

import json
import struct
import sys
import uuid
import zlib

import zstandard

BLOCK = struct.Struct("<4sBBBBHHIIIIqqqqQII")
COLUMN = struct.Struct("<BBHIIqqQI")
KINDS = [
    "?",
    "header",
    "trade",
    "book",
    "liquidation",
    "ticker",
    "gap",
    "repair",
    "instrument",
    "meta",
    "checkpoint",
    "index",
    "footer",
]


def blocks(content: bytes):
    """(kind, codec, symbol, count, payload) of every whole block; says which bytes are none."""
    assert content[:8] == b"\x89WLD\r\n\x1a\x01", "not a version 1 tape"
    at = 8
    while at < len(content):
        head = content[at : at + BLOCK.size]
        if len(head) == BLOCK.size and head[:4] == b"\xf7WB\n":
            f = BLOCK.unpack(head)
            kind, codec, n, count, stored, offset, payload_crc, crc = (
                f[1],
                f[2],
                f[5],
                f[7],
                f[10],
                f[15],
                f[16],
                f[17],
            )
            symbol = content[at + 76 : at + 76 + n]
            payload = content[at + 76 + n : at + 76 + n + stored]
            if zlib.crc32(head[:72] + symbol) == crc and offset == at and len(payload) == stored:
                at += 76 + n + stored
                if zlib.crc32(payload) == payload_crc:
                    yield kind, codec, symbol.decode(), count, payload
                else:
                    print(f"offset {offset}: checksum fails", file=sys.stderr)
                continue
        resumed = content.find(b"\xf7WB\n", at + 1)
        resumed = len(content) if resumed < 0 else resumed
        print(f"offset {at}: {resumed - at} bytes are no block", file=sys.stderr)
        at = resumed


def columns(payload: bytes) -> dict[str, list]:
    """Name to values, None where absent."""
    out, at = {}, 2
    for _ in range(int.from_bytes(payload[:2], "little")):
        length = payload[at]
        name = payload[at + 1 : at + 1 + length].decode()
        at += 1 + length
        kind, flags, width, rows, raw, first, base, step, stored = COLUMN.unpack_from(payload, at)
        at += COLUMN.size
        data = payload[at : at + stored]
        at += stored
        if flags & 4:
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=max(raw, 1))
        if kind == 1:
            out[name] = json.loads(data)
        elif kind == 2:
            out[name] = [data[i * width : (i + 1) * width] for i in range(rows)]
        elif not flags & 2:
            out[name] = list(struct.unpack(f"<{rows}q", data))
        else:
            count = rows - 1 if flags & 1 and rows else rows
            values = [sum(data[j * count + i] << 8 * j for j in range(width)) for i in range(count)]
            values = [value * (step or 1) + base for value in values]
            if flags & 1 and rows:
                total = [first]
                for value in values:
                    total.append(total[-1] + value)
                values = total
            out[name] = [(value + 2**63) % 2**64 - 2**63 for value in values]
    for name in [n for n in out if n.endswith("?")]:
        mask = out.pop(name)
        out[name[:-1]] = [v if there else None for v, there in zip(out[name[:-1]], mask, strict=True)]
    return out


def trades(payload: bytes):
    """(ring number, event time ns, price 1e-8, size 1e-8, side, id) of a trade block."""
    c = columns(payload)
    if "record" in c:
        records = [struct.unpack("<qqqB", r) for r in c["record"]]
        rest = c.get("event_ns") or [0] * len(records)
        records = [(ms * 1_000_000 + ns, *more) for (ms, *more), ns in zip(records, rest, strict=True)]
    else:
        records = list(zip(c["event_time"], c["price"], c["size"], c["flags"], strict=True))
    raw_ids = c.get("trade_id") or [b""] * len(records)
    texts = c.get("trade_id_text") or [None] * len(records)
    for number, (time, price, size, flags), raw, text in zip(c["number"], records, raw_ids, texts, strict=True):
        trade_id = str(uuid.UUID(bytes=raw)) if text is None else text
        yield number, time, price, size, "buy" if flags & 1 else "sell", trade_id


def main(path: str, *options: str) -> None:
    with open(path, "rb") as file:
        content = file.read()
    for kind, _codec, symbol, count, payload in blocks(content):
        name = KINDS[kind] if kind < len(KINDS) else f"kind {kind}"
        if "--trades" not in options:
            print(name, symbol, count, len(payload), json.loads(payload) if name == "header" else "")
        elif name == "trade":
            for row in trades(payload):
                print(*row)


if __name__ == "__main__":
    main(*sys.argv[1:])
