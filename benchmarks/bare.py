"""The least that a reader can cost: the same stream over TLS, decrypted, counted, and nothing else. What the program costs
more is the program's; what this costs is the kernel's, OpenSSL's and Python's.

`python -m benchmarks.bare KIND URL TOPICS MESSAGES CA WAIT` prints CPU seconds a second after the first third of the
messages. KIND `socket` reads a blocking socket in a bare loop, `trio` waits in a Trio task. WAIT: seconds after each read.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

import trio

from wld import process

KINDS = ("socket", "trio")
READ_BYTES = 256 * 1024
RECORD = 16 * 1024


class Reader:
    """A connection that has subscribed, and how many records came."""

    def __init__(self, url: str, topics: int, authority: str) -> None:
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname or "", address.port or 443))
        self._incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=authority)
        self._tls = context.wrap_bio(self._incoming, outgoing, server_hostname=address.hostname)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.socket.sendall(outgoing.read())
                self._incoming.write(self.socket.recv(READ_BYTES))
        text = json.dumps({"op": "subscribe", "args": ["x"] * topics}).encode()
        self._tls.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            + bytes((0x81, 0x80 | len(text)))
            + b"\0\0\0\0"
            + text
        )
        self.socket.sendall(outgoing.read())
        self._room = memoryview(bytearray(RECORD))
        self.seen = 0

    def read(self) -> None:
        """One read of the socket; each record is a message."""
        self._incoming.write(self.socket.recv(READ_BYTES))
        try:
            while self._tls.read(RECORD, self._room):  # type: ignore[arg-type]  # any buffer will do
                self.seen += 1
        except ssl.SSLWantReadError:
            pass


def main() -> None:
    kind, url, topics, count, authority, wait = sys.argv[1:7]
    process.tune()
    reader = Reader(url, int(topics), authority)
    first, last, pause = int(count) // 3, int(count), float(wait)

    async def by_trio(until: int) -> None:
        reader.socket.setblocking(False)
        while reader.seen < until:
            await trio.lowlevel.wait_readable(reader.socket)
            reader.read()
            if pause:
                await trio.sleep(pause)

    def by_socket(until: int) -> None:
        while reader.seen < until:
            reader.read()
            if pause:
                time.sleep(pause)

    def go(until: int) -> None:
        if kind == "trio":
            trio.run(by_trio, until)
        else:
            by_socket(until)

    go(first)
    begun, cpu = time.monotonic(), time.process_time()
    go(last)
    print((time.process_time() - cpu) / (time.monotonic() - begun))


if __name__ == "__main__":
    main()
