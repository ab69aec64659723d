"""Streams in a real Redis Cluster of three nodes: each on the node of its own name, read together."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import wld
from tests.redis import test_redis
from tests.redis.server import PROGRAM, needs_redis
from tests.redis.test_redis import publish, read, trades

pytestmark = [needs_redis, pytest.mark.slow, *test_redis.pytestmark[1:]]
SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))


def command(port: int, *words: object) -> str:
    """One inline command; the first line of its answer, or the whole of a bulk one."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(" ".join(map(str, words)).encode() + b"\r\n")
        time.sleep(0.02)
        return client.recv(1 << 16).decode()


class Cluster:
    """Three masters that share the slots."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        self.processes = []
        self.ports: list[int] = []
        for n in range(3):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            place = folder / str(n)
            place.mkdir()
            self.ports.append(port)
            bus = 20_000 + port % 10_000
            self.processes.append(
                subprocess.Popen(
                    [PROGRAM, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place), "--save", "",
                     "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000"],
                    stdout=subprocess.DEVNULL,
                )
            )  # fmt: skip
            self._until(port, "+PONG", "PING")
            command(port, "CLUSTER", "ADDSLOTSRANGE", *SLOTS[n])
        for port in self.ports[1:]:
            command(self.ports[0], "CLUSTER", "MEET", "127.0.0.1", port, 20_000 + port % 10_000)
        for port in self.ports:
            self._until(port, "cluster_state:ok", "CLUSTER", "INFO")
            self._until(port, "cluster_known_nodes:3", "CLUSTER", "INFO")
        self.url = f"redis://127.0.0.1:{self.ports[0]}/0"

    def _until(self, port: int, answer: str, *words: str) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                if answer in command(port, *words):
                    return
            except OSError:
                pass
            assert time.monotonic() < end, f"{words}: no {answer}"
            time.sleep(0.05)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


async def test_streams_spread_over_the_nodes_and_are_read_together(server: Cluster) -> None:
    streams = {"wld:a": "WLDUSDT", "wld:b": "BTCUSDT", "wld:c": "ETHUSDT", "wld:d": "SOLUSDT"}
    for stream, symbol in streams.items():
        await publish(server, trades(0, 100, symbol), f"{stream}&cluster=true")  # type: ignore[arg-type]
    keys = [command(port, "DBSIZE") for port in server.ports]
    assert sum(int(answer[1:]) for answer in keys) == 8
    assert sum(answer != ":0\r\n" for answer in keys) >= 2
    query = f"stream={','.join(streams)}&cluster=true&from=oldest&consumer=me"
    seen = await read(server, 400, query)  # type: ignore[arg-type]
    for symbol in streams.values():
        assert [event for event in seen if getattr(event, "symbol", "") == symbol] == trades(0, 100, symbol)
    for stream, symbol in streams.items():
        await publish(server, trades(100, 5, symbol), f"{stream}&cluster=true")  # type: ignore[arg-type]
    more = await read(server, 24, query)  # type: ignore[arg-type]
    assert sum(isinstance(event, wld.Trade) for event in more) == 20
