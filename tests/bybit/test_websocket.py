"""RFC 6455 and 7692 for a client, case by case: the sections of the Autobahn test suite, written out."""

from __future__ import annotations

import base64
import hashlib
import itertools
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wld.bybit.websocket import (
    BinaryMessage,
    Handshake,
    HandshakeFailed,
    Inflater,
    Message,
    WebSocket,
    encode_frame,
    text_frame,
)

LIMIT = 1 << 20
MASK = b"\x11\x22\x33\x44"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = False) -> bytes:
    """A frame as a server sends it, or as a bad one would."""
    size = len(payload)
    bit = 0x80 if mask else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([bit | size])
    elif size < 1 << 16:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    return head + (MASK if mask else b"") + payload


def client(limit: int = LIMIT, inflater: Inflater | None = None) -> WebSocket:
    return WebSocket(max_message_bytes=limit, next_mask=lambda: MASK, inflater=inflater)


def sent(socket: WebSocket) -> list[tuple[int, bytes]]:
    """(opcode, payload) of each frame that the client wants to send."""
    content, out = socket.take_outgoing(), []
    while content:
        assert content[0] & 0x80, "final"
        assert content[1] & 0x80, "masked"
        size = content[1] & 0x7F
        assert size < 126
        payload = bytes(b ^ content[2 + i % 4] for i, b in enumerate(content[6 : 6 + size]))
        out.append((content[0] & 0x0F, payload))
        content = content[6 + size :]
    return out


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(8, code.to_bytes(2, "big") + reason)


def expect_failure(socket: WebSocket, code: int) -> None:
    assert socket.close_code == code
    assert socket.ended is not None
    assert socket.ended.startswith(str(code))
    assert sent(socket)[-1] == (8, code.to_bytes(2, "big"))
    assert socket.receive(frame(1, b"after")) == []


# 1: framing, both types, every length class
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, 65536, 70000])
@pytest.mark.parametrize("opcode", [1, 2])
def test_1_a_message_of_every_length_class_in_one_piece_and_byte_by_byte(opcode: int, size: int) -> None:
    payload = b"*" * size
    expected = payload if opcode == 1 else BinaryMessage(payload)
    socket = client()
    (whole,) = socket.receive(frame(opcode, payload))
    assert whole == expected
    assert type(whole) is type(expected)
    chopped = client()
    content, step = frame(opcode, payload), 1 if size < 1000 else 997
    got = [m for i in range(0, len(content), step) for m in chopped.receive(content[i : i + step])]
    assert got == [expected]


def test_1_many_messages_of_one_read_come_together_in_order() -> None:
    payloads = [b"%d" % i * (i % 40) for i in range(200)]
    assert client().receive(b"".join(frame(1, p) for p in payloads)) == payloads


# 2: pings and pongs
@pytest.mark.parametrize("payload", [b"", b"Hello", bytes(range(125))])
def test_2_a_ping_is_answered_with_its_payload(payload: bytes) -> None:
    socket = client()
    assert socket.receive(frame(9, payload)) == []
    assert sent(socket) == [(10, payload)]


def test_2_ten_pings_are_answered_in_order_and_chopped_ones_too() -> None:
    socket = client()
    content = b"".join(frame(9, b"%d" % i) for i in range(10))
    for i in range(len(content)):
        socket.receive(content[i : i + 1])
    assert sent(socket) == [(10, b"%d" % i) for i in range(10)]


def test_2_an_unasked_pong_is_ignored() -> None:
    socket = client()
    assert socket.receive(frame(10, b"unasked") + frame(1, b"x")) == [b"x"]
    assert sent(socket) == []


@pytest.mark.parametrize("opcode", [8, 9, 10])
def test_2_a_control_frame_beyond_125_bytes_is_refused(opcode: int) -> None:
    socket = client()
    socket.receive(frame(opcode, bytes(126)))
    expect_failure(socket, 1002)


