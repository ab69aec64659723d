"""Minutes of market and faults in virtual time: whatever happens, everything sent is on the tape or inside a Gap."""

from __future__ import annotations

import pytest

from tests.virtual.verdict import judge
from tests.virtual.world import plan, play

FEW = [(1, 6), (2, 7), (3, 301), pytest.param(2, 405, marks=pytest.mark.slow)]
"""(connections, seed): of short plans with many kinds of faults; a longer one is slow."""


@pytest.mark.parametrize(("connections", "seed"), FEW)
def test_everything_is_accounted_for(connections: int, seed: int) -> None:
    verdict = judge(play(plan(seed, connections)))
    assert verdict.wrong == []
    assert verdict.balance.recorded > 0


@pytest.mark.slow
@pytest.mark.parametrize("connections", [1, 2, 3])
@pytest.mark.parametrize("first", range(1_000, 1_040, 10))
def test_everything_is_accounted_for_in_many(connections: int, first: int) -> None:
    for seed in range(first, first + 10):
        verdict = judge(play(plan(seed, connections)))
        assert verdict.wrong == [], f"python -m tests.virtual --show {seed} --connections {connections}"


def test_a_seed_is_the_same_each_time() -> None:
    one, other = (play(plan(3, 1)) for _ in range(2))
    assert one.lives == other.lives
    assert judge(one).wrong == []
