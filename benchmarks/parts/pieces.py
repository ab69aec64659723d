"""Each piece alone, ours and other libraries': the server, transports, decoders, the ring, formats."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

import wld
from benchmarks import messages, peers
from benchmarks.bench import ROOT, Bench, Table, ratio, spread
from wld import process
from wld.bybit import columns as columns_module
from wld.bybit.protocol import BybitProtocol
from wld.bybit.subscriptions import topics_for
from wld.config import TOPICS
from wld.ring import Ring

READS = (8, 16, 40, 165, 600)
"""Messages a read."""


def ceiling(bench: Bench) -> Table:
    """How fast the server is when nobody slows it: its reader throws the bytes away without looking at them."""
    path, _ = bench.stream(bench.count(100_000))
    rows = []
    for tls in (False, True):
        rates, costs = [], []
        for _ in range(min(3, bench.repeats)):
            with bench.serve(path, 4, tls=tls, rounds=4) as server:
                _discard(server.port, str(bench.authority) if tls else None)
                said = server.wait()
                rates.append(said["messages"] / said["wall"] / 1e6)
                costs.append(server.us)
        rows.append(["TLS, a record a message" if tls else "plain", spread(rates), spread(costs)])
        bench.figures[f"server, {'TLS' if tls else 'plain'}, messages/s"] = max(rates) * 1e6
    return ["server", "million messages/s it can send", "its own CPU, us a message"], rows


def _discard(port: int, authority: str | None) -> None:
    """Subscribe, then read in a thread until the server ends, decrypting nothing."""
    raw = socket.create_connection(("127.0.0.1", port))
    stream: socket.socket = raw
    if authority is not None:
        stream = ssl.create_default_context(cafile=authority).wrap_socket(raw, server_hostname="127.0.0.1")
    stream.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    text = json.dumps({"op": "subscribe", "args": ["x"] * 4}).encode()
    stream.sendall(bytes((0x81, 0x80 | len(text))) + b"\0\0\0\0" + text)
    # Past the handshake TLS is not decrypted: only the bytes count.
    bytes_ = raw if authority is None else socket.socket(fileno=stream.detach())

    def discard() -> None:
        with suppress(OSError), bytes_:  # until the server is gone
            while bytes_.recv(1 << 20):
                pass

    threading.Thread(target=discard, daemon=True).start()


def transports(bench: Bench) -> Table:
    """Receiving alone: messages are counted, not decoded."""
    path, total = bench.stream(bench.count(100_000))
    found: dict[tuple[str, bool], list[float]] = {}
    skipped: dict[str, str] = {}
    for repeat in range(min(3, bench.repeats)):
        for name, module in peers.TRANSPORTS.items():
            if not peers.is_installed(module):
                skipped[name] = f"not installed ({module})"
                continue
            for tls in (False, True):
                if name in skipped or (repeat and name in peers.SLOW_TRANSPORTS):
                    continue
                with bench.serve(path, 4, tls=tls) as server:
                    done = subprocess.run(
                        [sys.executable, "-m", "benchmarks.peers", name, server.url, "4", str(total), str(bench.authority)],
                        cwd=ROOT, text=True, capture_output=True, check=False, timeout=200,
                    )  # fmt: skip
                if done.returncode:
                    skipped[name] = (done.stderr.strip().splitlines() or ["failed"])[-1][:80]
                    continue
                found.setdefault((name, tls), []).append(float(done.stdout.split()[-1]) / total * 1e6)
    rows = []
    for name in peers.TRANSPORTS:
        if name in skipped:
            rows.append([name, f"skipped: {skipped[name]}", "", "", ""])
            continue
        plain, tls_ = found[name, False], found[name, True]
        bench.figures[f"{name}, receiving"] = sorted(plain)[len(plain) // 2]
        rows.append(
            [
                name, spread(plain), spread(tls_), ratio(plain, found["native", False]),
                ratio(tls_, found["native", True]),
            ]
        )  # fmt: skip
    return ["transport", "plain, us", "TLS, us", "plain against native", "TLS against native"], rows


def decoding(bench: Bench) -> Table:
    """Decoding alone, in this process: rows and columns by the size of a read, and other libraries' handlers."""
    process.tune()
    content = list(messages.stream(bench.count(20_000)))
    found: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    for _ in range(min(3, bench.repeats)):
        found.setdefault("rows", []).append(_decode(content, 165, by_columns=False))
        for size in READS:
            found.setdefault(f"columns, {size} a read", []).append(_decode(content, size, by_columns=True))
        for name, (module, run) in peers.HANDLERS.items():
            if not peers.is_installed(module):
                notes[name] = f"skipped: not installed ({module})"
                continue
            try:
                took, done = run(content, messages.Mix().names())
            except Exception as error:
                notes[name] = f"skipped: {type(error).__name__}: {str(error)[:80]}"
                continue
            if not done:
                notes[name] = "skipped: it took none of the messages"
                continue
            found.setdefault(name, []).append(took / done * 1e6)
            notes[name] = f"{done:,} of {len(content):,} messages"
    best = found[f"columns, {READS[-1]} a read"]
    rows = []
    for name in ("rows", *(f"columns, {size} a read" for size in READS), *peers.HANDLERS):
        if name not in found:
            rows.append([name, notes[name], "", ""])
            continue
        rows.append([name, spread(found[name]), ratio(found[name], best), notes.get(name, "all")])
    return ["", "us a message", "against the last of ours", "took"], rows


