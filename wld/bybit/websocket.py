"""Owns RFC 6455 for a client: handshake, frames in, messages out, close. Pure: bytes in, bytes out, no socket, no clock.

Written for many small messages in one read: a whole unfragmented text message costs one pass of a short loop, and
everything else (fragments, control frames, compression, faults) goes a slower, complete way.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import struct
import zlib
from collections.abc import Callable

import h11

from wld.errors import RetryableSourceError

PROTOCOL_ERROR, INVALID_DATA, TOO_BIG, NORMAL, NO_CODE, ABNORMAL = 1002, 1007, 1009, 1000, 1005, 1006
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_TEXT_OF_FEW = (0x80 | _TEXT) << 8
"""First two bytes of an unfragmented text message, the length added; from 126 on the length follows."""
_TEXT_OF_MANY = _TEXT_OF_FEW | 126
_head_of = struct.Struct(">HH").unpack_from
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_HANDSHAKE = 64 * 1024
_SMALL = 1 << 16
"""No message of the short loop is this long."""
_INFLATE_TAIL = b"\x00\x00\xff\xff"


class BinaryMessage(bytes):
    """A binary message; text messages are plain `bytes` of valid UTF-8 (or `str`)."""


Message = str | bytes
"""Text as UTF-8 bytes (or `str`), binary as `BinaryMessage`."""


class HandshakeFailed(RetryableSourceError):
    """The server's answer is not the agreement to speak WebSocket that was asked for."""


