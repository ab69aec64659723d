"""The native transport's TLS against OpenSSL's own server end: records of any size, cut anywhere, ended in every way."""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from wld.bybit.transport import PIECE_BYTES, READ_BYTES, _Tls

AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("127.0.0.1")
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Peer:
    """The server's end; what it says is sent when and as the test wants."""

    def __init__(self, stream: trio.SocketStream, version: ssl.TLSVersion) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = version
        CERTIFICATE.configure_cert(context)
        self.stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                self._incoming.write(await self.stream.receive_some())
        await self._flush()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self.stream.send_all(self._outgoing.read())

    def record(self, content: bytes) -> bytes:
        """One record on the wire."""
        self.tls.write(content)
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """TLS's own."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()


@asynccontextmanager
async def connected(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> AsyncIterator[tuple[_Tls, Peer]]:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    tls, peer = _Tls(ours, context, "127.0.0.1"), Peer(theirs, version)
    async with ours, theirs:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.handshake)
                await tls.handshake()
            yield tls, peer


async def received(tls: _Tls, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += b"".join(await tls.receive())
    return content


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.sampled_from((1, 5, 57, 396, 1500, 16_384)) | st.integers(1, 16_384), min_size=1, max_size=60),
    cuts=st.lists(st.floats(0, 1), max_size=20),
    version=st.sampled_from(VERSIONS),
)
def test_records_of_any_size_cut_anywhere_stay_whole_and_in_order(
    sizes: list[int], cuts: list[float], version: ssl.TLSVersion
) -> None:
    async def run() -> None:
        async with connected(version) as (tls, peer):
            await peer.stream.send_all(peer.record(b"!"))
            assert await received(tls, 1) == b"!"  # and the tickets of TLS 1.3 before it
            sent = [bytes((i % 251,)) * size for i, size in enumerate(sizes)]
            wire = memoryview(b"".join(map(peer.record, sent)))
            edges = {int(cut * len(wire)) for cut in cuts} | set(range(0, len(wire), PIECE_BYTES)) | {len(wire)}
            got: list[bytes] = []
            for start, end in itertools.pairwise(sorted(edges)):
                tls._take(wire[start:end], got.append)
            assert b"".join(got) == b"".join(sent)

    trio.run(run)


async def test_more_than_one_read_takes_comes_in_order_in_both_kinds_of_pieces() -> None:
    """Small records and the largest by turns, more of them than one read takes."""
    async with connected() as (tls, peer):
        sent = [b"%07d " % i * (2048 if i % 50 == 0 else 50) for i in range(3000)]
        wire = b"".join(map(peer.record, sent))
        assert len(wire) > READ_BYTES
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.stream.send_all, wire)
            assert await received(tls, sum(map(len, sent))) == b"".join(sent)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("count", [1, 100])
async def test_a_goodbye_behind_records_ends_cleanly_after_them(version: ssl.TLSVersion, count: int) -> None:
    async with connected(version) as (tls, peer):
        await peer.stream.send_all(b"".join(peer.record(b"x" * 400) for _ in range(count)) + peer.goodbye())
        assert await received(tls, 400 * count) == b"x" * 400 * count
        assert await tls.receive() == []
        assert not tls.is_unclean


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("torn", [0, 9])
async def test_an_end_without_goodbye_gives_what_came_and_is_told(count: int, torn: int) -> None:
    async with connected() as (tls, peer):
        wire = b"".join(peer.record(b"x" * 400) for _ in range(count))
        await peer.stream.send_all(wire + peer.record(b"lost")[:torn])
        await peer.stream.send_eof()
        assert await received(tls, 400 * count) == b"x" * 400 * count
        assert await tls.receive() == []
        assert tls.is_unclean


@pytest.mark.parametrize("count", [1, 100])
async def test_a_record_that_was_changed_on_the_way_is_an_error_after_what_came_before_it(count: int) -> None:
    async with connected() as (tls, peer):
        wire = b"".join(peer.record(b"x" * 400) for _ in range(count))
        bad = bytearray(peer.record(b"y" * 400))
        bad[-1] ^= 1
        await peer.stream.send_all(wire + bad + peer.record(b"behind it"))
        assert await received(tls, 400 * count) == b"x" * 400 * count
        with pytest.raises(ssl.SSLError, match=r"(?i)mac|decrypt"):
            await tls.receive()


async def test_what_is_no_tls_at_all_is_an_error() -> None:
    async with connected() as (tls, peer):
        await peer.stream.send_all(b"HTTP/1.1 500 Oops\r\n\r\n" * 2000)
        with pytest.raises(ssl.SSLError):
            await tls.receive()
