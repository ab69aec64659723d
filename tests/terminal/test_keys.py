"""Bytes of a keyboard, as they come over slow lines and with answers of the terminal among them."""

from __future__ import annotations

import io

import blessed
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wld.terminal.keys import Background, Capability, Decoder, Mouse

TERMINAL = blessed.Terminal(stream=io.StringIO(), force_styling=True, kind="xterm-256color")


@pytest.mark.parametrize(
    ("read", "inputs"),
    [
        (b"q", ["q"]),
        (b" ?", [" ", "?"]),
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        (b"\x1bOH\x1b[F", ["home", "end"]),
        (b"\t\x1b[Z", ["tab", "backtab"]),
        (b"\x0c", ["ctrl-l"]),
        (b"\r", ["enter"]),
        (b"[]+-0", list("[]+-0")),
        (b"\x1b[200~hi\x1b[201~", ["h", "i"]),
        (b"\x1b[99;99Zq", ["q"]),
        (b"\x1b[<0;10;5M\x1b[<0;10;5m", [Mouse("left", 4, 9)]),
        (b"\x1b[<64;1;1M\x1b[<65;2;3M", [Mouse("wheel_up", 0, 0), Mouse("wheel_down", 2, 1)]),
        (b"\x1b]11;rgb:ffff/ffff/ffff\x07", [Background(True)]),
        (b"\x1b]11;rgb:1e1e/1e1e/2e2e\x1b\\q", [Background(False), "q"]),
        (b"\x1bP1+r524742=38\x1b\\", [Capability(True)]),
        (b"\x1bP0+r524742\x1b\\", [Capability(False)]),
        (b"\x1b[?62;22c", []),
        (b"\x1b[12;40R", []),
        (b"\xff\xfe\x00q", ["\ufffd", "\ufffd", "q"]),
    ],
)
def test_what_bytes_mean(read: bytes, inputs: list) -> None:
    assert [i for i in Decoder(TERMINAL).feed(read) if i != "\ufffd"] == [i for i in inputs if i != "\ufffd"]


def test_a_sequence_split_over_two_reads_is_one_key() -> None:
    decoder = Decoder(TERMINAL)
    assert decoder.feed(b"\x1b") == []
    assert decoder.is_waiting
    assert decoder.feed(b"[A") == ["up"]
    assert not decoder.is_waiting


def test_an_escape_alone_is_the_key_once_nothing_followed() -> None:
    decoder = Decoder(TERMINAL)
    assert decoder.feed(b"\x1b") == []
    assert decoder.flush() == ["escape"]


def test_an_answer_that_never_ends_is_let_go() -> None:
    decoder = Decoder(TERMINAL)
    decoder.feed(b"\x1b]11;" + b"x" * 10_000)
    assert not decoder.is_waiting


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=6))
def test_any_bytes_in_any_pieces_are_survived(reads: list[bytes]) -> None:
    decoder = Decoder(TERMINAL)
    for read in reads:
        decoder.feed(read)
    decoder.flush()
    assert decoder.feed(b"q")[-1:] in (["q"], [])