class Handshake:
    """The HTTP upgrade: send `request`, feed `receive` until it gives what followed the answer.

    `nonce` is 16 random bytes. `compression` offers permessage-deflate; `inflater` tells what was agreed.
    """

    def __init__(self, host: str, target: str, nonce: bytes, *, compression: bool = False) -> None:
        self._key = base64.b64encode(nonce)
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HANDSHAKE)
        headers = [
            ("Host", host), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", self._key.decode()), ("Sec-WebSocket-Version", "13"),
        ]  # fmt: skip
        if compression:
            headers.append(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"))
        self._offered = compression
        try:
            self.request: bytes = self._http.send(h11.Request(method="GET", target=target, headers=headers)) or b""
        except h11.LocalProtocolError as error:
            raise HandshakeFailed(f"not a usable host or path: {error}") from None
        self.inflater: Inflater | None = None

    def receive(self, received: bytes) -> bytes | None:
        """None: more is needed. Else the bytes after the answer: frames already. `b""` is the end of the stream.

        Raises:
            HandshakeFailed: refused, or not the answer to this request.
        """
        if not received:
            raise HandshakeFailed("the connection ended in the handshake")
        try:
            self._http.receive_data(received)
            event = self._http.next_event()
            while isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise HandshakeFailed(f"the server does not speak HTTP: {error}") from None
        if event is h11.NEED_DATA:
            seen = self._http.trailing_data[0][:5]
            if not b"HTTP/".startswith(seen):
                raise HandshakeFailed(f"the server does not speak HTTP: it said {bytes(seen)!r}")
            return None
        if isinstance(event, h11.InformationalResponse):
            self._check(event)
            trailing: bytes = self._http.trailing_data[0]
            return trailing
        if isinstance(event, h11.Response):
            reason = event.reason.decode("latin-1", "replace")
            raise HandshakeFailed(f"the server answered HTTP {event.status_code} {reason}".rstrip())
        raise HandshakeFailed("the server's answer is no answer to an upgrade")

    def _check(self, answer: h11.InformationalResponse) -> None:
        def values(name: bytes) -> list[bytes]:
            return [value for key, value in answer.headers if key == name]

        def tokens(name: bytes) -> list[bytes]:
            return [token.strip().lower() for value in values(name) for token in value.split(b",")]

        expected = base64.b64encode(hashlib.sha1(self._key + _GUID).digest())
        if tokens(b"upgrade") != [b"websocket"] or b"upgrade" not in tokens(b"connection"):
            raise HandshakeFailed("the server's answer does not upgrade to websocket")
        if values(b"sec-websocket-accept") != [expected]:
            raise HandshakeFailed("the server's answer is to another handshake (Sec-WebSocket-Accept)")
        if values(b"sec-websocket-protocol"):
            raise HandshakeFailed("the server chose a subprotocol that was not offered")
        extensions = [part.strip() for value in values(b"sec-websocket-extensions") for part in value.split(b",")]
        if extensions:
            if not self._offered or len(extensions) != 1:
                raise HandshakeFailed("the server chose an extension that was not offered")
            self.inflater = Inflater.agreed(extensions[0].decode("latin-1"))


class Inflater:
    """permessage-deflate (RFC 7692) of what the server sends; this client compresses nothing itself."""

    def __init__(self, *, keep_context: bool = True, window_bits: int = 15) -> None:
        self._keep = keep_context
        self._bits = window_bits
        self._zlib = zlib.decompressobj(-window_bits)

    @classmethod
    def agreed(cls, text: str) -> Inflater:
        """From the server's extension header. Raises: HandshakeFailed for anything not offered."""
        name, *parameters = [part.strip() for part in text.split(";")]
        seen: dict[str, str] = {}
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() in seen:
                raise HandshakeFailed(f"permessage-deflate: {key.strip()} twice")
            seen[key.strip()] = value.strip().strip('"')
        keep = seen.pop("server_no_context_takeover", None) is None
        seen.pop("client_no_context_takeover", None)
        bits = seen.pop("server_max_window_bits", "15")
        own = seen.pop("client_max_window_bits", "15")
        if name != "permessage-deflate" or seen or not (_is_bits(bits) and _is_bits(own)):
            raise HandshakeFailed(f"the server chose an extension that was not offered: {text[:80]}")
        return cls(keep_context=keep, window_bits=max(9, int(bits)))  # zlib has no raw window of 8 bits

    def inflate(self, content: bytes, limit: int) -> bytes:
        """One message. Raises: _Fault for garbage and for more than `limit` bytes."""
        try:
            out = self._zlib.decompress(content + _INFLATE_TAIL, limit + 1)
        except zlib.error as error:
            raise _Fault(INVALID_DATA, f"a message that does not inflate: {error}") from None
        if len(out) > limit or self._zlib.unconsumed_tail:
            raise _Fault(TOO_BIG, f"a message of more than {limit} bytes")
        if not self._keep or self._zlib.eof:
            self._zlib = zlib.decompressobj(-self._bits)
        return out


def _is_bits(text: str) -> bool:
    return text.isdecimal() and 8 <= int(text) <= 15


class _Fault(Exception):
    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class WebSocket:
    """The open connection. `receive` gives whole messages in order; what is to be sent waits in `take_outgoing`.

    After a fault of the server, or its close, `ended` says why, and nothing more is read; the messages that came
    whole before it are still given.
    """

    def __init__(
        self, *, max_message_bytes: int, next_mask: Callable[[], bytes], inflater: Inflater | None = None
    ) -> None:
        """`next_mask` gives 4 random bytes each time (RFC 6455, section 5.3)."""
        self._limit = max_message_bytes
        self._next_mask = next_mask
        self._inflater = inflater
        self._rest = b""
        self._fragments = bytearray()
        self._utf8: codecs.IncrementalDecoder | None = None
        self._opcode: int | None = None
        self._is_compressed = False
        self._outgoing: list[bytes] = []
        self.ended: str | None = None
        """Why nothing more comes, in words; None while the connection is open."""
        self.close_code: int | None = None
        """Of the server's close frame (1005: it had none), or of our complaint; 1006: the connection just ended."""
        self.close_sent = False

    def receive(self, received: bytes) -> list[Message]:
        """The messages that these bytes complete. Never raises: faults of the server set `ended`."""
        if self.ended is not None:
            return []
        if self._rest:
            received = self._rest + received
        at, end = 0, len(received)
        last = end - 4
        is_between = self._opcode is None
        messages: list[Message] = []
        take = messages.append
        try:
            while end - at >= 2:
                # Unfragmented texts of up to 65,535 bytes, one after the other.
                while is_between and at <= last:
                    head, length = _head_of(received, at)
                    if head == _TEXT_OF_MANY and length >= 126:
                        start = at + 4
                    elif _TEXT_OF_FEW <= head < _TEXT_OF_MANY:
                        start, length = at + 2, head & 0x7F
                    else:
                        break
                    stop = start + length
                    if stop > end:
                        break
                    take(received[start:stop])
                    at = stop
                if end - at < 2:
                    break
                used = self._frame(received, at, end, messages)
                if used == 0:
                    break
                at += used
                if self.ended is not None:
                    break
                is_between = self._opcode is None
        except _Fault as fault:
            self._complain(fault)
        self._rest = received[at:] if at < end and self.ended is None else b""
        return self._checked(messages)

    def _checked(self, messages: list[Message]) -> list[Message]:
        """Text is UTF-8 and within the limit; from the first message that is not on, nothing is given."""
        if self._limit >= _SMALL and False not in map(bytes.isascii, messages):  # type: ignore[arg-type]
            return messages
        for i, message in enumerate(messages):
            if type(message) is bytes:
                try:
                    if len(message) > self._limit:
                        raise self._too_big(len(message))
                    if not message.isascii():
                        message.decode()
                except UnicodeDecodeError:
                    self._complain(_Fault(INVALID_DATA, "a text message that is not UTF-8"))
                    return messages[:i]
                except _Fault as fault:
                    self._complain(fault)
                    return messages[:i]
        return messages

    def _too_big(self, size: int) -> _Fault:
        return _Fault(TOO_BIG, f"a message of {size} bytes; the limit is {self._limit}")

    def _frame(self, received: bytes, at: int, end: int, messages: list[Message]) -> int:
        """Any frame, the complete way; how many bytes it took, 0 where it is not whole yet."""
        head, second = received[at], received[at + 1]
        opcode, is_final, length = head & 0x0F, head >= 0x80, second & 0x7F
        self._check_head(head, opcode, is_final, second, length)
        start = at + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            start += size
            if end < start:
                return 0
            length = int.from_bytes(received[start - size : start], "big")
            if length < 126 or (size == 8 and length < 1 << 16):
                raise _Fault(PROTOCOL_ERROR, "a length written longer than needed")
        if opcode < _CLOSE and length + len(self._fragments) > self._limit:
            raise self._too_big(length + len(self._fragments))
        stop = start + length
        if stop > end:
            return 0
        payload = received[start:stop]
        if opcode >= _CLOSE:
            self._control(opcode, payload)
        else:
            self._piece(opcode, is_final, bool(head & 0x40), payload, messages)
        return stop - at

    def _check_head(self, head: int, opcode: int, is_final: bool, second: int, length: int) -> None:
        if second & 0x80:
            raise _Fault(PROTOCOL_ERROR, "a masked frame from a server")
        compressed_start = head & 0x40 and self._inflater is not None and opcode in (_TEXT, _BINARY)
        if head & 0x30 or (head & 0x40 and not compressed_start):
            raise _Fault(PROTOCOL_ERROR, "reserved bits that nobody agreed on")
        if opcode not in (_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG):
            raise _Fault(PROTOCOL_ERROR, f"the reserved opcode {opcode}")
        if opcode >= _CLOSE:
            if not is_final or length > 125:
                raise _Fault(PROTOCOL_ERROR, "a control frame that is fragmented or longer than 125 bytes")
        elif (opcode == _CONTINUATION) != (self._opcode is not None):
            raise _Fault(PROTOCOL_ERROR, "a continuation of nothing, or a new message inside another")

    def _piece(self, opcode: int, is_final: bool, compressed: bool, payload: bytes, messages: list[Message]) -> None:
        if opcode != _CONTINUATION:
            self._opcode, self._is_compressed = opcode, compressed
        is_text = self._opcode == _TEXT
        if is_final and not self._fragments:
            whole = payload
        else:
            if is_text and not self._is_compressed:
                self._check_so_far(payload, is_final)
            self._fragments += payload
            if not is_final:
                return
            whole = bytes(self._fragments)
            self._fragments.clear()
        if self._is_compressed and self._inflater is not None:
            whole = self._inflater.inflate(whole, self._limit)
        self._opcode, self._utf8 = None, None
        messages.append(whole if is_text else BinaryMessage(whole))

    def _check_so_far(self, payload: bytes, is_final: bool) -> None:
        """A fragmented text fails as soon as no continuation could mend it."""
        if self._utf8 is None:
            self._utf8 = codecs.getincrementaldecoder("utf-8")()
        try:
            self._utf8.decode(payload, is_final)
        except UnicodeDecodeError:
            raise _Fault(INVALID_DATA, "a text message that is not UTF-8") from None

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._outgoing.append(encode_frame(_PONG, payload, self._next_mask()))
        elif opcode == _CLOSE:
            code, reason = _parse_close(payload)
            self.close_code = code
            self._end(f"{code}{': ' + reason if reason else ''}" if code != NO_CODE else "no code")
            self._send_close(NORMAL if code == NO_CODE else code)

    def _complain(self, fault: _Fault) -> None:
        self.close_code = fault.code
        self._end(f"{fault.code}: the server sent {fault}")
        self._send_close(fault.code)

    def _end(self, why: str) -> None:
        if self.ended is None:
            self.ended = why

    def receive_eof(self, *, unclean: bool = False) -> None:
        """The stream ended; `unclean`: TLS was cut without its own goodbye."""
        if self.ended is None:
            self.close_code = ABNORMAL
            self._end("no close frame" + (", TLS cut off" if unclean else ""))

    def close(self, code: int = NORMAL) -> None:
        """Say goodbye; messages may still come until the server's own close."""
        self._send_close(code)

    def _send_close(self, code: int) -> None:
        if not self.close_sent:
            self.close_sent = True
            self._outgoing.append(encode_frame(_CLOSE, code.to_bytes(2, "big"), self._next_mask()))

    def take_outgoing(self) -> bytes:
        """Frames to send now: pongs and the close, in order."""
        if not self._outgoing:
            return b""
        taken = b"".join(self._outgoing)
        self._outgoing.clear()
        return taken


def _parse_close(payload: bytes) -> tuple[int, str]:
    if not payload:
        return NO_CODE, ""
    if len(payload) == 1:
        raise _Fault(PROTOCOL_ERROR, "a close frame of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not (1000 <= code <= 1014 or 3000 <= code <= 4999) or code in (1004, NO_CODE, ABNORMAL):
        raise _Fault(PROTOCOL_ERROR, f"a close code that may not be sent: {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise _Fault(INVALID_DATA, "a close reason that is not UTF-8") from None


def encode_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """One final frame, masked as a client must (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def text_frame(text: str, mask: bytes) -> bytes:
    """One text message as a client sends it."""
    return encode_frame(_TEXT, text.encode(), mask)
