"""Owns the transport seam: a FrameStream of whole messages, read by read; the only module that imports trio-websocket.

Two transports stand behind it: `native` (the pure `wld.bybit.websocket` on a raw TCP stream, TLS pumped through
memory so that one socket read is decrypted whole) and `trio-websocket`. Does not own frames or the conversation.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import h11
import trio
import trio_websocket
import wsproto.utilities

from wld.bybit.websocket import BinaryMessage, Handshake, HandshakeFailed, Message, WebSocket, text_frame
from wld.config import SourceConfig
from wld.errors import RetryableSourceError

Frame = Message
CLOSE_TIMEOUT_S = 2.0
READ_BYTES = 1024 * 1024
"""Taken of the socket at once, where so much has come: some 2,500 messages share what a read costs once, and whatever else
the loop does waits some 10 ms for them. Half as much costs 10 % more a message, a quarter 20 % (benchmarks)."""
PIECE_BYTES = 64 * 1024
"""It is taken, decrypted and cut in pieces of this size, which stay in the processor's caches meanwhile."""
FULL_READ = 64 * 1024
"""A read of so much has company enough; the next one does not wait for more."""
_RECORD = 16 * 1024
"""The most that one TLS record holds."""
_SMALL = 16 * 1024
"""Of so few records each is looked after before the next is asked for; of more, looking costs more than asking in vain."""
_UNCAUGHT = (h11.ProtocolError, wsproto.utilities.ProtocolError)
"""What trio-websocket lets through where the server's answer to the handshake is not what it should be."""
_BUFFER = 256 * 1024
"""trio-websocket takes it of the socket at once, as an object of that size."""
_QUEUE = 4096
"""Messages that wait inside trio-websocket between two reads."""


class FrameStream(Protocol):
    """One open WebSocket, whole messages; errors come as RetryableSourceError."""

    async def receive(self) -> list[Frame]:
        """Wait for at least one message; give all that one read of the socket completed, in order.

        Text is `str` or UTF-8 `bytes`, binary is `BinaryMessage`.
        """
        ...

    async def send(self, text: str) -> None:
        """Send one text message."""
        ...


Connect = Callable[[str], AbstractAsyncContextManager[FrameStream]]


def make_connect(config: SourceConfig, ssl_context: ssl.SSLContext | None = None) -> Connect:
    """The transport that `source.transport` names; certificates are verified against the system's store."""
    if config.transport == "trio-websocket":
        return trio_websocket_transport(
            connect_timeout=config.connect_timeout,
            max_message_bytes=config.max_message_bytes,
            ssl_context=ssl_context,
            wait=config.wait,
        )
    return native_transport(
        connect_timeout=config.connect_timeout,
        max_message_bytes=config.max_message_bytes,
        ssl_context=ssl_context,
        wait=config.wait,
        compression=config.compression,
    )


class _Address(NamedTuple):
    host: str
    port: int
    is_secure: bool
    target: str
    """Path and query."""
    shown: str
    """As the Host header says it."""


