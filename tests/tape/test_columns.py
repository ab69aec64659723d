"""Columns: every form gives back what went in, and no bytes from a stranger take more than a block may."""

from __future__ import annotations

import contextlib
import zlib
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import wld.tape.choices
from wld.errors import TapeDamaged
from wld.tape import columns as codec
from wld.tape import forms, integers, packing
from wld.tape.choices import Choices
from wld.tape.integers import Column
from wld.tape.streams import Reader, varint
from wld.units import ABSENT

from .strategies import INT64

NEARBY = st.lists(st.integers(-300, 300).map(lambda i: i * 10**6 + 7), max_size=80)
WALKS = st.lists(st.integers(-3, 3), max_size=80).map(lambda steps: np.cumsum(steps, dtype=np.int64).tolist())
REPEATED = st.lists(st.tuples(INT64, st.integers(1, 9)), max_size=9).map(
    lambda runs: [v for v, n in runs for _ in range(n)]
)
WITH_HOLES = st.lists(st.just(ABSENT) | st.integers(0, 70_000), max_size=80)
VALUES = st.lists(INT64, max_size=40) | NEARBY | WALKS | REPEATED | WITH_HOLES


def there_and_back(columns: dict[str, Column], *, pack: bool = True, **options: Any) -> dict[str, Column]:
    return codec.decode_columns(codec.encode_columns(columns, pack=pack, **options).payload)


@settings(deadline=None, max_examples=150)
@given(values=VALUES, pack=st.booleans(), fast=st.booleans())
def test_integers_come_back_equal_whichever_form_is_smallest(values: list[int], pack: bool, fast: bool) -> None:
    given_column = np.array(values, np.int64)
    payload = codec.encode_columns({"x": given_column}, pack=pack, fast=frozenset("x" if fast else "")).payload
    assert codec.decode_columns(payload)["x"].tolist() == values  # type: ignore[union-attr]


@given(value=INT64, rows=st.integers(1, 1000))
def test_a_journal_says_once_what_is_the_same_in_every_row(value: int, rows: int) -> None:
    columns = {"x": np.full(rows, value), "absent": np.full(rows, ABSENT)}
    encoded = codec.encode_columns(columns, pack=False)
    entries = codec.parse_directory(encoded.payload)
    assert entries["absent"].length == 8 * rows
    assert entries["x"].length <= 13 or value == ABSENT
    back = codec.decode_columns(encoded.payload)
    assert all(np.array_equal(np.asarray(back[name]), column) for name, column in columns.items())


