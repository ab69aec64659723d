from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wld.bybit import decimals
from wld.bybit.decimals import quoted_decimals
from wld.errors import UnitError
from wld.units import INT64_MAX, parse_fixed64

EDGES = [
    "0", "0.0", "1", "12345678", "123456789", "1234567890", "12345678901", "92233720368.54775807", "92233720368.54775808",
    "-92233720368.54775807", "99999999999", "0.00000001", "0.000000001", "0.100000000", "00000000000000001", "1.00000000",
    "12345678.12345678", "1234567890.12345678", "-0.0001", "-12345678.5", "-1234567890.5", "-123456789012.5", "", ".", "5.",
    ".5", "-", "--1", "+1", "1e5", "1..2", "1.2.3", "1.-2", " 1", "1 ", "0x10", "1_0", "1,0", "NaN", "Infinity", "１", "١",
    "1.٥", "/", ":", "1:", "1/", "9;9", "\x00", "123456789123456789", "0" * 47, "0" * 60,
]  # fmt: skip


def slow(text: str) -> int | None:
    try:
        return parse_fixed64(text)
    except UnitError:
        return None


def check(texts: list[str]) -> None:
    text = b"[" + b",".join(b'"%b"' % t.encode() for t in texts) + b"]"
    found = quoted_decimals(text)
    bad = set(found.bad)
    got = [None if i in bad else value for i, value in enumerate(found.value.tolist())]
    assert got == [slow(t) for t in texts]
    assert [text[a + 1 : b].decode() for a, b in zip(found.start, found.end, strict=True)] == texts
    for t, value in zip(texts, got, strict=True):
        if value is not None:
            assert Decimal(value).scaleb(-8) == Decimal(t)


@pytest.mark.parametrize("text", EDGES)
def test_every_edge_alone_between_plain_numbers(text: str) -> None:
    check(["1.5", text, "0.00042"])


def test_all_edges_together() -> None:
    check(EDGES)
    check([*EDGES, *EDGES[::-1]] * 20)


@pytest.mark.parametrize("few", [0, 1 << 30])
def test_all_edges_are_the_same_one_by_one_and_in_columns(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(decimals, "_FEW_NUMBERS", few)
    monkeypatch.setattr(decimals, "_FEW_WORDS", few)
    check(
        [
            f"{sign}{text}{letter}"
            for text in EDGES
            for sign in ("", "-", ".", "/")
            for letter in ("", ".", "/", "5", "\x1e", "\x1f")
        ]
    )


def test_nothing_and_unpaired_quotes() -> None:
    assert len(quoted_decimals(b"[]").value) == 0
    with pytest.raises(ValueError, match="pair"):
        quoted_decimals(b'["1","2]')


numbers = st.one_of(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=8, min_value=-(2**62) // 10**8, max_value=2**62 // 10**8
    ).map(lambda d: f"{d:f}"),
    st.integers(-(10**13), 10**13).map(str),
    st.tuples(st.integers(0, 10**11), st.integers(0, 9), st.integers(0, 10**9)).map(
        lambda t: f"{t[0]}.{'0' * t[1]}{t[2]}"
    ),
    st.integers(0, INT64_MAX).map(lambda n: f"{n // 10**8}.{n % 10**8:08d}"),
)


@given(st.lists(st.one_of(numbers, st.text("0123456789.-+e /:", max_size=14), st.sampled_from(EDGES)), max_size=60))
@settings(deadline=None, max_examples=150)
def test_any_list_of_texts_converts_as_one_by_one_and_as_decimal_says(texts: list[str]) -> None:
    check(texts)
    check(texts * 20)


def test_every_number_of_a_real_capture() -> None:
    path = Path(__file__).parents[3] / "shared/captures/nautilus_trader/2024-12-01_XRPUSDT_ob500.first50.jsonl"
    if not path.exists():
        pytest.skip(f"no real captures at {path}")
    levels = [
        level
        for line in path.read_text().splitlines()
        for side in ("b", "a")
        for level in json.loads(line)["data"][side]
    ]
    check([text for level in levels for text in level])