def _address(url: str) -> _Address:
    """The parts of a WebSocket URL. Raises: HandshakeFailed."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("ws", "wss") or not parts.hostname or port == 0:
        raise HandshakeFailed("not a ws:// or wss:// URL")
    usual = 443 if parts.scheme == "wss" else 80
    shown = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port not in (None, usual):
        shown += f":{port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Address(parts.hostname, port or usual, parts.scheme == "wss", target, shown)


# native ------------------------------------------------------------------------------------------------------------


class _Plain:
    """The bytes of a TCP stream."""

    is_unclean = False

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._send_lock = trio.Lock()
        self._buffer = memoryview(bytearray(PIECE_BYTES))
        self._failure: OSError | None = None
        self._is_at_end = False
        self.last_size = 0
        """Bytes that the last read took of the socket."""

    async def receive(self) -> list[bytes]:
        """All that one read of the socket gives, in pieces; none at the end of the stream. Raises: OSError.

        No limit: the source's heartbeat ends a silent connection.
        """
        pieces: list[bytes] = []
        while not pieces and not self._is_at_end:
            await trio.lowlevel.wait_readable(self._stream.socket)
            self._read(pieces.append)
        return pieces

    def _read(self, take: Callable[[bytes], None]) -> None:
        """What the kernel has, up to READ_BYTES. Called where there is something, so that it never waits."""
        if self._failure is not None:
            raise self._failure
        # Not through Trio's socket, which costs a turn of the event loop a piece and asks before it waits.
        descriptor, buffer = self._stream.socket.fileno(), self._buffer
        total, size = 0, PIECE_BYTES
        while size == PIECE_BYTES and total < READ_BYTES and not self._is_at_end:
            try:
                size = os.readv(descriptor, (buffer,))
            except BlockingIOError:
                break
            except OSError as error:
                if not total:
                    raise
                self._failure = error  # what came before it is still given
                break
            total += size
            self._take(buffer[:size], take)
        self.last_size = total

    def _take(self, received: memoryview, take: Callable[[bytes], None]) -> None:
        if received:
            take(bytes(received))
        else:
            self._is_at_end = True

    async def send(self, content: bytes) -> None:
        """Send everything, whole pieces in the order of the calls."""
        async with self._send_lock:
            await self._stream.send_all(content)

    async def aclose(self) -> None:
        """Close at once."""
        await trio.aclose_forcefully(self._stream)


class _Tls(_Plain):
    """The same through TLS: every record of one socket read is decrypted before the caller wakes."""

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext, host: str) -> None:
        super().__init__(stream)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        # What SSLObject.read calls, where it is there: a call in between costs a tenth of a record.
        raw: Any = getattr(self._tls, "_sslobj", self._tls)
        self._read_record: Callable[[int, memoryview], int] = raw.read
        # A piece's text is no longer than its records, the beginning of the first of which came before. Decrypted into
        # one buffer: an object of 16 KiB for each record, then shrunk, leaves a heap in which every array costs more.
        self._text = memoryview(bytearray(PIECE_BYTES + 2 * _RECORD))
        self._error: ssl.SSLError | None = None

    async def handshake(self) -> None:
        """Agree on keys. Raises: ssl.SSLError, such as for a certificate that cannot be trusted."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                received = await self._stream.receive_some(PIECE_BYTES)
                if received:
                    self._incoming.write(received)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                with contextlib.suppress(OSError, trio.BrokenResourceError):
                    await self._flush()  # the alert, so that the server learns why
                raise
            else:
                await self._flush()
                return

    async def _flush(self) -> None:
        async with self._send_lock:
            if self._outgoing.pending:
                await self._stream.send_all(self._outgoing.read())

    async def receive(self) -> list[bytes]:
        """As without TLS. Raises: ssl.SSLError."""
        pieces: list[bytes] = []
        if self._incoming.pending:
            self._decrypt(pieces.append)  # what came with the end of the handshake
        while not pieces and not self._is_at_end:
            if self._error is not None:
                raise self._error
            await trio.lowlevel.wait_readable(self._stream.socket)
            self._read(pieces.append)
            if self._outgoing.pending:
                await self._flush()  # the answer to a change of keys
        return pieces

    def _take(self, received: memoryview, take: Callable[[bytes], None]) -> None:
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()
        self._decrypt(take)

    def _decrypt(self, take: Callable[[bytes], None]) -> None:
        if self._is_at_end or self._error is not None:
            return
        read, incoming, text, end = self._read_record, self._incoming, self._text, 0
        is_small = incoming.pending < _SMALL
        try:
            while size := read(_RECORD, text[end:]):
                end += size
                if is_small and not incoming.pending:
                    break  # asking for more would only raise, at the price of a record
            else:
                self._is_at_end = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._is_at_end = True
        except ssl.SSLEOFError:
            self._is_at_end = self.is_unclean = True
        except ssl.SSLError as error:
            self._error = error
        if end:
            take(bytes(text[:end]))

    async def send(self, content: bytes) -> None:
        """As without TLS."""
        self._tls.write(content)  # into memory; records leave in this order
        await self._flush()

    async def aclose(self) -> None:
        """Say goodbye in TLS's own words, then close at once."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await self._flush()
        await super().aclose()


class _NativeStream:
    def __init__(self, pipe: _Plain, socket: WebSocket, early: bytes, wait: float) -> None:
        self._pipe = pipe
        self._socket = socket
        self._early = socket.receive(early) if early else []
        self._wait = wait
        self._next_read = 0.0

    async def receive(self) -> list[Frame]:
        if self._early:
            await trio.lowlevel.checkpoint()
            early, self._early = self._early, []
            return early
        socket, pipe = self._socket, self._pipe
        while socket.ended is None:
            if self._wait and pipe.last_size < FULL_READ and trio.current_time() < self._next_read:
                await trio.sleep_until(self._next_read)  # what comes meanwhile costs one wake-up together
            try:
                pieces = await pipe.receive()
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise RetryableSourceError(f"the connection broke ({_why(error)})") from None
            if self._wait:
                self._next_read = trio.current_time() + self._wait
            messages: list[Frame] = []
            for piece in pieces:
                messages += socket.receive(piece)
            if not pieces:
                socket.receive_eof(unclean=pipe.is_unclean)
            answer = socket.take_outgoing()
            if answer:
                with contextlib.suppress(RetryableSourceError):  # the read, or the next one, says it
                    await self._send(answer)
            if messages:
                return messages
        raise RetryableSourceError(f"the connection was closed ({socket.ended})")

    async def _send(self, content: bytes) -> None:
        try:
            await self._pipe.send(content)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise RetryableSourceError(f"the connection broke ({_why(error)})") from None

    async def send(self, text: str) -> None:
        if self._socket.ended is not None:
            raise RetryableSourceError(f"the connection was closed ({self._socket.ended})")
        await self._send(text_frame(text, os.urandom(4)))

    async def aclose(self) -> None:
        """The closing handshake, as far as the server takes part in it; the caller bounds the wait."""
        socket = self._socket
        with contextlib.suppress(RetryableSourceError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            socket.close()
            answer = socket.take_outgoing()
            if answer:
                await self._send(answer)
            while socket.ended is None:
                pieces = await self._pipe.receive()
                if not pieces:
                    break
                for piece in pieces:
                    socket.receive(piece)
        await self._pipe.aclose()


def native_transport(
    *,
    connect_timeout: float,
    max_message_bytes: int,
    ssl_context: ssl.SSLContext | None = None,
    wait: float = 0.0,
    compression: bool = False,
) -> Connect:
    """The transport of ours: one read of the socket, decrypted and split, is one list of messages.

    `wait`: seconds between two reads in which messages may gather (0: none). `compression` offers
    permessage-deflate, which saves the line and costs CPU.
    """

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[FrameStream]:
        try:
            with trio.fail_after(connect_timeout):
                stream = await _open_native(url, max_message_bytes, ssl_context, wait, compression)
        except trio.TooSlowError:
            raise RetryableSourceError(f"{url}: no connection within {connect_timeout:g} s") from None
        except (OSError, trio.BrokenResourceError, HandshakeFailed) as error:
            raise RetryableSourceError(f"{url}: cannot connect: {_why(error)}") from None
        try:
            yield stream
        finally:
            with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True) as limit:
                await stream.aclose()
            if limit.cancelled_caught:
                await trio.aclose_forcefully(stream._pipe._stream)

    return connect


async def _open_native(
    url: str, max_message_bytes: int, ssl_context: ssl.SSLContext | None, wait: float, compression: bool
) -> _NativeStream:
    address = _address(url)
    tcp = await trio.open_tcp_stream(address.host, address.port)
    try:
        pipe = _Plain(tcp)
        if address.is_secure:
            pipe = tls = _Tls(tcp, ssl_context or ssl.create_default_context(), address.host)
            await tls.handshake()
        handshake = Handshake(address.shown, address.target, os.urandom(16), compression=compression)
        await pipe.send(handshake.request)
        early: bytes | None = None
        while early is None:
            early = handshake.receive(b"".join(await pipe.receive()))
        socket = WebSocket(
            max_message_bytes=max_message_bytes, next_mask=lambda: os.urandom(4), inflater=handshake.inflater
        )
        return _NativeStream(pipe, socket, early, wait)
    except BaseException:
        await trio.aclose_forcefully(tcp)
        raise


# trio-websocket ----------------------------------------------------------------------------------------------------


class _TrioWebSocketStream:
    """trio-websocket hands over message by message; with `wait`, what comes in that time is gathered."""

    def __init__(self, connection: trio_websocket.WebSocketConnection, wait: float) -> None:
        self._connection = connection
        self._wait = wait
        self._gathered: list[Frame] = []
        self._failure: RetryableSourceError | None = None
        self._last_read = 0.0
        self._arrival = trio.Event()
        self._room = trio.Event()

    async def receive(self) -> list[Frame]:
        if not self._wait:
            return [await self._next()]
        # No limit: the source's heartbeat ends a silent connection.
        await self._arrival.wait()
        left = self._last_read + self._wait - trio.current_time()
        if left > 0 and len(self._gathered) < _QUEUE:
            await trio.sleep(left)
        self._last_read = trio.current_time()
        messages, self._gathered = self._gathered, []
        if not messages and self._failure is not None:
            raise self._failure
        if self._failure is None:
            self._arrival = trio.Event()
        self._room.set()
        return messages

    async def gather(self) -> None:
        """Collect messages until the connection ends; runs beside the reader."""
        while self._failure is None:
            try:
                message = await self._next()
            except RetryableSourceError as error:
                self._failure = error
            else:
                self._gathered.append(message)  # only now: `receive` may have taken the list meanwhile
            self._arrival.set()
            while len(self._gathered) >= _QUEUE:
                self._room = trio.Event()
                await self._room.wait()

    async def _next(self) -> Frame:
        try:
            message = await self._connection.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise RetryableSourceError(f"the connection was closed ({_reason(error)})") from None
        return BinaryMessage(message) if isinstance(message, bytes) else str(message)

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
    *, connect_timeout: float, max_message_bytes: int, ssl_context: ssl.SSLContext | None = None, wait: float = 0.0
) -> Connect:
    """The trio-websocket transport; it cannot offer compression. TCP and TLS are opened here, so that they are closed."""

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[FrameStream]:
        stream: trio.abc.Stream | None = None
        try:
            async with trio.open_nursery() as nursery:
                address = _address(url)
                with trio.fail_after(connect_timeout):
                    stream = tcp = await trio.open_tcp_stream(address.host, address.port)
                    if address.is_secure:
                        context = ssl_context or ssl.create_default_context()
                        tls = trio.SSLStream(tcp, context, server_hostname=address.host, https_compatible=True)
                        stream = tls
                        await tls.do_handshake()
                    connection = await trio_websocket.wrap_client_stream(
                        nursery,
                        stream,
                        address.shown,
                        address.target,
                        message_queue_size=_QUEUE,
                        max_message_size=max_message_bytes,
                        receive_buffer_size=_BUFFER,
                    )
                frames = _TrioWebSocketStream(connection, wait)
                if wait:
                    nursery.start_soon(frames.gather)
                try:
                    yield frames
                finally:
                    with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                        await connection.aclose()
                    nursery.cancel_scope.cancel()
        except* trio.TooSlowError:
            raise RetryableSourceError(f"{url}: no connection within {connect_timeout:g} s") from None
        except* (
            OSError,
            trio_websocket.HandshakeError,
            trio.BrokenResourceError,
            HandshakeFailed,
            *_UNCAUGHT,
        ) as group:
            raise RetryableSourceError(f"{url}: cannot connect: {_why(_first(group))}") from None
        finally:
            if stream is not None:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)

    return connect


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _why(error: BaseException) -> str:
    """What was tried and what the system said to it, in one line."""
    cause: BaseException | None = error
    texts: list[str] = []
    while cause is not None and len(texts) < 3:
        if isinstance(cause, BaseExceptionGroup):
            cause = _first(cause)  # one for each address that the name has; they rarely differ
        text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        if not any(text in told for told in texts):
            texts.append(text)
        cause = cause.__cause__
    return "; ".join(texts)