# 3: reserved bits
@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [1, 2, 8, 9, 10])
def test_3_reserved_bits_are_refused_and_what_came_before_is_given(opcode: int, rsv: int) -> None:
    socket = client()
    assert socket.receive(frame(1, b"before") + frame(opcode, b"x", rsv=rsv) + frame(1, b"behind")) == [b"before"]
    expect_failure(socket, 1002)


# 4: reserved opcodes
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_4_reserved_opcodes_are_refused(opcode: int) -> None:
    socket = client()
    socket.receive(frame(opcode, b""))
    expect_failure(socket, 1002)


# 5: fragments
def test_5_fragments_make_one_message_with_control_frames_between_them() -> None:
    socket = client()
    got = socket.receive(
        frame(1, b"frag1", fin=False) + frame(9, b"ping") + frame(0, b"frag2", fin=False) + frame(9, b"again")
        + frame(0, b"") + frame(2, b"b", fin=False) + frame(0, b"c")
    )  # fmt: skip
    assert got == [b"frag1frag2", BinaryMessage(b"bc")]
    assert sent(socket) == [(10, b"ping"), (10, b"again")]


def test_5_empty_fragments_are_an_empty_message() -> None:
    socket = client()
    assert socket.receive(frame(1, fin=False) + frame(0, fin=False) + frame(0) + frame(1, b"x")) == [b"", b"x"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(frame(9, b"x", fin=False), id="5.1 fragmented ping"),
        pytest.param(frame(10, b"x", fin=False), id="5.2 fragmented pong"),
        pytest.param(frame(8, b"", fin=False), id="fragmented close"),
        pytest.param(frame(0, b"x"), id="5.9 continuation of nothing"),
        pytest.param(frame(0, b"x", fin=False), id="5.10 unfinished continuation of nothing"),
        pytest.param(frame(1, b"a", fin=False) + frame(1, b"b"), id="5.18 a text inside a text"),
        pytest.param(frame(1, b"a", fin=False) + frame(2, b"b", fin=False), id="a binary inside a text"),
        pytest.param(frame(1, b"a", fin=False) + frame(0, b"b") + frame(0, b"c"), id="continuation after the end"),
        pytest.param(frame(1, b"x", mask=True), id="masked"),
        pytest.param(b"\x81\x7e\x00\x05hello", id="16-bit length for 5 bytes"),
        pytest.param(b"\x81\x7f" + (200).to_bytes(8, "big") + bytes(200), id="64-bit length for 200 bytes"),
        pytest.param(b"\x81\x7f" + (1 << 63).to_bytes(8, "big"), id="a length with its top bit set"),
    ],
)
def test_5_broken_framing_is_refused(content: bytes) -> None:
    socket = client()
    assert socket.receive(content) in ([], [b"ab"])
    assert socket.close_code in (1002, 1009)
    assert sent(socket)[-1][0] == 8


# 6: UTF-8
VALID = ["Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\x7f", "\ud7ff", "\ue000", "\ufffd", "\U00010000", "\U0010ffff"]
INVALID = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"\xf4\x90\x80\x80", b"\x80", b"\xbf", b"\xfe",
    b"\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x88\x80\x80\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf",
    b"\xc2", b"\xe2\x82", b"\xf0\x9f\x92", b"ok\xc3",
]  # fmt: skip


@pytest.mark.parametrize("text", VALID)
def test_6_valid_utf8_passes_whole_fragmented_and_cut_inside_a_letter(text: str) -> None:
    content = text.encode()
    assert client().receive(frame(1, content)) == [content]
    pieces = [frame(1 if i == 0 else 0, content[i : i + 1], fin=i == len(content) - 1) for i in range(len(content))]
    assert client().receive(b"".join(pieces)) == [content]


