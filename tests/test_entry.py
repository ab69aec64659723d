"""The way in and out of the program: signals while it loads, a reader that has gone away, streams that are closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import wld
from tests.test_service import Collector, ScriptedSource, entry
from wld.service import Service

WLD = [sys.executable, "-m", "wld"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_it_loads_ends_it_with_the_shells_status_and_without_a_word(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    (tmp_path / "click.py").write_text("import time\nopen('loading', 'w').close()\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [*WLD, "--version"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, stderr=subprocess.PIPE
    )
    while not (tmp_path / "loading").exists() and process.poll() is None:
        signal.sigtimedwait([], 0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (status, b"")


def test_what_loads_before_signals_are_heard_is_nothing_of_ours() -> None:
    code = "import wld.__main__, sys; print(len({'trio', 'numpy', 'msgspec', 'click', 'asyncio'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    trade = wld.Trade("A", 1, 1, wld.AggressorSide.BUY, "1", event_time=1, receive_time=1)
    with wld.TapeWriter(tmp_path / "tape", source="test") as writer:
        writer.append([trade])
    return tmp_path / "tape"


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["verify", "TAPE"], ["sim", "--port", "0"], ["evaluate", "TAPE"],
     ["--sinks", "telemetry", "--source", "TAPE", "--speed", "max"]],
    ids=["text of click", "a line", "inside a nursery", "rich", "a run that only shows"],
)  # fmt: skip
def test_where_the_reader_of_its_output_has_gone_away_it_ends_quietly_with_141(
    arguments: list[str], tape: Path
) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [*WLD, *(str(tape) if word == "TAPE" else word for word in arguments)]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_recorder_beside_the_view_goes_on_without_the_reader(tape: Path, tmp_path: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [*WLD, "--sinks", "telemetry,recorder", "--source", str(tape), "--data-dir", str(tmp_path / "again")]
    done = subprocess.run([*command, "--speed", "max"], stdout=writes, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writes)
    assert done.returncode == 0, done.stderr
    assert list(wld.open_tape(tmp_path / "again")) == list(wld.open_tape(tape))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line_and_status_1(tape: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*WLD, "inspect", str(tape)], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"wld: standard output: No space left on device\n")


def test_a_closed_standard_stream_gives_its_number_to_no_tape(tape: Path, tmp_path: Path) -> None:
    command = [*WLD, "--sinks", "telemetry,recorder", "--source", str(tape), "--data-dir", str(tmp_path / "again")]
    shell = f"{' '.join(command)} --speed max <&- >&- 2>&-"
    assert subprocess.run(shell, shell=True, timeout=60, check=False).returncode == 0
    assert list(wld.open_tape(tmp_path / "again")) == list(wld.open_tape(tape))
    assert subprocess.run(f"{' '.join(WLD)} inspect {tape} >&-", shell=True, timeout=60, check=False).returncode == 0


@pytest.fixture
def _handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
def test_the_run_owns_its_signals_from_before_its_start_to_the_end_of_the_process() -> None:
    sink = Collector()
    service = Service(ScriptedSource(), [entry(sink, critical=True)])
    service.take_signals()
    os.kill(os.getpid(), signal.SIGTERM)  # the source would never end by itself
    assert trio.run(service.run) == 0
    assert sink.is_closed
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)


@pytest.mark.slow
def test_a_loop_that_a_sink_blocks_for_good_ends_with_the_third_signal(tmp_path: Path) -> None:
    from tests.plugins.distributions import SOUND, make_distribution

    blocks = SOUND.replace("            pass\n", "            import time; time.sleep(1000)\n")
    make_distribution(tmp_path / "site", "view", blocks)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*WLD, "--source", "sim", "--sinks", "recorder,view", "--set", "source.sim_rate=50"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")}, stderr=log,
        )  # fmt: skip
    while "blocks the event loop" not in (tmp_path / "log").read_text():
        assert process.poll() is None, (tmp_path / "log").read_text()
        signal.sigtimedwait([], 0.05)
    for _ in range(3):
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        signal.sigtimedwait([], 0.3)
    assert process.wait(10) == 1
    assert "hears no signal" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("own", "used"), [(None, "1"), ("3", "3")])
def test_numpy_is_kept_to_one_thread_unless_the_user_says_otherwise(own: str | None, used: str) -> None:
    name = "OPENBLAS_NUM_THREADS"
    environment = {key: value for key, value in os.environ.items() if key != name}
    code = (
        f"import atexit, os; atexit.register(lambda: print(os.environ['{name}'])); import wld.__main__ as m; m.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"],
        env=environment if own is None else {**environment, name: own},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == used
