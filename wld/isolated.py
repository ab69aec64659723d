"""Owns the inside of an isolated sink's process: reads batches from a pipe, runs one sink, ends with its parent.

Started by `wld.isolation` as `python -m wld.isolated READ_FD WRITE_FD PARENT_PID`, or, to say what the sink is, as
`python -m wld.isolated load WRITE_FD`; not for people.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import trio

from wld import isolation, plugins
from wld.batch import Batch
from wld.config import Config, sink_settings
from wld.errors import ConfigError
from wld.hookspecs import SinkContext, SinkSpec
from wld.isolation import FRAME, Hello, Loaded
from wld.packed import unpack_events
from wld.ring import Overflow, RingStatistics, Subscription
from wld.service import describe
from wld.watchdog import watch_loop

ORPHAN_GRACE_S = 3.0
"""For a sink to close its files once the parent is gone; then the process kills itself, whatever it is doing."""
MOST_TEXT = 10_000
"""Of a refusal: the answer has to fit the pipe."""
NICENESS = 5
"""A sink that spins takes what the recorder leaves."""


class _Parent:
    """What is said to the parent: written at once and from any thread, so that a blocked loop can still be named."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def say(self, kind: bytes, content: Any = None) -> None:
        payload = msgspec.msgpack.encode(content, enc_hook=str)
        frame = memoryview(FRAME.pack(len(payload), kind) + payload)
        with self._lock, contextlib.suppress(OSError):
            while frame:
                frame = frame[os.write(self._fd, frame) :]


class _Handler(logging.Handler):
    """Log lines go to the parent's log, each as one record."""

    def __init__(self, parent: _Parent) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self._parent.say(isolation.LOG, (record.name, record.levelno, text))


class _PipedBatches(Subscription):
    """The sink's end of the pipe, looking like its end of the ring."""

    def __init__(self, name: str, frames: isolation.frames) -> None:
        super().__init__(name, 1, Overflow.DROP_OLDEST, 0)
        self._frames = frames
        self.ring_statistics = RingStatistics(0, ())
        self.is_orphan = False
        self._has_ended = False

    async def __anext__(self) -> Batch:
        while not self._has_ended:
            try:
                kind, payload = await self._frames.__anext__()
            except StopAsyncIteration:
                self._has_ended = self.is_orphan = True
                break
            if kind == isolation.BATCH:
                return unpack_events(payload)
            if kind == isolation.STATISTICS:
                self.ring_statistics = msgspec.msgpack.decode(payload, type=RingStatistics)
            elif kind == isolation.END:
                self._has_ended = True
        raise StopAsyncIteration


def main(read_fd: int, write_fd: int, parent_pid: int) -> int:
    """Run the sink that the parent names; returns the exit status."""
    # The engine's signals are the engine's: it ends this process by its batches or by SIGKILL.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(parent_pid,), daemon=True).start()
    parent = _Parent(write_fd)
    try:
        trio.run(_run, read_fd, parent)
    except BaseException as error:
        wrong, _ = error.split(ConfigError) if isinstance(error, BaseExceptionGroup) else (None, None)
        is_refused = wrong is not None or isinstance(error, ConfigError)
        text = describe(error) if is_refused else f"{describe(error)}{_place(error)}"
        parent.say(isolation.REFUSED if is_refused else isolation.FAILED, text)
        return 2 if is_refused else 1
    parent.say(isolation.DONE)
    return 0


def load(write_fd: int) -> int:
    """Load the sink that standard input names and say what it is; returns the exit status."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    hello = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Hello)
    try:
        spec, _ = _load(hello)
        found = Loaded(None, spec.capacity, spec.overflow, spec.critical, spec.needs_screen, spec.stores)
    except ConfigError as error:
        found = Loaded(str(error)[:MOST_TEXT])
    os.write(write_fd, msgspec.msgpack.encode(found))
    os._exit(0)  # whatever its module has left running


def _load(hello: Hello) -> tuple[SinkSpec, Any]:
    """The sink's spec and its settings, within its limits. Raises: ConfigError."""
    sys.path[:] = hello.path
    _limit(hello.memory_mb)
    spec = plugins.load_sinks([hello.name])[hello.name]
    config = Config(sinks={hello.name: hello.table}, origins=hello.origins)
    return spec, sink_settings(config, hello.name, spec.config_type)


def _end_with_parent(parent: int) -> None:
    """A thread, so that no loop of the sink can keep the process alive."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(0.5)
    pause.wait(ORPHAN_GRACE_S)
    os.killpg(0, signal.SIGKILL)


def _place(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


async def _run(read_fd: int, parent: _Parent) -> None:
    frames = isolation.frames(trio.lowlevel.FdStream(read_fd))
    _, payload = await frames.__anext__()
    hello = msgspec.msgpack.decode(payload, type=Hello)
    root = logging.getLogger()
    root.handlers[:] = [_Handler(parent)]
    root.setLevel(logging.WARNING)
    logging.getLogger("wld").setLevel(hello.log_level)
    batches = _PipedBatches(hello.name, frames)
    spec, settings = _load(hello)
    package = str(getattr(spec.create, "__module__", "")).partition(".")[0]
    logging.getLogger(package or "wld").setLevel(hello.log_level)
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in hello.context.items()}
    fields["data_dir"] = Path(fields["data_dir"])

    def status(name: str, figures: Mapping[str, Any]) -> None:
        parent.say(isolation.STATUS, dict(figures))

    context = SinkContext(
        statistics=lambda: batches.ring_statistics,
        status=status,
        stored=lambda name, number: parent.say(isolation.STORED, number),
        **fields,
    )
    sink = plugins.create_sink(spec, settings, context)
    with watch_loop({hello.name: spec}):
        await sink.run(batches, task_status=_Readiness(parent))


class _Readiness:
    def __init__(self, parent: _Parent) -> None:
        self._parent = parent

    def started(self, value: None = None) -> None:
        self._parent.say(isolation.STARTED)


def _limit(memory_mb: int | None) -> None:
    """Bound the process's memory and stand first in line where the host runs out of it all the same."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):  # no /proc on this system
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        import resource

        if memory_mb is None:
            limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        else:
            limit = memory_mb << 20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    except (ImportError, OSError, ValueError):
        logging.getLogger("wld.isolated").warning("the memory of this process cannot be limited on this system")


if __name__ == "__main__":
    sys.exit(load(int(sys.argv[2])) if sys.argv[1] == "load" else main(*map(int, sys.argv[1:])))
