"""What a steady soak calls flat: all that is in use after the warm-up, within a stated noise, and nothing on trust. And when a
soak may end the engine: when all that was sent has come."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load("soak_program")


def gauges(minutes: int, **leaks: float) -> list[dict[str, Any]]:
    """One each ten seconds: a saw of a minute, a warm-up that levels out, and what leaks, per minute."""
    found = []
    for second in range(0, minutes * 60, 10):
        minute = second / 60
        warm = 1 - math.exp(-minute)
        figures = {"memory_mb": 80 * warm, "heap_mb": 20 * warm, "blocks": 300_000 * warm}
        saw = second % 60
        found.append(
            {"at": second, **{name: value + saw + leaks.get(name, 0) * minute for name, value in figures.items()}}
        )
    return found


def test_a_saw_that_comes_back_to_where_it_was_is_flat(program: ModuleType) -> None:
    assert program.growing(gauges(16)) == []


@pytest.mark.parametrize(("name", "a_minute"), [("memory_mb", 0.3), ("heap_mb", 0.06), ("blocks", 600)])
def test_what_leaks_is_told(program: ModuleType, name: str, a_minute: float) -> None:
    [told] = program.growing(gauges(16, **{name: a_minute}))
    assert told.startswith(f"{name} grew by ")


def test_a_run_too_short_to_tell_is_not_called_flat(program: ModuleType) -> None:
    assert len(program.growing(gauges(10))) == 3


@pytest.mark.parametrize(("behind_s", "comes"), [(0, True), (200, True), (math.inf, False)])
async def test_a_soak_waits_for_an_engine_that_is_behind_and_not_for_one_that_hears_nothing(
    program: ModuleType, tmp_path: Path, autojump_clock: trio.testing.MockClock, behind_s: float, comes: bool
) -> None:
    """Its gauges stand still for half a minute at a time, as of a process that hardly runs."""
    engine = program.Engine(tmp_path, [], 1)
    asked = trio.current_time()

    async def tell() -> None:
        messages = 0
        while True:
            now = trio.current_time() - asked
            messages += math.isfinite(behind_s)
            engine.gauges.append({"proof": int(now >= behind_s), "source": {"messages": messages}})
            await trio.sleep(30)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        await trio.testing.wait_all_tasks_blocked()
        assert await engine.take_all() is comes
        assert json.loads((tmp_path / "control.json").read_text())["proof"] == 1
        nursery.cancel_scope.cancel()


def test_all_has_come_when_each_line_answered_a_ping_that_left_after_the_soak_asked() -> None:
    told = load("soak_engine")

    class Line:
        answered_ping, pings = 90, 0

        def answered(self) -> int:
            return self.answered_ping

        def probe(self) -> None:
            self.pings += 1

    control, lines = SimpleNamespace(proof=0), [Line(), Line()]
    source = SimpleNamespace(_groups=lines, _clock=SimpleNamespace(now=lambda: 100))
    proof = told.Proof(control)
    control.proof = 7
    assert proof.look(source) == 0
    lines[0].answered_ping = 110
    assert proof.look(source) == 0
    assert [line.pings for line in lines] == [1, 1]
    lines[1].answered_ping = 105
    assert proof.look(source) == 7
    control.proof = 8
    source._clock = SimpleNamespace(now=lambda: 200)
    assert proof.look(source) == 0
