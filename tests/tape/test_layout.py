"""The bytes: columns come back equal, and no hurt block passes for a whole one."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wld.errors import TapeDamaged
from wld.tape import columns, layout, rows

from .strategies import EVENTS, INT64


@given(values=st.lists(INT64, max_size=40) | st.lists(st.integers(0, 3).map(lambda i: i * 10**6 + 7), max_size=40))
@pytest.mark.parametrize("pack", [False, True])
def test_integer_columns_come_back_equal(values: list[int], pack: bool) -> None:
    payload = columns.encode_columns({"x": np.array(values, np.int64)}, pack=pack).payload
    assert list(columns.decode_columns(payload)["x"]) == values


@given(st.lists(EVENTS, max_size=30), st.booleans())
def test_a_group_comes_back_equal_in_ring_order(events: list[object], pack: bool) -> None:
    numbered = list(enumerate(events, 5))
    out = []
    for draft in rows.encode_group(numbered, pack=pack):
        encoded = layout.encode_header(draft, 99) + draft.payload
        block = layout.parse_header(encoded, 99)
        assert block is not None
        assert block.end - 99 == len(encoded)
        out += rows.decode(block, encoded[block.payload_offset - 99 :])
    assert sorted(out, key=lambda item: item[0]) == numbered


@given(st.binary(max_size=300))
def test_arbitrary_payloads_are_refused_in_one_way(payload: bytes) -> None:
    block = layout.Block(layout.TRADE, 0, 0, "X", 3, 0, len(payload), len(payload), 0, 0, 0, 0, 0, 0, 1)
    with pytest.raises(TapeDamaged):
        rows.decode(block, payload)


def test_every_flipped_bit_of_a_header_is_noticed() -> None:
    header = layout.encode_header(layout.json_draft(layout.GAP, [], symbol="WLDUSDT"), 64)
    assert len(header) == layout.HEADER_SIZE + 7
    for bit in range(8 * len(header)):
        hurt = bytearray(header)
        hurt[bit // 8] ^= 1 << bit % 8
        assert layout.parse_header(bytes(hurt), 64) is None


def test_a_block_found_elsewhere_than_it_was_written_is_refused() -> None:
    header = layout.encode_header(layout.json_draft(layout.GAP, []), 64)
    assert layout.parse_header(header, 64) is not None
    assert layout.parse_header(header, 128) is None


def test_a_trade_record_is_25_bytes_little_endian() -> None:
    from wld import AggressorSide, Trade

    trade = Trade("X", 3, 4, AggressorSide.BUY, "id", event_time=7_000_000)
    draft = rows.encode_group([(0, trade)], pack=False)[0]
    record = np.asarray(columns.decode_columns(draft.payload)["record"])[0].tobytes()
    assert record == struct.pack("<qqqB", 7, 3, 4, 1)
