"""TLS: verified by default, refused in one line, and trusted where a file says whom."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from msgspec import structs

import wld
from tests.faults.rig import QUICK
from tests.faults.table import Row, check, told
from wld.bybit.source import BybitSource
from wld.bybit.trust import ssl_context
from wld.config import TRANSPORTS
from wld.exchange import ExchangeConfig, serve_exchange
from wld.exchange.accounting import balance
from wld.ring import Ring


@asynccontextmanager
async def secure_exchange(authority: trustme.CA) -> AsyncIterator[int]:
    """The simulated exchange behind TLS; gives its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_exchange, ExchangeConfig())

        async def pump(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
            while piece := await source.receive_some(65_536):
                await sink.send_all(piece)

        async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
            try:
                await stream.do_handshake()
                inner = await trio.open_tcp_stream("127.0.0.1", address.port)
                async with inner, trio.open_nursery() as pair:
                    pair.start_soon(pump, stream, inner)
                    await pump(inner, stream)
            except* (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
                pass

        listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
        await nursery.start(partial(trio.serve_listeners, serve, listeners))
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_certificate_of_nobody_is_refused_with_one_line(
    transport: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "wld.bybit.source")
    async with secure_exchange(trustme.CA()) as port:
        config = structs.replace(QUICK, name=f"wss://127.0.0.1:{port}/v5/public/linear", transport=transport)
        ring = Ring()
        with trio.move_on_after(0.5):
            await BybitSource(config).run(ring)
    assert ring.statistics().published == 0
    lines = [r.getMessage() for r in caplog.records if "cannot connect" in r.getMessage()]
    assert lines
    assert "certificate verify failed" in lines[0]
    assert "\n" not in lines[0]
    if transport == "native":
        check(Row("TLS failure", "a certificate that no trusted authority signed", "nothing: no data was taken",
                  (told(lines[0]),), balance([], [])))  # fmt: skip


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_private_authority_is_trusted_where_its_file_is_named(transport: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with secure_exchange(authority) as port:
        name = f"wss://127.0.0.1:{port}/v5/public/linear"
        config = structs.replace(QUICK, name=name, transport=transport, ca_file=str(tmp_path / "ca.pem"))
        ring = Ring()
        subscription = ring.subscribe("test")
        kinds: set[type[wld.Event]] = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(BybitSource(config).run, ring)
            with trio.fail_after(10):
                async for batch in subscription:
                    kinds.update(map(type, batch))
                    if {wld.BookSnapshot, wld.Instrument} <= kinds:  # over the socket, and over REST
                        break
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_authorities_that_is_none_is_one_line(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(wld.ConfigError, match=r"source\.ca_file: "):
        ssl_context(str(path))


def test_verification_is_on_and_cannot_be_switched_off() -> None:
    context = ssl_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