@pytest.mark.parametrize("content", INVALID)
def test_6_text_that_is_not_utf8_ends_the_connection_with_1007(content: bytes) -> None:
    socket = client()
    assert socket.receive(frame(1, b"good") + frame(1, content) + frame(1, b"never")) == [b"good"]
    expect_failure(socket, 1007)
    fragmented = client()
    fragmented.receive(frame(1, b"x", fin=False) + frame(0, content, fin=False) + frame(0, b""))
    expect_failure(fragmented, 1007)


def test_6_a_fragment_that_nothing_can_mend_fails_before_the_message_ends() -> None:
    socket = client()
    socket.receive(frame(1, b"\xf4\x90", fin=False))
    expect_failure(socket, 1007)


def test_6_binary_may_be_anything() -> None:
    assert client().receive(frame(2, b"\xff\xfe")) == [BinaryMessage(b"\xff\xfe")]


# 7: close
def test_7_a_close_is_answered_once_and_ends_the_connection() -> None:
    socket = client()
    assert socket.receive(frame(1, b"last") + close_frame(1000, b"bye") + frame(1, b"late")) == [b"last"]
    assert sent(socket) == [(8, b"\x03\xe8")]
    assert socket.ended == "1000: bye"
    assert socket.receive(frame(9, b"late")) == []
    assert sent(socket) == []


def test_7_a_close_without_a_code_is_answered_with_1000() -> None:
    socket = client()
    socket.receive(frame(8))
    assert socket.close_code == 1005
    assert sent(socket) == [(8, b"\x03\xe8")]


def test_7_our_own_close_is_sent_once_and_messages_still_come() -> None:
    socket = client()
    socket.close()
    socket.close()
    assert sent(socket) == [(8, b"\x03\xe8")]
    assert socket.receive(frame(1, b"on the way") + close_frame(1000)) == [b"on the way"]
    assert sent(socket) == []


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
def test_7_good_close_codes_are_echoed(code: int) -> None:
    socket = client()
    socket.receive(close_frame(code))
    assert socket.close_code == code
    assert sent(socket) == [(8, code.to_bytes(2, "big"))]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_7_bad_close_codes_are_a_fault(code: int) -> None:
    socket = client()
    socket.receive(close_frame(code))
    expect_failure(socket, 1002)


def test_7_a_close_of_one_byte_or_with_a_bad_reason_is_a_fault() -> None:
    one = client()
    one.receive(frame(8, b"\x03"))
    expect_failure(one, 1002)
    bad = client()
    bad.receive(close_frame(1000, b"\xff"))
    expect_failure(bad, 1007)


def test_7_an_end_without_a_close_is_1006() -> None:
    socket = client()
    socket.receive(b"\x81\x05hal")
    socket.receive_eof(unclean=True)
    assert (socket.close_code, socket.ended) == (1006, "no close frame, TLS cut off")


# 9: size limits
def test_9_a_message_above_the_limit_is_refused_as_soon_as_its_length_is_known() -> None:
    for content in (
        b"\x81\x7f" + (70_000).to_bytes(8, "big"),
        frame(1, bytes(70_000))[:12],
        frame(1, b"x" * 1001)[:5],
        frame(1, b"x" * 1001),
        frame(2, bytes(1001))[:5],
        frame(1, b"x" * 600, fin=False) + frame(0, b"x" * 600)[:5],
    ):
        socket = client(limit=1000)
        assert socket.receive(content) == []
        assert socket.close_code in (1002, 1009)
    assert client(limit=1000).receive(frame(1, b"x" * 1000)) == [b"x" * 1000]


def test_9_a_control_frame_between_large_fragments_does_not_count() -> None:
    socket = client(limit=1000)
    content = frame(1, b"x" * 990, fin=False) + frame(9, bytes(100)) + frame(0, b"x" * 10)
    assert socket.receive(content) == [b"x" * 1000]


# 12, 13: permessage-deflate
def deflated(*payloads: bytes, keep_context: bool = True) -> list[bytes]:
    compressor, out = zlib.compressobj(wbits=-15), []
    for payload in payloads:
        out.append((compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4])
        if not keep_context:
            compressor = zlib.compressobj(wbits=-15)
    return out


