"""`python -m benchmarks`: everything side by side on the same messages in one run; prints tables, fills the docs' page.

CPU is process time of the program under test, divided by messages; runs of what is compared are interleaved, and a
figure is the median with the least and the most beside it. The server is another process.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import pty
import shutil
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import trustme

import wld
from benchmarks import check, messages, peers
from wld import process
from wld.bybit import columns as columns_module
from wld.bybit.protocol import BybitProtocol, topics_for
from wld.config import TOPICS
from wld.ring import Ring

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation-performance.md"
PLOT = ROOT / "docs" / "performance-growth.svg"


class Bench:
    """A folder for a run, its certificate, its prepared streams."""

    def __init__(self, folder: Path, scale: float, repeats: int) -> None:
        self.folder = folder
        self.scale = scale
        self.repeats = repeats
        authority = trustme.CA()
        made = authority.issue_cert("127.0.0.1")
        self.certificate, self.authority = folder / "server.pem", folder / "ca.pem"
        self.certificate.write_bytes(made.private_key_pem.bytes() + made.cert_chain_pems[0].bytes())
        self.authority.write_bytes(authority.cert_pem.bytes())
        self._streams: dict[str, tuple[Path, int]] = {}

    def count(self, full: int) -> int:
        """A number of messages, scaled."""
        return max(2000, int(full * self.scale))

    def stream(self, count: int, **options: Any) -> tuple[Path, int]:
        """(file, messages in it) of a seeded stream."""
        key = f"{count} {sorted(options.items())}"
        if key not in self._streams:
            path = self.folder / f"stream{len(self._streams)}"
            self._streams[key] = (path, messages.write(path, messages.stream(count, **options)))
        return self._streams[key]

    def blast(self, path: Path, topics: int, tls: bool, **options: Any) -> tuple[subprocess.Popen[str], str]:
        """A server, and its URL."""
        spec = {"path": str(path), "topics": topics, "certificate": str(self.certificate) if tls else None, **options}
        server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.blaster", json.dumps(spec)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        port = int(server.stdout.readline())
        return server, f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/v5/public/linear"

    def run(
        self, *, count: int, tls: bool = True, symbols: int = 1, levels: float = 14.9, unique: bool = False,
        server: dict[str, Any] | None = None, keep: bool = False, timeout: float = 300, is_drawn: bool = False,
        **client: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """The whole program against a server; what it says of itself."""
        path, total = self.stream(count, symbols=symbols, levels=levels, unique=unique)
        process_, url = self.blast(path, 4 * symbols, tls, **(server or {}))
        data_dir = tempfile.mkdtemp(dir=self.folder)
        spec = {
            "url": url, "symbols": list(messages.symbols_of(symbols)), "messages": total, "data_dir": data_dir, **client,
        }  # fmt: skip
        try:
            with terminal() if is_drawn else nullcontext() as tty:
                spec["terminal"] = tty
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.client", json.dumps(spec)], cwd=ROOT, text=True,
                    capture_output=True, check=False, timeout=timeout, pass_fds=() if tty is None else (tty,),
                    env={**os.environ, "SSL_CERT_FILE": str(self.authority), "TERM": "xterm-256color", "COLORTERM": "truecolor"},
                )  # fmt: skip
        finally:
            process_.kill()
            said = process_.communicate()[0]
        if done.returncode:
            raise click.ClickException(f"the client failed: {done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        result["us"] = result["cpu"] / result["messages"] * 1e6
        result["server"] = json.loads(said.splitlines()[0]) if said.strip() else {}
        result["dir"], result["path"] = data_dir, str(path)
        if not keep:
            shutil.rmtree(data_dir)
        return result


@contextmanager
def terminal(rows: int = 50, columns: int = 200) -> Iterator[int]:
    """A pseudo-terminal that somebody reads: the end to draw on."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read() -> None:
        with suppress(OSError):  # the other end is closed
            while os.read(master, 1 << 16):
                pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield slave
    finally:
        os.close(slave)
        reader.join(5)
        os.close(master)


