"""`isolate = true`: a process of its own, where nothing the sink does matters to the recorder. Real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wld
from tests.plugins.distributions import SOUND, make_distribution
from wld import isolation
from wld.config import build
from wld.errors import ConfigError

START = "        task_status.started()\n"
EACH = "            pass\n"


class Run:
    """A real run of the recorder beside one isolated sink."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.log = folder / "log"
        environment = {**os.environ, "PYTHONPATH": str(folder / "site")}
        with self.log.open("w") as log:
            self.process = self._start(log, environment, arguments)

    def _start(self, log: Any, environment: dict[str, str], arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                sys.executable, "-m", "wld", "--source", "sim", "--sinks", "recorder,view", "--set",
                "sinks.view.isolate=true", "--set", "source.sim_rate=40", "--set", "drain_timeout=3", *arguments,
            ],
            cwd=self.folder,
            env=environment,
            stderr=log,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, f"no {what}\n{self.log.read_text()}"
            assert self.process.poll() is None, f"ended before {what}\n{self.log.read_text()}"
            time.sleep(0.02)

    def until_said(self, pattern: str) -> None:
        self.until(lambda: re.search(pattern, self.log.read_text()), pattern)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """End it; returns the log. The recorder lost nothing, whatever the sink did."""
        self.process.send_signal(number)
        assert self.process.wait(30) == 0, self.log.read_text()
        events = list(wld.open_tape(self.folder / "data" / "history"))
        assert len(events) > 20
        assert not [event for event in events if isinstance(event, wld.Gap)]
        return self.log.read_text()

    def pids(self) -> list[int]:
        return [int(path.name.partition(".")[2]) for path in self.folder.glob("pid.*")]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a run with a sink whose loop body is the given code; it leaves `pid.N` where it runs."""
    runs: list[Run] = []

    def start(code: str, *arguments: str, at_start: str = "", spec: str = "") -> Run:
        mark = f"        import os, pathlib\n        pathlib.Path(f'pid.{{os.getpid()}}').touch()\n{at_start}"
        source = SOUND.replace(START, mark + START).replace(EACH, code).replace("=Sink)", f"=Sink{spec})")
        make_distribution(tmp_path / "site", "view", source)
        runs.append(Run(tmp_path, *arguments))
        return runs[0]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        for pid in run.pids():
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def until_gone(pids: list[int]) -> None:
    end = time.monotonic() + 15
    while any(map(is_alive, pids)):
        assert time.monotonic() < end, "a process outlived its engine"
        time.sleep(0.05)


COLLECT = """
            for event in batch:
                with open("seen", "a") as file:
                    print(batch.first_number, type(event).__name__, getattr(event, "missed", ""), file=file)
            self.context.status("view", {"ring": self.context.statistics().published, "pid": os.getpid()})
