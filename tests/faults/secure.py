"""TLS before a fault proxy, and what can happen to its records."""

from __future__ import annotations

import ssl
from contextlib import suppress

import trio
import trustme

ALERT = bytes.fromhex("15 0303 0002 02 50")
"""internal_error, fatal, in the clear (RFC 8446, section 6)."""


class Records(trio.abc.Stream):
    """A socket to which whole TLS records are written, until one of them is to be cut."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.last: str | None = None
        """`half` of the next record, or an `alert` in its place; then the end of the stream."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Pass on, or cut."""
        if self.last is None:
            await self._stream.send_all(data)
            return
        await self._stream.send_all(ALERT if self.last == "alert" else bytes(data)[: len(data) // 2])
        await self._stream.aclose()
        raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        """As the socket."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As the socket."""
        return bytes(await self._stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        """As the socket."""
        await self._stream.aclose()


class Front:
    """Takes TLS connections for `venue.test` and hands what is in them to a port; the end of one is the other's."""

    def __init__(self, authority: trustme.CA, name: str, target_port: int) -> None:
        self.port = 0
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(self._context)
        self._target_port = target_port
        self._live: set[Records] = set()

    def cut(self, last: str) -> None:
        """End the live connections with their next record."""
        for records in self._live:
            records.last = last

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection."""
        records = Records(stream)
        tls = trio.SSLStream(records, self._context, server_side=True)
        self._live.add(records)
        try:
            await tls.do_handshake()
            inner = await trio.open_tcp_stream("127.0.0.1", self._target_port)
            async with inner, trio.open_nursery() as pair:
                pair.start_soon(self._pump, tls, inner)
                await self._pump(inner, tls)
                with trio.move_on_after(1), suppress(trio.BrokenResourceError):
                    await tls.aclose()  # close_notify
                pair.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError):
            pass
        finally:
            self._live.discard(records)
            await trio.aclose_forcefully(stream)

    async def _pump(self, source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        while piece := await source.receive_some(65_536):
            await sink.send_all(piece)


async def serve_front(
    authority: trustme.CA,
    name: str,
    target_port: int,
    *,
    task_status: trio.TaskStatus[Front] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve one until cancelled."""
    found = Front(authority, name, target_port)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    found.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, found.serve, listeners)
        task_status.started(found)