_FORMS = (
    0, integers.DELTA, integers.DELTA | integers.ZIGZAG, integers.ZIGZAG, integers.MAGNITUDE, integers.MAGNITUDE | integers.DELTA,
    integers.MAGNITUDE | integers.ZIGZAG, integers.MAGNITUDE | integers.DELTA | integers.ZIGZAG,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(values=VALUES.filter(len))
@pytest.mark.parametrize("flags", _FORMS)
def test_each_form_alone_is_exact(flags: int, values: list[int]) -> None:
    column = np.array(values, np.int64)
    reader = Reader(forms.pack_form(forms.join([column]), flags)[0])
    assert integers.get_numbers(reader, len(values), flags).tolist() == values
    assert reader.at == reader.end


ANY_FORM = st.sampled_from([*_FORMS, integers.CHANGES, integers.CHANGES | integers.DELTA])


@settings(deadline=None, max_examples=200)
@given(columns=st.lists(VALUES.filter(lambda values: len(set(values)) > 1), min_size=1, max_size=6), flags=ANY_FORM)
def test_columns_that_are_packed_together_have_the_bytes_of_each_alone(columns: list[list[int]], flags: int) -> None:
    arrays = [np.array(values, np.int64) for values in columns]
    alone = [forms.pack_form(forms.join([array]), flags)[0] for array in arrays]
    assert forms.pack_form(forms.join(arrays), flags) == alone


BLOCK = st.tuples(VALUES, VALUES, st.booleans()).filter(lambda block: bool(block[0] and block[1]))


@settings(deadline=None, max_examples=100)
@given(
    blocks=st.lists(BLOCK, min_size=1, max_size=9),
    relied=st.integers(0, 3),
    at_once=st.integers(1, 200),
    alone=st.integers(1, 60),
)
def test_blocks_that_are_packed_together_have_the_bytes_of_one_after_the_other(
    blocks: list[tuple[list[int], list[int], bool]], relied: int, at_once: int, alone: int
) -> None:
    tables: list[dict[str, Column]] = []
    for values, others, has_sibling in blocks:
        sent = np.array(values, np.int64)
        tables.append({"event_time": np.resize(np.array(others, np.int64), len(sent))} if has_sibling else {})
        tables[-1]["sent_time"] = sent
    symbols = [str(i % 3) for i in range(len(tables))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wld.tape.choices, "_RELIED_SHORT", relied)
        patch.setattr(wld.tape.choices, "_MANY", 60)
        patch.setattr(forms, "AT_ONCE", at_once)
        patch.setattr(forms, "ALONE", alone)
        choices = Choices()
        one_by_one = [
            codec.pack_columns([table], [symbol], choices)[0].payload
            for table, symbol in zip(tables, symbols, strict=True)
        ]
        assert [encoded.payload for encoded in codec.pack_columns(tables, symbols, Choices())] == one_by_one


def test_a_long_column_begins_with_what_the_last_one_of_its_kind_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wld.tape.choices, "_MANY", 100)
    tried = []
    smallest = packing.smallest
    monkeypatch.setattr(packing, "smallest", lambda columns, fast: tried.append(columns) or smallest(columns, fast))
    choices, column = Choices(), np.arange(200) ** 2
    for symbol in ("A", "B", "C"):
        codec.pack_columns([{"x": column}], [symbol], choices)
    assert len(tried) == 1
    for _ in range(wld.tape.choices._RELIED):
        codec.pack_columns([{"x": column}], ["C"], choices)
    assert len(tried) == 2  # by then it has one of its own


@settings(deadline=None, max_examples=60)
@given(blocks=st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=6))
def test_what_another_block_chose_never_changes_what_is_read_back(blocks: list[tuple[list[int], list[int]]]) -> None:
    choices = Choices()
    for values, others in blocks:
        # Long enough to be asked and to follow: what was best for the block before may be the worst for this one.
        columns: dict[str, Column] = {}
        for name, some in (("event_time", others), ("sent_time", values)):
            columns[name] = np.resize(np.array(some or [0], np.int64), 1500)
        payload = codec.encode_columns(columns, pack=True, choices=choices).payload
        read = codec.decode_columns(payload)
        for name, column in columns.items():
            assert np.array_equal(read[name], column)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(INT64, st.none() | INT64, st.integers(0, 10**9)), min_size=1, max_size=40))
def test_a_column_kept_against_its_sibling_comes_back_equal(rows: list[tuple[int, int | None, int]]) -> None:
    event = np.array([row[0] for row in rows], np.int64)
    with np.errstate(over="ignore"):
        sent = np.array([ABSENT if row[1] is None else row[1] for row in rows], np.int64)
        near = event + np.array([row[2] for row in rows], np.int64)
    for second in (sent, near):
        columns: dict[str, Column] = {"event_time": event, "sent_time": second, "receive_time": near}
        back = there_and_back(columns)
        assert all(np.array_equal(back[name], column) for name, column in columns.items())


SIDES = st.lists(
    st.tuples(st.integers(-5, 40).map(lambda i: i * 10_000), st.just(0) | st.integers(1, 4) | INT64), max_size=5
)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(SIDES, SIDES), max_size=12), INT64)
def test_levels_come_back_equal(events: list[tuple[list[Any], list[Any]]], shift: int) -> None:
    levels = [level for bids, asks in events for level in (*bids, *asks)]
    with np.errstate(over="ignore"):
        prices = np.array([price for price, _ in levels], np.int64) + np.int64(shift)
    columns: dict[str, Column] = {
        "bid_count": np.array([len(bids) for bids, _ in events], np.int64),
        "ask_count": np.array([len(asks) for _, asks in events], np.int64),
        "level_price": prices,
        "level_size": np.array([size for _, size in levels], np.int64),
    }
    back = there_and_back(columns)
    assert all(np.array_equal(back[name], column) for name, column in columns.items())


