"""Owns the nursery: start order, supervision, drain, exit status. Knows sinks only by their specs."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Any

import trio

from wld.errors import ConfigError
from wld.hookspecs import Sink, Source
from wld.ring import DEFAULT_CAPACITY, Overflow, Ring, Subscription

log = logging.getLogger(__name__)

RESTART_INITIAL_S = 1.0
RESTART_MAX_S = 60.0
HEALTHY_S = 60.0
"""A sink that ran this long starts its backoff over."""
START_TIMEOUT_S = 60.0
"""A critical sink: a recorder recovers left-over journals before it is ready."""
UNHEARD_SIGNALS = 2
"""A sink may block the loop for good: the signal after these ends the process, as a third one would the run."""
PATIENCE_S = 10.0
"""Any other sink that is not ready by then holds up the start no longer; its events wait in its subscription."""


class SinkEntry:
    """One enabled sink: how to make it, and how it is supervised."""

    def __init__(
        self,
        name: str,
        create: Callable[[], Sink],
        *,
        critical: bool = False,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = Overflow.DROP_OLDEST,
    ) -> None:
        self.name = name
        self.create = create
        self.critical = critical
        self.capacity = capacity
        self.overflow = overflow
        self.scope = trio.CancelScope()
        """Ends this sink alone."""
        self.is_done = False
        self.subscription: Subscription | None = None
        self.is_wanted = True
        """False once it was told to end while the run goes on."""


class Service:
    """Supervises one source, the ring and the sinks for the length of one `run`."""

    def __init__(
        self,
        source: Source,
        sinks: Sequence[SinkEntry],
        *,
        ring: Ring | None = None,
        drain_timeout: float = 10.0,
        duration: float | None = None,
        beside: Sequence[Callable[[], Any]] = (),
        watch: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._source = source
        self._sinks = sinks
        self._drain_timeout = drain_timeout
        self._duration = duration
        self._beside = beside
        self._watch = watch
        self._source_scope = trio.CancelScope()
        self._stopping = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._signals: list[int] = []
        self._sent = self._heard = 0
        self._is_hung_up = False
        self.failures: list[BaseException] = []
        """What made the run end with status 1, in order."""
        self.ring = ring or Ring()
        self.screen: Any = None
        """The terminal of a visual run; whoever runs the service opens it before and closes it after."""

    @property
    def stopping(self) -> trio.Event:
        """Set when the run begins to end, whoever asked for it."""
        return self._stopping

    def stop(self) -> None:
        """Stop the source; the ring closes and the sinks drain what is already published."""
        self._stopping.set()
        self._source_scope.cancel()

    def hang_up(self, names: Sequence[str]) -> None:
        """The terminal is gone: the sinks of these names drain and end, the others go on. From now on SIGHUP, which tells
        the same, ends nothing.
        """
        self._is_hung_up = True
        for entry in self._sinks:
            if entry.name in names:
                entry.is_wanted = False
                if entry.subscription is not None:
                    self.ring.end(entry.subscription)

    def take_signals(self) -> None:
        """From now to the end of the process, SIGINT, SIGTERM and SIGHUP end the run and nothing else.

        The first drains; the second does without the sinks that are not critical; the third without any. One that
        comes before the run ends it at once, one after it finds nothing left to stop: all is sealed, and the process
        is leaving. Call it in the main thread.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # ignored under nohup
                signal.signal(number, self._on_signal)
                self._signals.append(number)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> int:
        """Run to the end; returns the exit status: 0, or 1 after a critical sink or the source failed."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            with self._watch():
                return await self._run(task_status)
        finally:
            for number in self._signals:
                signal.signal(number, signal.SIG_IGN)

    async def _run(self, task_status: trio.TaskStatus[None]) -> int:
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as sink_nursery:
                with self.ring, self._source_scope:
                    for entry in self._sinks:
                        subscription = self._subscribe(entry)
                        await self._start(entry, subscription, sink_nursery)
                    for task in self._beside:
                        nursery.start_soon(task)
                    if self._duration is not None:
                        nursery.start_soon(self._stop_after, self._duration)
                    task_status.started()
                    if not self._stopping.is_set():
                        await self._run_source()
                    if self.screen is not None and not self.failures and not self._stopping.is_set():
                        await self.screen.hold()
                self._stopping.set()
                # Shutdown: the ring is closed, the sinks drain; the deadline ends whoever hangs.
                sink_nursery.cancel_scope.deadline = trio.current_time() + self._drain_timeout
            late = [entry for entry in self._sinks if not entry.is_done]
            if sink_nursery.cancel_scope.cancelled_caught:
                names = ", ".join(entry.name for entry in late)
                log.error("not drained within %g s, cut off: %s", self._drain_timeout, names)
            for entry in late:
                if entry.critical:
                    self.failures.append(TimeoutError(f"critical sink {entry.name} was cut off before it had drained"))
            nursery.cancel_scope.cancel()
        return 1 if self.failures else 0

    async def _run_source(self) -> None:
        try:
            await self._source.run(self.ring)
        except Exception as error:
            if not isinstance(error, ConfigError):
                log.error("the source failed: %s", describe(error))
            log.debug("the source failed", exc_info=error)
            self.failures.append(error)

    def _subscribe(self, entry: SinkEntry) -> Subscription:
        entry.subscription = self.ring.subscribe(entry.name, capacity=entry.capacity, overflow=entry.overflow)
        return entry.subscription

    async def _start(self, entry: SinkEntry, subscription: Subscription, nursery: trio.Nursery) -> None:
        """Start one sink and wait until it is ready, or until waiting would cost the others."""
        ready = trio.Event()
        nursery.start_soon(self._supervise, entry, subscription, ready)
        if entry.critical:
            with trio.move_on_after(START_TIMEOUT_S) as limit:
                await ready.wait()
            if limit.cancelled_caught:
                log.error("sink %s: not ready within %g s", entry.name, START_TIMEOUT_S)
                self.failures.append(TimeoutError(f"sink {entry.name} was not ready within {START_TIMEOUT_S:g} s"))
                self.stop()
            return
        with trio.move_on_after(PATIENCE_S) as patience:
            await ready.wait()
        if patience.cancelled_caught:
            log.warning(
                "sink %s is not ready after %g s; the run starts without waiting for it", entry.name, PATIENCE_S
            )

    async def _supervise(self, entry: SinkEntry, subscription: Subscription, ready: trio.Event) -> None:
        """Run one sink to its end, or until its scope is cancelled."""
        try:
            with entry.scope:
                await self._run_sink(entry, subscription, ready)
                entry.is_done = True
        finally:
            self.ring.detach(subscription)
            ready.set()

    async def _run_sink(self, entry: SinkEntry, subscription: Subscription, ready: trio.Event) -> None:
        """Run one sink; a critical one that fails stops the run, another is restarted with backoff."""
        delay = RESTART_INITIAL_S
        while True:
            begun = trio.current_time()
            try:
                await entry.create().run(subscription, task_status=_Readiness(ready))
                if entry.is_wanted and not self._stopping.is_set():
                    log.info("sink %s is finished", entry.name)
                return
            except (Exception, SystemExit) as error:  # a plugin that calls sys.exit() ends itself only
                if entry.critical or isinstance(error, ConfigError):
                    if not isinstance(error, ConfigError):
                        log.error("sink %s failed: %s", entry.name, describe(error))
                    log.debug("sink %s failed", entry.name, exc_info=error)
                    self.failures.append(error)
                    self.stop()
                    return
                log.error("sink %s failed and was detached: %s", entry.name, describe(error), exc_info=error)
            finally:
                self.ring.detach(subscription)
                ready.set()
            if self._stopping.is_set() or not entry.is_wanted:
                return
            if trio.current_time() - begun >= HEALTHY_S:
                delay = RESTART_INITIAL_S
            log.info("sink %s starts again in %g s", entry.name, delay)
            with trio.move_on_after(delay):
                await self._stopping.wait()
            if self._stopping.is_set() or not entry.is_wanted:
                return
            delay = min(delay * 2, RESTART_MAX_S)
            subscription = self._subscribe(entry)

    async def _stop_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.stop()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        """Anywhere in the main thread; on the loop, where it turns, it goes on."""
        self._sent += 1
        if self._token is None:
            self._hear(number)
        elif self._sent - self._heard > UNHEARD_SIGNALS:
            log.error("the event loop hears no signal: ending without it; the next start seals what was flushed")
            os._exit(1)
        else:
            self._token.run_sync_soon(self._hear, number)

    def _hear(self, number: int) -> None:
        if number == signal.SIGHUP and self._is_hung_up:
            self._sent -= 1
            return
        self._heard += 1
        name = signal.Signals(number).name
        waiting = [entry for entry in self._sinks if not entry.is_done]
        if self._heard == 1:
            log.info("%s: stopping", name)
        elif self._heard == 2 and any(entry.critical for entry in waiting):
            names = ", ".join(entry.name for entry in waiting if entry.critical)
            log.warning("%s again: waiting only for %s; once more ends that too", name, names)
        else:
            log.warning("%s again: waiting for nobody", name)
        self.stop()
        for entry in waiting:
            if self._heard > 2 or (self._heard == 2 and not entry.critical):
                entry.scope.cancel()


async def wait_for_signal() -> None:
    """Until SIGINT or SIGTERM, for commands that serve until they are told to stop."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


class _Readiness:
    """A sink's task status; a sink may say `started()` more than once, and each time it is restarted."""

    def __init__(self, ready: trio.Event) -> None:
        self._ready = ready

    def started(self, value: None = None) -> None:
        """The sink is ready."""
        self._ready.set()


def describe(error: BaseException) -> str:
    """One line for a person: groups are flattened, plain errors show their text or, without one, their type."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(describe(inner) for inner in error.exceptions))
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (
            f"too many open files: this process may have {most}; raise that, as with `ulimit -n 1024` or LimitNOFILE="
        )
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if not type(error).__module__.startswith("wld"):
        return f"{kind}: {text}" if text else kind
    return text or kind