def spread(values: list[float], digits: int = 2) -> str:
    """`median (least to most)`."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


Table = tuple[list[str], list[list[str]]]


def markdown(table: Table) -> str:
    """A table in Markdown."""
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def end_to_end(bench: Bench) -> Table:
    """Frame to tape: CPU a message, recorder on, one process; every event of one run compared with decimal."""
    count = bench.count(100_000)
    kinds: dict[str, dict[str, Any]] = {
        "native, columns": {},
        "native, columns, sizes that hardly repeat": {"unique": True},
        "native, rows": {"rows_only": True},
        "trio-websocket": {"settings": {"source.transport": "trio-websocket"}},
    }
    found: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for repeat in range(bench.repeats):
        for name, options in kinds.items():
            for tls in (False, True):
                if repeat and name == "trio-websocket":
                    continue
                check_it = repeat == 0 and name != "native, rows"
                result = bench.run(count=count, tls=tls, keep=check_it, **options)
                if check_it:
                    events = check.compare(wld.open_tape(result["dir"]), messages.read(Path(result["path"])))
                    result["checked"] = events
                    shutil.rmtree(result["dir"])
                found.setdefault((name, tls), []).append(result)
    base = {tls: statistics.median(r["us"] for r in found["native, columns", tls]) for tls in (False, True)}
    rows = []
    for name in kinds:
        plain, tls = found[name, False], found[name, True]
        rows.append(
            [
                name, spread([r["us"] for r in plain]), spread([r["us"] for r in tls]),
                f"{statistics.median(r['us'] for r in tls) / base[True]:.2f}x",
                f"{1e6 / statistics.median(r['us'] for r in tls):,.0f}",
                f"{tls[0]['messages'] / tls[0]['batches']:.0f}",
                spread([r["seal_cpu"] / r["messages"] * 1e6 for r in tls]),
                f"{tls[0].get('checked', 0):,} equal" if "checked" in tls[0] else "",
            ]
        )  # fmt: skip
    head = ["", "plain, us", "TLS, us", "TLS against the first", "messages/s a core, TLS", "messages a read",
            "sealing, us a message", "events compared with decimal"]  # fmt: skip
    return head, rows


def views(bench: Bench) -> Table:
    """Frame to tape over TLS with the heat map and telemetry drawn on a pseudo-terminal of 200 x 50, 5 frames a second."""
    count = bench.count(200_000)
    both: dict[str, Any] = {
        "sinks": ("recorder", "heatmap", "telemetry"), "is_drawn": True, "settings": {"screen.fps": 5},
    }  # fmt: skip
    kinds: dict[str, dict[str, Any]] = {
        "recorder": {}, "recorder and both views": both,
        "recorder and both views, which take events one by one": {**both, "by_event": True},
    }  # fmt: skip
    rows = []
    for symbols in (1, 20):
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(bench.repeats if symbols == 1 else 1):
            for name, options in kinds.items():
                found.setdefault(name, []).append(bench.run(count=count, symbols=symbols, **options))
        base = statistics.median(r["us"] for r in found["recorder"])
        for name, results in found.items():
            us = [r["us"] for r in results]
            ratio, extra = statistics.median(us) / base, statistics.median(us) - base
            dropped = sum(r["dropped"] for r in results)
            frames = results[0].get("frames", 0)
            rows.append([str(symbols), name, spread(us), f"{ratio:.2f}x", f"{extra:+.2f}", str(frames), str(dropped)])
    return ["symbols", "TLS", "us a message", "against the recorder", "us more", "frames", "dropped"], rows


def transports(bench: Bench) -> Table:
    """Receiving alone: messages are counted, not decoded."""
    path, total = bench.stream(bench.count(100_000), symbols=1, levels=14.9, unique=False)
    found: dict[tuple[str, bool], list[float]] = {}
    skipped: dict[str, str] = {}
    for repeat in range(bench.repeats):
        for name, module in peers.TRANSPORTS.items():
            if not peers.is_installed(module):
                skipped[name] = f"not installed ({module})"
                continue
            for tls in (False, True):
                if repeat and name == "trio-websocket":
                    continue
                server, url = bench.blast(path, 4, tls)
                try:
                    done = subprocess.run(
                        [sys.executable, "-m", "benchmarks.peers", name, url, "4", str(total), str(bench.authority)],
                        cwd=ROOT, text=True, capture_output=True, check=False, timeout=200,
                    )  # fmt: skip
                finally:
                    server.kill()
                    server.communicate()
                if done.returncode:
                    skipped[name] = (done.stderr.strip().splitlines() or ["failed"])[-1][:80]
                    break
                found.setdefault((name, tls), []).append(float(done.stdout.split()[-1]) / total * 1e6)
    rows = []
    for name in peers.TRANSPORTS:
        if name in skipped:
            rows.append([name, f"skipped: {skipped[name]}", "", ""])
            continue
        ratio = statistics.median(found[name, True]) / statistics.median(found["native", True])
        rows.append([name, spread(found[name, False]), spread(found[name, True]), f"{ratio:.2f}x"])
    return ["transport", "plain, us", "TLS, us", "TLS against native"], rows


def ceiling(bench: Bench) -> Table:
    """How fast the server is when nobody slows it: its reader discards bytes without looking at them."""
    import socket

    rows = []
    for tls in (False, True):
        path, total = bench.stream(bench.count(100_000), symbols=1, levels=14.9, unique=False)
        server, url = bench.blast(path, 4, tls)
        port = int(url.rpartition(":")[2].partition("/")[0])
        raw = socket.create_connection(("127.0.0.1", port))
        stream: Any = raw
        if tls:
            stream = ssl.create_default_context(cafile=str(bench.authority)).wrap_socket(
                raw, server_hostname="127.0.0.1"
            )
        stream.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        text = json.dumps({"op": "subscribe", "args": ["x"] * 4}).encode()
        stream.sendall(bytes((0x81, 0x80 | len(text))) + b"\0\0\0\0" + text)
        # TLS is not decrypted here: past the handshake only the bytes count.
        raw_fd = raw if not tls else socket.socket(fileno=os.dup(stream.fileno()))
        raw_fd.setblocking(True)
        raw_fd.settimeout(1.0)
        try:
            while raw_fd.recv(1 << 20):
                pass
        except TimeoutError:
            pass
        assert server.stdout is not None
        took = json.loads(server.stdout.readline())
        server.kill()
        server.communicate()
        raw_fd.close()
        stream.close()
        rows.append(["TLS, a record a message" if tls else "plain", f"{total / took['wall']:,.0f}"])
    return ["server", "messages/s it can send"], rows


def decoding(bench: Bench) -> Table:
    """Decoding alone, in this process: rows and columns by the size of a read, and other libraries' handlers."""
    process.tune()
    content = list(messages.stream(bench.count(20_000)))
    first = 2
    sizes: list[tuple[str, int | None]] = [
        ("rows", None), *[(f"columns, {n} a read", n) for n in (8, 16, 40, 165, 600)],
    ]  # fmt: skip
    found: dict[str, list[float]] = {}
    usual = columns_module.COLUMNS_FROM
    for _ in range(max(3, bench.repeats)):
        for name, size in sizes:
            columns_module.COLUMNS_FROM = 1 if size else 1 << 60
            protocol = BybitProtocol(topics_for(messages.symbols_of(1), TOPICS, 50))
            protocol.open(0)
            protocol.receive_read(content[:first], 1)
            begun = time.process_time()
            for i in range(first, len(content), size or 165):
                protocol.receive_read(content[i : i + (size or 165)], i)
            found.setdefault(name, []).append((time.process_time() - begun) / (len(content) - first) * 1e6)
    columns_module.COLUMNS_FROM = usual
    rows = [[name, spread(found[name])] for name, _ in sizes]
    for name, (module, run) in peers.HANDLERS.items():
        if not peers.is_installed(module):
            rows.append([name, f"skipped: not installed ({module})"])
            continue
        try:
            took, done = run(content, messages.symbols_of(1))
            if not done:
                rows.append([name, "skipped: it took none of the messages"])
                continue
            note = "" if done > 0.95 * len(content) else f" ({done:,} of {len(content):,} messages)"
            rows.append([name, f"{took / done * 1e6:.2f}{note}"])
        except Exception as error:
            rows.append([name, f"skipped: {type(error).__name__}: {str(error)[:80]}"])
    return ["", "us a message"], rows


