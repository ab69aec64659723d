"""Owns a Trio TCP proxy that shows the faults of a network: reset, half-open, stall, refusal, a thin line.

Knows nothing of what flows through it. Faults that a protocol can show are the exchange's own (misbehaviour).
"""

from __future__ import annotations

import contextlib
import struct
from functools import partial
from socket import SO_LINGER, SOL_SOCKET

import trio

_CHUNK = 65_536
_CONNECT_TIMEOUT_S = 5.0
_DRIP_SLICE_S = 0.05


class _Pair:
    """One proxied connection: the client's stream and the target's."""

    def __init__(self, client: trio.SocketStream, target: trio.SocketStream) -> None:
        self.client = client
        self.target = target
        self.dead = False

    def reset(self) -> None:
        """Cut both sides; the client sees a TCP reset."""
        for stream in (self.client, self.target):
            _reset(stream)


def _reset(stream: trio.SocketStream) -> None:
    with contextlib.suppress(OSError):
        stream.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


class FaultProxy:
    """A running proxy. Faults act on live connections; `refuse` and `drip` also on those to come.

    Attributes:
        port: where it listens, on 127.0.0.1.
        accepted: how many connections it has taken so far, refused ones included.
    """

    def __init__(self, target_host: str, target_port: int, port: int) -> None:
        self.port = port
        self.accepted = 0
        self._target = (target_host, target_port)
        self._pairs: set[_Pair] = set()
        self._refuse = False
        self._drip: int | None = None
        self._stalled_until = 0.0
        self._wake = trio.Event()

    @property
    def connections(self) -> int:
        """Live proxied connections, half-open ones included."""
        return len(self._pairs)

    def reset_all(self) -> None:
        """Cut every live connection with a TCP reset."""
        for pair in tuple(self._pairs):
            pair.reset()
        self._awaken()

    def half_open(self) -> None:
        """Stop forwarding on every live connection, silently and for good; nothing is closed."""
        for pair in self._pairs:
            pair.dead = True

    def stall(self, seconds: float) -> None:
        """Hold everything back, both ways, for that long; then deliver all of it, in order."""
        self._stalled_until = trio.current_time() + seconds

    def refuse(self, on: bool) -> None:
        """Reset connections as soon as they are made, until switched off."""
        self._refuse = on

    def drip(self, bytes_per_second: int | None) -> None:
        """Let through at most so many bytes per second and direction; None lifts it.

        Raises:
            ValueError: not above 0.
        """
        if bytes_per_second is not None and bytes_per_second <= 0:
            raise ValueError(f"drip: expected bytes per second above 0, got {bytes_per_second}")
        self._drip = bytes_per_second
        self._awaken()

    def restore(self) -> None:
        """End every fault but half-open connections, which stay dead as in life."""
        self._refuse = False
        self._drip = None
        self._stalled_until = 0.0
        self._awaken()

    def _awaken(self) -> None:
        self._wake.set()
        self._wake = trio.Event()

    async def _ready(self, pair: _Pair) -> None:
        """Wait while stalled; for ever once half open, until the connection's task is cancelled."""
        while True:
            if pair.dead:
                await trio.sleep_forever()
            if trio.current_time() >= self._stalled_until:
                return
            with trio.move_on_at(self._stalled_until):
                await self._wake.wait()

    async def _pump(
        self, pair: _Pair, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """Forward one direction until it ends; waits as long as the peers are silent, as a wire does."""
        try:
            while True:
                chunk = await source.receive_some(_CHUNK)
                await self._ready(pair)
                if not chunk:
                    await sink.send_eof()
                    return
                await self._forward(pair, chunk, sink)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            if pair.dead:
                await trio.sleep_forever()
            pair.reset()
            scope.cancel()

    async def _forward(self, pair: _Pair, chunk: bytes, sink: trio.SocketStream) -> None:
        while chunk:
            rate = self._drip
            if rate is None:
                await sink.send_all(chunk)
                return
            size = max(1, int(rate * _DRIP_SLICE_S))
            await sink.send_all(chunk[:size])
            chunk = chunk[size:]
            with trio.move_on_after(size / rate):
                await self._wake.wait()
            await self._ready(pair)

    async def serve(self, client: trio.SocketStream) -> None:
        """Proxy one connection that a listener elsewhere accepted, until it ends."""
        self.accepted += 1
        if self._refuse:
            _reset(client)
            return
        try:
            with trio.fail_after(_CONNECT_TIMEOUT_S):
                target = await trio.open_tcp_stream(*self._target)
        except (OSError, trio.TooSlowError):
            _reset(client)
            return
        pair = _Pair(client, target)
        self._pairs.add(pair)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, pair, client, target, nursery.cancel_scope)
                nursery.start_soon(self._pump, pair, target, client, nursery.cancel_scope)
        finally:
            self._pairs.discard(pair)
            client.socket.close()
            target.socket.close()


async def serve_fault_proxy(
    target_host: str,
    target_port: int,
    kind: type[FaultProxy] = FaultProxy,
    *,
    task_status: trio.TaskStatus[FaultProxy] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Forward a loopback port to a target until cancelled; started, with the proxy, once it accepts."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = kind(target_host, target_port, listeners[0].socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, proxy.serve, listeners))
        task_status.started(proxy)
