"""Owns what a Redis URL means, and the client made from it; the only module here that imports coredis."""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from wld import ConfigError

DEFAULT_STREAM = "wld"
START = ("now", "oldest")
CONNECT_TIMEOUT_S = 5.0
STREAM_TIMEOUT_S = 10.0
"""Above the longest blocking read."""


class Address(Struct, frozen=True):
    """A Redis server or cluster, and what is read from it."""

    url: str
    """Without password, for messages."""
    host: str
    port: int
    db: int
    username: str | None
    password: str | None
    is_tls: bool
    is_cluster: bool
    streams: tuple[str, ...]
    consumer: str | None
    """Under this name the reader's position is kept; None: not kept."""
    start: str
    """Where a consumer without a position begins: `now`, or the `oldest` entry there is."""
    ca_file: str | None = None
    """PEM file of the authority to trust with TLS; None: those of the system."""


def parse(url: str, key: str) -> Address:
    """`redis[s]://[user:password@]host[:port][/db][?stream=a,b&consumer=NAME&from=now|oldest&cluster=true&ca_file=PATH]`.

    Raises:
        ConfigError: naming `key` and what is accepted.
    """

    def refuse(accepted: str, got: object) -> ConfigError:
        return ConfigError(f"{key}: expected {accepted}, got {got!r}")

    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise refuse("redis://HOST:PORT/DB", url) from None
    shown = re.sub(r"//[^/@]*@", "//", url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise refuse("redis://HOST:PORT/DB or rediss://…", shown)
    db = parts.path.strip("/") or "0"
    if not db.isdecimal():
        raise refuse("a number of a database after the host, such as redis://localhost/0", shown)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = ("stream", "consumer", "from", "cluster", "ca_file")
    for name in options:
        if name not in known:
            raise refuse(f"only {', '.join(known)} after the ?", name)
    streams = tuple(name.strip() for name in options.get("stream", DEFAULT_STREAM).split(",") if name.strip())
    start = options.get("from", "now")
    if not streams:
        raise refuse("at least one name in stream=", options.get("stream"))
    if start not in START:
        raise refuse(f"from={' or from='.join(START)}", start)
    if options.get("cluster", "false") not in ("true", "false"):
        raise refuse("cluster=true or cluster=false", options["cluster"])
    if "ca_file" in options and parts.scheme != "rediss":
        raise refuse("ca_file= with rediss:// only", shown)
    return Address(
        shown, parts.hostname, port, int(db),
        unquote(parts.username) if parts.username else None, unquote(parts.password) if parts.password else None,
        parts.scheme == "rediss", options.get("cluster") == "true", streams, options.get("consumer") or None, start,
        options.get("ca_file") or None,
    )  # fmt: skip


def own_name(data_dir: str | os.PathLike[str]) -> str:
    """The name of a publisher, and of a recorder that reads: this host and the data directory, the same after a restart."""
    return f"{socket.gethostname()}:{os.path.abspath(data_dir)}"


def load() -> None:
    """Import the client's library, which takes most of a second: call it from a worker thread."""
    import coredis
    import coredis.retry  # noqa: F401


def make_client(address: Address) -> Any:
    """A client to enter with `async with`; its requests raise what `failures()` lists.

    Raises:
        ConfigError: `ca_file` cannot be read or holds no certificate.
    """
    import coredis

    logging.getLogger("coredis").setLevel(logging.CRITICAL)  # what fails is said once, by whoever asked
    common: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "stream_timeout": STREAM_TIMEOUT_S,
        "retry_policy": coredis.retry.NoRetryPolicy(),
    }
    if address.is_tls:
        common |= {"ssl": True, "ssl_context": _ssl_context(address.ca_file)}
    if address.is_cluster:
        return coredis.RedisCluster(
            startup_nodes=[coredis.connection.TCPLocation(address.host, address.port)], **common
        )
    return coredis.Redis(address.host, address.port, address.db, client_name="wld", **common)


def _ssl_context(ca_file: str | None) -> ssl.SSLContext:
    """One that verifies certificate and host name; coredis left to itself lets any host's certificate pass."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"ca_file={ca_file}: cannot be read as PEM certificates: {error.strerror}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def failures() -> tuple[type[Exception], ...]:
    """What a request raises when the server is away, refuses, or fails."""
    import anyio
    import coredis

    return (
        coredis.exceptions.RedisError, OSError, TimeoutError, anyio.ClosedResourceError, anyio.BrokenResourceError,
        anyio.EndOfStream,
    )  # fmt: skip


def describe(error: BaseException) -> str:
    """What a failed request says, in one line, with the cause that coredis keeps behind it (a certificate, say)."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
            continue
        text = " ".join(str(cause).split()) or type(cause).__name__
        if text not in texts:
            texts.append(text)
        cause = cause.__cause__
    return ": ".join(texts)
