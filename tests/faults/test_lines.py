"""Several lines over real sockets: what the exchange sent against what is on the tape."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from tests.faults.rig import recording
from wld.config import TRANSPORTS


@pytest.mark.parametrize("transport", [TRANSPORTS[0], pytest.param(TRANSPORTS[1], marks=pytest.mark.slow)])
async def test_killing_or_stalling_either_line_loses_nothing(tmp_path: Path, transport: str) -> None:
    luck = random.Random(5)
    async with recording(tmp_path, proxies=2, connections=2, transport=transport) as rig:
        for _ in range(3):
            await rig.until_connected(2)
            await rig.flow(40)
            victim = luck.choice(rig.proxies)
            if luck.random() < 0.5:
                await rig.cut(victim)
            else:
                victim.stall(0.3)
                await trio.sleep(0.3)
        await rig.until_connected(2)
        await rig.flow(40)
    result = rig.balance()
    assert result.is_exact, str(result)
    assert result.recorded == result.sent
    assert rig.gaps == []


@pytest.mark.slow
async def test_old_lines_are_opened_anew_one_at_a_time(tmp_path: Path) -> None:
    async with recording(tmp_path, proxies=2, connections=2, connection_max_age=0.5) as rig:
        await rig.until_connected(2)
        with trio.fail_after(10):
            while rig.source.statistics.connects < 6:  # noqa: ASYNC110
                await trio.sleep(0.02)
        await rig.until_connected(2)
    result = rig.balance()
    assert result.is_exact, str(result)
    assert rig.gaps == []
