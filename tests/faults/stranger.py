"""A stranger's proxy: it knows WebSocket frames, and changes, repeats, exchanges, drops and splits what the venue sends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import trio

from wld.exchange import FaultProxy
from wld.exchange.wire import raw_frame

TEXT, CLOSE, PING = 0x1, 0x8, 0x9
HEAD_END = b"\r\n\r\n"


class Frame(NamedTuple):
    """A frame of the venue, with the bytes it came in."""

    opcode: int
    payload: bytes
    raw: bytes

    @property
    def text(self) -> str:
        """The message, as text."""
        return self.payload.decode()

    @property
    def topic(self) -> str:
        """Of a data message; else nothing."""
        return self.text.partition('"topic":"')[2].partition('"')[0] if self.opcode == TEXT else ""

    def is_of(self, prefix: str) -> bool:
        """Whether it is a data message of such a topic."""
        return self.topic.startswith(prefix)


def written(text: str | bytes) -> bytes:
    """A text frame."""
    return raw_frame(TEXT, text.encode() if isinstance(text, str) else text)


class Hangup(Exception):
    """Send what is in it, then close the connection cleanly: a FIN, no close frame."""

    def __init__(self, last: bytes = b"") -> None:
        super().__init__()
        self.last = last


class Stranger(FaultProxy):
    """A fault proxy that reads along.

    `change` is asked for each frame of the venue and gives the bytes to send in its place; `upgrade` for the answer to
    the handshake. `piece` is the most that is sent at once. What they raise as `Hangup` ends the connection.
    """

    def __init__(self, target_host: str, target_port: int, port: int) -> None:
        super().__init__(target_host, target_port, port)
        self.change: Callable[[Frame], Iterable[bytes]] = keep
        self.upgrade: Callable[[bytes], bytes] = bytes
        self.piece: int | None = None
        self._rest: dict[Any, bytes] = {}
        self._upgraded: set[Any] = set()

    def restore(self) -> None:
        """End every fault."""
        super().restore()
        self.change, self.upgrade, self.piece = keep, bytes, None

    async def _forward(self, pair: Any, chunk: bytes, sink: trio.SocketStream) -> None:
        if sink is not pair.client:
            await super()._forward(pair, chunk, sink)
            return
        chunk = self._rest.pop(pair, b"") + chunk
        out: list[bytes] = []
        last: Hangup | None = None
        try:
            if pair not in self._upgraded:
                head, end, rest = chunk.partition(HEAD_END)
                if not end:
                    self._rest[pair] = chunk
                    return
                self._upgraded.add(pair)
                out.append(self.upgrade(head + end))
                chunk = rest
            while (frame := first_frame(chunk)) is not None:
                chunk = chunk[len(frame.raw) :]
                out += self.change(frame)
        except Hangup as hangup:
            last = hangup
            out.append(hangup.last)
        self._rest[pair] = chunk
        await self._send(pair, b"".join(out), sink)
        if last is not None:
            await sink.send_eof()
            await pair.target.aclose()

    async def _send(self, pair: Any, content: bytes, sink: trio.SocketStream) -> None:
        piece = self.piece or len(content) or 1
        for at in range(0, len(content), piece):
            await super()._forward(pair, content[at : at + piece], sink)
            if self.piece is not None:
                await trio.lowlevel.checkpoint()


def keep(frame: Frame) -> list[bytes]:
    """No fault."""
    return [frame.raw]


def first_frame(received: bytes) -> Frame | None:
    """The frame that these bytes begin with; None where it is not whole."""
    if len(received) < 2:
        return None
    length, start = received[1] & 0x7F, 2
    if length >= 126:
        size = 2 if length == 126 else 8
        length, start = int.from_bytes(received[2 : 2 + size], "big"), 2 + size
    if len(received) < start + length:
        return None
    return Frame(received[0] & 0x0F, received[start : start + length], received[: start + length])