def test_sizes_are_kept_against_what_stood_at_the_same_price() -> None:
    rng = np.random.default_rng(3)
    prices = np.tile(np.arange(50, dtype=np.int64), 40)
    sizes = np.tile(rng.integers(10**6, 10**9, 50), 40) + rng.integers(-9, 9, 2000)
    sizes[rng.random(2000) < 0.1] = 0
    columns: dict[str, Column] = {
        "bid_count": np.full(40, 25, np.int64), "ask_count": np.full(40, 25, np.int64),
        "level_price": prices, "level_size": sizes,
    }  # fmt: skip
    payload = codec.encode_columns(columns, pack=True).payload
    assert np.array_equal(codec.decode_columns(payload)["level_size"], sizes)
    assert len(payload) < 3 * len(sizes)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.none() | st.integers(-(2**126), 2**126), max_size=30),
    st.lists(st.none() | st.text(max_size=9), max_size=9),
)
def test_wide_integers_and_texts_come_back_equal(wide: list[int | None], texts: list[str | None]) -> None:
    for pack in (False, True):
        assert there_and_back({"w": wide, "t": list(texts)}, pack=pack) == {"w": wide, "t": texts}
    assert there_and_back({"w": [2**500, None]}) == {"w": [2**500, None]}


def test_only_what_is_asked_for_is_decoded() -> None:
    columns: dict[str, Column] = {
        name: np.arange(i, i + 9, dtype=np.int64) for i, name in enumerate(("event_time", "sent_time", "size", "x"))
    }
    payload = codec.encode_columns(columns, pack=True).payload
    assert set(codec.decode_columns(payload, frozenset(("size",)))) == {"size"}
    assert set(codec.decode_columns(payload, frozenset(("sent_time",)))) == {"event_time", "sent_time"}


# Tapes from strangers ------------------------------------------------------------------------------------------------


def column_bytes(name: str, kind: int, rows: int, body: bytes) -> tuple[bytes, bytes]:
    label = bytes([len(name)]) + name.encode()
    crc = zlib.crc32(body).to_bytes(4, "little")
    return label + bytes([kind]) + varint(rows) + varint(len(body)) + crc, body


def payload_of(*columns: tuple[bytes, bytes]) -> bytes:
    heads, bodies = zip(*columns, strict=True)
    return len(columns).to_bytes(2, "little") + b"".join(heads) + b"".join(bodies)


_HOLLOW = b"\0\0\1\0"  # flags, base, step, no planes: any number of rows from four bytes


def test_hostile_row_counts_are_refused_before_anything_is_allocated() -> None:
    with pytest.raises(TapeDamaged, match="lengths beyond"):
        codec.decode_columns(payload_of(column_bytes("x", codec.PACKED, 2**40, _HOLLOW)))


def test_many_columns_cannot_sum_to_more_than_a_block() -> None:
    columns = [column_bytes(f"c{i}", codec.PACKED, codec.MAX_ROWS // 2, _HOLLOW) for i in range(40)]
    with pytest.raises(TapeDamaged, match="larger than a block"):
        codec.decode_columns(payload_of(*columns))


def test_a_frame_that_unpacks_to_more_than_it_says_is_refused() -> None:
    for frame in (
        zstandard.compress(bytes(10_000_000)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10_000_000)),
    ):
        body = varint(8) + varint(8) + varint(len(frame)) + frame
        with pytest.raises(TapeDamaged):
            codec.decode_columns(payload_of(column_bytes("x", codec.BYTES, 1, body)))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_in_one_way(payload: bytes) -> None:
    with contextlib.suppress(TapeDamaged):
        codec.decode_columns(payload)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_hurt_columns_are_refused_in_one_way_or_give_the_right_rows(data: st.DataObject) -> None:
    values = data.draw(VALUES)
    payload = bytearray(codec.encode_columns({"event_time": np.array(values, np.int64)}, pack=True).payload)
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        back = codec.decode_columns(bytes(payload))
    except TapeDamaged:
        return
    assert all(len(column) <= codec.MAX_ROWS for column in back.values())
