"""The faults of lines of which there are two: whatever one of them suffers is no Gap."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import wld
from tests.faults.rig import Rig
from tests.faults.rows import Act, run


async def killed(rig: Rig) -> None:
    luck = random.Random(5)
    for _ in range(3):
        await rig.cut(luck.choice(rig.proxies))
        await rig.flow(20)


async def killed_in_silence(rig: Rig) -> None:
    rig.stand_still()
    await rig.exchange_time(0.5)
    for victim in (*rig.proxies, *rig.proxies):
        await rig.cut(victim)
    rig.exchange.market.is_still = False


async def half_open(rig: Rig) -> None:
    rig.proxies[0].half_open()
    await rig.exchange_time(2.2)


async def stalled(rig: Rig) -> None:
    rig.proxies[1].stall(3)
    await rig.exchange_time(2.4)
    rig.proxies[1].restore()


async def slow(rig: Rig) -> None:
    rig.proxies[0].drip(4_000)
    await rig.exchange_time(1.5)
    rig.proxies[0].restore()


async def both_down(rig: Rig) -> None:
    for proxy in rig.proxies:
        proxy.refuse(True)
        proxy.reset_all()
    await rig.exchange_time(0.4)
    for proxy in rig.proxies:
        proxy.restore()


def on_one_line(rig: Rig, change: Any) -> None:
    """The next delta of a book that one of the two is sent goes through `change`; None: it is never sent."""
    client = next(iter(rig.exchange.clients.values()))
    offer = client.offer

    def changed(frame: str, *, is_data: bool = False) -> None:
        if '"delta"' in frame and frame.startswith('{"topic":"orderbook') and '"b":[[' in frame:
            client.offer = offer  # type: ignore[method-assign]
            frame = change(frame)
        if frame:
            offer(frame, is_data=is_data)

    client.offer = changed  # type: ignore[method-assign]


async def differing(rig: Rig) -> None:
    on_one_line(rig, lambda frame: frame.replace('"b":[["', '"b":[["0.0001","7"],["', 1))
    await rig.exchange_time(0.6)


async def skipping(rig: Rig) -> None:
    on_one_line(rig, lambda frame: None)
    await rig.exchange_time(0.6)


ROWS: list[tuple[str, str, Act]] = [
    ("two lines: either killed", "one of them cut with a TCP reset at random, three times", killed),
    ("two lines: both down", "both cut, and refused for 0.4 s", both_down),
    ("two lines: they differ", "a bid more in a delta of one of them", differing),
]
SLOW_ROWS: list[tuple[str, str, Act]] = [
    ("two lines: one half-open", "one carries nothing more and is not closed", half_open),
    ("two lines: one stalled", "one holds everything back for longer than a pong may take", stalled),
    ("two lines: one slow", "one is let through 4 kB/s for 1.5 s", slow),
    ("two lines: one skips an update id", "a delta of a book never sent to one of them", skipping),
    (
        "two lines: each killed in a silent market",
        "nothing is published; one after the other is cut",
        killed_in_silence,
    ),
]


@pytest.mark.parametrize(
    ("name", "happened", "act"),
    [*ROWS, *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW_ROWS)],
    ids=[row[0] for row in (*ROWS, *SLOW_ROWS)],
)
async def test_fault(name: str, happened: str, act: Act, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = {both_down: 2, differing: 1, skipping: 1}.get(act, 1)
    rig = await run(name, happened, tmp_path, caplog, act, told_only=told, connections=2)
    assert len(rig.gaps) == (act is both_down)
    if act is both_down:
        (gap,) = rig.gaps
        assert (gap.reason, gap.topic, gap.symbol) == (wld.GapReason.DISCONNECT, None, None)
        at = rig.events.index(gap)
        assert gap.first_time is not None
        assert gap.first_time <= max(e.receive_time for e in rig.events[:at])
        assert gap.last_time == rig.events[at + 1].receive_time
