from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wld
from tests.tape.strategies import EVENTS
from wld import testing


@given(st.lists(EVENTS, max_size=20), st.integers(0, 2**62), st.sampled_from([None, 1, 3]))
@settings(deadline=None, max_examples=50)
def test_what_is_packed_comes_back_equal(events: list[wld.Event], number: int, level: int | None) -> None:
    batch = wld.unpack_events(wld.pack_events(events, first_number=number, level=level))
    assert list(batch) == events
    assert batch.first_number == number


def test_integers_beyond_64_bits_are_kept() -> None:
    ticker = testing.make_ticker(turnover_24h=2**80 + 1)
    assert list(wld.unpack_events(wld.pack_events([ticker], level=3))) == [ticker]


def test_a_batch_brings_its_ring_number() -> None:
    batch = wld.Batch([testing.make_trade()], 17)
    assert wld.unpack_events(wld.pack_events(batch)).first_number == 17


def test_another_language_reads_it_from_the_specification() -> None:
    packed = wld.pack_events([testing.make_trade("BTCUSDT", price="0.29")], first_number=5)
    assert packed[0] == 1
    number, [event] = msgspec.msgpack.decode(packed[1:])
    assert (number, event["type"], event["symbol"], event["price"]) == (5, "trade", "BTCUSDT", 29_000_000)
    assert event["aggressor_side"] == "buy"


def test_a_field_of_a_newer_version_is_ignored_and_a_missing_one_takes_its_default() -> None:
    content = [0, [{"type": "gap", "gap_id": 1, "reason": "silence", "of_the_future": 1}]]
    [gap] = wld.unpack_events(b"\x01" + msgspec.msgpack.encode(content))
    assert gap == wld.Gap(1, wld.GapReason.SILENCE)


@pytest.mark.parametrize(
    "packed", [b"", b"\x01", b"\x03{}", b"\x11\x00\x01", b"\x02[0,[{}]]", b"\x02[0,[{\"type\":\"trade\"}]]", b"\x12junk"]
)  # fmt: skip
def test_junk_is_refused(packed: bytes) -> None:
    with pytest.raises(wld.PackError, match="packed events"):
        wld.unpack_events(packed)


@given(st.binary(max_size=200), st.sampled_from([1, 2, 17, 18, 0, 255]))
@settings(deadline=None, max_examples=100)
def test_no_bytes_do_worse_than_a_refusal(junk: bytes, codec: int) -> None:
    with contextlib.suppress(wld.PackError):
        wld.unpack_events(bytes([codec]) + junk)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = wld.pack_events([testing.make_trade("A" * (65 << 20))], level=1)
    assert len(bomb) < 1 << 20
    with pytest.raises(wld.PackError, match="at most"):
        wld.unpack_events(bomb)
