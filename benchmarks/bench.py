"""Owns how things are measured: prepared streams, a server and a program against it, figures and tables. No part's own."""

from __future__ import annotations

import fcntl
import hashlib
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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import trustme

from benchmarks import messages
from benchmarks.messages import Mix
from wld.__main__ import ONE_THREAD

ROOT = Path(__file__).parents[1]
REFERENCE = Mix()

Table = tuple[list[str], list[list[str]]]
"""Heads, and lines of as many cells."""


def streams_folder() -> Path:
    """Where prepared streams are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wld-benchmarks"


class Bench:
    """A folder for a run, its certificate, its prepared streams.

    `scale` shrinks the numbers of messages, `repeats` is how often what is compared is run, in turn.
    """

    def __init__(self, folder: Path, streams: Path, scale: float = 1.0, repeats: int = 5) -> None:
        self.folder = folder
        self.scale = scale
        self.repeats = repeats
        self.minutes = 0.0
        """Of the long run; 0: none."""
        self.beside: dict[str, str] = {}
        """Other programs by name: a command with {url}, {host} or {port}."""
        self.figures: dict[str, float] = {}
        """What parts found that other parts of the same run compare with."""
        self._streams = streams
        authority = trustme.CA()
        made = authority.issue_cert("127.0.0.1")
        self.certificate, self.authority = folder / "server.pem", folder / "ca.pem"
        self.certificate.write_bytes(made.private_key_pem.bytes() + made.cert_chain_pems[0].bytes())
        self.authority.write_bytes(authority.cert_pem.bytes())

    def count(self, full: int) -> int:
        """A number of messages, scaled."""
        return max(2000, int(full * self.scale))

    def stream(self, count: int, mix: Mix = REFERENCE) -> tuple[Path, int]:
        """(file, messages in it) of a stream, made once for a generator and its options."""
        maker = Path(messages.__file__).read_bytes()
        name = hashlib.sha256(maker + f"{count} {mix}".encode()).hexdigest()[:24]
        path = self._streams / name
        if not path.exists():
            self._streams.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}")
            messages.write(unfinished, messages.stream(count, mix))
            unfinished.rename(path)
        return path, count + 2 * mix.symbols

    @contextmanager
    def serve(self, path: Path, topics: int, *, tls: bool = True, **options: Any) -> Iterator[Server]:
        """A server of that stream, in a process of its own, until the block ends."""
        spec = {"path": str(path), "topics": topics, "certificate": str(self.certificate) if tls else None, **options}
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.blaster", json.dumps(spec)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        server = Server(process, tls)
        try:
            yield server
        finally:
            process.kill()
            server.end()

    def run(
        self, *, count: int, mix: Mix = REFERENCE, tls: bool = True, rounds: int = 1, server: dict[str, Any] | None = None,
        keep: bool = False, timeout: float = 200, is_drawn: bool = False, **client: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """The whole program against a server; what it says of itself. `client`: fields of `client.Spec`."""
        path, total = self.stream(count, mix)
        data_dir = tempfile.mkdtemp(dir=self.folder)
        with (
            self.serve(path, 4 * mix.symbols, tls=tls, rounds=rounds, **(server or {})) as served,
            terminal() if is_drawn else nullcontext() as tty,
        ):
            spec = {
                "url": served.url, "symbols": mix.names(), "messages": total * rounds, "data_dir": data_dir,
                "terminal": tty, **client,
            }  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.client", json.dumps(spec)], cwd=ROOT, text=True,
                capture_output=True, check=False, timeout=timeout, pass_fds=() if tty is None else (tty,),
                env={**ONE_THREAD, **os.environ, "SSL_CERT_FILE": str(self.authority), "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            )  # fmt: skip
        if done.returncode:
            raise click.ClickException(f"the client failed: {done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        result["us"] = steady(result["samples"])
        result["whole_us"] = result["cpu"] / result["messages"] * 1e6
        result["server"] = served.said
        result["dir"], result["path"] = data_dir, str(path)
        if not keep:
            shutil.rmtree(data_dir)
        return result


class Server:
    """A running `benchmarks.blaster`."""

    def __init__(self, process: subprocess.Popen[str], tls: bool) -> None:
        self._process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}/v5/public/linear"
        self.said: dict[str, Any] = {}
        """What it sent and what that took, once all is sent."""

    @property
    def us(self) -> float:
        """Its own CPU a message, us."""
        return float(self.said["cpu"]) / int(self.said["messages"]) * 1e6

    def wait(self) -> dict[str, Any]:
        """Until everything is sent; the client must be reading."""
        assert self._process.stdout is not None
        if not self.said:
            self.said = json.loads(self._process.stdout.readline())
        return self.said

    def end(self) -> None:
        """Take what a killed server still said."""
        rest = self._process.communicate()[0]
        if rest and not self.said:
            self.said = json.loads(rest.splitlines()[0])


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


# Figures -----------------------------------------------------------------------------------------------------------


def steady(samples: Sequence[Sequence[float]], first: float = 0.1, last: float = 1.0) -> float:
    """CPU us a message between two shares of a run's messages: what is paid once at the start is left out.

    The last sample is taken when nothing waits any more, so that nothing is left out at the end.
    """
    if not samples:
        return 0.0
    total = samples[-1][1]
    part = [sample for sample in samples if first * total <= sample[1] <= last * total]
    if len(part) < 2 or part[-1][1] == part[0][1]:  # too short a run
        return samples[-1][2] / max(1.0, total) * 1e6
    return (part[-1][2] - part[0][2]) / (part[-1][1] - part[0][1]) * 1e6


def spread(values: Iterable[float], digits: int = 2, unit: str = "") -> str:
    """`median (least to most)`."""
    values = list(values)
    middle = f"{statistics.median(values):.{digits}f}{unit}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratio(values: Sequence[float], bases: Sequence[float]) -> str:
    """How many times as much, run against run of the same turn, with its spread."""
    return spread([a / b for a, b in zip(values, bases, strict=False)], 2, "x")


def markdown(table: Table) -> str:
    """A table in Markdown."""
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """One line of where this is measured."""
    known = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in known if "model name" in line), platform.machine())
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{ssl.OPENSSL_VERSION.partition('  ')[0]}, numpy {np.__version__}"
    )
