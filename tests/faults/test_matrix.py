"""The faults of a network, a venue, a disk and a host: each one's tape, words and balance, as docs/reference-faults.md says."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from wld_recorder import Recorder, RecorderConfig

import wld
from tests.bybit import frames
from tests.faults import rig as rigs
from tests.faults.rig import SYMBOLS, Rig, recording
from tests.faults.rows import Act, run, tape_of, words
from tests.faults.table import Row, check
from wld.bybit.lines import LineSource
from wld.clock import ReceiveClock
from wld.exchange import rest
from wld.exchange.accounting import balance
from wld.ring import Subscription
from wld.service import Service, SinkEntry
from wld.tape.seal import BlockFile


def inject(fault: str, wait_s: float = 0.3) -> Act:
    async def act(rig: Rig) -> None:
        rig.exchange.inject(fault)
        await rig.exchange_time(wait_s)

    return act


async def reset(rig: Rig) -> None:
    rig.proxies[0].refuse(True)
    rig.proxies[0].reset_all()
    await rig.exchange_time(0.4)
    rig.proxies[0].restore()


async def half_open(rig: Rig) -> None:
    rig.proxies[0].half_open()
    await rig.exchange_time(2.2)


async def short_stall(rig: Rig) -> None:
    rig.proxies[0].stall(0.6)
    await rig.exchange_time(0.7)


async def long_stall(rig: Rig) -> None:
    rig.proxies[0].stall(3)
    await rig.exchange_time(2.4)
    rig.proxies[0].restore()


async def drip(rig: Rig) -> None:
    rig.proxies[0].drip(30_000)
    await rig.exchange_time(1.0)
    rig.proxies[0].restore()


async def no_dns(rig: Rig) -> None:
    rigs.RESOLVER.fails = True
    rig.proxies[0].reset_all()
    await rig.exchange_time(0.4)
    rigs.RESOLVER.fails = False


async def no_handles(rig: Rig) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 8, highest), hard))
    try:
        rig.proxies[0].reset_all()
        await rig.exchange_time(0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def twice(rig: Rig) -> None:
    for client in rig.exchange.clients.values():

        def doubled(frame: str, *, is_data: bool = False, offer: Any = client.offer) -> None:
            offer(frame, is_data=is_data)
            offer(frame, is_data=is_data)

        client.offer = doubled  # type: ignore[method-assign]
    await rig.exchange_time(1.0)
    await reset(rig)


def refused(status: int) -> Act:
    async def act(rig: Rig) -> None:
        rig.exchange.inject(f"rest_down:{status}")
        await reset(rig)
        await rig.until_connected()
        await rig.exchange_time(1.6)

    return act


ROWS: list[tuple[str, str, Act, dict[str, Any]]] = [
    ("connection reset", "every connection cut with a TCP reset, new ones too for 0.4 s", reset, {}),
    ("stalled, shortly", "the line holds everything back for 0.6 s, then delivers it", short_stall, {}),
    ("garbage", "text, bytes that are no UTF-8 and a binary frame", inject("garbage:all"), {}),
    ("update id skipped", "a delta of each book never sent", inject("skip_u"), {}),
    ("update id repeated", "a delta of each book sent twice", inject("repeat_u"), {}),
    ("update id 1", "each book starts again, as after a restart of the venue", inject("restart_u1"), {}),
    ("crossed book", "a bid above the best ask", inject("crossed_book"), {}),
]  # fmt: skip
SLOW_ROWS: list[tuple[str, str, Act, dict[str, Any]]] = [
    ("closed by the venue", "a close frame (1001) and the end of the stream", inject("drop:clean"), {}),
    ("delivered twice", "every message and answer sent twice for a second, then a reset", twice, {}),
    ("slow drip", "30 kB/s for a second", drip, {}),
    ("DNS failure", "the connection cut, and its name not found for 0.4 s", no_dns, {}),
    ("oversize", "a message of 10 MB where 256 KiB are allowed", inject("garbage:big", 0.6), {"max_message_bytes": 256 * 1024}),
    ("snapshot in mid-stream", "each book sent whole again", inject("resnapshot"), {}),
    ("HTTP 403 on REST", "connection reset; the missed trades cannot be fetched for ten minutes", refused(403), {}),
    ("HTTP 429 on REST", "the same, for a minute", refused(429), {}),
    ("half-open", "the line carries nothing more and is not closed", half_open, {}),
    ("stalled, for long", "the line holds everything back for longer than a pong may take", long_stall, {}),
    ("delayed pong", "pongs come 3 s late, data in time", inject("delayed_pong:3", 2.5), {}),
    ("whole request rejected", "the next subscribe refused, after a reset", inject("reject_all:1", 0.1), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "happened", "act", "options"), ROWS, ids=[row[0] for row in ROWS])
async def test_fault(
    name: str, happened: str, act: Act, options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await run(name, happened, tmp_path, caplog, act, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "happened", "act", "options"), SLOW_ROWS, ids=[row[0] for row in SLOW_ROWS])
async def test_slow_fault(
    name: str, happened: str, act: Act, options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await run(name, happened, tmp_path, caplog, act, **options)


REST_ROWS = [
    ("HTTP 429 within a repair", 429, "TOO_MANY_S", "the second of two symbols refused, for half a second"),
    ("HTTP 403 within a repair", 403, "FORBIDDEN_S", "the same, for the half second that stands here for ten minutes"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status", "pause", "happened"), REST_ROWS, ids=[row[0] for row in REST_ROWS])
async def test_refusal_within_a_repair(
    name: str, status: int, pause: str, happened: str, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(f"wld.bybit.backoff.{pause}", 0.5)
    asked: list[str] = []

    async def act(rig: Rig) -> None:
        misbehaviour = rig.exchange._misbehaviour

        def list_trades(market: Any, query: Any, now_ms: int) -> dict[str, Any]:
            asked.append(query["symbol"])
            if len(asked) == 1:
                misbehaviour.rest_status = status
            return rest.trades_result(market, query, now_ms)

        monkeypatch.setitem(rest.ENDPOINTS, "/v5/market/recent-trade", list_trades)
        await reset(rig)
        with trio.fail_after(10):
            while not rig.source._gate.reason:  # noqa: ASYNC110
                await trio.sleep(0.02)
        misbehaviour.rest_status = None

    options = {"symbols": ("WLDUSDT", "OPUSDT"), "audit": 0.0}  # an audit asks as well
    await run(name, f"connection reset; {happened}", tmp_path, caplog, act, **options)
    assert sorted(asked) == ["OPUSDT", "WLDUSDT"]


@pytest.mark.slow
async def test_more_is_missed_than_the_venue_lists(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_few(market: Any, query: Any, now_ms: int) -> dict[str, Any]:
        result = rest.trades_result(market, query, now_ms)
        return {**result, "list": result["list"][:5]}

    monkeypatch.setitem(rest.ENDPOINTS, "/v5/market/recent-trade", list_few)
    happened = "half-open; the venue lists five trades, more were missed, and it has no further page"
    rig = await run("list of trades too short", happened, tmp_path, caplog, half_open)
    assert [e.remaining for e in rig.events if isinstance(e, wld.Repair)] == [None]


@pytest.mark.slow
async def test_file_handles_exhausted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await run(
        "file handles exhausted", "no new handle for 0.5 s, while the connection is cut", tmp_path, caplog, no_handles
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "jump_s"), [("clock jumps forward", 3600), ("clock jumps back", -3600)])
async def test_clock(name: str, jump_s: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    offset = [0]
    clock = ReceiveClock(wall=lambda: time.time_ns() + offset[0])

    async def jump(rig: Rig) -> None:
        offset[0] = jump_s * 1_000_000_000
        await rig.exchange_time(1.1)

    rig = await run(name, f"the wall clock is set by {jump_s:+d} s", tmp_path, caplog, jump, clock=clock)
    times = [e.receive_time for e in rig.events]
    assert times == sorted(times)


class Crashing:
    async def run(self, batches: Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async for _ in batches:
            raise RuntimeError("boom")


class Hanging:
    async def run(self, batches: Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()


async def test_sink_crash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sinks = (SinkEntry("view", Crashing),)
    await run("sink crash", "a sink beside the recorder raises", tmp_path, caplog, inject("clear"), sinks=sinks)


@pytest.mark.slow
async def test_sink_hang(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sinks = (SinkEntry("view", Hanging, capacity=50),)
    await run(
        "sink hang", "a sink beside the recorder takes nothing more, not even at the end", tmp_path, caplog,
        inject("clear"), sinks=sinks, drain_timeout=1.0,
    )  # fmt: skip


class Disk:
    """Stands before the tape's writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: int | None = None
        self.delay_s = 0.0
        write = BlockFile._write

        def guarded(file: BlockFile, content: bytes) -> None:
            time.sleep(self.delay_s)
            if self.error is not None:
                raise OSError(self.error, os.strerror(self.error))
            write(file, content)

        monkeypatch.setattr(BlockFile, "_write", guarded)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("disk full", errno.ENOSPC),
        pytest.param("disk turns read-only", errno.EROFS, marks=pytest.mark.slow),
        pytest.param("disk fails", errno.EIO, marks=pytest.mark.slow),
    ],
)
async def test_disk_that_refuses(
    name: str, number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wld_recorder.recorder.RETRY_S", 0.05)
    disk = Disk(monkeypatch)

    async def refuse(rig: Rig) -> None:
        disk.error = number
        await rig.exchange_time(0.6)
        disk.error = None

    await run(
        f"{name}, then not", 'writes refused for 0.6 s; `on_error = "retry"`', tmp_path, caplog, refuse,
        recorder=RecorderConfig(flush_interval=0.05, on_error="retry"),
    )  # fmt: skip


@pytest.mark.slow
async def test_slow_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)

    async def slow(rig: Rig) -> None:
        disk.delay_s = 1.5
        await rig.exchange_time(4)
        disk.delay_s = 0.0

    await run("disk slow", "1.5 s for each write, for 4 s", tmp_path, caplog, slow)


