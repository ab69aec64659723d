"""Owns the engine's side of an isolated sink: a process of its own behind a bounded pipe, and what is said on it.

Nothing of the sink is imported here: a first process loads it, checks its configuration and says what it is.

The ring's subscription is the only buffer that grows, up to its capacity: a process that hangs, spins or hoards fills
its pipe, and from then on its own subscription loses the oldest batches and says so, as for any slow sink. The other
end is `wld.isolated`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import trio
from msgspec import Struct

from wld.config import Config
from wld.errors import ConfigError, SinkFailed
from wld.hookspecs import SinkContext, SinkSpec
from wld.packed import MAX_BYTES, pack_events
from wld.ring import DEFAULT_CAPACITY, Overflow, Subscription

log = logging.getLogger(__name__)

HELLO, BATCH, STATISTICS, END = b"H", b"B", b"S", b"E"
"""To the process. END says that the batches ended; a pipe that closes without it means that the parent died."""
STARTED, STATUS, STORED, LOG, FAILED, REFUSED, DONE = b"s", b"f", b"p", b"l", b"x", b"c", b"d"
"""From the process. REFUSED is a wrong configuration, which ends the run with status 2."""

FRAME = struct.Struct("<Ic")
PIPE_BYTES = 1 << 18
"""What waits between the two processes, where the system allows it: some 1000 events."""
STATISTICS_INTERVAL_S = 1.0
END_TIMEOUT_S = 2.0
"""From the pipe's end to the process's end, and for a killed process to be gone."""


LOAD_TIMEOUT_S = 30.0
"""To import the sink, which on a cold disk takes seconds with a big library."""

_PLAIN = (str, int, float, tuple, type(None))


class Hello(Struct, frozen=True):
    """What the process is told before anything else."""

    name: str
    table: dict[str, Any]
    """The sink's table as in wld.toml."""
    origins: dict[str, str]
    """Where its keys came from, for errors."""
    path: list[str]
    """`sys.path`: the process finds what this one found."""
    log_level: int
    memory_mb: int | None
    """Upper limit of its memory; None: half of this host's."""
    context: dict[str, Any] = {}
    """The fields of SinkContext that can travel."""


class Loaded(Struct, frozen=True):
    """What the process found: why the start is refused, or what the engine has to know of the sink."""

    refusal: str | None = None
    capacity: int = DEFAULT_CAPACITY
    overflow: Overflow = Overflow.DROP_OLDEST
    critical: bool = False
    needs_screen: bool = False
    stores: bool = False


class _NoKeys(Struct, frozen=True):
    """An isolated sink's keys are checked where it is loaded."""


def load_isolated(name: str, config: Config) -> SinkSpec:
    """A spec whose sink runs in a process of its own; another process, gone by then, has loaded it and checked its keys.

    Raises:
        ConfigError: it cannot be loaded, a key is wrong, or it draws on the screen.
    """
    level = logging.getLogger("wld").getEffectiveLevel()
    hello = Hello(name, config.sinks.get(name, {}), config.origins, sys.path, level, config.isolated[name])
    loaded = _load(hello)
    if loaded.refusal is not None:
        raise ConfigError(loaded.refusal)
    if loaded.needs_screen:
        where = config.origin(f"sinks.{name}.isolate")
        raise ConfigError(f"{where}: expected false, because this sink draws on the screen")
    return SinkSpec(
        name,
        _NoKeys,
        lambda _, context: IsolatedSink(hello, context),
        capacity=loaded.capacity,
        overflow=loaded.overflow,
        critical=loaded.critical,
        stores=loaded.stores,
    )


def _load(hello: Hello) -> Loaded:
    """Ask a process, whatever the sink's module does to it: it may crash, hang, print or allocate. Raises: ConfigError."""
    ours, theirs = os.pipe()
    try:
        try:
            process = _start(["load", str(theirs)], (theirs,), subprocess.PIPE)
        finally:
            os.close(theirs)
        try:
            process.communicate(msgspec.msgpack.encode(hello), timeout=LOAD_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"sink {hello.name}: cannot be loaded within {LOAD_TIMEOUT_S:g} s") from None
        finally:
            _kill(process.pid)
            process.wait()
        os.set_blocking(ours, False)  # what it started may have inherited the other end
        try:
            return msgspec.msgpack.decode(os.read(ours, 1 << 16), type=Loaded)
        except (OSError, msgspec.DecodeError):
            how = _how(process.returncode)
            raise ConfigError(f"sink {hello.name}: cannot be loaded: its process {how}") from None
    except SinkFailed as error:
        raise ConfigError(f"sink {hello.name}: {error}") from None
    finally:
        os.close(ours)


