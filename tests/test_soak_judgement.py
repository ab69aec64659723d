"""What a steady soak calls flat: all that is in use after the warm-up, within a stated noise, and nothing on trust."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak_program", FOLDER / "soak_program.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
