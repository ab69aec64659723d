"""Receive times never go backwards, and a clock that was set is reported once."""

from __future__ import annotations

from wld.clock import ReceiveClock

S = 1_000_000_000


class Clocks:
    def __init__(self) -> None:
        self.wall_ns, self.steady_ns = 1_000 * S, 5 * S
        self.clock = ReceiveClock(wall=lambda: self.wall_ns, steady=lambda: self.steady_ns)

    def pass_time(self, ns: int, drift: int = 0) -> list[int]:
        """What is reported of a while."""
        self.wall_ns += ns + drift
        self.steady_ns += ns
        self.clock.check()
        jumps, self.clock.jumps = self.clock.jumps, []
        return jumps


def test_a_clock_set_back_is_reported_once_however_long_it_stays_behind() -> None:
    clocks = Clocks()
    before = clocks.clock.now()
    assert clocks.pass_time(S, drift=-900 * S) == [-900 * S]
    assert [clocks.pass_time(S) for _ in range(5)] == [[]] * 5
    assert clocks.clock.now() == before + 6 * S
    assert clocks.pass_time(S, drift=-60 * S) == [-960 * S]


def test_a_clock_set_forward_is_followed_and_reported_once() -> None:
    clocks = Clocks()
    before = clocks.clock.now()
    assert clocks.pass_time(S, drift=900 * S) == [900 * S]
    assert clocks.pass_time(S) == []
    assert clocks.clock.now() == before + 902 * S


def test_a_clock_put_right_again_is_no_news_and_the_next_jump_is() -> None:
    clocks = Clocks()
    clocks.pass_time(S, drift=-900 * S)
    assert clocks.pass_time(S, drift=900 * S) == []
    assert clocks.pass_time(S, drift=-900 * S) == [-900 * S]
    assert clocks.pass_time(S, drift=901 * S) == [S]


def test_drift_is_followed_without_a_word() -> None:
    clocks = Clocks()
    assert [clocks.pass_time(S, drift=1_000_000) for _ in range(5)] == [[]] * 5
    assert clocks.clock.now() == clocks.wall_ns