class IsolatedSink:
    """Stands in for a sink in the engine: takes its batches, hands them to the process, passes on what it reports."""

    def __init__(self, hello: Hello, context: SinkContext) -> None:
        fields = {name: getattr(context, name) for name in context.__struct_fields__}
        travels = {name: value for name, value in fields.items() if isinstance(value, _PLAIN)}
        travels["data_dir"] = str(context.data_dir)
        self._name = hello.name
        self._context = context
        self._hello = msgspec.structs.replace(hello, context=travels)
        self._is_done = False

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the process until the batches end, and kill it on the way out whatever it does.

        Raises:
            SinkFailed: the process ended before; the supervisor starts another after a pause.
            ConfigError: the sink refused its configuration.
        """
        to_child, from_child, process = _spawn()
        try:
            async with to_child, from_child, trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, from_child, process, nursery.cancel_scope)
                # Ready at once: a process that is slow to start holds up nobody; what it misses meanwhile waits
                # in its subscription.
                task_status.started()
                nursery.start_soon(self._send_statistics, to_child, sending := trio.Lock())
                try:
                    await _send(to_child, sending, HELLO, msgspec.msgpack.encode(self._hello))
                    async for batch in batches:
                        await _send(to_child, sending, BATCH, pack_events(batch))
                    await _send(to_child, sending, END, b"")
                except trio.BrokenResourceError:
                    pass  # its end is closed: the listener hears why
                # Until it has drained; the engine's drain deadline is the limit.
                await trio.sleep_forever()
        except* SinkFailed as group:
            raise group.exceptions[0] from None
        except* ConfigError as group:
            raise group.exceptions[0] from None
        finally:
            _kill(process.pid)
            with trio.move_on_after(END_TIMEOUT_S, shield=True):
                await _wait(process)

    async def _send_statistics(self, stream: trio.lowlevel.FdStream, sending: trio.Lock) -> None:
        """So that the process knows the ring's depth; runs until cancelled."""
        while True:
            try:
                await _send(stream, sending, STATISTICS, msgspec.msgpack.encode(self._context.statistics()))
            except trio.BrokenResourceError:
                return
            await trio.sleep(STATISTICS_INTERVAL_S)

    async def _listen(
        self, stream: trio.lowlevel.FdStream, process: subprocess.Popen[bytes], scope: trio.CancelScope
    ) -> None:
        """Until the process closes its end, which is how it ends."""
        failure: Exception | None = None
        async for kind, payload in frames(stream):
            try:
                failure = self._hear(kind, payload) or failure
            except (msgspec.DecodeError, TypeError, ValueError) as error:
                log.warning("sink %s: its process sent something that cannot be read: %s", self._name, error)
        if failure is not None:
            raise failure
        with trio.move_on_after(END_TIMEOUT_S):
            await _wait(process)
        if not self._is_done or process.poll() not in (0, None):
            raise SinkFailed(f"its process {process.pid} {_how(process.poll())}")
        scope.cancel()

    def _hear(self, kind: bytes, payload: bytes) -> Exception | None:
        content = msgspec.msgpack.decode(payload)
        if kind == STATUS:
            self._context.status(self._name, content)
        elif kind == STORED:
            self._context.stored(self._name, content)
        elif kind == LOG:
            name, level, text = content
            logger = logging.getLogger(name)  # it kept to the level itself
            logger.handle(logger.makeRecord(name, level, "", 0, text, (), None))
        elif kind == FAILED:
            return SinkFailed(content)
        elif kind == REFUSED:
            return ConfigError(content)
        elif kind == DONE:
            self._is_done = True
        return None


def _spawn() -> tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream, subprocess.Popen[bytes]]:
    child_reads, parent_writes = os.pipe()
    parent_reads, child_writes = os.pipe()
    ours, theirs = (parent_writes, parent_reads), (child_reads, child_writes)
    try:
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # the system's limit is lower
                fcntl.fcntl(parent_writes, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        process = _start([*map(str, (*theirs, os.getpid()))], theirs, subprocess.DEVNULL)
    except SinkFailed:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return trio.lowlevel.FdStream(parent_writes), trio.lowlevel.FdStream(parent_reads), process


def _start(arguments: Sequence[str], fds: tuple[int, ...], stdin: int) -> subprocess.Popen[bytes]:
    """Start the process; its session is its own, so the terminal's Ctrl-C does not reach it. Raises: SinkFailed."""
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "wld.isolated", *arguments],
            stdin=stdin,
            stdout=sys.__stderr__ if _has_stderr() else subprocess.DEVNULL,
            pass_fds=fds,
            start_new_session=True,
        )
    except OSError as error:
        raise SinkFailed(f"its process cannot be started: {error.strerror}") from None


def _kill(pid: int) -> None:
    """With all that it started: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _has_stderr() -> bool:
    try:
        return sys.__stderr__ is not None and sys.__stderr__.fileno() >= 0
    except (OSError, ValueError):
        return False


async def _send(stream: trio.lowlevel.FdStream, sending: trio.Lock, kind: bytes, payload: bytes) -> None:
    # Waits for as long as the process does not read; only this sink's own subscription feels it.
    async with sending:
        await stream.send_all(FRAME.pack(len(payload), kind) + payload)


class frames:
    """The frames that arrive on a stream, until it ends: iterate for (kind, payload)."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    def __aiter__(self) -> frames:
        return self

    async def __anext__(self) -> tuple[bytes, bytes]:
        while True:
            if len(self._buffer) >= FRAME.size:
                length, kind = FRAME.unpack_from(self._buffer)
                end = FRAME.size + length
                if length > MAX_BYTES:
                    raise StopAsyncIteration  # not what the other end would say
                if len(self._buffer) >= end:
                    payload = bytes(self._buffer[FRAME.size : end])
                    del self._buffer[:end]
                    return kind, payload
            try:
                received = await self._stream.receive_some(1 << 16)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                received = b""
            if not received:
                raise StopAsyncIteration
            self._buffer += received


async def _wait(process: subprocess.Popen[bytes]) -> None:
    """Until the process is gone; the caller sets the limit."""
    while process.poll() is None:  # noqa: ASYNC110 - no system has an event for it that works on all
        await trio.sleep(0.02)


def _how(status: int | None) -> str:
    if status is None:
        return "closed its pipe and goes on"
    if status < 0:
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"
    return f"exited with status {status}"
