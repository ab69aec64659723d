"""What the engine asks of its own process: memory that was freed is given back once it has added up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wld.process import GROWN_BYTES, TRIES, Heap, resident_bytes


class Memory:
    """What is resident, and what giving back leaves."""

    def __init__(self, resident: int | None) -> None:
        self.resident = resident
        self.least = 100 * GROWN_BYTES
        self.trimmed = 0
        self.heap = Heap(lambda: self.resident, self.trim)

    def trim(self) -> None:
        self.trimmed += 1
        assert self.resident is not None
        self.resident = min(self.resident, self.least)


def test_memory_is_given_back_when_the_process_has_grown_by_it() -> None:
    memory = Memory(105 * GROWN_BYTES)
    memory.heap.give_back()
    assert memory.resident == memory.least
    memory.resident = memory.least + GROWN_BYTES - 1
    memory.heap.give_back()
    assert memory.trimmed == 1
    memory.resident += 1
    memory.heap.give_back()
    assert memory.trimmed == 2


def test_a_process_that_needs_what_it_has_is_left_alone() -> None:
    memory = Memory(100 * GROWN_BYTES)
    for _ in range(3):
        memory.heap.give_back()
    assert memory.trimmed == 1


def test_memory_in_use_at_one_look_is_given_back_at_the_next() -> None:
    """Such as a seal's: what it works with is not free yet."""
    memory = Memory(100 * GROWN_BYTES)
    memory.heap.give_back()
    memory.resident, memory.least = 105 * GROWN_BYTES, 105 * GROWN_BYTES
    memory.heap.give_back()
    memory.least = 100 * GROWN_BYTES
    memory.heap.give_back()
    assert memory.resident == 100 * GROWN_BYTES


def test_what_stays_is_taken_for_needed_after_a_while() -> None:
    memory = Memory(100 * GROWN_BYTES)
    memory.heap.give_back()
    memory.resident = memory.least = 105 * GROWN_BYTES
    for _ in range(20):
        memory.heap.give_back()
    assert memory.trimmed == 1 + TRIES


def test_where_the_system_does_not_say_nothing_is_done() -> None:
    memory = Memory(None)
    memory.heap.give_back()
    assert memory.trimmed == 0


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_a_real_process_shrinks_again() -> None:
    program = """
import threading
from wld import process
process.tune()
heap = process.Heap()
heap.give_back()
before = process.resident_bytes()
kept = []
def burst():
    parts = [bytes(20_000) + bytes(str(n), "ascii") for n in range(1500)]
    kept.append(parts[::200])
threads = [threading.Thread(target=burst) for _ in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
grown = process.resident_bytes()
heap.give_back()
print(before, grown, process.resident_bytes())
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    before, grown, after = map(int, output.split())
    if grown - before < GROWN_BYTES:
        pytest.skip("this C library gives it back by itself")
    assert after - before < (grown - before) / 2


def test_what_numpy_keeps_of_freed_arrays_is_there_from_the_start() -> None:
    """Else memory grows for days, by ever less, until seven of each size have been."""
    program = """
import numpy as np
from soak_engine import heap_mb
from wld import process
def use():
    for size in range(1, 1_100):
        arrays = [np.empty(size, np.uint8) for _ in range(20)]
        arrays.clear()
heap_mb()
begun = heap_mb()
process.tune()
tuned = heap_mb()
use()
print(tuned - begun, heap_mb() - tuned)
"""
    benchmarks = Path(__file__).parents[1] / "benchmarks"
    plain = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}  # what a thread keeps is another matter
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=benchmarks, env=plain
    ).stdout
    kept, grown = map(float, said.split())
    if kept == 0:
        pytest.skip("this C library does not say what is in use, or numpy keeps nothing")
    assert kept < 4
    assert abs(grown) < 0.05


def test_resident_memory_is_read() -> None:
    resident = resident_bytes()
    assert resident is None or resident > 1_000_000


def test_what_is_loaded_at_the_start_is_not_looked_at_again_by_the_garbage_collector() -> None:
    code = "import gc, wld; from wld.process import settle; settle(); n = gc.get_freeze_count(); print(n > 1_000, len(gc.get_objects()) < 1_000)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "True"]
