"""Owns the health of a run as others see it: a small file in the data folder, its reading, and its judgement.

A run with a critical sink (a recorder) keeps the file; a supervisor asks with `wld health`. Does not own the figures
(status) nor the service manager's socket (notify).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec import Struct, field

from wld.errors import WldError
from wld.notify import Notifier
from wld.service import Service
from wld.status import Status

FILE = ".wld-health.json"
WRITE_INTERVAL_S = 5.0
MAX_BYTES = 1 << 20
"""A health file larger than this is none of ours."""
BLOCK = 4096
"""The file fills whole blocks with spaces, so that it can be written again where the disk is full."""
MIN_FREE = 256 * 1024 * 1024


class HealthError(WldError):
    """There is no health to judge; one line says why."""


class Health(Struct, frozen=True):
    """What a run says of itself. Times in ns since the Unix epoch, this host's clock."""

    pid: int
    state: str
    """`running`, `stopping`, `stopped`, or `failed`: ended with status 1."""
    started_time: int
    written_time: int
    last_event_time: int | None = None
    events: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    """By reason, since the start."""
    last_gap_time: int | None = None
    drops: int = 0
    disk_free: int = 0
    """Bytes."""
    sinks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each sink last said."""
    source: dict[str, int] = field(default_factory=dict)


def read(folder: Path) -> Health:
    """The health file of a data folder. Raises: HealthError."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise HealthError(f"{path}: larger than {MAX_BYTES >> 20} MiB, so it is not a health file")
        return msgspec.json.decode(content, type=Health)
    except FileNotFoundError:
        raise HealthError(f"{path}: no such file: no recorder has run here; give its --data-dir") from None
    except OSError as error:
        raise HealthError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise HealthError(f"{path}: not a health file: {error}") from None


def folders(folder: Path) -> list[Path]:
    """Where the last run in a data folder keeps its health: there, or in the folder of each part of the symbols."""
    runs: dict[str, list[Path]] = {"": [folder]}
    for part in sorted(folder.glob("shard-*-of-*")):
        runs.setdefault(part.name.rpartition("-")[2], []).append(part)

    def written(parts: list[Path]) -> int:
        return max(((part / FILE).stat().st_mtime_ns if (part / FILE).exists() else 0) for part in parts)

    return max(runs.values(), key=written)


def judge(
    health: Health,
    now: int,
    *,
    is_alive: bool,
    max_age_s: float = 30.0,
    max_event_age_s: float = 120.0,
    min_free: int = MIN_FREE,
) -> list[str]:
    """What is wrong, a sentence each; empty: all is well. Pure; `now` in ns since the Unix epoch."""
    if health.state in ("stopped", "failed"):
        return [f"{health.state} {_ago(now - health.written_time)} ago"]
    if not is_alive:
        return [f"process {health.pid} is gone without having stopped: killed, or crashed"]
    wrong: list[str] = []
    if now - health.written_time > max_age_s * 1e9:
        wrong.append(f"not heard of for {_ago(now - health.written_time)}: the process or its disk hangs")
    if health.state != "running":
        wrong.append(health.state)
    last = health.last_event_time or health.started_time
    if now - last > max_event_age_s * 1e9:
        wrong.append(f"no event for {_ago(now - last)}")
    for name, figures in health.sinks.items():
        if error := figures.get("error"):
            wrong.append(f"sink {name}: {error}")
    if health.disk_free < min_free:
        wrong.append(f"disk: {health.disk_free / 1e6:.0f} MB left")
    return wrong


def line(health: Health, now: int) -> str:
    """One line on a run that is well."""
    last = "none yet" if health.last_event_time is None else f"{_ago(now - health.last_event_time)} ago"
    gaps = " ".join(f"{reason}={n}" for reason, n in sorted(health.gaps.items())) or "0"
    return (
        f"{health.state} for {_ago(now - health.started_time)}, pid {health.pid}, {health.events} events, last {last},"
        f" gaps {gaps}, drops {health.drops}, {health.disk_free / 1e9:.1f} GB free"
    )


def is_process(pid: int) -> bool:
    """Whether a process lives, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _ago(duration: int) -> str:
    seconds = max(0, duration) // 1_000_000_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


class Keeper:
    """Writes the health file and speaks to the service manager for the length of a run."""

    def __init__(
        self,
        folder: Path | None,
        service: Service,
        status: Status,
        figures: Callable[[], Mapping[str, int]],
        notifier: Notifier | None = None,
    ) -> None:
        """`folder` None: no file, such as for a run that only draws."""
        self._folder = folder
        self._service = service
        self._status = status
        self._figures = figures
        self._notifier = notifier or Notifier.from_environment()
        self._started = time.time_ns()

    def take(self, state: str) -> Health:
        """The figures of this moment, disk aside."""
        status = self._status
        return Health(
            pid=os.getpid(),
            state=state,
            started_time=self._started,
            written_time=time.time_ns(),
            last_event_time=status.last_receive_time,
            events=status.events,
            gaps=status.gaps,
            last_gap_time=status.last_gap_time,
            drops=sum(s.dropped for s in self._service.ring.statistics().sinks),
            sinks={name: dict(figures) for name, figures in status.reports().items()},
            source=dict(self._figures()),
        )

    async def run(self) -> None:
        """Runs beside the source until cancelled. Sinks are ready when it starts, and the manager is told so."""
        notifier, stopping = self._notifier, self._service.stopping
        notifier.send("READY=1", "STATUS=recording")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(notifier.feed_watchdog)
                while not stopping.is_set():
                    health = await self._write(self.take("running"))
                    notifier.send(f"STATUS={line(health, health.written_time)}")
                    with trio.move_on_after(WRITE_INTERVAL_S):
                        await stopping.wait()
                notifier.send("STOPPING=1", "STATUS=draining")
                await self._write(self.take("stopping"))
                await trio.sleep_forever()  # the watchdog is fed while sinks drain
        finally:
            with trio.move_on_after(1, shield=True):
                await self._write(self.take("failed" if self._service.failures else "stopped"))

    async def _write(self, health: Health) -> Health:
        """Write it where a file is kept; gives it back with the disk measured."""
        if self._folder is None:
            return health
        # Abandoned when the run ends: a disk that hangs leaves an old file, and that is what it is to say.
        return await trio.to_thread.run_sync(_write, self._folder, health, abandon_on_cancel=True)


def _write(folder: Path, health: Health) -> Health:
    temporary = folder / f"{FILE}.tmp"
    content = b""
    try:
        health = msgspec.structs.replace(health, disk_free=shutil.disk_usage(folder).free)
        content = msgspec.json.encode(health)
        content += b" " * (-len(content) % BLOCK)
        temporary.write_bytes(content)
        temporary.replace(folder / FILE)
    except OSError:
        # A full disk has no room for another file, but the block of the one that stands can be said anew.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError), (folder / FILE).open("r+b") as file:
            file.write(content)
            file.truncate()
    return health
