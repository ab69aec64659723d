"""What the screen costs, against its budgets. Needs Linux; takes about a minute and a half.

    python benchmarks/screen.py
    python benchmarks/screen.py --seconds 30

Frames are measured in process (CPU time, bytes), the rest on real processes with a real pseudo-terminal of 200 x 50:
CPU as the difference between the radar on a terminal and the same sinks on a pipe, both fed by one simulated exchange.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

import numpy as np
import trio

sys.path.insert(0, str(Path(__file__).parent))
from pictures import Scene, simulated

from wld.config import ScreenConfig
from wld.ring import Ring
from wld.terminal.cells import compose
from wld.terminal.frame import draw_frame
from wld.terminal.palette import THEMES, Palette, Rung

ROWS, COLUMNS = 50, 200
WLD = [sys.executable, "-m", "wld"]


def report(name: str, measured: str, budget: str, is_met: bool) -> None:
    """One row of the table."""
    print(f"{name:<44} {measured:>34}  {budget:<22} {'ok' if is_met else 'OVER'}", flush=True)


def frames(minutes: float) -> None:
    """CPU and bytes of frames at 5 fps over the last minute of a simulated stretch."""
    scene = Scene("WLDUSDT")
    stretch = list(simulated(minutes / 60, 7, "WLDUSDT"))
    for now, events in stretch[:-60]:
        scene.apply(now, events)
    palette = Palette(THEMES["dark"], Rung.TRUE)
    old = None
    drawn: list[float] = []
    composed: list[float] = []
    sizes: list[int] = []
    for now, events in stretch[-60:]:
        scene.apply(now, events, is_shown=True)
        for _ in range(5):
            begun = time.process_time()
            frame = draw_frame(ROWS, COLUMNS, palette, scene.surface.panels, scene.view, scene.state)
            between = time.process_time()
            text = compose(frame.grid, old.grid if old else None, palette, frame.shifts)
            composed.append((time.process_time() - between) * 1e3)
            drawn.append((between - begun) * 1e3)
            sizes.append(len(text.encode()))
            old = frame
            scene.view.now += 200_000_000
    both = np.array(drawn) + np.array(composed)
    full = len(compose(old.grid, None, palette).encode())  # type: ignore[union-attr]
    report("draw + compose, median, p95", f"{np.median(both):.2f} ms, {np.percentile(both, 95):.2f} ms", "p95 <= 5 ms",
           float(np.percentile(both, 95)) <= 5)  # fmt: skip
    report("CPU of drawing at 5 fps", f"{both.mean() * 5 / 10:.2f} % of a core", "<= 3 %", both.mean() * 5 / 10 <= 3)
    report("bytes a frame, median", f"{np.median(sizes[1:]):.0f}", "<= 5,000", np.median(sizes[1:]) <= 5_000)
    report("bytes a second, mean", f"{np.mean(sizes[1:]) * 5 / 1e3:.1f} KB", "<= 25 KB", np.mean(sizes[1:]) * 5 <= 25e3)
    report("full repaint", f"{full / 1e3:.1f} KB", "<= 60 KB", full <= 60_000)


class Terminal:
    """A pseudo-terminal that answers nothing, read by a thread unless told to stall."""

    def __init__(self, rows: int = ROWS, columns: int = COLUMNS) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.is_stalled = False
        self.seen = b""
        self.is_closed = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self.is_closed:
            if self.is_stalled:
                time.sleep(0.02)
                continue
            if select.select([self.master], [], [], 0.02)[0]:
                try:
                    self.seen += os.read(self.master, 1 << 16)
                except OSError:
                    return

    def run(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        """Start a process here."""
        env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        return subprocess.Popen(
            command,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),
            **options,  # type: ignore[call-overload]
        )

    def until(self, text: bytes, timeout: float = 30.0) -> float:
        """Seconds until the process wrote this."""
        begun = time.monotonic()
        while text not in self.seen:
            if time.monotonic() - begun > timeout:
                raise TimeoutError(text)
            time.sleep(0.002)
        return time.monotonic() - begun

    def close(self) -> None:
        """Give it back."""
        self.is_closed = True
        self._thread.join(1)
        os.close(self.master)
        os.close(self.slave)


def cpu_of(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processes(seconds: float, folder: Path) -> None:
    """The radar on a terminal beside the same sinks on a pipe."""
    server = subprocess.Popen([*WLD, "sim", "--port", "0"], stdout=subprocess.PIPE, cwd=folder, text=True)
    assert server.stdout is not None
    url = server.stdout.readline().split()[-1]
    command = [*WLD, "--source", url, "--sinks", "heatmap,telemetry"]
    terminal = Terminal()
    plain = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    visual = terminal.run(command, cwd=folder)
    try:
        terminal.until(b"LIVE")
        time.sleep(5)
        before, length = (cpu_of(visual), cpu_of(plain)), len(terminal.seen)
        time.sleep(seconds)
        after, written = (cpu_of(visual), cpu_of(plain)), len(terminal.seen) - length
        used = [(b - a) / seconds * 100 for a, b in zip(before, after, strict=True)]
        report("process on a terminal, on a pipe", f"{used[0]:.1f} %, {used[1]:.1f} % of a core", "", True)
        report("  so the screen costs", f"{used[0] - used[1]:.1f} % of a core", "<= 3 %", used[0] - used[1] <= 3)
        report("  and writes", f"{written / seconds / 1e3:.1f} KB/s", "<= 25 KB/s", written / seconds <= 25e3)
        begun = time.monotonic()
        os.write(terminal.master, b"q")
        visual.wait(20)
        report("exit after q", f"{time.monotonic() - begun:.2f} s", "<= 1.5 s", time.monotonic() - begun <= 1.5)
    finally:
        for process in (visual, plain, server):
            if process.poll() is None:
                process.terminate()
                process.wait(20)
        terminal.close()


def starts(count: int, folder: Path) -> None:
    """From exec to the first painted frame, on a terminal that answers no question."""
    paints = []
    used = []
    exits = []
    for _ in range(count):
        terminal = Terminal()
        process = terminal.run([*WLD, "--source", "sim", "--sinks", "heatmap,telemetry"], cwd=folder)
        paints.append(terminal.until(b"help"))
        used.append(cpu_of(process))
        time.sleep(1.0)
        terminal.is_stalled = True
        for width in range(100, 200, 10):  # repaints fill what the kernel holds
            fcntl.ioctl(terminal.slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, width, 0, 0))
            process.send_signal(signal.SIGWINCH)
            time.sleep(0.05)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        exits.append(time.monotonic() - begun)
        terminal.close()
    first = statistics.median(paints)
    report("first paint, mute terminal (wall, median)", f"{first:.2f} s", "<= 0.6 s", first <= 0.6)
    report("  CPU until then (what a quiet host takes)", f"{statistics.median(used):.2f} s", "<= 0.6 s",
           statistics.median(used) <= 0.6)  # fmt: skip
    worst = max(exits)
    report("exit by SIGTERM, stalled terminal (worst)", f"{worst:.2f} s", "<= 1.5 s", worst <= 1.5)


LAG = """
import sys, time, trio
sys.path.insert(0, {path!r})
from screen import lag_inside
lag_inside({seconds})
"""


def lag_inside(seconds: float) -> None:
    """In a process of its own on the terminal: a loop that only draws, and a ticker that measures its lag."""
    from wld.terminal.screen import Screen

    scene = Scene("WLDUSDT")
    stretch = list(simulated(0.1, 7, "WLDUSDT"))
    for now, events in stretch[:-60]:
        scene.apply(now, events)
    screen = Screen(ScreenConfig(), symbols=["WLDUSDT"], clock="live", log_to_memory=False, wall=lambda: scene.view.now)
    screen.facts, screen.panels, screen.view = scene.surface.facts, scene.surface.panels, scene.view
    lags: list[float] = []

    async def tick() -> None:
        while True:
            due = trio.current_time() + 0.005
            await trio.sleep_until(due)
            lags.append((trio.current_time() - due) * 1e3)

    async def change() -> None:
        while True:
            await trio.sleep(0.05)
            scene.view.now += 50_000_000
            screen.facts.version += 1

    idle: list[float] = []

    async def main() -> None:
        with trio.move_on_after(seconds / 2):
            await tick()
        idle.extend(lags)
        lags.clear()
        ring = Ring()
        subscription = ring.subscribe("screen")
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(screen.run, subscription)
                await trio.sleep(1)
                nursery.start_soon(tick)
                nursery.start_soon(change)

    screen.open()
    try:
        trio.run(main)
    finally:
        is_taken = screen.close()
    values = np.array(lags)
    text = f"{np.percentile(values, 99):.2f} {values.max():.2f} {screen.dropped} {screen.frames}"
    text += f" {np.percentile(idle, 99):.2f} {max(idle):.2f}"
    Path("lag.txt").write_text(text)
    if not is_taken:
        os._exit(0)


def lag(seconds: float, folder: Path, *, is_stalled: bool) -> None:
    """Lag of the event loop while the screen paints."""
    terminal = Terminal()
    script = LAG.format(path=str(Path(__file__).parent), seconds=seconds)
    process = terminal.run([sys.executable, "-c", script], cwd=folder)
    terminal.until(b"help", 60)
    terminal.is_stalled = is_stalled
    process.wait(60)
    terminal.close()
    p99, worst, dropped, shown, idle, idle_worst = map(float, (folder / "lag.txt").read_text().split())
    name = "stalled" if is_stalled else "live"
    report(f"loop lag p99, max ({name}; {dropped:.0f} of {shown + dropped:.0f} dropped)", f"{p99:.1f} ms, {worst:.1f} ms",
           "<= 5 ms more than idle", worst <= 5 + idle_worst)  # fmt: skip
    report("  the same loop before the screen, p99, max", f"{idle:.1f} ms, {idle_worst:.1f} ms", "", True)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args()
    print(f"python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {COLUMNS} x {ROWS}")
    with tempfile.TemporaryDirectory() as folder:
        frames(20)
        processes(arguments.seconds, Path(folder))
        starts(arguments.starts, Path(folder))
        lag(10, Path(folder), is_stalled=False)
        lag(10, Path(folder), is_stalled=True)


if __name__ == "__main__":
    main()
