"""Supervision of the real program: real signals, and sinks of another distribution that crash, hang or start late."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wld

SINKS = """
import sys
import msgspec, trio, wld

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    behaviour: str = ""

class Odd:
    def __init__(self, config, context):
        self.behaviour = config.behaviour

    async def run(self, batches, *, task_status=trio.TASK_STATUS_IGNORED):
        if self.behaviour == "late":
            await trio.sleep(1)
        task_status.started()
        print("ready", file=sys.stderr, flush=True)
        async for batch in batches:
            if self.behaviour == "crash":
                raise RuntimeError("boom")
            if self.behaviour == "exit":
                sys.exit(7)
            if self.behaviour == "hang":
                await trio.sleep_forever()
        print("drained", file=sys.stderr, flush=True)

def spec(name, critical):
    return wld.SinkSpec(name=name, config_type=Config, create=Odd, critical=critical)
"""
PLUGIN = """
import odd_sinks, wld

@wld.hookimpl
def wld_sink():
    return odd_sinks.spec({name!r}, {critical})
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed distribution with two sinks: `odd`, and `grave`, which is critical."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "odd_sinks.py").write_text(SINKS)
    (folder / "odd.py").write_text(PLUGIN.format(name="odd", critical=False))
    (folder / "grave.py").write_text(PLUGIN.format(name="grave", critical=True))
    about = folder / "odd_sinks-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-sinks\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[wld.sinks]\nodd = odd\ngrave = grave\n")
    return folder


QUICK = ("--set", "source.sim_rate=10", "--set", "sinks.recorder.flush_interval=0.05")


class Program:
    """A running wld, and what it says."""

    def __init__(self, site: Path, cwd: Path, *arguments: str) -> None:
        self.folder = cwd / "tapes"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wld", "--data-dir", str(self.folder), *QUICK, *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(site)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # under nohup it is ignored, and stays so
        )
        self.said = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.said += line
                self._news.notify_all()

    def until(self, text: str, times: int = 1) -> None:
        """Until it has said that; its only real wait."""
        with self._news:
            assert self._news.wait_for(lambda: self.said.count(text) >= times, 30), self.said

    def recorded(self) -> None:
        """Until the journal holds something."""
        end = threading.Event()
        for _ in range(600):
            if any(path.stat().st_size > 4096 for path in self.folder.glob("*.open")):
                return
            end.wait(0.05)
        raise AssertionError(self.said)

    def end(self) -> int:
        status = self.process.wait(30)
        self._reader.join(30)
        return status


@pytest.fixture
def start(site: Path, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def begin(*arguments: str) -> Program:
        programs.append(Program(site, tmp_path, *arguments))
        return programs[-1]

    yield begin
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
            program.end()
        assert program.process.stderr is not None
        program.process.stderr.close()


def behaves(name: str, behaviour: str) -> tuple[str, ...]:
    return "--sinks", f"recorder,{name}", "--set", f"sinks.{name}.behaviour={behaviour}"


def whole(program: Program) -> list[wld.Event]:
    """The tape's events: sealed, and nothing lost but at the very end of the feed."""
    assert not list(program.folder.glob("*.open"))
    events = list(wld.open_tape(program.folder))
    assert not [event for event in events if isinstance(event, wld.Gap)]
    return events


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_drains_every_sink_seals_the_tape_and_is_status_0(
    number: signal.Signals, start: Callable[..., Program]
) -> None:
    program = start("--source", "sim", *behaves("odd", "good"))
    program.recorded()
    program.process.send_signal(number)
    assert program.end() == 0
    assert program.said.count("drained") == 1
    assert whole(program)


def test_a_signal_before_anything_came_is_status_0_too(start: Callable[..., Program]) -> None:
    program = start("--source", "ws://127.0.0.1:1/", *behaves("odd", "good"))
    program.until("reconnecting")
    program.process.terminate()
    assert program.end() == 0
    assert "drained" in program.said


def test_duration_starts_when_all_sinks_have_started(start: Callable[..., Program]) -> None:
    program = start("--source", "sim", *behaves("odd", "late"), "--duration", "700ms")
    assert program.end() == 0
    assert "drained" in program.said
    assert whole(program)


def test_a_critical_sink_that_crashes_is_status_1_after_the_others_drained(start: Callable[..., Program]) -> None:
    program = start("--source", "sim", *behaves("grave", "crash"))
    assert program.end() == 1
    assert "ERROR sink grave failed: RuntimeError: boom" in program.said
    assert "Traceback" not in program.said
    assert whole(program)


def test_a_source_that_fails_is_status_1_after_the_sinks_drained(start: Callable[..., Program]) -> None:
    program = start("--source", "sim", "--set", "source.sim_faults=reject_all", *behaves("odd", "good"))
    assert program.end() == 1
    assert "ERROR the source failed: the venue refused every topic" in program.said
    assert "drained" in program.said
    assert "Traceback" not in program.said
    assert not list(program.folder.glob("*.open"))


@pytest.mark.parametrize("behaviour", ["crash", "exit"])
def test_another_sink_that_crashes_is_restarted_and_costs_the_recorder_nothing(
    behaviour: str, start: Callable[..., Program]
) -> None:
    program = start("--source", "sim", *behaves("odd", behaviour))
    program.until("sink odd starts again in 1 s")
    program.until("ready", 2)
    program.until("sink odd starts again in 2 s")
    program.process.send_signal(signal.SIGINT)
    assert program.end() == 0
    assert "sink odd failed and was detached: " in program.said
    assert whole(program)


def test_a_sink_that_hangs_is_cut_off_at_the_deadline_and_the_recorder_is_not(start: Callable[..., Program]) -> None:
    program = start("--source", "sim", *behaves("odd", "hang"), "--set", "drain_timeout=0.5")
    program.recorded()
    program.process.send_signal(signal.SIGINT)
    assert program.end() == 0
    assert "not drained within 0.5 s, cut off: odd" in program.said
    assert whole(program)


def test_a_second_signal_ends_whoever_is_not_critical(start: Callable[..., Program]) -> None:
    program = start("--source", "sim", *behaves("odd", "hang"), "--set", "drain_timeout=600")
    program.recorded()
    program.process.send_signal(signal.SIGINT)
    program.until("SIGINT: stopping")
    program.process.send_signal(signal.SIGINT)
    assert program.end() == 0
    assert "SIGINT again: waiting " in program.said
    assert whole(program)


def test_a_third_signal_ends_the_critical_ones_too_with_status_1(start: Callable[..., Program]) -> None:
    program = start("--source", "sim", *behaves("grave", "hang"), "--set", "drain_timeout=600")
    program.recorded()
    for text in ("SIGTERM: stopping", "SIGTERM again: waiting only for ", "SIGTERM again: waiting for nobody"):
        program.process.terminate()
        program.until(text)
    assert program.end() == 1
    assert whole(program)


def test_a_sink_that_cannot_be_set_up_is_status_2_and_nothing_is_written(start: Callable[..., Program]) -> None:
    program = start("--source", "sim", "--sinks", "recorder,odd", "--set", "sinks.odd.behavior=x")
    assert program.end() == 2
    assert 'sinks.odd.behavior: unknown key; did you mean "behaviour"?' in program.said
    assert not program.folder.exists()
