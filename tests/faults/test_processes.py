"""Faults that only a real process can have: stopped, killed, ended while sealing, without its terminal, out of disk."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import wld
from tests.faults.table import Row, check, told
from wld.exchange import ExchangeAddress, ExchangeConfig, serve_exchange
from wld.exchange.accounting import Balance, balance

pytestmark = pytest.mark.slow
QUICK = ("ping_interval=0.4", "pong_timeout=1.5", "backoff_initial=0.05", "backoff_max=0.2")


@asynccontextmanager
async def exchange() -> AsyncIterator[ExchangeAddress]:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_exchange, ExchangeConfig(rate=20))
        address.exchange.sent_log = []
        yield address
        nursery.cancel_scope.cancel()


def command(address: ExchangeAddress, folder: Path, *flags: str, sinks: str = "recorder") -> list[str]:
    settings = [part for key in QUICK for part in ("--set", f"source.{key}")]
    source = ["--source", address.ws_url, "--data-dir", str(folder), *settings]
    return [sys.executable, "-m", "wld", "--sinks", sinks, *source, *flags]


async def start(
    address: ExchangeAddress,
    folder: Path,
    *flags: str,
    sinks: str = "recorder",
    limit: Callable[[], None] | None = None,
    **options: Any,
) -> trio.Process:
    opened = partial(
        trio.lowlevel.open_process,
        command(address, folder, *flags, sinks=sinks),
        stderr=subprocess.PIPE,
        preexec_fn=limit,
    )
    return await opened(**options)


async def until_recorded(folder: Path, size: int) -> None:
    with trio.fail_after(30):
        while sum(p.stat().st_size for p in folder.glob("*.bin.open")) < size:  # noqa: ASYNC110, ASYNC240
            await trio.sleep(0.05)


async def end(process: trio.Process, number: signal.Signals | None = signal.SIGTERM) -> tuple[int, str]:
    """Signal it, and give its status and its words."""
    words = b""
    if number is not None:
        process.send_signal(number)
    with trio.fail_after(40):
        if process.stderr is not None:
            while piece := await process.stderr.receive_some():
                words += piece
        return await process.wait(), words.decode()


def warnings(text: str) -> tuple[str, ...]:
    lines = [line.partition(" ")[2] for line in text.splitlines() if " WARNING " in line or " ERROR " in line]
    return tuple(dict.fromkeys(told(line.partition(" ")[2]) for line in lines))[:2]


def account(address: ExchangeAddress, folder: Path, *, ended: bool = True) -> Balance:
    """What came after a run's last event was nobody's to record: a mark there, and between runs."""
    events: list[wld.Event] = []
    for path in sorted(folder.glob("market_data_*.bin")):
        events += [*wld.open_tape(path), wld.Gap(0, wld.GapReason.SHUTDOWN)]
    return balance(address.exchange.sent_log or (), events)


STOPS = [
    ("SIGSTOP", 6, "SIGSTOP for four times as long as a pong may take, then SIGCONT"),
    ("SIGSTOP for a minute", 60, "SIGSTOP for 60 s, then SIGCONT"),
]


@pytest.mark.parametrize(("name", "seconds", "happened"), STOPS, ids=[row[0] for row in STOPS])
async def test_stopped_for_long(name: str, seconds: int, happened: str, tmp_path: Path) -> None:
    async with exchange() as address:
        process = await start(address, tmp_path)
        await until_recorded(tmp_path, 20_000)
        process.send_signal(signal.SIGSTOP)
        await trio.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        await trio.sleep(2)
        status, text = await end(process)
        assert status == 0, text
        result = account(address, tmp_path)
        assert result.is_exact, str(result)
        gaps = {e.reason.value for e in wld.open_tape(tmp_path) if isinstance(e, wld.Gap)}
        tape = "what waited in the socket, then a Gap where the line was given up" if gaps else "no Gap"
        check(Row(name, happened, tape, warnings(text), result))


async def test_killed(tmp_path: Path) -> None:
    async with exchange() as address:
        process = await start(address, tmp_path)
        await until_recorded(tmp_path, 40_000)
        await end(process, signal.SIGKILL)
        again = await start(address, tmp_path)
        with trio.fail_after(30):
            while not list(tmp_path.glob("*.recovered")):  # noqa: ASYNC110, ASYNC240
                await trio.sleep(0.05)
        await until_recorded(tmp_path, 20_000)
        status, text = await end(again)
        assert status == 0, text
        result = account(address, tmp_path)
        assert result.is_exact, str(result)
        tape = "all that was flushed (each second); the time between the runs is told by `wld verify`"
        check(Row("kill -9, then started again", "the process killed, and started again", tape, warnings(text), result))


async def test_ended_while_sealing(tmp_path: Path) -> None:
    async with exchange() as address:
        process = await start(address, tmp_path)
        await until_recorded(tmp_path, 40_000)
        process.send_signal(signal.SIGTERM)
        await trio.sleep(0.1)
        status, text = await end(process)
        assert status == 0, text
        assert not list(tmp_path.glob("*.open"))  # noqa: ASYNC240
        result = account(address, tmp_path)
        assert result.is_exact, str(result)
        happened = "SIGTERM, and again while the tape is being sealed"
        check(Row("SIGTERM while sealing", happened, "sealed and whole, status 0", warnings(text)[:0], result))


async def test_disk_really_full(tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    async with exchange() as address:
        process = await start(address, tmp_path, limit=limit)
        status, text = await end(process, None)
        assert status == 1, text
        assert "Traceback" not in text
        events = [*wld.open_tape(tmp_path), wld.Gap(0, wld.GapReason.SHUTDOWN)]
        result = balance(address.exchange.sent_log or (), events)
        assert result.is_exact, str(result)
        happened = "the file may not grow any more (RLIMIT_FSIZE): status 1"
        check(
            Row("disk full, a real process", happened, "all that was written before, readable", warnings(text), result)
        )


async def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    async with exchange() as address:
        process = await start(address, Path("/proc/wld"))
        status, text = await end(process, None)
        assert status in (1, 2)
        line = text.strip().splitlines()[-1]
        assert "Traceback" not in text
        check(
            Row(
                "read-only folder",
                f"nothing can be created in it: status {status}",
                "nothing",
                (told(line),),
                balance([], []),
            )
        )


async def test_terminal_gone(tmp_path: Path) -> None:
    async with exchange() as address:
        main, side = pty.openpty()
        flags = ("--log-file", str(tmp_path / "log"))
        process = await start(
            address, tmp_path, *flags, sinks="recorder,telemetry", stdin=side, stdout=side, start_new_session=True
        )
        os.close(side)
        await until_recorded(tmp_path, 20_000)
        before = sum(p.stat().st_size for p in tmp_path.glob("*.bin.open"))  # noqa: ASYNC240
        os.close(main)
        await until_recorded(tmp_path, before + 20_000)
        status, text = await end(process)
        assert status == 0, text
        assert not list(tmp_path.glob("*.open"))  # noqa: ASYNC240
        result = account(address, tmp_path)
        assert result.is_exact, str(result)
        happened = "the terminal closed under radar and recorder: the radar ends, the recorder goes on"
        check(Row("terminal gone", happened, "no Gap", warnings((tmp_path / "log").read_text()), result))
