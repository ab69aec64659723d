"""The real program on a real terminal: mute, stalled, resized, suspended, killed; and what it never does to the disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wld
from tests.heatmap.demo import market
from tests.terminal.session import PATIENCE_S, WLD, Session, radar

LIVE = r"(LIVE|WAITING)"


def test_q_ends_the_run_with_status_0_and_the_terminal_as_it_was(tmp_path: Path) -> None:
    with Session(radar("--log-level", "debug"), cwd=tmp_path) as session:
        session.until(lambda: session.shows("mark 0") and session.shows("fund") and session.shows("OI "))
        session.type("q")
        assert session.ended() == 0
        assert session.is_restored()
        assert "simulated exchange at" in session.output[session.output.rfind("\x1b[?1049l") :]
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_gets_plain_lines_without_a_single_escape(tmp_path: Path) -> None:
    done = subprocess.run(
        radar("--duration", "1s"),
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    line = done.stdout.decode("ascii").strip()
    for label in ("WLDUSDT", "mark", "fund", "OI"):
        assert label in line
    assert "\n" not in line


WATCH = """
import os, sys
FD = int(os.environ["WATCH_FD"])
def hook(event, arguments):
    if event == "open" and arguments[0] not in ("/dev/null",):
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if flags is not None else 0
        if writes or (mode and set(mode) & set("wax+")):
            os.write(FD, f"{path} {mode} {flags}\\n".encode())
    elif event in ("os.mkdir", "os.rename", "os.remove", "shutil.copyfile"):
        os.write(FD, f"{event} {arguments}\\n".encode())
