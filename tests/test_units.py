from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wld.errors import UnitError
from wld.units import format_fixed, ms_to_ns, parse_fixed, parse_fixed64


def test_0_29_is_29000000() -> None:
    assert parse_fixed("0.29") == 29_000_000


@given(st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,8})?", fullmatch=True).filter(str.isascii))
def test_a_decimal_string_is_exact(text: str) -> None:
    with localcontext() as context:
        context.prec = 60
        assert parse_fixed(text) == int(Decimal(text).scaleb(8))


@given(st.text(max_size=30))
def test_anything_is_exact_or_an_error(text: str) -> None:
    try:
        value = parse_fixed(text)
    except UnitError:
        return
    with localcontext() as context:
        context.prec = 60
        assert Decimal(text).scaleb(8) == value


@given(st.integers(-(2**80), 2**80))
def test_format_and_parse_are_inverse(value: int) -> None:
    assert parse_fixed(format_fixed(value)) == value


@pytest.mark.parametrize(
    "text",
    ["", "-", ".", "1.", ".5", "+1", "1e5", "1,0", " 1", "1 ", "1_0", "--1", "1.2.3", "NaN", "inf", "0x1", "١",
     "1.000000001", "9" * 60],
)  # fmt: skip
def test_what_is_not_a_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(UnitError):
        parse_fixed(text)


def test_trailing_zeros_beyond_the_eighth_place_change_nothing() -> None:
    assert parse_fixed("1.0000000100") == 100_000_001


@pytest.mark.parametrize("text", ["92233720368.54775808", "-92233720368.54775808", "100000000000"])
def test_what_does_not_fit_64_bits_is_an_error_not_a_clip(text: str) -> None:
    with pytest.raises(UnitError):
        parse_fixed64(text)


def test_the_largest_that_fits() -> None:
    assert parse_fixed64("92233720368.54775807") == 2**63 - 1


@pytest.mark.parametrize("milliseconds", [-1, 2**62])
def test_a_time_out_of_range_is_an_error(milliseconds: int) -> None:
    with pytest.raises(UnitError):
        ms_to_ns(milliseconds)