@pytest.mark.slow
async def test_disk_that_stays_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    caplog.set_level(logging.WARNING, "wld")
    async with recording(tmp_path / "tapes") as rig:
        await rig.until_connected()
        await rig.flow(40)
        await rig.exchange_time(0.2)
        disk.error = errno.ENOSPC
        with trio.fail_after(10):
            await rig.service.stopping.wait()
        disk.error = None
    assert rig.status == 1
    assert rig.events
    result = rig.balance_to_the_end()
    assert result.is_exact, str(result)
    happened = 'writes refused for good; `on_error = "stop"`: status 1'
    check(Row("disk full", happened, "all that was written before it, intact", words(caplog)[:2], result))


@pytest.mark.slow
async def test_disk_full_when_the_run_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wld_recorder.recorder.RETRY_S", 0.05)
    disk = Disk(monkeypatch)
    caplog.set_level(logging.WARNING, "wld")
    config = RecorderConfig(flush_interval=0.05, on_error="retry")
    async with recording(tmp_path / "tapes", recorder=config) as rig:
        await rig.until_connected()
        await rig.flow(40)
        disk.error = errno.ENOSPC
        await rig.flow(40)
        rig.service.stop()
        await trio.sleep(0.5)
        disk.error = None
    assert rig.status == 0
    result = rig.balance_to_the_end()
    assert result.is_exact, str(result)
    happened = 'writes refused when the run is told to end, and for 0.5 s more; `on_error = "retry"`: status 0'
    check(Row("disk full at the end", happened, tape_of(rig), words(caplog)[:2], result))