def ring(bench: Bench) -> Table:
    """The ring alone: one publication, three sinks woken."""
    import trio

    async def run(size: int, count: int) -> float:
        ring_ = Ring()
        events = [wld.Gap(gap_id=i, reason=wld.GapReason.SILENCE) for i in range(size)]

        async def sink(subscription: wld.Subscription) -> None:
            async for _ in subscription:
                pass

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(sink, ring_.subscribe(name, capacity=10**9))
            await trio.lowlevel.checkpoint()
            begun = time.process_time()
            for _ in range(count):
                ring_.publish(events)
                await trio.lowlevel.checkpoint()
            took = time.process_time() - begun
            ring_.close()
        return took / (count * size) * 1e6

    rows = []
    for size in (1, 4, 64, 512):
        rows.append([str(size), spread([trio.run(run, size, 3000) for _ in range(3)], 3)])
    return ["events a publication", "us an event, three sinks"], rows


def _latencies(bench: Bench, rate: float, seconds: float, **client: Any) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    count = int(rate * seconds)
    times, arrivals = bench.folder / "times", bench.folder / "arrivals"
    path, total = bench.stream(count)
    result = bench.run(
        count=count, server={"rate": rate, "times": str(times)}, arrivals=str(arrivals), timeout=seconds + 60, **client
    )
    sent = np.frombuffer(times.read_bytes(), np.int64)
    pairs = np.frombuffer(arrivals.read_bytes(), np.int64).reshape(-1, 2)
    sizes = []
    for content in messages.read(path):
        sizes.append(content.count(b'"i":"') if content[10:11] == b"p" else 1)
    last_event = np.cumsum(sizes)
    where = np.searchsorted(pairs[:, 0], last_event)
    known = where < len(pairs)
    delays = (pairs[where[known], 1] - sent[: len(last_event)][known]) / 1e6
    return delays[total // 5 :], result


def latency(bench: Bench) -> Table:
    """From the sender's send() over the kernel and TLS to a sink, recorder writing, 5,000 messages a second."""
    rows = []
    for wait in (0.0, 0.001, 0.005, 0.02):
        delays, result = _latencies(bench, 5000, 10 * bench.scale + 2, settings={"source.wait": wait})
        p50, p99, p999 = np.percentile(delays, (50, 99, 99.9))
        rows.append(
            [f"{wait * 1000:g} ms", f"{p50:.2f}", f"{p99:.2f}", f"{p999:.2f}", f"{result['cpu'] / result['wall']:.0%}"]
        )
    return ["source.wait", "p50, ms", "p99, ms", "p99.9, ms", "of a core"], rows


def paced(bench: Bench) -> Table:
    """Share of one core at real rates, TLS, each message its own segment and record, recorder on."""
    waits = (0.0, 0.005, 0.02)
    rows = []
    for rate in (100, 1000, 5000, 20_000):
        line = [f"{rate:,}"]
        for wait in waits:
            seconds = max(4.0, 8 * bench.scale)
            result = bench.run(
                count=int(rate * seconds), server={"rate": float(rate)}, settings={"source.wait": wait}, linger=0.05
            )
            line.append(f"{result['cpu'] / result['wall']:.1%}")
        rows.append(line)
    return ["messages/s", *(f"wait {wait * 1000:g} ms" for wait in waits)], rows


def breadth(bench: Bench, minutes: float) -> Table:
    """500 symbols, all topics: bursts of 60,000 a second for two seconds, then (`--long`) 20,000 a second."""
    rows = []
    burst = [(1.0, 5_000.0), (2.0, 60_000.0), (1e9, 5_000.0)]
    result = bench.run(count=135_000, symbols=500, server={"bursts": burst}, settings={"source.wait": 0.005}, keep=True)
    events = check.compare(wld.open_tape(result["dir"]), messages.read(Path(result["path"])))
    gaps = len(wld.open_tape(result["dir"]).summary().gaps)
    rows.append(
        [
            "bursts of 60,000/s for 2 s", f"{events:,}", str(result["dropped"]), str(gaps), f"{result['peak']:,}",
            f"{result['rss_mb']:.0f} MB", f"{result['us']:.2f}",
        ]
    )  # fmt: skip
    shutil.rmtree(result["dir"])
    if minutes:
        seconds = 60 * minutes
        result = bench.run(
            count=int(20_000 * seconds), symbols=500, server={"rate": 20_000.0}, settings={"source.wait": 0.005},
            keep=True, timeout=seconds + 300,
        )  # fmt: skip
        gaps = len(wld.open_tape(result["dir"]).summary().gaps)
        rows.append(
            [
                f"20,000/s for {minutes:g} min", f"{result['events']:,}", str(result["dropped"]), str(gaps),
                f"{result['peak']:,}", f"{result['rss_mb']:.0f} MB", f"{result['us']:.2f}",
            ]
        )  # fmt: skip
        shutil.rmtree(result["dir"])
    return ["500 symbols", "events", "dropped", "gaps", "most waiting in the ring", "memory", "us a message"], rows


def growth(bench: Bench) -> Table:
    """Cost a message as one thing grows, TLS, recorder on; each point the median of two runs."""
    count = bench.count(60_000)
    points: dict[str, list[tuple[float, float]]] = {}
    for _ in range(2):
        for n in (1, 10, 100, 500):
            points.setdefault("symbols", []).append((n, bench.run(count=count, symbols=n)["us"]))
        for levels in (2.0, 15.0, 60.0):
            points.setdefault("levels a delta", []).append((levels, bench.run(count=count // 2, levels=levels)["us"]))
        for watchers in (0, 2, 8):
            points.setdefault("sinks", []).append((watchers + 2, bench.run(count=count, watchers=watchers)["us"]))
        for factor in (0.5, 1.0, 3.0):
            points.setdefault("messages on the tape", []).append(
                (int(count * factor), bench.run(count=int(count * factor))["us"])
            )
    medians = {
        name: [(x, statistics.median(y for x_, y in found if x_ == x)) for x in sorted({x for x, _ in found})]
        for name, found in points.items()
    }
    PLOT.write_text(plot(medians))
    rows = [[name, ", ".join(f"{x:g}: {y:.2f}" for x, y in found)] for name, found in medians.items()]
    return ["as this grows", "us a message"], rows


def plot(points: dict[str, list[tuple[float, float]]]) -> str:
    """Small multiples of cost against size, as SVG."""
    width, height, left, top = 220, 150, 46, 30
    most = max(y for found in points.values() for _, y in found) * 1.15
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {len(points) * (width + left + 20)} {height + top + 50}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
    ]
    for i, (name, found) in enumerate(points.items()):
        x0 = i * (width + left + 20) + left
        at = [(x0 + width * (j + 0.5) / len(found), top + height * (1 - y / most)) for j, (_, y) in enumerate(found)]
        parts.append(f'<text x="{x0}" y="{top - 12}" font-weight="bold">us a message by {name}</text>')
        parts.append(f'<path d="M{x0} {top}V{top + height}H{x0 + width}" fill="none" stroke="#888"/>')
        parts += [
            f'<text x="{x0 - 6}" y="{top + height * (1 - k / 4) + 4:.0f}" text-anchor="end">{most * k / 4:.1f}</text>'
            for k in range(5)
        ]
        parts.append(
            f'<polyline points="{" ".join(f"{x:.0f},{y:.0f}" for x, y in at)}" fill="none" stroke="#1f77b4" stroke-width="2"/>'
        )
        for (x, y), (size, cost) in zip(at, found, strict=True):
            parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="#1f77b4"/>')
            parts.append(f'<text x="{x:.0f}" y="{y - 7:.0f}" text-anchor="middle">{cost:.1f}</text>')
            parts.append(f'<text x="{x:.0f}" y="{top + height + 16}" text-anchor="middle">{size:g}</text>')
    return "\n".join([*parts, "</svg>", ""])


def workers(bench: Bench) -> Table:
    """Two programs at once, each with its own server, as `--workers 2` runs them: what each pays."""
    from concurrent.futures import ThreadPoolExecutor

    count = bench.count(100_000)
    bench.stream(count, symbols=1, levels=14.9, unique=False)
    alone = bench.run(count=count)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: bench.run(count=count), range(2)))
    rows = [
        ["1", f"{alone['us']:.2f}", f"{alone['messages'] / alone['wall']:,.0f}"],
        ["2", spread([r["us"] for r in both]), f"{sum(r['messages'] / r['wall'] for r in both):,.0f}"],
    ]
    return ["processes", "us a message", "messages/s together (servers on the same cores)"], rows


def formats(bench: Bench) -> Table:
    """Trades of the stream in other formats: bytes and CPU a trade."""
    result = bench.run(count=bench.count(100_000), keep=True)
    begun = time.process_time()
    trades = wld.open_tape(result["dir"]).trades()
    took = time.process_time() - begun
    rows = [["wld tape, trades() of a sealed file", "", f"{took / len(trades) * 1e9:.0f} ns"]]
    shutil.rmtree(result["dir"])
    for name, module, run in (
        ("Parquet, zstd (without ids)", "pyarrow", lambda: peers.parquet_of(trades, bench.folder / "x.parquet")),
        ("databento-dbn, records", "databento_dbn", lambda: peers.dbn_of(trades)),
    ):
        if not peers.is_installed(module):
            rows.append([name, f"skipped: not installed ({module})", ""])
            continue
        try:
            size, wrote, read = run()
        except Exception as error:
            rows.append([name, f"skipped: {type(error).__name__}: {str(error)[:60]}", ""])
            continue
        rows.append(
            [
                name,
                f"{size / len(trades):.1f} B, {wrote / len(trades) * 1e9:.0f} ns",
                f"{read / len(trades) * 1e9:.0f} ns",
            ]
        )
    return ["trades as", "size, writing", "reading"], rows


PARTS: dict[str, Callable[[Bench], Table]] = {
    "end_to_end": end_to_end, "views": views, "transports": transports, "ceiling": ceiling, "decoding": decoding, "ring": ring,
    "latency": latency, "paced": paced, "growth": growth, "workers": workers, "formats": formats,
}  # fmt: skip


def machine() -> str:
    """One line of where this was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{ssl.OPENSSL_VERSION.partition('  ')[0]}, numpy {np.__version__}; load when it began {os.getloadavg()[0]:.1f}"
    )


def fill(page: Path, name: str, text: str) -> None:
    """Put a table between the page's marks for it."""
    content = page.read_text()
    start, end = f"<!-- measured: {name} -->", "<!-- end -->"
    if start in content:
        head, _, rest = content.partition(start)
        page.write_text(f"{head}{start}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice([*PARTS, "breadth"]))
@click.option("--quick", is_flag=True, help="A fifth of the messages, one repeat: to see that it runs.")
@click.option("--long", "minutes", type=float, default=0.0, help="Minutes of 20,000 messages a second (the issue: 10).")
@click.option("--write", is_flag=True, help="Fill docs/explanation-performance.md.")
def main(parts: tuple[str, ...], quick: bool, minutes: float, write: bool) -> None:
    """Measure PARTS, or all of them."""
    where = machine()
    click.echo(where + "\n")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), 0.2 if quick else 1.0, 1 if quick else 5)
        for name in parts or (*PARTS, "breadth"):
            run = PARTS.get(name, lambda bench: breadth(bench, minutes))
            begun = time.monotonic()
            table = markdown(run(bench))
            click.echo(
                f"## {name}: {(run.__doc__ or breadth.__doc__ or '').splitlines()[0]}\n\n{table}\n\n({time.monotonic() - begun:.0f} s)\n"
            )
            if write:
                fill(PAGE, name, table)
        if write:
            fill(PAGE, "machine", where)


if __name__ == "__main__":
    main()
