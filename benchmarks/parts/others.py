"""The predecessor, and any other program, beside us: run when its command is given, else by what was measured once."""

from __future__ import annotations

import resource
import shlex
import signal
import subprocess
import time

from benchmarks.bench import Bench, Table
from benchmarks.parts.pieces import transports

PREDECESSOR_US = 105.0
"""Measured once, before wld was begun (docs: "The predecessor")."""
NOTED_US = {"trio-websocket, receiving": 20.1, "websocket-client, receiving": 62.2}
"""What the same machine and the same run as the predecessor's gave for two libraries that are measured here as well."""


def predecessor(bench: Bench) -> Table:
    """The C++ program with a Python feed piped in that wld replaces, and whatever `--beside` names."""
    if any(name not in bench.figures for name in NOTED_US):
        transports(bench)
    ours = bench.figures.get("frame to tape") or bench.run(count=bench.count(100_000), tls=False)["us"]
    rows = [["wld, frame to tape, plain", f"{ours:.2f}", "1.0x", "this run"]]
    for name, noted in NOTED_US.items():
        if name not in bench.figures:
            rows.append([f"predecessor, by {name.partition(',')[0]}", "", "", "skipped: not installed"])
            continue
        here = PREDECESSOR_US * bench.figures[name] / noted
        rows.append(
            [
                f"predecessor, by {name.partition(',')[0]}", f"{here:.0f}", f"{here / ours:.1f}x",
                f"noted {PREDECESSOR_US:g}, when {name} cost {noted:g}; here that costs {bench.figures[name]:.1f}",
            ]
        )  # fmt: skip
    for name, command in bench.beside.items():
        us, how = _beside(bench, command)
        rows.append([name, f"{us:.2f}", f"{us / ours:.1f}x", how])
    return ["program", "us a message", "against wld", "how it is known"], rows


def _beside(bench: Bench, command: str) -> tuple[float, str]:
    """CPU us a message of another program against our server; it must subscribe to four topics of B000USDT."""
    path, total = bench.stream(bench.count(100_000))
    with bench.serve(path, 1, tls=False, hold=2.0) as server:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begun = time.monotonic()
        words = [word.format(url=server.url, host="127.0.0.1", port=server.port) for word in shlex.split(command)]
        process = subprocess.Popen(words, start_new_session=True)
        said = server.wait()
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (
        cpu / total * 1e6,
        f"run here: {total / said['wall']:,.0f} messages/s, {time.monotonic() - begun:.0f} s with its start",
    )
