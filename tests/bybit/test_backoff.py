from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wld.bybit.backoff import Backoff, ConnectionBudget


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=200))
def test_delays_grow_and_stay_within_the_cap(luck: list[float]) -> None:
    backoff = Backoff(0.5, 60.0)
    for i, one in enumerate(luck):
        delay = backoff.next_delay(one)
        ceiling = min(60.0, 0.5 * 2.0 ** min(i, 64))
        assert ceiling / 2 <= delay <= ceiling


def test_a_good_connection_starts_the_delays_over() -> None:
    backoff = Backoff(0.5, 60.0)
    for _ in range(10):
        backoff.next_delay(0.9)
    backoff.reset()
    assert backoff.next_delay(0.0) == 0.25


@given(st.lists(st.floats(0, 5), max_size=300))
def test_trap_18_no_five_minutes_see_more_attempts_than_the_limit(steps: list[float]) -> None:
    budget = ConnectionBudget(limit=5, window_s=30.0)
    now = 0.0
    spent: list[float] = []
    for step in steps:
        now += step
        now += budget.wait_for(now)
        budget.spend(now)
        spent.append(now)
    for i in range(len(spent) - 5):
        assert spent[i + 5] - spent[i] >= 30.0 - 1e-6