@pytest.mark.parametrize("keep", [True, False])
def test_12_compressed_messages_with_and_without_context(keep: bool) -> None:
    texts = [b'{"topic":"tickers.WLDUSDT","n":%d}' % i for i in range(20)]
    socket = client(inflater=Inflater(keep_context=keep))
    content = b"".join(frame(1, c, rsv=4) for c in deflated(*texts, keep_context=keep))
    assert socket.receive(content + frame(1, b"plain")) == [*texts, b"plain"]


def test_13_a_compressed_message_in_fragments_has_the_bit_on_its_first_only() -> None:
    (content,) = deflated(b"hello hello hello")
    socket = client(inflater=Inflater())
    assert socket.receive(frame(1, content[:3], fin=False, rsv=4) + frame(0, content[3:])) == [b"hello hello hello"]
    bad = client(inflater=Inflater())
    bad.receive(frame(1, content[:3], fin=False, rsv=4) + frame(0, content[3:], rsv=4))
    expect_failure(bad, 1002)


def test_13_garbage_a_bomb_and_bad_text_inside_compression_are_refused() -> None:
    garbage = client(inflater=Inflater())
    garbage.receive(frame(1, b"\xff\xff\xff", rsv=4))
    expect_failure(garbage, 1007)
    bomb = client(limit=10_000, inflater=Inflater())
    bomb.receive(frame(1, deflated(bytes(10_000_000))[0], rsv=4))
    expect_failure(bomb, 1009)
    text = client(inflater=Inflater())
    text.receive(frame(1, deflated(b"\xff\xff")[0], rsv=4))
    expect_failure(text, 1007)


# the handshake
def answer(handshake: Handshake, **changes: str | None) -> bytes:
    key = next(line for line in handshake.request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = hashlib.sha1(key.split(b": ")[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    headers: dict[str, str | None] = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": base64.b64encode(accept).decode(),
    }  # fmt: skip
    headers |= {key.replace("_", "-"): value for key, value in changes.items()}
    lines = [f"{key}: {value}" for key, value in headers.items() if value is not None]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode()


def shake(compression: bool = False) -> Handshake:
    return Handshake("example:8080", "/v5/public/linear?x=1", bytes(16), compression=compression)


def test_the_request_asks_for_exactly_what_the_standard_says() -> None:
    first, *headers = shake().request.decode().split("\r\n")
    assert first == "GET /v5/public/linear?x=1 HTTP/1.1"
    names = {line.partition(":")[0].lower(): line.partition(": ")[2] for line in headers if line}
    assert names["host"] == "example:8080"
    assert (names["upgrade"], names["connection"].lower()) == ("websocket", "upgrade")
    assert names["sec-websocket-version"] == "13"
    assert base64.b64decode(names["sec-websocket-key"]) == bytes(16)
    assert "sec-websocket-extensions" not in names


def test_the_answer_may_come_in_pieces_and_what_follows_it_is_frames() -> None:
    handshake = shake()
    content = answer(handshake) + frame(1, b"early")
    assert handshake.receive(content[:40]) is None
    early = handshake.receive(content[40:])
    assert early == frame(1, b"early")


def test_header_names_and_values_are_compared_without_case() -> None:
    handshake = shake()
    assert handshake.receive(answer(handshake, Upgrade="WebSocket", Connection="keep-alive, upgrade")) == b""


@pytest.mark.parametrize(
    "changes",
    [
        {"Sec_WebSocket_Accept": None}, {"Sec_WebSocket_Accept": "x3JJHMbDL1EzLkh9GBhXDw=="}, {"Upgrade": None},
        {"Upgrade": "h2c"}, {"Connection": None}, {"Connection": "close"}, {"Sec_WebSocket_Protocol": "chat"},
        {"Sec_WebSocket_Extensions": "permessage-deflate"},
    ],
)  # fmt: skip
def test_an_answer_that_agrees_to_something_else_is_refused(changes: dict[str, str | None]) -> None:
    handshake = shake()
    with pytest.raises(HandshakeFailed):
        handshake.receive(answer(handshake, **changes))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "403 Forbidden"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "200 OK"),
        (b"SSH-2.0-OpenSSH_9\r\n", "does not speak HTTP"),
        (b"", "ended in the handshake"),
    ],
)
def test_a_refusal_is_said_in_the_servers_words(content: bytes, words: str) -> None:
    with pytest.raises(HandshakeFailed, match=words):
        shake().receive(content)


