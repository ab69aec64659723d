"""Every transport against a real server on a real socket, plain and over TLS: the same words for the same faults."""

from __future__ import annotations

import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest
import trio
import trustme
import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request, TextMessage

from wld.bybit.transport import PIECE_BYTES, FrameStream, make_connect
from wld.bybit.websocket import BinaryMessage
from wld.config import TRANSPORTS, SourceConfig
from wld.errors import RetryableSourceError

AUTHORITY = trustme.CA()
STRANGER = trustme.CA()


class Server:
    """One connection of a server, written by somebody else (wsproto); bytes can be sent by hand as well."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream: Any = stream
        self.wire = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self.seen: list[Any] = []

    async def accept(self, extra: bytes = b"") -> None:
        while True:
            self.wire.receive_data(await self.stream.receive_some(4096))
            for event in self.wire.events():
                if isinstance(event, Request):
                    await self.stream.send_all(self.wire.send(AcceptConnection()) + extra)
                    return

    async def say(self, *events: Any) -> None:
        await self.stream.send_all(b"".join(self.wire.send(event) for event in events))

    async def hear(self) -> Any:
        while not self.seen:
            self.wire.receive_data(await self.stream.receive_some(4096) or None)
            self.seen += self.wire.events()
        return self.seen.pop(0)

    def reset(self) -> None:
        raw = getattr(self.stream, "transport_stream", self.stream)
        raw.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        raw.socket.close()


Behaviour = Callable[[Server], Awaitable[None]]


@asynccontextmanager
async def serving(behaviour: Behaviour, scheme: str = "ws", authority: trustme.CA = AUTHORITY) -> AsyncIterator[str]:
    """The URL of a server that behaves so on each connection."""

    async def handle(tcp: trio.SocketStream) -> None:
        stream: trio.abc.Stream = tcp
        if scheme == "wss":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            stream = trio.SSLStream(tcp, context, server_side=True)
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await behaviour(Server(stream))
        with trio.move_on_after(1):
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handle, 0)
        port = listeners[0].socket.getsockname()[1]
        yield f"{scheme}://127.0.0.1:{port}/v5/public/linear"
        nursery.cancel_scope.cancel()


@pytest.fixture(params=[f"{t} {s}" for t in TRANSPORTS for s in ("ws", "wss")])
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    transport, _, scheme = str(request.param).partition(" ")
    return transport, scheme


@asynccontextmanager
async def connected(url: str, transport: str, **settings: Any) -> AsyncIterator[FrameStream]:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    config = SourceConfig(transport=transport, **settings)
    with trio.fail_after(10):
        async with make_connect(config, context)(url) as stream:
            yield stream


async def messages(stream: FrameStream, count: int) -> list[Any]:
    got: list[Any] = []
    while len(got) < count:
        got += [m.decode() if type(m) is bytes else m for m in await stream.receive()]
    return got


async def refused(url: str, transport: str, match: str, **settings: Any) -> None:
    """Connecting, or receiving, fails with these words, whatever nursery stands between."""

    async def receive_for_ever() -> None:
        async with connected(url, transport, **settings) as stream:
            while True:
                await stream.receive()

    with pytest.raises((RetryableSourceError, BaseExceptionGroup)) as caught:
        await receive_for_ever()
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, RetryableSourceError)
    assert match in str(error)
    assert "\n" not in str(error)


async def test_messages_both_ways_text_and_binary_in_order(kind: tuple[str, str]) -> None:
    transport, scheme = kind
    heard: list[Any] = []

    async def behave(server: Server) -> None:
        await server.accept()
        heard.append(await server.hear())
        await server.say(*[TextMessage(f"message {i} µ") for i in range(300)], BytesMessage(b"\x00\xff"))
        await server.hear()

    async with serving(behave, scheme) as url, connected(url, transport) as stream:
        await stream.send('{"op":"ping"}')
        got = await messages(stream, 301)
    assert heard[0].data == '{"op":"ping"}'
    assert got == [f"message {i} µ" for i in range(300)] + [b"\x00\xff"]
    assert isinstance(got[-1], BinaryMessage)


async def test_what_is_sent_with_the_handshakes_answer_is_not_lost(kind: tuple[str, str]) -> None:
    transport, scheme = kind

    async def behave(server: Server) -> None:
        await server.accept(extra=b"\x81\x05early")
        await server.hear()

    async with serving(behave, scheme) as url, connected(url, transport) as stream:
        assert await messages(stream, 1) == ["early"]


async def test_a_large_message_and_fragments_with_a_ping_between(kind: tuple[str, str]) -> None:
    transport, scheme = kind
    pongs: list[Any] = []
    answered = trio.Event()

    async def behave(server: Server) -> None:
        await server.accept()
        await server.say(TextMessage("x" * 300_000))
        await server.say(TextMessage("one ", message_finished=False), Ping(b"p"), TextMessage("two"))
        pongs.append(await server.hear())
        answered.set()

    async with serving(behave, scheme) as url, connected(url, transport) as stream:
        got = await messages(stream, 2)
        await answered.wait()
    assert got == ["x" * 300_000, "one two"]
    assert pongs[0].payload == b"p"


async def test_leaving_says_goodbye_properly(kind: tuple[str, str]) -> None:
    transport, scheme = kind
    heard: list[Any] = []

    async def behave(server: Server) -> None:
        await server.accept()
        event = await server.hear()
        heard.append(event)
        await server.say(event.response())

    async with serving(behave, scheme) as url:
        async with connected(url, transport):
            pass
        await trio.sleep(0.02)
    assert isinstance(heard[0], CloseConnection)
    assert heard[0].code == 1000


async def test_the_servers_close_is_said_with_its_code(kind: tuple[str, str]) -> None:
    transport, scheme = kind

    async def behave(server: Server) -> None:
        await server.accept()
        await server.say(TextMessage("last"), CloseConnection(1001, "restart"))
        await server.hear()

    async with serving(behave, scheme) as url:
        await refused(url, transport, "1001")


async def test_a_reset_is_an_error_to_retry(kind: tuple[str, str]) -> None:
    transport, scheme = kind

    async def behave(server: Server) -> None:
        await server.accept()
        await server.say(TextMessage("x"))
        await trio.sleep(0.02)
        server.reset()

    async with serving(behave, scheme) as url:
        await refused(url, transport, "connection")


async def test_an_end_without_goodbye_is_an_error_to_retry(kind: tuple[str, str]) -> None:
    transport, scheme = kind

    async def behave(server: Server) -> None:
        await server.accept()
        raw = getattr(server.stream, "transport_stream", server.stream)
        await raw.send_eof()
        await trio.sleep(0.1)

    async with serving(behave, scheme) as url:
        await refused(url, transport, "connection")


@pytest.mark.parametrize("content", [b"\x81\x02\xff\xfe", b"\xc1\x01x", b"\x83\x00", b"\x81\x81\x00\x00\x00\x00x"])
async def test_a_server_that_breaks_the_protocol_is_left(kind: tuple[str, str], content: bytes) -> None:
    transport, scheme = kind

    async def behave(server: Server) -> None:
        await server.accept()
        await server.stream.send_all(content)
        while await server.stream.receive_some(4096):
            pass

    async with serving(behave, scheme) as url:
        await refused(url, transport, "closed")


async def test_a_message_above_the_limit_is_refused(kind: tuple[str, str]) -> None:
    transport, scheme = kind

    async def behave(server: Server) -> None:
        await server.accept()
        await server.say(TextMessage("x" * 20_000))
        while await server.stream.receive_some(4096):
            pass

    async with serving(behave, scheme) as url:
        await refused(url, transport, "1009", max_message_bytes=10_000)


async def test_an_http_refusal_is_said(kind: tuple[str, str]) -> None:
    transport, scheme = kind

    async def behave(server: Server) -> None:
        await server.stream.receive_some(4096)
        await server.stream.send_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await trio.sleep(0.05)

    async with serving(behave, scheme) as url:
        await refused(url, transport, "403" if transport == "native" else "cannot connect")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: AAAA=\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: ws://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        bytes(range(256)),
        b"",
    ],
    ids=["another key", "no upgrade", "redirect", "a page", "garbage", "nothing"],
)
async def test_an_answer_that_is_no_handshake_is_an_error_to_try_again_after(
    kind: tuple[str, str], answer: bytes
) -> None:
    transport, scheme = kind

    async def behave(server: Server) -> None:
        await server.stream.receive_some(4096)
        await server.stream.send_all(answer)

    async with serving(behave, scheme) as url:
        await refused(url, transport, "connect", connect_timeout=0.5)


async def test_a_server_that_never_answers_costs_the_connect_timeout(kind: tuple[str, str]) -> None:
    transport, scheme = kind

    async def behave(server: Server) -> None:
        await trio.sleep_forever()

    async with serving(behave, scheme) as url:
        await refused(url, transport, "no connection within 0.2 s", connect_timeout=0.2)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_certificate_of_a_stranger_is_refused(transport: str) -> None:
    async def behave(server: Server) -> None:
        await server.accept()

    async with serving(behave, "wss", STRANGER) as url:
        await refused(url, transport, "cannot connect")


async def test_native_tls_that_is_cut_off_is_said() -> None:
    async def behave(server: Server) -> None:
        await server.accept()
        await server.stream.transport_stream.send_eof()
        await trio.sleep(0.1)

    async with serving(behave, "wss") as url:
        await refused(url, "native", "TLS cut off")


async def test_native_gives_all_messages_of_one_read_at_once(kind: tuple[str, str]) -> None:
    transport, scheme = kind
    if transport != "native":
        pytest.skip("trio-websocket hands over one by one")

    async def behave(server: Server) -> None:
        await server.accept(extra=b"".join(b"\x81\x01%d" % (i % 10) for i in range(500)))
        await server.say(TextMessage("end"))
        await server.hear()

    async with serving(behave, scheme) as url, connected(url, transport) as stream:
        first = await stream.receive()
        assert first[:3] == [b"0", b"1", b"2"]
        assert len(first) >= 500 or len(first) + len(await stream.receive()) >= 500


async def test_what_is_longer_than_a_piece_or_a_read_stays_whole_and_in_order(kind: tuple[str, str]) -> None:
    """Messages that end in the next piece of a read, one longer than two pieces, and an end of the stream behind them."""
    transport, scheme = kind
    sent = [f"{i} " + "x" * (i * 37 % 1500) for i in range(1500)] + ["y" * (2 * PIECE_BYTES + 1), "last"]

    async def behave(server: Server) -> None:
        await server.accept()
        await server.say(*map(TextMessage, sent), CloseConnection(1001, "restart"))
        await server.hear()

    async with serving(behave, scheme) as url, connected(url, transport) as stream:
        assert await messages(stream, len(sent)) == sent


async def test_a_wait_gathers_messages_that_come_one_by_one(kind: tuple[str, str]) -> None:
    transport, scheme = kind

    async def behave(server: Server) -> None:
        await server.accept()
        for i in range(40):
            await server.say(TextMessage(str(i)))
            await trio.sleep(0.001)
        await server.hear()

    async with serving(behave, scheme) as url, connected(url, transport, wait=0.05) as stream:
        reads: list[list[Any]] = []
        while sum(map(len, reads)) < 40:
            reads.append(await stream.receive())
    assert len(reads) <= 10
    assert [m if isinstance(m, str) else m.decode() for read in reads for m in read] == [str(i) for i in range(40)]


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ws://", "ws://127.0.0.1:99999/", "ws://127.0.0.1:1/"])
async def test_native_says_what_is_wrong_with_an_address(url: str) -> None:
    await refused(url, "native", "cannot connect")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_waiting_for_company_loses_nothing_that_comes_between_two_reads(transport: str) -> None:
    async def behaviour(server: Server) -> None:
        await server.accept()
        for i in range(40):
            await server.say(TextMessage(f"message {i}"))
            await trio.sleep(0.002)
        await server.hear()

    async with serving(behaviour) as url, connected(url, transport, wait=0.005) as stream:
        assert await messages(stream, 40) == [f"message {i}" for i in range(40)]
