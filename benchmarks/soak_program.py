"""The program under a soak: a process, life after life, and what it says of itself. Started by `benchmarks/soak.py`.

Waits here count only time in which this process ran: whoever shares the machine may stop soak and program (SIGSTOP) for
minutes, and that must neither end a soak nor rob it of its hours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct

STEP_S = 0.25
MOST_BEHIND = 10
"""Minutes that an engine may need for what is on its way to it at the end."""
SLOW_S = 1.0
"""A step of a busy machine lasts so long at most; what is beyond does not count."""
HELD_UP_S = 5.0
"""A step that takes so much longer than asked was not slow: everything stood still."""


class Held:
    """How often and how long this process was stopped from outside, in seconds."""

    def __init__(self) -> None:
        self.times = 0
        self.seconds = 0.0
        self._known = 0.0

    def note(self, due: float, now: float) -> None:
        """A step that was due at `due` has come, Trio's clock; many wait at once, and what holds all up counts once."""
        if now - max(due, self._known) > HELD_UP_S:
            self.times += 1
            self.seconds += now - due
        self._known = now


held = Held()


async def rest(seconds: float) -> None:
    """Sleep for so much time in which this process ran."""
    while seconds > 1e-6:  # rounding leaves less, which a clock does not show
        step = min(STEP_S, seconds)
        begun = trio.current_time()
        await trio.sleep(step)
        now = trio.current_time()
        held.note(begun + step, now)
        seconds -= min(now - begun, SLOW_S)


async def until(condition: Callable[[], bool], limit_s: float, step_s: float = 0.1) -> bool:
    """Wait for a condition, at most so long; whether it came."""
    waited = 0.0
    while not condition():
        if waited >= limit_s:
            return False
        await rest(step_s)
        waited += step_s
    return True


