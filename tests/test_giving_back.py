"""What a run gives back by itself while it runs: cycles that nobody refers to, once a minute."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
import trio.testing

from wld import engine, process


class Cycle:
    def __init__(self) -> None:
        self.me = self


async def test_cycles_are_collected_each_minute(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of REST leaves some; Python by itself waits until they are a quarter of all objects."""
    settled: list[float] = []
    monkeypatch.setattr(process, "settle", lambda: settled.append(trio.current_time()))

    async def at_once(work: object) -> None:  # a clock that jumps does not wait for threads
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    gc.disable()
    try:
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine._give_memory_back)
            await trio.sleep(61)
            assert [time - begun for time in settled] == [60]
            left = weakref.ref(Cycle())
            await trio.sleep(58)
            assert left() is not None
            await trio.sleep(2)
            assert left() is None
            nursery.cancel_scope.cancel()
    finally:
        gc.enable()
