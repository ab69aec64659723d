"""Owns the transport seam: a FrameStream of whole messages; the only module that imports trio-websocket."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio
import trio_websocket

from wld.errors import RetryableSourceError

Frame = str | bytes
CLOSE_TIMEOUT_S = 2.0
_QUEUE = 4096
"""Messages that wait inside the transport between two reads."""


class FrameStream(Protocol):
    """One open WebSocket, whole messages; errors come as RetryableSourceError."""

    async def receive(self) -> list[Frame]:
        """Wait for at least one message; give all that have arrived."""
        ...

    async def send(self, text: str) -> None:
        """Send one text message."""
        ...


Connect = Callable[[str], AbstractAsyncContextManager[FrameStream]]


class _TrioWebSocketStream:
    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def receive(self) -> list[Frame]:
        try:
            return [await self._connection.get_message()]
        except trio_websocket.ConnectionClosed as error:
            raise RetryableSourceError(f"the connection was closed ({_reason(error)})") from None

    async def send(self, text: str) -> None:
        try:
            await self._connection.send_message(text)
        except trio_websocket.ConnectionClosed as error:
            raise RetryableSourceError(f"the connection was closed ({_reason(error)})") from None


def _reason(error: trio_websocket.ConnectionClosed) -> str:
    reason = error.reason
    if reason is None or isinstance(reason, str):
        return str(reason or "no close frame")
    return f"{reason.code} {reason.name}{': ' + reason.reason if reason.reason else ''}"


def trio_websocket_transport(
    *, connect_timeout: float, max_message_bytes: int, ssl_context: ssl.SSLContext | None = None
) -> Connect:
    """The trio-websocket transport; certificates are verified against the system's store."""

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[FrameStream]:
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(connect_timeout):
                    connection = await trio_websocket.connect_websocket_url(
                        nursery,
                        url,
                        ssl_context=ssl_context,
                        message_queue_size=_QUEUE,
                        max_message_size=max_message_bytes,
                        receive_buffer_size=256 * 1024,
                    )
            except trio.TooSlowError:
                raise RetryableSourceError(f"{url}: no connection within {connect_timeout:g} s") from None
            except (OSError, trio_websocket.HandshakeError, ssl.SSLError, trio.BrokenResourceError) as error:
                raise RetryableSourceError(f"{url}: cannot connect: {_why(error)}") from None
            try:
                yield _TrioWebSocketStream(connection)
            finally:
                with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                    await connection.aclose()
                nursery.cancel_scope.cancel()

    return connect


def _why(error: BaseException) -> str:
    cause: BaseException | None = error
    texts: list[str] = []
    while cause is not None and len(texts) < 3:
        text = str(cause) or type(cause).__name__
        if text not in texts:
            texts.append(text)
        cause = cause.__cause__
    return "; ".join(texts)
