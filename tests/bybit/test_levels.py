"""Levels written as the venue writes them are taken at once, with the numbers that each by itself would give."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wld.bybit.messages import decode_book, decode_envelope
from wld.errors import RemoteProtocolError, UnitError
from wld.units import parse_fixed64

DIGITS = st.text("0123456789", min_size=1, max_size=11)
NUMBER = st.builds(
    lambda whole, places, fraction: whole + (f".{fraction[:places]:0<{places}}" if places else ""),
    DIGITS, st.sampled_from([0, 1, 4, 8, 9]), DIGITS,
)  # fmt: skip
ODD = st.sampled_from(["0", "", ".", ".5", "5.", "-1", "1e5", "1_0", " 1", "1.2.3", "٣", "99999999999", "1,5"])
LEVELS = st.lists(st.tuples(NUMBER | ODD, NUMBER | ODD), max_size=4)
ALIKE = st.integers(0, 8).flatmap(
    lambda places: st.lists(
        st.tuples(st.integers(0, 10**9).map(lambda n: f"{n // 10**places}.{n % 10**places:0{places}d}" if places else str(n)),
                  st.sampled_from(["0", "12.5", "0.1"])), max_size=9)
)  # fmt: skip


def message(bids: object, asks: object, separators: tuple[str, str] = (",", ":")) -> bytes:
    book = {"s": "AUSDT", "b": bids, "a": asks, "u": 7, "seq": 8}
    whole = {"topic": "orderbook.50.AUSDT", "type": "delta", "ts": 2, "data": book, "cts": 1}
    return json.dumps(whole, separators=separators).encode()


def decoded(content: bytes) -> object:
    try:
        event = decode_book(decode_envelope(content), 50, 1)
    except RemoteProtocolError as error:
        return error.kind
    return event.bids, event.asks


def one_by_one(levels: list[tuple[str, str]]) -> tuple[tuple[int, int], ...]:
    made = tuple((parse_fixed64(price), parse_fixed64(size)) for price, size in levels)
    if any(value < 0 for level in made for value in level):
        raise UnitError("negative")
    return made


@given(LEVELS | ALIKE, LEVELS | ALIKE)
@example([("1.2345", "0"), ("1.2346", "10.5")], [("99999999999.1", "1.0")])
@example([("1.2345", "10.5"), ("1.234", "10.5")], [("1.2345", "7")])
@settings(deadline=None, max_examples=300)
def test_levels_are_what_each_number_is(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> None:
    expected: object
    try:
        expected = one_by_one(bids), one_by_one(asks)
    except UnitError:
        expected = "number"
    assert decoded(message(bids, asks)) == expected
    assert decoded(message(bids, asks, (", ", ": "))) == expected


@pytest.mark.parametrize("bad", [None, 5, [["1", "2", "3"]], [["1"]], [[1, 2]], [["1.0", None]], "[]", {}])
def test_what_is_no_list_of_pairs_of_texts_is_refused(bad: object) -> None:
    assert decoded(message(bad, [])) == "fields"
    assert decoded(message([["1.0", "2.0"]], bad)) == "fields"
