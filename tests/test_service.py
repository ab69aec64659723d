from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import trio
import trio.testing

from wld.errors import ConfigError, FatalSourceError
from wld.events import AggressorSide, Event, Trade
from wld.ring import Subscription
from wld.service import Service, SinkEntry, describe


def trade(number: int) -> Trade:
    return Trade("WLDUSDT", 1, number, AggressorSide.BUY, str(number), event_time=number, receive_time=number)


class ScriptedSource:
    """Publishes an event each second; ends by itself after `count`, or fails, or runs on."""

    def __init__(self, count: int | None = None, error: Exception | None = None) -> None:
        self.count = count
        self.error = error
        self.is_cancelled = False

    async def run(self, ring: Any, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        number = 0
        try:
            while self.count is None or number < self.count:
                await trio.sleep(1)
                ring.publish([trade(number)])
                number += 1
        except trio.Cancelled:
            self.is_cancelled = True
            raise
        if self.error:
            raise self.error


class Collector:
    """Keeps what it gets; `on_batch` may raise or hang."""

    def __init__(self, on_batch: Callable[[int], Any] | None = None) -> None:
        self.seen: list[Event] = []
        self.starts = 0
        self.is_closed = False
        self._on_batch = on_batch

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self.starts += 1
        task_status.started()
        async for batch in batches:
            if self._on_batch is not None:
                result = self._on_batch(len(self.seen))
                if result is not None:
                    await result
            self.seen.extend(batch)
        self.is_closed = True


async def three_seconds(_: int) -> None:
    await trio.sleep(3)


async def for_ever(_: int) -> None:
    await trio.sleep_forever()


def entry(sink: Any, name: str = "sink", *, critical: bool = False) -> SinkEntry:
    return SinkEntry(name, lambda: sink, critical=critical)


def numbers(events: Iterable[Event]) -> list[int]:
    return [e.size for e in events if isinstance(e, Trade)]


async def test_the_end_of_the_source_drains_every_sink(autojump_clock: trio.testing.MockClock) -> None:
    slow = Collector(three_seconds)
    quick = Collector()
    service = Service(ScriptedSource(5), [entry(slow, "slow"), entry(quick, "quick")], drain_timeout=60)
    assert await service.run() == 0
    assert numbers(slow.seen) == numbers(quick.seen) == [0, 1, 2, 3, 4]
    assert slow.is_closed


async def test_stop_cancels_the_source_only(autojump_clock: trio.testing.MockClock) -> None:
    source, sink = ScriptedSource(), Collector()
    service = Service(source, [entry(sink)], duration=4.5)
    assert await service.run() == 0
    assert source.is_cancelled
    assert sink.is_closed
    assert numbers(sink.seen) == [0, 1, 2, 3]


async def test_duration_starts_when_all_sinks_have_started(autojump_clock: trio.testing.MockClock) -> None:
    class SlowStart(Collector):
        async def run(self, batches: Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            await trio.sleep(9)
            await super().run(batches, task_status=task_status)

    sink = SlowStart()
    service = Service(ScriptedSource(), [entry(sink)], duration=2.5)
    assert await service.run() == 0
    assert numbers(sink.seen) == [0, 1]


async def test_a_sink_that_never_gets_ready_holds_up_nobody(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class NeverReady(Collector):
        async def run(self, batches: Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            await trio.sleep_forever()

    recorder = Collector()
    sinks = [entry(NeverReady(), "stuck"), entry(recorder, "recorder", critical=True)]
    assert await Service(ScriptedSource(3), sinks).run() == 0
    assert numbers(recorder.seen) == [0, 1, 2]
    assert "sink stuck is not ready after 10 s" in caplog.text


async def test_a_critical_sink_that_fails_ends_the_run_with_1_after_the_others_drained(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def fail(seen: int) -> None:
        if seen == 2:
            raise OSError("disk on fire")

    other = Collector()
    service = Service(ScriptedSource(), [entry(Collector(fail), "recorder", critical=True), entry(other, "other")])
    assert await service.run() == 1
    assert numbers(other.seen) == [0, 1, 2]
    assert other.is_closed
    assert [str(e) for e in service.failures] == ["disk on fire"]


async def test_a_fatal_source_ends_the_run_with_1_after_the_sinks_drained(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sink = Collector()
    service = Service(ScriptedSource(3, FatalSourceError("refused")), [entry(sink)])
    assert await service.run() == 1
    assert numbers(sink.seen) == [0, 1, 2]
    assert sink.is_closed


async def test_a_sink_that_crashes_is_restarted_and_costs_the_others_nothing(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    calls = iter(range(1000))

    def fail_first(_: int) -> None:
        if next(calls) == 1:
            raise RuntimeError("boom")

    crashing, recorder = Collector(fail_first), Collector()
    service = Service(ScriptedSource(10), [entry(crashing, "view"), entry(recorder, "recorder", critical=True)])
    with caplog.at_level(logging.INFO):
        assert await service.run() == 0
    assert numbers(recorder.seen) == list(range(10))
    assert crashing.starts == 2
    assert numbers(crashing.seen)[-1] == 9
    assert "view failed and was detached: RuntimeError: boom" in caplog.text


async def test_restarts_are_spaced_ever_further(autojump_clock: trio.testing.MockClock) -> None:
    def always(_: int) -> None:
        raise RuntimeError("boom")

    sink = Collector(always)
    service = Service(ScriptedSource(120), [entry(sink, "view"), entry(Collector(), "other")])
    assert await service.run() == 0
    assert 4 <= sink.starts <= 8


async def test_a_sink_that_hangs_is_cut_off_at_the_deadline(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Collector()
    service = Service(
        ScriptedSource(3),
        [entry(Collector(for_ever), "stuck"), entry(recorder, "recorder", critical=True)],
        drain_timeout=7,
    )
    begun = trio.current_time()
    assert await service.run() == 0
    assert trio.current_time() - begun == pytest.approx(10)
    assert numbers(recorder.seen) == [0, 1, 2]
    assert "cut off: stuck" in caplog.text


async def test_a_critical_sink_cut_off_is_status_1(autojump_clock: trio.testing.MockClock) -> None:
    stuck = Collector(for_ever)
    service = Service(ScriptedSource(3), [entry(stuck, "recorder", critical=True)])
    assert await service.run() == 1


async def test_a_wrong_setting_found_at_the_start_is_told_to_the_caller(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def create() -> Any:
        raise ConfigError("sinks.view.width: expected a number")

    service = Service(ScriptedSource(), [SinkEntry("view", create)])
    assert await service.run() == 1
    assert isinstance(service.failures[0], ConfigError)


async def test_a_sink_that_is_finished_is_detached_and_the_run_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Once(Collector):
        async def run(self, batches: Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()
            async for batch in batches:
                self.seen.extend(batch)
                return

    once, other = Once(), Collector()
    service = Service(ScriptedSource(5), [entry(once, "once"), entry(other, "other")])
    assert await service.run() == 0
    assert numbers(once.seen) == [0]
    assert numbers(other.seen) == [0, 1, 2, 3, 4]
    assert [s.name for s in service.ring.statistics().sinks] == []


def test_too_many_open_files_are_told_with_what_to_raise() -> None:
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/somewhere/httpx/__init__.py")
    said = describe(BaseExceptionGroup("both", [error, error]))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert said.startswith(f"too many open files: this process may have {most}; raise that, as with `ulimit -n")
    assert "httpx" not in said
