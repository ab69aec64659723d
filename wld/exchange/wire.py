"""Owns the bytes of one accepted TCP connection, under the HTTP server: what is sent, held back, lost or cut.

Hypercorn shields its sends against cancellation, so a client that does not read could hold up the end of the
exchange; this stream bounds every send and can be aborted from outside. Does not own HTTP or WebSocket.
"""

from __future__ import annotations

import contextlib
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import trio

SEND_TIMEOUT_S = 10.0
"""A client that takes nothing for so long is cut off."""


class Wire:
    """A byte stream with the members that hypercorn uses, and the faults that a connection can have."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.peer: tuple[str, int] = stream.socket.getpeername()[:2]
        self._lock = trio.Lock()
        self._resume = trio.Event()
        self._resume.set()
        self._is_cut = False
        self.silent = False

    @property
    def socket(self) -> Any:
        """The socket, for its addresses."""
        return self._stream.socket

    async def send_all(self, payload: bytes) -> None:
        """Send everything, in order with other senders; swallow it when half open.

        Raises:
            trio.BrokenResourceError: the client took nothing for 10 s, or is gone.
        """
        async with self._lock:
            await self._resume.wait()  # bounded: a stall has an end, and abort() sets it
            if self.silent:
                return
            with trio.move_on_after(SEND_TIMEOUT_S) as scope:
                await self._stream.send_all(payload)
            if scope.cancelled_caught:
                self.abort()
                raise trio.BrokenResourceError("the client does not read")

    async def receive_some(self, limit: int) -> bytes:
        """Wait for bytes, without limit: a client may be silent. Never returns when half open."""
        while True:
            received = await self._stream.receive_some(limit)
            if not self.silent:
                return received
            if not received:
                await trio.sleep_forever()

    def stall(self) -> None:
        """Send nothing until `resume`, which ends every stall there is: whoever waits, waits for one and the same."""
        if self._resume.is_set() and not self._is_cut:
            self._resume = trio.Event()

    def resume(self) -> None:
        """Send again, what was held back first."""
        self._resume.set()

    def half_open(self) -> None:
        """From now on swallow both directions, and never close."""
        self.silent = True

    def abort(self) -> None:
        """Cut the connection at once, with a reset; whoever sends or receives on it is told."""
        with contextlib.suppress(OSError):
            self._stream.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.socket.close()
        self._is_cut = True
        self._resume.set()

    async def send_eof(self) -> None:
        """Tell the client that nothing more comes."""
        if not self.silent:
            async with self._lock:  # a fault may be sending of its own accord
                await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close, unless half open: then the client is left hanging until the exchange ends."""
        if self.silent:
            await trio.lowlevel.checkpoint()
            return
        await self._stream.aclose()


def raw_frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked final WebSocket frame (RFC 6455, section 5.2), for what a proper server would refuse."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload
