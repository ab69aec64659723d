"""A server that does nothing but send prepared messages, in a process of its own: never the bottleneck (see `ceiling`).

`python -m benchmarks.blaster SPEC` with SPEC as JSON; prints its port, then what it sent, and serves until killed, over
as many connections as the client makes. Answers subscribes, and begins once as many topics are asked for as the spec
says. Over TLS each message is one record, as the venue's server is assumed to write. Without a rate everything is
encrypted before the first byte leaves, so that sending is a copy into the kernel and nothing else. With a rate each
message is its own segment, and its time of sending is noted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import struct
import sys
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks import messages

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CHUNK = 1 << 20


class Spec(msgspec.Struct):
    path: str
    """Messages, one a line."""
    topics: int
    """Subscribed topics after which the messages begin."""
    certificate: str | None = None
    """A PEM file with key and certificate: TLS."""
    rate: float | None = None
    """Messages a second; None: as fast as the client takes them."""
    bursts: list[tuple[float, float]] = []
    """(seconds, messages a second) in turn, instead of one rate."""
    rounds: int = 1
    """How often the messages are sent, each time as later ones."""
    times: str | None = None
    """File for the monotonic ns before and after each sending."""
    hold: float = 0.2
    """Seconds between the last subscribe and the first message."""


def frame(payload: bytes) -> bytes:
    """One unmasked text frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", 0x81, 126, size) + payload
    return struct.pack(">BBQ", 0x81, 127, size) + payload


class Pipe:
    """A socket, with or without TLS; `pack` is what one message becomes on the wire."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext | None) -> None:
        self.socket = connection
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._in, self._out, server_side=True)
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    connection.sendall(self._out.read())
                    self._in.write(connection.recv(65536))
            connection.sendall(self._out.read())

    def pack(self, content: bytes) -> bytes:
        if self._tls is None:
            return content
        self._tls.write(content)
        return self._out.read()

    def receive(self) -> bytes:
        while True:
            if self._tls is None:
                return self.socket.recv(65536)
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                received = self.socket.recv(65536)
                if not received:
                    return b""
                self._in.write(received)


def _unmask(content: bytes) -> tuple[list[bytes], bytes]:
    found = []
    while len(content) >= 2:
        size, at = content[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(content[2:4], "big"), 4
        if len(content) < at + 4 + size:
            break
        mask = content[at : at + 4]
        body = content[at + 4 : at + 4 + size]
        if content[0] & 0x0F == 1:
            found.append(bytes(b ^ mask[i & 3] for i, b in enumerate(body)))
        content = content[at + 4 + size :]
    return found, content


class Client:
    """A connection that subscribes; once started, read by a thread of its own until it leaves."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext | None, enough: Callable[[], None]) -> None:
        self.connection = connection
        self.context = context
        self.topics: list[str] = []
        self.pipe: Pipe | None = None
        self._enough = enough

    def start(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            self.pipe = Pipe(self.connection, self.context)
            if self._shake():
                self._listen()
        except OSError:
            pass

    def _shake(self) -> bool:
        pipe = self.pipe
        assert pipe is not None
        request = b""
        while b"\r\n\r\n" not in request:
            received = pipe.receive()
            if not received:
                return False
            request += received
        head, _, self._rest = request.partition(b"\r\n\r\n")
        key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key.split(b":", 1)[1].strip() + GUID).digest())
        answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.connection.sendall(pipe.pack(answer + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"))
        return True

    def _listen(self) -> None:
        pipe = self.pipe
        assert pipe is not None
        rest = self._rest
        while True:
            texts, rest = _unmask(rest)
            for text in texts:
                sent = json.loads(text)
                if sent["op"] != "subscribe":
                    continue
                done = {
                    "success": True,
                    "ret_msg": "",
                    "conn_id": "b",
                    "req_id": sent.get("req_id", ""),
                    "op": "subscribe",
                }
                self.connection.sendall(pipe.pack(frame(json.dumps(done).encode())))
                self.topics += sent["args"]
                self._enough()
            received = pipe.receive()
            if not received:
                return
            rest += received


def route(contents: list[bytes], clients: list[Client]) -> list[Pipe]:
    """The connection of each message: the one that asked for its topic."""
    pipes = [client.pipe for client in clients if client.pipe is not None and client.topics]
    if len(pipes) == 1:
        return pipes * len(contents)
    owner = {topic: client.pipe for client in clients for topic in client.topics}
    return [owner[content[10 : content.index(b'"', 10)].decode()] for content in contents]  # type: ignore[misc]


def prepare(pipes: list[Pipe], frames: list[bytes], rounds: int) -> list[tuple[Pipe, bytes]]:
    """What is to be sent, as it goes on the wire, in pieces of about a MiB."""
    waiting: dict[Pipe, list[bytes]] = {pipe: [] for pipe in pipes}
    size: dict[Pipe, int] = dict.fromkeys(pipes, 0)
    pieces: list[tuple[Pipe, bytes]] = []
    for turn in range(rounds):
        for pipe, content in zip(pipes, frames, strict=True):
            packed = pipe.pack(messages.later(content, turn))
            waiting[pipe].append(packed)
            size[pipe] += len(packed)
            if size[pipe] >= CHUNK:
                pieces.append((pipe, b"".join(waiting[pipe])))
                waiting[pipe].clear()
                size[pipe] = 0
    return [*pieces, *((pipe, b"".join(rest)) for pipe, rest in waiting.items())]


def blast(pieces: list[tuple[Pipe, bytes]]) -> None:
    """As fast as they are taken; no connection waits for another."""
    mine: dict[Pipe, list[bytes]] = {}
    for pipe, content in pieces:
        mine.setdefault(pipe, []).append(content)

    def send(pipe: Pipe) -> None:
        for content in mine[pipe]:
            pipe.socket.sendall(content)

    threads = [threading.Thread(target=send, args=(pipe,)) for pipe in mine]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def pace(
    pipes: list[Pipe], frames: list[bytes], rounds: int, phases: list[tuple[float, float]], times: array[int] | None
) -> None:
    """At a rate, each message its own segment; what is late is sent at once."""
    begun = time.monotonic()
    due, ends = begun, begun
    rates = iter(phases)
    rate = 0.0
    for turn in range(rounds):
        for pipe, content in zip(pipes, frames, strict=True):
            if due >= ends:
                seconds, rate = next(rates)
                due, ends = ends, ends + seconds
            ahead = due - time.monotonic()
            if ahead > 0.0002:
                time.sleep(ahead - 0.0001)
            packed = pipe.pack(messages.later(content, turn))
            before = time.monotonic_ns()
            pipe.socket.sendall(packed)
            if times is not None:
                times.extend((before, time.monotonic_ns()))
            due += 1 / rate


def main() -> None:
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    contents = messages.read(Path(spec.path))
    frames = [frame(message) for message in contents]
    context = None
    if spec.certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(spec.certificate)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    clients: list[Client] = []
    ready = threading.Event()

    def enough() -> None:
        if sum(len(client.topics) for client in clients) >= spec.topics:
            ready.set()

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clients.append(Client(connection, context, enough))
            clients[-1].start()  # only now: what it asks for counts once it is listed

    threading.Thread(target=accept, daemon=True).start()
    ready.wait()
    time.sleep(spec.hold)
    pipes = route(contents, clients)
    phases = spec.bursts or ([(1e9, spec.rate)] if spec.rate else [])
    times: array[int] | None = array("q") if spec.times is not None else None
    pieces = [] if phases else prepare(pipes, frames, spec.rounds)
    begun, cpu = time.monotonic(), time.process_time()
    try:
        if phases:
            pace(pipes, frames, spec.rounds, phases, times)
        else:
            blast(pieces)
    except OSError as error:
        print(f"the client left: {error}", file=sys.stderr)
    took = {
        "begun": begun, "wall": time.monotonic() - begun, "cpu": time.process_time() - cpu,
        "messages": len(contents) * spec.rounds,
        "topics": [len(client.topics) for client in clients],
        "args": [len(json.dumps(client.topics, separators=(",", ":"))) for client in clients],
    }  # fmt: skip
    if spec.times is not None and times is not None:
        Path(spec.times).write_bytes(times.tobytes())
    print(json.dumps(took), flush=True)
    threading.Event().wait()  # until killed: the connections stay open


if __name__ == "__main__":
    main()
