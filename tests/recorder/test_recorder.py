"""The recorder under a real ring: everything published is on the tape when it returns."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from wld_recorder import Recorder, RecorderConfig, wld_sink

import wld
from wld.ring import Ring

T0 = 1_700_000_000_000_000_000


def trade(i: int, receive_time: int | None = None) -> wld.Trade:
    return wld.Trade(
        "WLDUSDT", 2 * wld.SCALE, i + 1, wld.AggressorSide.BUY, f"id-{i}", event_time=T0 + i,
        receive_time=T0 + i * 1_000_000 if receive_time is None else receive_time,
    )  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name.partition(".")[2] for path in folder.glob("market_data_*"))


def context(folder: Path, ring: Ring, seen: list[dict[str, Any]] | None = None) -> wld.SinkContext:
    def status(name: str, figures: Any) -> None:
        assert name == "recorder"
        if seen is not None:
            seen.append(dict(figures))

    return wld.SinkContext(folder, None, "0.1.0", "sim", "recorded", ring.statistics, status)


async def record(folder: Path, events: list[wld.Event], **config: Any) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    ring = Ring()
    recorder = Recorder(RecorderConfig(**config), context(folder, ring, seen))
    async with trio.open_nursery() as nursery:
        with ring:
            subscription = ring.subscribe("recorder", capacity=100_000)
            await nursery.start(lambda task_status: recorder.run(subscription, task_status=task_status))
            for i in range(0, len(events), 100):
                ring.publish(events[i : i + 100])
                await trio.lowlevel.checkpoint()
    return seen


def test_the_spec_is_critical_and_named_after_its_entry_point() -> None:
    spec = wld_sink()
    assert (spec.name, spec.critical, spec.needs_screen) == ("recorder", True, False)


async def test_everything_published_is_sealed_when_it_returns(tmp_path: Path) -> None:
    events: list[wld.Event] = [trade(i) for i in range(1000)]
    seen = await record(tmp_path, events)
    assert list(wld.open_tape(tmp_path)) == events
    assert names(tmp_path) == ["bin"]
    assert seen[-1]["events"] == 1000


async def test_hours_become_segments(tmp_path: Path) -> None:
    hour = 3_600_000_000_000
    events: list[wld.Event] = [trade(i, T0 // hour * hour + i * hour // 2) for i in range(6)]
    await record(tmp_path, events)
    assert [s.events for s in wld.open_tape(tmp_path).summary().files] == [2, 2, 2]


@asynccontextmanager
async def idle_with_a_trade(folder: Path) -> AsyncIterator[None]:
    """A running recorder to which one trade came, once that is on the disk."""
    ring = Ring()
    recorder = Recorder(RecorderConfig(flush_interval=0.01), context(folder, ring))
    async with trio.open_nursery() as nursery:
        with ring:
            subscription = ring.subscribe("recorder")
            await nursery.start(lambda task_status: recorder.run(subscription, task_status=task_status))
            ring.publish([trade(0)])
            with trio.fail_after(5):
                while not names(folder) or not list(wld.open_tape(folder)):  # noqa: ASYNC110
                    await trio.sleep(0.005)
            yield


async def test_idle_events_reach_the_journal_within_the_flush_interval(tmp_path: Path) -> None:
    async with idle_with_a_trade(tmp_path):
        assert names(tmp_path) == ["bin.open"]


async def test_a_host_that_refuses_to_sleep_ends_no_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: float) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("time.sleep", refuse)
    async with idle_with_a_trade(tmp_path):
        pass
    assert len(list(wld.open_tape(tmp_path))) == 1


async def test_a_left_over_journal_is_recovered_at_the_start(tmp_path: Path) -> None:
    writer = wld.TapeWriter(tmp_path, source="sim")
    writer.append([trade(0)])
    writer.flush()
    writer.close(seal=False)
    await record(tmp_path, [trade(1, T0 + 120_000_000_000)])
    assert list(wld.open_tape(tmp_path)) == [trade(0), trade(1, T0 + 120_000_000_000)]
    assert names(tmp_path) == ["bin", "bin", "bin.open.recovered"]


async def test_cancellation_still_seals_what_was_taken(tmp_path: Path) -> None:
    ring = Ring()
    recorder = Recorder(RecorderConfig(), context(tmp_path, ring))
    async with trio.open_nursery() as nursery:
        subscription = ring.subscribe("recorder")
        await nursery.start(lambda task_status: recorder.run(subscription, task_status=task_status))
        ring.publish([trade(0)])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert list(wld.open_tape(tmp_path)) == [trade(0)]


async def test_a_second_recorder_is_refused(tmp_path: Path) -> None:
    ring = Ring()
    with wld.TapeWriter(tmp_path, source="sim"), pytest.raises(wld.TapeLocked, match="another recorder"):
        await Recorder(RecorderConfig(), context(tmp_path, ring)).run(ring.subscribe("recorder"))


async def test_a_disk_that_refuses_stops_the_recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: wld.TapeWriter) -> None:
        raise wld.TapeError("disk full")

    monkeypatch.setattr(wld.TapeWriter, "flush", refuse)
    ring = Ring()
    recorder = Recorder(RecorderConfig(flush_interval=0.01), context(tmp_path, ring))
    subscription = ring.subscribe("recorder")
    ring.publish([trade(0)])
    with trio.fail_after(5), pytest.raises(wld.TapeError, match="disk full"):
        await recorder.run(subscription)


@pytest.mark.parametrize(
    "wrong", [{"depth": "none"}, {"on_error": "x"}, {"rotate_minutes": 0}, {"flush_interval": 0.0}]
)
def test_wrong_settings_name_their_key(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(wld.ConfigError, match=f"sinks.recorder.{next(iter(wrong))}: "):
        Recorder(RecorderConfig(**wrong), context(tmp_path, Ring()))


async def test_a_disk_that_refuses_for_a_while_costs_nothing_when_told_to_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wld_recorder.recorder.RETRY_S", 0.01)
    real = wld.TapeWriter.flush
    refusals = [3]

    def flush(self: wld.TapeWriter) -> None:
        if refusals[0]:
            refusals[0] -= 1
            raise wld.TapeError("disk full")
        real(self)

    monkeypatch.setattr(wld.TapeWriter, "flush", flush)
    seen: list[dict[str, Any]] = []
    ring = Ring()
    recorder = Recorder(RecorderConfig(flush_interval=0.01, on_error="retry"), context(tmp_path, ring, seen))
    events = [trade(i) for i in range(50)]
    async with trio.open_nursery() as nursery:
        with ring:
            subscription = ring.subscribe("recorder")
            await nursery.start(lambda task_status: recorder.run(subscription, task_status=task_status))
            ring.publish(events)
            with trio.fail_after(5):
                while not names(tmp_path) or not list(wld.open_tape(tmp_path)):  # noqa: ASYNC110
                    await trio.sleep(0.005)
    assert list(wld.open_tape(tmp_path)) == events
    assert any(figures["error"] == "disk full" for figures in seen)
    assert seen[-1]["error"] is None


@pytest.mark.parametrize("refusals", [3, None])
async def test_a_disk_that_is_full_when_the_input_ends_is_tried_until_the_drain_is_over(
    refusals: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wld_recorder.recorder.RETRY_S", 0.01)
    real = wld.TapeWriter.flush
    tries: list[None] = []
    enough = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def flush(self: wld.TapeWriter) -> None:
        tries.append(None)
        if refusals is None or len(tries) <= refusals:
            if len(tries) == 5:
                token.run_sync_soon(enough.set)
            raise wld.TapeError("disk full")
        real(self)

    monkeypatch.setattr(wld.TapeWriter, "flush", flush)
    ring = Ring()
    recorder = Recorder(RecorderConfig(flush_interval=10, on_error="retry"), context(tmp_path, ring))
    events = [trade(i) for i in range(50)]
    failure: list[BaseException] = []

    async def run(task_status: trio.TaskStatus[None]) -> None:
        try:
            await recorder.run(ring.subscribe("recorder"), task_status=task_status)
        except wld.TapeError as error:
            failure.append(error)

    async with trio.open_nursery() as nursery:
        with ring:
            await nursery.start(run)
            ring.publish(events)
        if refusals is None:
            with trio.fail_after(5):
                await enough.wait()
            nursery.cancel_scope.cancel()  # as at the end of the drain
    if refusals is None:
        assert [str(error) for error in failure] == [
            "disk full; the last 50 events, or nearly as many, are not on the tape"
        ]
    else:
        assert list(wld.open_tape(tmp_path)) == events
        assert not failure


async def test_a_disk_that_is_behind_leaves_the_rest_to_the_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wld_recorder.recorder.WAITING_EVENTS", 20)
    monkeypatch.setattr("wld_recorder.recorder.FLUSH_EVENTS", 10)
    events: list[wld.Event] = [trade(i) for i in range(500)]
    await record(tmp_path, events)
    assert list(wld.open_tape(tmp_path)) == events


async def test_only_so_much_is_kept_and_each_deletion_is_a_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hour = 3_600_000_000_000
    start = T0 // hour * hour
    events: list[wld.Event] = [trade(i, start + i * hour) for i in range(5)]
    await record(tmp_path, events, keep="2h")
    assert [e.receive_time for e in wld.open_tape(tmp_path)] == [start + i * hour for i in (2, 3, 4)]
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("deleted ")]
    assert len(lines) == 2
    assert all("older than 2h" in line and "bytes" in line for line in lines)


async def test_without_keep_nothing_is_ever_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hour = 3_600_000_000_000
    events: list[wld.Event] = [trade(i, T0 + i * 1000 * hour) for i in range(3)]
    await record(tmp_path, events)
    assert list(wld.open_tape(tmp_path)) == events
    assert not [r for r in caplog.records if "deleted" in r.getMessage()]


def test_a_wrong_keep_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(wld.ConfigError, match=r'sinks.recorder.keep: expected an age such as "30d"'):
        Recorder(RecorderConfig(keep="some"), context(tmp_path, Ring()))
