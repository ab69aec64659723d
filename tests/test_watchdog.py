"""Who blocks the event loop is named, with the place, while it lasts."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import wld
from tests.plugins.distributions import SOUND, make_distribution
from wld import plugins, watchdog
from wld.service import Service, SinkEntry
from wld.testing import ListSource, make_context, make_trade
from wld.watchdog import watch_loop


def held(text: str) -> threading.Event:
    """An event that is set once the log says `text`; a bound keeps a failing test from hanging."""
    said = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                said.set()

    logging.getLogger("wld.watchdog").addHandler(Listener())
    return said


def block(until: threading.Event) -> None:
    assert until.wait(10)


def test_a_loop_that_shows_that_it_turns_is_not_woken_to_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BEAT_S", 0.001)
    published = iter([0, 1, 2, 3, 3])
    left: list[int] = []

    class Token:
        def run_sync_soon(self, answer: Callable[[], object]) -> None:
            left.append(len(list(published)))
            watch._stop.set()
            answer()

    watch = watchdog._Watch({}, Token(), 0, lambda: next(published))  # type: ignore[arg-type]
    watch.start()
    watch._thread.join(10)
    assert left == [0]  # asked once it stood still, and not before


class Blocker:
    def __init__(self, until: threading.Event) -> None:
        self.until = until

    async def run(self, batches: wld.Subscription, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async for _ in batches:
            block(self.until)


def test_a_sink_that_blocks_is_named_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    sink = Blocker(held("sink noisy blocks the event loop"))
    service = Service(ListSource([make_trade()]), [SinkEntry("noisy", lambda: sink)])

    async def main() -> None:
        with watch_loop({}):
            assert await service.run() == 0
            await trio.sleep(0.3)  # the watchdog's second line comes with its next look

    trio.run(main)
    lines = [record.getMessage() for record in caplog.records if record.name == "wld.watchdog"]
    assert re.search(rf"{__file__}:\d+ in block < {__file__}:\d+ in run < ", lines[0])
    assert re.fullmatch(r"sink noisy blocked the event loop for \d+\.\d s", lines[1])


def test_a_task_of_a_sink_is_known_by_its_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SOUND + "\n\nasync def crunch(until):\n    until.wait(10)\n"
    module = make_distribution(tmp_path, "noisy2", source)
    monkeypatch.syspath_prepend(str(tmp_path))
    specs = plugins.load_sinks(["noisy2"])
    sink = specs["noisy2"].create(None, make_context())
    until = held("sink noisy2 blocks the event loop")

    async def main() -> None:
        with watch_loop(specs):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(vars(__import__(module))["crunch"], until)

    trio.run(main)
    assert sink is not None
    assert "fake_wld_noisy2.py:" in caplog.text


def test_a_loop_that_turns_is_left_in_peace(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with watch_loop({}):
            for _ in range(80):
                await trio.sleep(0.01)

    trio.run(main)
    assert not caplog.records


@pytest.mark.slow
def test_the_real_program_names_it_and_goes_on(tmp_path: Path) -> None:
    blocking = SOUND.replace("            pass", "            import time; time.sleep(1.5)")
    make_distribution(tmp_path / "site", "noisy", blocking)
    done = subprocess.run(
        [sys.executable, "-m", "wld", "--source", "sim", "--sinks", "recorder,noisy", "--duration", "2s"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "WLD_SET": "drain_timeout=2"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"ERROR sink noisy blocks the event loop, .*fake_wld_noisy.py:\d+ in run", done.stderr)
    assert list(wld.open_tape(tmp_path / "data" / "history"))