@pytest.mark.parametrize(
    ("header", "is_good"),
    [
        ("permessage-deflate", True),
        ("permessage-deflate; server_no_context_takeover; server_max_window_bits=10", True),
        ("permessage-deflate; client_max_window_bits=15; client_no_context_takeover", True),
        ("permessage-deflate; server_max_window_bits=7", False),
        ("permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", False),
        ("permessage-deflate; unknown", False),
        ("x-webkit-deflate-frame", False),
        ("permessage-deflate, permessage-deflate", False),
    ],
)
def test_compression_is_used_only_as_agreed(header: str, is_good: bool) -> None:
    handshake = shake(compression=True)
    if is_good:
        assert handshake.receive(answer(handshake, Sec_WebSocket_Extensions=header)) == b""
        assert handshake.inflater is not None
    else:
        with pytest.raises(HandshakeFailed):
            handshake.receive(answer(handshake, Sec_WebSocket_Extensions=header))


# properties
@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[Message], list[bytes]]:
    """(what a correct server sends, its messages, its pings)."""
    content, messages, pings = b"", [], []
    for _ in range(draw(st.integers(0, 8))):
        is_text = draw(st.booleans())
        payload = draw(st.text(max_size=200)).encode() if is_text else draw(st.binary(max_size=200))
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        edges = [0, *cuts, len(payload)]
        for i, (a, b) in enumerate(itertools.pairwise(edges)):
            content += frame((1 if is_text else 2) if i == 0 else 0, payload[a:b], fin=i == len(edges) - 2)
            if draw(st.booleans()):
                pings.append(draw(st.binary(max_size=10)))
                content += frame(9, pings[-1])
        messages.append(payload if is_text else BinaryMessage(payload))
    return content, messages, pings


@given(conversations(), st.integers(1, 60))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_conversation_cut_anywhere_gives_the_same_messages(
    conversation: tuple[bytes, list[Message], list[bytes]], step: int
) -> None:
    content, messages, pings = conversation
    socket, got, at = client(), [], 0
    while at < len(content):
        got += socket.receive(content[at : at + step])
        at += step
    assert got == messages
    assert [type(m) for m in got] == [type(m) for m in messages]
    assert sent(socket) == [(10, ping) for ping in pings]
    assert socket.ended is None


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=60)
def test_garbage_never_raises(content: bytes) -> None:
    socket = client(limit=1000, inflater=Inflater())
    for i in range(0, len(content), 7):
        socket.receive(content[i : i + 7])
    socket.receive_eof()
    assert socket.ended is not None


@given(st.sampled_from([0, 1, 125, 126, 65_535, 65_536]), st.binary(min_size=4, max_size=4))
@settings(deadline=None, max_examples=20)
def test_what_we_send_is_masked_and_comes_back_equal(size: int, mask: bytes) -> None:
    payload = bytes(32 + i % 90 for i in range(size))
    content = text_frame(payload.decode(), mask)
    start = 2 + (0 if len(payload) < 126 else 2 if len(payload) < 1 << 16 else 8)
    assert content[start : start + 4] == mask
    body = content[start + 4 :]
    key = (mask * (len(body) // 4 + 1))[: len(body)]
    assert bytes(a ^ b for a, b in zip(body, key, strict=True)) == payload
    assert encode_frame(9, b"", mask)[:2] == b"\x89\x80"
