"""A row of the table: flow, a fault, flow again, and what became of everything that was sent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import wld
from tests.faults.rig import Rig, recording
from tests.faults.table import Row, check, told

Act = Callable[[Rig], Awaitable[None]]


def words(caplog: pytest.LogCaptureFixture) -> tuple[str, ...]:
    """The warnings and errors, each kind once, in order."""
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("wld.")]
    return tuple(dict.fromkeys(told(line) for line in lines if not line.startswith("the block failed")))


def tape_of(rig: Rig) -> str:
    """Which Gaps stand on the tape, each kind once."""
    gaps = [f"`{g.reason.value}` of {g.topic or 'all topics'}" for g in rig.gaps]
    kinds = sorted(dict.fromkeys(gaps))
    left = [e.remaining for e in rig.events if isinstance(e, wld.Repair)]
    repaired = ("repaired" if all(n == 0 for n in left) else "repaired as far as REST goes") if left else ""
    text = "Gap " + ", ".join(kinds) if kinds else "no Gap"
    return f"{text}; {repaired}" if repaired else text


async def run(
    name: str,
    happened: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    act: Act,
    *,
    told_only: int = 2,
    **options: Any,
) -> Rig:
    """One row: flow, fault, flow again, balance."""
    caplog.set_level(logging.WARNING, "wld")
    lines = options.get("connections", 1)
    async with recording(tmp_path / "tapes", proxies=lines, **options) as rig:
        await rig.until_connected(lines)
        await rig.flow(40)
        await act(rig)
        await rig.until_connected(lines)
        await rig.flow(40)
        if any(isinstance(e, wld.Gap) and e.topic in (None, "publicTrade") for e in rig.events) and options.get(
            "repair", True
        ):
            with trio.move_on_after(4):
                await rig.until_event(wld.Repair)
    result = rig.balance()
    assert result.is_exact, str(result)
    assert rig.status == 0
    check(Row(name, happened, tape_of(rig), words(caplog)[:told_only], result))
    return rig
