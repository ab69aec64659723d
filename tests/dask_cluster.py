"""Owns a real Dask cluster of several processes for tests: a scheduler and workers on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_S = 60.0


class Cluster:
    """Its address and its processes."""

    def __init__(self, address: str, workers: list[subprocess.Popen[bytes]]) -> None:
        self.address = address
        self.workers = workers


@contextmanager
def open_cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """A scheduler and so many workers, each a process of one thread, ended with the block."""
    meeting = folder / "scheduler.json"
    run = [sys.executable, "-m", "dask"]
    root = str(Path(__file__).parents[1])  # workers import the tests' own units
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))}
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        with (folder / "dask.log").open("ab") as log:
            process = subprocess.Popen(
                [*run, *arguments, "--scheduler-file", str(meeting)],
                cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        processes.append(process)
        return process

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        limit = time.monotonic() + LIMIT_S
        while not meeting.exists() or not meeting.read_text().endswith("}"):
            assert time.monotonic() < limit, (folder / "dask.log").read_text()
            time.sleep(0.1)
        address = str(json.loads(meeting.read_text())["address"])
        started = [
            start("worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard")
            for _ in range(workers)
        ]
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=LIMIT_S)
        yield Cluster(address, started)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
