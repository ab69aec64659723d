"""Where numbers stand in lists of levels: found where JSON has them, and nowhere in what is anything else."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from wld.bybit.places import find_lists

texts = st.text('0123456789.-"[],{}:\\ e', max_size=6)
number = st.sampled_from(["1.5", "20", "0", "0.00042", "", "x", "1 2"])
anything = st.recursive(
    st.one_of(texts, number, st.integers(0, 99), st.none(), st.booleans(), st.floats(0, 1)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(number, inner, max_size=2)),
    max_leaves=6,
)
levels = st.lists(st.tuples(number, number).map(list), max_size=4)


def found(lists: list[Any], tail: list[Any], indent: int | None = None) -> tuple[list[str], list[int]] | None:
    """The texts found and the number of levels of each list."""
    parts = [json.dumps(one, separators=(",", ":"), indent=indent).encode() for one in lists]
    one = find_lists(parts, b"".join(json.dumps(text).encode() for text in tail), len(tail))
    if one is None:
        return None
    text, places = one
    both = zip(places.first.tolist(), places.length.tolist(), strict=True)
    return [text.padded[first : first + length].decode() for first, length in both], places.counts.tolist()


def expected(lists: list[Any], tail: list[str]) -> tuple[list[str], list[int]]:
    pairs = [pair for one in lists for pair in one]
    return [*(price for price, _ in pairs), *(size for _, size in pairs), *tail], [len(one) for one in lists]


@given(st.lists(levels, max_size=6), st.lists(number, max_size=5), st.sampled_from([None, 0, 2]))
@settings(deadline=None, max_examples=100)
def test_pairs_of_plain_texts_are_found_however_they_are_spaced(
    lists: list[Any], tail: list[str], indent: int | None
) -> None:
    assert found(lists, tail, indent) == expected(lists, tail)


@given(st.lists(st.one_of(levels, anything), max_size=4), st.lists(st.one_of(number, anything), max_size=3))
@settings(deadline=None, max_examples=300)
def test_whatever_is_not_pairs_of_plain_texts_is_not_taken_for_them(lists: list[Any], tail: list[Any]) -> None:
    result = found(lists, tail)
    if result is not None:
        assert result == expected(lists, tail)


def test_numbers_beside_the_texts_are_seen() -> None:
    for odd in (
        [5],
        [[]],
        5,
        [["1", "2"], 5],
        [["1"], "2"],
        ["1", "2"],
        [["1", "2", "3"]],
        {"1": "2"},
        [{"1": "2"}],
        None,
    ):
        assert found([[["1", "2"]], odd, []], ["7"]) is None, odd
    assert found([[["1", "2"]]], ["7", 5]) is None
    assert found([[["1", "2"]]], [5]) is None