def _decode(content: list[bytes], size: int, *, by_columns: bool) -> float:
    """CPU us a message, so many a read."""
    usual = columns_module.COLUMNS_FROM
    columns_module.COLUMNS_FROM = 1 if by_columns else 1 << 60
    try:
        protocol = BybitProtocol(topics_for(messages.Mix().names(), TOPICS, 50))
        protocol.open(0)
        protocol.receive_read(content[:2], 1)
        begun = time.process_time()
        for i in range(2, len(content), size):
            protocol.receive_read(content[i : i + size], i)
        return (time.process_time() - begun) / (len(content) - 2) * 1e6
    finally:
        columns_module.COLUMNS_FROM = usual


def ring(bench: Bench) -> Table:
    """The ring alone: one publication, three sinks woken."""

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
        rows.append([str(size), spread([trio.run(run, size, bench.count(3000)) for _ in range(3)], 3)])
    return ["events a publication", "us an event, three sinks"], rows


def formats(bench: Bench) -> Table:
    """Trades of the stream in other formats: bytes and CPU a trade."""
    result = bench.run(count=bench.count(100_000), keep=True)
    trades = wld.open_tape(result["dir"]).trades()
    others: dict[str, tuple[str, Callable[[], tuple[int, float, float]]]] = {
        "Parquet, zstd (without ids)": ("pyarrow", lambda: peers.parquet_of(trades, bench.folder / "x.parquet")),
        "databento-dbn, records (without ids)": ("databento_dbn", lambda: peers.dbn_of(trades)),
    }
    ours: list[float] = []
    found: dict[str, list[tuple[int, float, float]]] = {}
    skipped: dict[str, str] = {}
    for _ in range(min(5, max(3, bench.repeats))):
        begun = time.process_time()
        wld.open_tape(result["dir"]).trades()
        ours.append((time.process_time() - begun) / len(trades) * 1e9)
        for name, (module, run) in others.items():
            if not peers.is_installed(module):
                skipped[name] = f"skipped: not installed ({module})"
                continue
            try:
                found.setdefault(name, []).append(run())
            except Exception as error:
                skipped[name] = f"skipped: {type(error).__name__}: {str(error)[:60]}"
    shutil.rmtree(result["dir"])
    rows = [["wld tape, `trades()` of a sealed file", "", "", spread(ours, 0), "1.00x"]]
    for name in others:
        if name in skipped:
            rows.append([name, skipped[name], "", "", ""])
            continue
        runs: list[Any] = found[name]
        read = [r[2] / len(trades) * 1e9 for r in runs]
        wrote = spread([r[1] / len(trades) * 1e9 for r in runs], 0)
        rows.append([name, f"{runs[0][0] / len(trades):.1f}", wrote, spread(read, 0), ratio(read, ours)])
    return ["trades as", "bytes a trade", "writing, ns", "reading, ns", "reading against wld"], rows