sys.addaudithook(hook)
"""


def test_a_visual_run_opens_no_file_for_writing(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WATCH)
    home = tmp_path / "home"
    home.mkdir()
    read, write = os.pipe()
    env = {"PYTHONPATH": str(tmp_path / "site"), "WATCH_FD": str(write), "PYTHONDONTWRITEBYTECODE": "1"}
    with Session(radar(), cwd=home, env=env, pass_fds=(write,)) as session:
        os.close(write)
        session.until(lambda: session.shows("mark 0"))
        links = Path(f"/proc/{session.process.pid}/fd")
        if links.exists():
            held = [os.readlink(link) for link in links.iterdir()]
            assert not [path for path in held if path.startswith(str(home))]
        session.type("t?xgGcs \t")
        session.until(lambda: session.shows("FROZEN"))
        session.type("q")
        assert session.ended() == 0
    with os.fdopen(read) as told:
        assert told.read() == ""
    assert list(home.iterdir()) == []


def test_a_headless_run_loads_nothing_of_the_terminal(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom wld.cli import main\n"
        "sys.argv = ['wld', '--source', 'sim', '--sinks', 'recorder', '--data-dir', 't', '--duration', '500ms']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "loaded = [name for name in sys.modules if name == 'blessed' or name.startswith('wld.terminal')]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_gives_the_terminal_back(number: signal.Signals, tmp_path: Path) -> None:
    with Session(radar(), cwd=tmp_path) as session:
        session.until(lambda: session.shows(LIVE))
        session.process.send_signal(number)
        assert session.ended() == 0
        assert session.is_restored()


@pytest.mark.slow
def test_an_exception_gives_the_terminal_back_and_is_told(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom wld.terminal.screen import Screen\nfrom wld.cli import main\n"
        "old = Screen._draw\n"
        "def draw(self, nursery):\n"
        "    old(self, nursery)\n"
        "    if self.frames > 3: raise RuntimeError('a made-up failure')\n"
        "Screen._draw = draw\n"
        "sys.argv = ['wld', '--source', 'sim', '--sinks', 'telemetry']\nmain()\n"
    )
    with Session((sys.executable, "-c", script), cwd=tmp_path) as session:
        assert session.ended() == 1
        assert session.is_restored()
        assert "a made-up failure" in session.output[session.output.rfind("\x1b[?1049l") :]


@pytest.mark.slow
def test_kill_of_the_parent_ends_it_and_gives_the_terminal_back(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(sys.argv[1:])\n"
        "open('pid', 'w').write(str(child.pid))\n"
        "child.wait()\n"
    )
    script = f"import subprocess, sys, time\np = subprocess.Popen([sys.executable, '-c', {parent!r}, *sys.argv[1:]])\np.wait()\ntime.sleep(60)\n"
    with Session((sys.executable, "-c", script, *radar()), cwd=tmp_path) as session:
        session.until(lambda: session.shows(LIVE))
        child = int((tmp_path / "pid").read_text())
        status = Path(f"/proc/{child}/stat").read_text()
        os.kill(int(status.split()[3]), signal.SIGKILL)
        session.until(lambda: not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text())
        session.read()
        assert session.is_restored()


@pytest.mark.slow
def test_a_terminal_that_goes_away_ends_the_run(tmp_path: Path) -> None:
    with Session(radar(), cwd=tmp_path) as session:
        session.until(lambda: session.shows(LIVE))
        os.close(session.slave)
        os.close(session.master)
        session.master = session.slave = -1
        assert session.process.wait(PATIENCE_S) in (0, -signal.SIGHUP)


@pytest.mark.slow
def test_a_terminal_that_goes_away_ends_the_screen_and_nothing_else(tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    command = (
        *WLD,
        "--source",
        "sim",
        "--sinks",
        "heatmap,telemetry,recorder",
        "--data-dir",
        str(tape),
        "--log-file",
        "log",
    )
    with Session((*command, "--set", "status_interval=0.5"), cwd=tmp_path) as session:
        session.until(lambda: session.shows(LIVE))
        os.close(session.slave)
        os.close(session.master)  # the kernel sends SIGHUP, as when a window or an ssh is closed
        session.master = session.slave = -1
        log = tmp_path / "log"
        end = time.monotonic() + PATIENCE_S
        while "screen terminal=gone" not in log.read_text():
            assert time.monotonic() < end, log.read_text()
            assert session.process.poll() is None, log.read_text()
            time.sleep(0.1)
        session.process.send_signal(signal.SIGHUP)  # a shell that ends sends its own
        size = sum(path.stat().st_size for path in tape.glob("*.open"))
        while sum(path.stat().st_size for path in tape.glob("*.open")) <= size + 1000:
            assert time.monotonic() < end, log.read_text()
            assert session.process.poll() is None, log.read_text()
            time.sleep(0.1)
        session.process.send_signal(signal.SIGTERM)
        assert session.process.wait(PATIENCE_S) == 0
    said = [line for line in log.read_text().splitlines() if "terminal is gone" in line]
    assert len(said) == 1
    assert said[0].endswith("the terminal is gone: the screen ends, going on with recorder")
    assert "sink heatmap" not in log.read_text()
    assert not wld.open_tape(tape).summary().gaps


@pytest.mark.slow
@pytest.mark.parametrize("sinks", ["heatmap,telemetry", "telemetry,recorder"])
def test_a_stalled_terminal_neither_stops_the_engine_nor_the_way_out(sinks: str, tmp_path: Path) -> None:
    command = (*WLD, "--source", "sim", "--sinks", sinks, "--data-dir", "t")
    with Session(command, cwd=tmp_path, size=(50, 200)) as session:
        session.until(lambda: session.shows(LIVE))
        # Nobody reads any more; a repaint each time the window changes fills what the kernel holds.
        for width in range(150, 200, 5):
            session.resize(50, width)
            time.sleep(0.1)
        begun = time.monotonic()
        session.process.send_signal(signal.SIGTERM)
        assert session.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - begun < 10  # the budget (1.5 s) is benchmarks/screen.py's; this is only not for ever
    if "recorder" in sinks:
        assert len(list((tmp_path / "t").glob("*.bin"))) == 1


@pytest.mark.slow
def test_a_mute_terminal_does_not_delay_the_start(tmp_path: Path) -> None:
    # Nothing on this terminal ever answers a question; blessed by itself would wait ten seconds.
    begun = time.monotonic()
    with Session(radar(), cwd=tmp_path) as session:
        session.until(lambda: session.shows(LIVE))
        assert time.monotonic() - begun < 8
        session.type("q")
        assert session.ended() == 0


@pytest.mark.slow
def test_resizing_leaves_no_garbage(tmp_path: Path) -> None:
    with Session(radar(), cwd=tmp_path) as session:
        session.until(lambda: session.shows("mark 0"))
        for rows, columns in ((24, 80), (5, 20), (50, 200), (12, 50), (24, 80), (1, 1), (40, 120)):
            session.resize(rows, columns)
            session.read(0.3)
        session.until(lambda: session.shows("mark 0") and session.shows("POSITIONING"))
        lines = session.text().splitlines()
        assert len(lines) in (39, 40)  # the last is the event tape's and may be empty
        assert max(map(len, lines)) <= 120
        assert lines[0].lstrip().startswith("wld WLDUSDT")
        assert sum("PRICE (USDT)" in line for line in lines) == 1
        session.type("q")
        assert session.ended() == 0
        assert session.is_restored()


@pytest.mark.slow
def test_suspended_and_resumed(tmp_path: Path) -> None:
    with Session(radar(), cwd=tmp_path) as session:
        session.until(lambda: session.shows("mark 0"))
        session.process.send_signal(signal.SIGTSTP)
        stat = Path(f"/proc/{session.process.pid}/stat")
        session.until(lambda: stat.read_text().split()[2] == "T")
        session.read()
        assert session.is_restored()
        session.process.send_signal(signal.SIGCONT)
        session.until(lambda: session.output.rfind("\x1b[?1049h") > session.output.rfind("\x1b[?1049l"))
        session.until(lambda: session.shows("mark 0"))
        session.type("q")
        assert session.ended() == 0
        assert session.is_restored()


@pytest.mark.slow
def test_no_color_is_a_whole_screen_without_a_colour(tmp_path: Path) -> None:
    with Session(radar(), cwd=tmp_path, env={"NO_COLOR": "1"}) as session:
        session.until(lambda: session.shows("mark 0") and session.shows("help"))
        session.type("q")
        assert session.ended() == 0
        codes = [p for sgr in re.findall(r"\x1b\[([0-9;]*)m", session.output) for p in sgr.split(";") if p]
        assert not [code for code in codes if 30 <= int(code) <= 48 and code not in ("39",)]
        assert re.search(r"\x1b\[\d+;\d+H", session.output)
        assert session.is_restored()


@pytest.mark.slow
def test_without_a_keyboard_the_screen_is_drawn_and_a_signal_ends_it(tmp_path: Path) -> None:
    with Session(radar(), cwd=tmp_path, stdin=subprocess.DEVNULL) as session:
        session.until(lambda: session.shows("mark 0"))
        session.process.send_signal(signal.SIGTERM)
        assert session.ended() == 0
        assert session.is_restored()


@pytest.mark.slow
def test_a_terminal_without_utf_8_gets_ascii_only(tmp_path: Path) -> None:
    with Session(radar(), cwd=tmp_path, env={"LANG": "en_US.ISO-8859-1", "PYTHONUTF8": "1"}) as session:
        session.until(lambda: session.shows("mark 0"))
        session.type("q")
        assert session.ended() == 0
        assert session.output[: session.output.rfind("\x1b[?1049l")].isascii()


@pytest.mark.slow
def test_the_w_key_writes_what_is_shown_and_nothing_else(tmp_path: Path) -> None:
    with Session(radar(), cwd=tmp_path, size=(40, 120)) as session:
        session.until(lambda: session.shows("mark 0") and session.shows("est. USDT per"))
        session.type(" ")
        session.until(lambda: session.shows("FROZEN"))
        session.type("w")
        session.until(lambda: session.shows("saved wld-WLDUSDT"))
        session.type("q")
        assert session.ended() == 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".ans", ".json", ".txt"]
    text = next(tmp_path.glob("*.txt")).read_text()
    assert "WLDUSDT" in text
    assert "est. USDT per" in text
    assert '"open_interest"' in next(tmp_path.glob("*.json")).read_text()


@pytest.mark.slow
def test_tab_switches_the_symbol_each_with_its_own_ledger(tmp_path: Path) -> None:
    with Session(radar("--symbols", "WLDUSDT,BTCUSDT"), cwd=tmp_path, size=(24, 100)) as session:
        session.until(lambda: session.shows("WLDUSDT 1/2") and session.shows("LIVE"))
        session.type("\t")
        session.until(lambda: session.shows(r"BTCUSDT 2/2 \d{5}"))
        session.type("\x1b[Z")
        session.until(lambda: session.shows(r"WLDUSDT 1/2 0\."))
        session.type("q")
        assert session.ended() == 0


@pytest.mark.slow
def test_a_replay_keeps_its_last_picture_until_q_and_on_a_pipe_ends_with_its_input(tmp_path: Path) -> None:
    with wld.TapeWriter(tmp_path / "tape", source="sim", clock="live") as writer:
        writer.append(wld.Batch(list(market(3.0)), 0))
    replay = (*WLD, "--source", "tape", "--speed", "max", "--sinks", "heatmap,telemetry")
    with Session(replay, cwd=tmp_path) as session:
        session.until(lambda: session.shows("END of input") and session.shows("mark 0|mark 1"))
        session.type("q")
        assert session.ended() == 0
        assert session.is_restored()
    done = subprocess.run(replay, cwd=tmp_path, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert b"REPLAY" in done.stdout
