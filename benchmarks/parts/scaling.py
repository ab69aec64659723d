"""Whether N workers give N times: the real `wld --workers N`, what each pays a message, and what comes through."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

import wld
from benchmarks import messages
from benchmarks.bench import ROOT, Bench, Server, Table, spread
from benchmarks.messages import Mix
from benchmarks.parts.rates import events_in

SYMBOLS = 10
"""A worker."""
RATE = 5000.0
"""Messages a second and worker, where it is paced."""
TICKS = os.sysconf("SC_CLK_TCK")


def workers(bench: Bench) -> Table:
    """`wld --workers N`: CPU a message of each worker, paced, and as fast as they can with each held to one core."""
    rows = []
    for count in (1, 2, 4):
        runs = [_run(bench, count, rate=RATE)]
        rows.append(_line(f"{RATE:,.0f}/s each", count, runs))
    for count in range(1, min(2, os.cpu_count() or 1) + 1):
        runs = [_run(bench, count, rate=None) for _ in range(min(3, bench.repeats))]
        rows.append(_line("as fast as it goes, a core each", count, runs))
    head = ["", "workers", "us a message, of each", "messages/s together", "lost", "the server's own, us a message",
            "cores busy"]  # fmt: skip
    return head, rows


def _line(name: str, count: int, runs: list[dict[str, Any]]) -> list[str]:
    return [
        name, str(count), spread(us for run in runs for us in run["us"]), spread([run["rate"] for run in runs], 0),
        str(sum(run["lost"] for run in runs)), spread(run["server_us"] for run in runs),
        spread(run["cores"] for run in runs),
    ]  # fmt: skip


def _run(bench: Bench, count: int, rate: float | None) -> dict[str, Any]:
    mix = Mix(symbols=SYMBOLS * count)
    path, total = bench.stream(bench.count(int(RATE * 6) if rate else 150_000) * count, mix)
    folder = Path(tempfile.mkdtemp(dir=bench.folder))
    options: dict[str, Any] = {"rate": rate * count} if rate else {}
    with (
        bench.serve(path, 4 * mix.symbols, hold=0.5, **options) as server,
        _wld(bench, server, mix, count, folder, 0.005 if rate else 0.0) as pids,
    ):
        if not rate:
            for core, pid in enumerate(pids):
                _hold(pid, core)
        with _watched(pids, server.port) as seen:
            said = server.wait()
            while seen[-1][2]:
                time.sleep(0.02)
            end = seen[-1][0]
            time.sleep(1.5)  # the last flush
        before = next(cpu for at, cpu, _ in reversed(seen) if at <= said["begun"])
        used = [b - a for a, b in zip(before, seen[-1][1], strict=True)]
    shares = [0] * count
    names = list(mix.names())
    wanted = 0
    for content in messages.read(path):
        symbol = content[10 : content.index(b'"', 10)].rpartition(b".")[2].decode()
        shares[names.index(symbol) % count] += 1
        wanted += events_in(content)
    summary = wld.open_tape(folder).summary()
    got = sum(summary.counts.values()) - len(summary.gaps)
    shutil.rmtree(folder)
    wall = end - said["begun"]
    return {
        "us": [cpu / share * 1e6 for cpu, share in zip(used, shares, strict=True)], "rate": total / wall,
        "lost": wanted - got, "server_us": server.us, "cores": (sum(used) + said["cpu"]) / wall,
    }  # fmt: skip


@contextmanager
def _wld(bench: Bench, server: Server, mix: Mix, count: int, folder: Path, wait: float) -> Iterator[list[int]]:
    """The command line itself, recording; gives the pids of its workers, and ends it as a user would."""
    command = [
        sys.executable, "-m", "wld", "--source", server.url, "--symbols", ",".join(mix.names()), "--sinks", "recorder",
        "--data-dir", str(folder), "--log-level", "error", "--workers", str(count),
    ]  # fmt: skip
    for setting in (
        f'source.ca_file="{bench.authority}"', f"source.wait={wait}", "source.silence_timeout=3600.0", "source.first_data_timeout=120.0",
        'source.rest_url="http://127.0.0.1:9"',
    ):  # fmt: skip
        command += ["--set", setting]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        pids = [process.pid] if count == 1 else []
        while len(pids) < count and process.poll() is None:
            time.sleep(0.02)
            pids = _children(process.pid)
        yield pids
        process.send_signal(signal.SIGTERM)
        if process.wait(60):
            raise click.ClickException(f"wld --workers {count} ended with status {process.returncode}")
    finally:
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, task.read_text().split())
    return sorted(found)


def _hold(pid: int, core: int) -> None:
    """Keep a process and its threads, those to come as well, on one core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {core})


@contextmanager
def _watched(pids: list[int], port: int) -> Iterator[list[tuple[float, list[float], int]]]:
    """(monotonic time, CPU seconds of each, bytes between the server and its readers), each 20 ms."""
    seen: list[tuple[float, list[float], int]] = [(time.monotonic(), [_cpu(pid) for pid in pids], 1)]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            waiting = _waiting(port)
            seen.append((time.monotonic(), [_cpu(pid) for pid in pids], waiting))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _cpu(pid: int) -> float:
    """User and system time of a process with all its threads, s (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _waiting(port: int) -> int:
    """Bytes in the kernel's queues of the connections with this port, at both ends (proc_net_tcp(5))."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if f":{port:04X}" in (fields[1][-5:], fields[2][-5:]) and fields[3] == "01":
            sending, _, receiving = fields[4].partition(":")
            total += int(sending, 16) + int(receiving, 16)
    return total