"""


def test_it_sees_every_event_drains_at_the_end_and_reports(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start(COLLECT, "--set", "status_interval=0.3")
    run.until_said(r"view ring=(\d\d\d|[3-9]\d) pid=\d+")  # beyond what `stop` wants to find on the tape
    log = run.stop()
    assert f"pid={run.pids()[0]}" in log
    assert run.pids() != [run.process.pid]
    seen = [line.split()[1] for line in (tmp_path / "seen").read_text().splitlines()]
    taped = [type(event).__name__ for event in wld.open_tape(tmp_path / "data" / "history")]
    assert sorted(seen) == sorted(taped)


@pytest.mark.slow
def test_one_that_raises_is_named_and_starts_again(start: Callable[..., Run]) -> None:
    run = start("            raise RuntimeError('boom')\n")
    run.until(lambda: len(run.pids()) > 1, "second process")
    log = run.stop()
    assert re.search(r"sink view failed and was detached: RuntimeError: boom \(.*fake_wld_view.py:\d+\)", log)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("            raise RuntimeError('boom')\n", "sink view failed and was detached: RuntimeError: boom"),
        ("            await trio.sleep_forever()\n", "not drained within 3 s, cut off: view"),
    ],
    ids=["raises", "hangs"],
)
def test_inside_the_engine_too_it_costs_the_recorder_nothing(code: str, said: str, start: Callable[..., Run]) -> None:
    run = start(code, "--set", "sinks.view.isolate=false", spec=", capacity=50")
    run.until(run.pids, "sink")
    time.sleep(3)
    assert said in run.stop()


@pytest.mark.slow
def test_what_it_started_itself_ends_with_it(start: Callable[..., Run]) -> None:
    run = start(
        "            await trio.sleep_forever()\n",
        at_start="        import subprocess, sys\n"
        "        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        "        pathlib.Path(f'pid.{child.pid}').touch()\n",
    )
    run.until(lambda: len(run.pids()) == 2, "grandchild")
    run.stop()
    until_gone(run.pids())


@pytest.mark.slow
def test_one_that_exits_or_is_killed_starts_again(start: Callable[..., Run]) -> None:
    run = start("            os._exit(3)\n")
    run.until(lambda: len(run.pids()) > 1, "second process")
    assert re.search(r"its process \d+ exited with status 3", run.stop())


@pytest.mark.slow
def test_a_kill_of_its_process_is_a_crash_like_any_other(start: Callable[..., Run]) -> None:
    run = start(EACH)
    run.until(run.pids, "process")
    os.kill(run.pids()[0], signal.SIGKILL)
    run.until(lambda: len(run.pids()) > 1, "second process")
    assert "was killed by SIGKILL" in run.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "            await trio.sleep_forever()\n",
        "            import time; time.sleep(1000)\n",
        "            while 1: pass\n",
    ],
    ids=["hangs", "blocks", "spins"],
)
def test_one_that_takes_no_more_matters_to_nobody_and_goes_with_the_run(code: str, start: Callable[..., Run]) -> None:
    run = start(code, "--set", "ring.capacity=300")
    run.until(run.pids, "process")
    time.sleep(2)
    log = run.stop()
    assert "not drained within 3 s, cut off: view" in log
    until_gone(run.pids())


@pytest.mark.slow
def test_one_that_blocks_is_named_with_its_stack(start: Callable[..., Run]) -> None:
    run = start("            import time; time.sleep(1000)\n")
    run.until_said(
        r"sink view blocks the event loop, 0\.[0-9]+ s so far; everything waits: .*fake_wld_view.py:\d+ in run"
    )
    run.stop()


@pytest.mark.slow
def test_one_that_hoards_memory_meets_its_limit(start: Callable[..., Run]) -> None:
    run = start(
        "            hoard = [bytearray(1 << 20) for _ in range(100_000)]\n",
        "--set", "sinks.view.isolate_memory_mb=300",
    )  # fmt: skip
    run.until_said("sink view failed and was detached: MemoryError")
    run.stop()


@pytest.mark.slow
def test_one_that_hangs_before_it_is_ready_holds_up_nobody(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start(EACH, at_start="        await trio.sleep_forever()\n")
    run.until(run.pids, "process")
    run.until(lambda: list(tmp_path.glob("data/history/*.open")), "journal")
    time.sleep(1)
    run.stop()
    until_gone(run.pids())


@pytest.mark.slow
@pytest.mark.parametrize("code", [EACH, "            while 1: pass\n"], ids=["idle", "spins"])
def test_its_process_ends_with_an_engine_that_is_killed(code: str, start: Callable[..., Run]) -> None:
    run = start(code)
    run.until(run.pids, "process")
    run.process.kill()
    run.process.wait()
    until_gone(run.pids())


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_is_the_engines_alone(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start(COLLECT)
    run.until(run.pids, "process")
    run.until(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text().count("\n") > 20, "events")
    os.kill(run.pids()[0], signal.SIGINT)
    os.kill(run.pids()[0], signal.SIGTERM)
    log = run.stop(signal.SIGINT)
    assert "failed" not in log
    assert len(run.pids()) == 1


@pytest.mark.slow
def test_a_slow_one_loses_and_is_told_and_the_recorder_loses_nothing(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start(
        "            for event in batch:\n"
        "                if isinstance(event, wld.Gap):\n"
        "                    with open('gaps', 'a') as file: print(event.reason.value, event.missed, file=file)\n",
        "--set", "status_interval=0.2", "--set", "source.sim_rate=200",
        at_start="        while not os.path.exists('go'): await trio.sleep(0.05)\n",
        spec=", capacity=20",
    )  # fmt: skip
    run.until_said(r"drops=[1-9]")
    (tmp_path / "go").touch()
    run.until(lambda: (tmp_path / "gaps").exists(), "gap")
    run.stop()
    reason, missed = (tmp_path / "gaps").read_text().split()[:2]
    assert reason == "overrun"
    assert int(missed) > 0


@pytest.mark.slow
def test_a_refusal_inside_the_process_ends_the_run_with_status_2(tmp_path: Path) -> None:
    refusing = SOUND.replace(
        "        self.config,", "        raise wld.ConfigError('sinks.view.port: in use')\n        self.config,"
    )
    make_distribution(tmp_path / "site", "view", refusing)
    done = subprocess.run(
        [sys.executable, "-m", "wld", "--source", "sim", "--sinks", "view", "--set", "sinks.view.isolate=true"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "wld: sinks.view.port: in use" in done.stderr


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str = "", **table: Any) -> wld.SinkSpec:
    """What the engine learns of an isolated sink whose module begins with the given code."""
    make_distribution(tmp_path / "site", "view", before + SOUND.replace("create=Sink", "create=Sink, critical=True"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    config = build({"sinks": {"view": {"isolate": True, "isolate_memory_mb": 500, **table}}}, {"": "wld.toml"})
    try:
        return isolation.load_isolated("view", config)
    finally:
        assert "fake_wld_view" not in sys.modules


def test_its_module_is_never_imported_here_and_its_spec_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = load(
        tmp_path, monkeypatch, "print('x' * 1_000_000)\nimport subprocess; subprocess.Popen(['sleep', '100'])\n"
    )
    assert (spec.name, spec.critical, spec.stores) == ("view", True, False)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os._exit(3)\n", "sink view: cannot be loaded: its process exited with status 3"),
        ("import os; os.abort()\n", "sink view: cannot be loaded: its process was killed by SIGABRT"),
        ("import time; time.sleep(100)\n", "sink view: cannot be loaded within 3 s"),
        ("import nowhere_to_be_found\n", "sink view (wld-view 1.0): cannot be imported: No module named"),
        ("hoard = bytearray(2_000_000_000)\n", "sink view (wld-view 1.0): cannot be imported: MemoryError"),
    ],
    ids=["exits", "crashes", "hangs", "is broken", "hoards"],
)
def test_an_import_that_goes_wrong_refuses_the_start_and_harms_nothing(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in code:
        monkeypatch.setattr(isolation, "LOAD_TIMEOUT_S", 3)
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(tmp_path, monkeypatch, code)


def test_a_wrong_key_is_told_with_the_place_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=re.escape('wld.toml: sinks.view.widht: unknown key; did you mean "width"?')):
        load(tmp_path, monkeypatch, widht=4)


def test_one_that_draws_cannot_be_isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build({"sinks": {"telemetry": {"isolate": True}}}, {})
    with pytest.raises(ConfigError, match=r"sinks\.telemetry\.isolate: expected false, because this sink draws"):
        isolation.load_isolated("telemetry", config)