@pytest.mark.slow
async def test_disk_full_to_the_end_of_the_input(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read faster than it can be written waits; the end comes with the input, and the disk takes no more."""
    monkeypatch.setattr("wld_recorder.recorder.RETRY_S", 0.05)
    monkeypatch.setattr("wld_recorder.recorder.WAITING_EVENTS", 200)
    caplog.set_level(logging.WARNING, "wld")
    trades = [json.loads(frames.trades(frames.trade(i))) | {"ts": frames.T0 + i} for i in range(1000)]
    sent = [json.dumps(body) for body in trades]
    disk = Disk(monkeypatch)
    figures: dict[str, Any] = {}
    reading, writing = os.pipe()
    file = os.fdopen(reading, "rb")
    source = LineSource(file)

    def create() -> Recorder:
        context = wld.SinkContext(
            tmp_path / "tapes",
            SYMBOLS,
            "0.1.0",
            "-",
            "recorded",
            service.ring.statistics,
            lambda name, said: figures.update(said),
        )
        return Recorder(RecorderConfig(flush_interval=0.05, on_error="retry"), context)

    service = Service(source, [SinkEntry("recorder", create, critical=True, capacity=300)], drain_timeout=1.0)
    status: list[int] = []

    async def run() -> None:
        status.append(await service.run())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        with os.fdopen(writing, "wb") as pipe:

            def write(lines: list[str]) -> None:
                pipe.write("".join(f"{line}\n" for line in lines).encode())
                pipe.flush()

            write(sent[:100])
            with trio.fail_after(10):
                while figures.get("events", 0) < 100:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            disk.error = errno.ENOSPC
            await trio.to_thread.run_sync(write, sent[100:])  # it waits for room
    file.close()
    assert status == [1]
    events = [*wld.open_tape(tmp_path / "tapes"), wld.Gap(0, wld.GapReason.SHUTDOWN)]
    result = balance(sent, events)
    assert result.is_exact, str(result)
    assert result.recorded == 100
    said = words(caplog)
    assert any("not on the tape" in line or "cut off" in line for line in said)
    happened = (
        'lines from standard input, writes refused from the 101st on and at the end; `on_error = "retry"`: status 1'
    )
    check(
        Row("disk full to the end of the input", happened, "all that was written before it, intact", said[1:3], result)
    )