class Engine:
    """The program, life after life, and what it says of itself."""

    def __init__(self, folder: Path, arguments: Sequence[str], speed: int) -> None:
        self._folder = folder
        self._arguments = arguments
        self._control: dict[str, int] = {
            "begun": time.monotonic_ns(), "wall": time.time_ns(), "speed": speed, "offset": 0, "names_fail_until": 0,
            "slow_disk_until": 0, "proof": 0,
        }  # fmt: skip
        self.process: trio.Process | None = None
        self.gauges: list[dict[str, Any]] = []
        """One a second, of every life."""
        self.statuses: list[int] = []
        """Of lives that were asked to end; a life that was stopped meanwhile may have given up, and is left out."""
        self.words: list[str] = []
        """Lines that no program should say."""
        self.said: Counter[str] = Counter()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def lines(self) -> int:
        """How many of its connections have brought data, as it said last."""
        return int(self.gauges[-1]["lines"])

    def set(self, **asked: int) -> None:
        """Change the control file, and tell the engine."""
        self._control.update(asked)
        path = self._folder / "control.tmp"
        path.write_text(json.dumps(self._control))
        path.replace(self._folder / "control.json")
        if self.process is not None:
            self.process.send_signal(signal.SIGUSR1)

    def move_clock(self, seconds: int) -> None:
        """Set its wall clock forward, or back."""
        self.set(offset=self._control["offset"] + seconds * 1_000_000_000)

    async def take_all(self, patience_s: float = 60.0) -> bool:
        """Wait until all that was sent by now has come, which a ping of each line proves, the pong being behind it.

        False where nothing came for `patience_s`, and no proof either: some may be on its way still.
        """
        number = self._control["proof"] + 1
        self.set(proof=number)

        def came() -> int:
            return int(self.gauges[-1]["source"]["messages"])

        for _ in range(MOST_BEHIND):
            before = came()
            if await until(lambda: self.gauges[-1]["proof"] == number, patience_s):
                return True
            if came() == before:
                break
        return False

    async def start(self, nursery: trio.Nursery) -> None:
        """Start a life; returns when it has its first data. Raises: RuntimeError: it ended, or showed none in 120 s."""
        self.set()
        program = [sys.executable, str(Path(__file__).with_name("soak_engine.py")), str(self._folder / "control.json")]
        self.process = process = await trio.lowlevel.open_process(
            [*program, *self._arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        seen = len(self.gauges)
        nursery.start_soon(self._listen, process)
        nursery.start_soon(self._hear_words, process)

        def is_up_or_over() -> bool:
            return process.returncode is not None or (len(self.gauges) > seen and self.lines > 0)

        if not await until(is_up_or_over, 120) or process.returncode is not None:
            raise RuntimeError(f"the engine shows no data (status {process.returncode}): {self.words[-5:]}")

    async def end(self, *signals: signal.Signals) -> None:
        """End this life. Raises: RuntimeError: it does not end in 120 s."""
        process, stops = self.process, held.times
        assert process is not None
        for number in signals:
            process.send_signal(number)
            await rest(0.3)
        if not await until(lambda: process.returncode is not None, 120):
            raise RuntimeError(f"the engine does not end: {self.words[-5:]}")
        assert process.returncode is not None
        if signal.SIGKILL not in signals and held.times == stops:
            self.statuses.append(process.returncode)

    async def _listen(self, process: trio.Process) -> None:
        assert process.stdout is not None
        unfinished = b""
        async for piece in process.stdout:
            *lines, unfinished = (unfinished + piece).split(b"\n")
            for line in lines:
                gauge = {"pid": process.pid, "at": time.time(), **json.loads(line), **_from_outside(process.pid)}
                self.gauges.append(gauge)

    async def _hear_words(self, process: trio.Process) -> None:
        assert process.stderr is not None
        unfinished = b""
        with (self._folder / "words.log").open("ab") as log:
            async for piece in process.stderr:
                log.write(piece)
                log.flush()
                *lines, unfinished = (unfinished + piece).split(b"\n")
                for line in lines:
                    text = line.decode(errors="replace")
                    self.said[" ".join(text.split()[1:4])] += 1
                    if not text.startswith("20") or " ERROR " in text:
                        self.words.append(text)
        if unfinished:
            self.words.append(unfinished.decode(errors="replace"))


def _from_outside(pid: int) -> dict[str, float]:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return {
            "memory_mb": int(status.split("VmRSS:")[1].split()[0]) / 1024,
            "handles": len(os.listdir(f"/proc/{pid}/fd")),
            "own_mb": int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024,
        }
    except (OSError, IndexError):
        return {}  # it has ended meanwhile


GROWTH = {"memory_mb": 15.0, "blocks": 60_000, "handles": 6.0, "tasks": 8.0, "threads": 6.0}
"""How much of each is no growth: the flow is uneven, and what waits at a moment differs."""
FILLING = {"entries": {"memory_mb": 0.0007, "blocks": 7}, "names": {"memory_mb": 0.0003, "blocks": 2}}
"""What one more of each takes: what lines remember of their topics is bounded, and not yet full when a leg ends."""


def growth(gauges: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """(typical of the second quarter, typical of the last) of each figure; starting up is left out."""
    whole = [gauge for gauge in gauges if "memory_mb" in gauge]
    quarter = max(1, len(whole) // 4)
    early, late = whole[quarter : 2 * quarter], whole[-quarter:]
    return {name: (middle([g[name] for g in early]), middle([g[name] for g in late])) for name in (*GROWTH, *FILLING)}


def excess(grown: dict[str, tuple[float, float]]) -> dict[str, float]:
    """By how much each figure has grown beyond what is no growth, and beyond what filled meanwhile."""
    filled = {name: max(0.0, grown[name][1] - grown[name][0]) for name in FILLING}
    return {
        name: late - early - GROWTH[name] - sum(filled[f] * takes.get(name, 0) for f, takes in FILLING.items())
        for name, (early, late) in grown.items()
        if name in GROWTH
    }


def middle(values: Sequence[float]) -> float:
    """The median."""
    return sorted(values)[len(values) // 2]


SEGMENT_S = 60
"""Of a steady soak: its memory climbs within a segment and peaks where one is sealed, so only the least of each segment
is compared with the least of another."""


WARM_UP = 5
"""Segments left out: libraries are loaded, and what is bounded fills: a symbol's latest ids (85), choices of the first seals."""
FEWEST = 8
"""Segments, after these, that tell anything."""
NOISE = {"memory_mb": 2.0, "heap_mb": 0.5, "blocks": 5_000.0}
"""So much more at the end than after the warm-up is no growth. Of memory: pages that freed memory keeps, since something on
them is in use. Of the others: ids of trades, at most 85 a symbol (9 KB) until they are packed; garbage of REST clients,
collected each minute; sides of books, 4 KB instead of 2 each once some 27 levels have gone, most of them in the warm-up (100
symbols: 0.4 MB in all); what comes in a moment. A leak shows in `heap_mb` or `blocks` long before it shows in memory."""


class Trend(Struct, frozen=True):
    """How a figure moves, by least squares over its least value in each whole segment; the error is the regression's own."""

    first: float
    """The line's value after the warm-up."""
    a_minute: float
    error: float
    """Of `a_minute`; standard."""
    minutes: float

    @property
    def grown(self) -> float:
        """From after the warm-up to the end."""
        return self.a_minute * self.minutes


def trend(gauges: Sequence[dict[str, Any]], name: str) -> Trend | None:
    """Of a figure; None where there are too few segments to tell."""
    least: dict[int, float] = {}
    for gauge in gauges:
        if name in gauge:
            segment = int(gauge["at"] // SEGMENT_S)
            least[segment] = min(least.get(segment, gauge[name]), gauge[name])
    points = [(segment * SEGMENT_S / 60, value) for segment, value in sorted(least.items())][WARM_UP:-1]
    count = len(points)
    if count < FEWEST:
        return None
    middle_x, middle_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    a_minute = sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
    residual = sum((y - middle_y - a_minute * (x - middle_x)) ** 2 for x, y in points)
    error = (residual / (count - 2) / spread) ** 0.5
    first, last = points[0][0], points[-1][0]
    return Trend(middle_y + a_minute * (first - middle_x), a_minute, error, last - first)


def growing(gauges: Sequence[dict[str, Any]]) -> list[str]:
    """What of a steady soak is not flat after its warm-up, in words."""
    found = []
    for name, noise in NOISE.items():
        moved = trend(gauges, name)
        if moved is None:
            found.append(f"{name}: too few segments to tell, {WARM_UP + FEWEST + 2} minutes are")
        elif moved.grown > noise:
            found.append(f"{name} grew by {moved.grown:,.2f}, more than {noise:,g}")
    return found
