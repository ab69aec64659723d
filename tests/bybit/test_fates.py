"""Whatever happens to several lines: nothing twice, nothing out of order, nothing missing without a Gap."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.bybit.several import BOOK, TOPICS, Lines, accounted, complete
from wld.bybit import merging


class AnyFate(RuleBasedStateMachine):
    """Whatever happens to up to three lines: nothing twice, nothing out of order, nothing missing without a Gap."""

    careful = False

    def __init__(self) -> None:
        super().__init__()
        self.lines = Lines(hold_s=3)
        self.is_impaired = False

    @initialize()
    def begin(self) -> None:
        self.lines.connect()
        self.lines.settle()

    def pick(self, which: int) -> int | None:
        numbers = sorted(self.lines.queues)
        return numbers[which % len(numbers)] if numbers else None

    @rule(kind=st.sampled_from(["book", "trade", "ticker", "liquidations", "restart"]), count=st.integers(1, 3))
    def publish(self, kind: str, count: int) -> None:
        lines = self.lines
        lines.venue.time += 7
        if kind in ("trade", "liquidations"):
            lines.publish(getattr(lines.venue, kind)(count))
        else:
            lines.publish(getattr(lines.venue, kind)())

    @rule(which=st.integers(0, 2), count=st.integers(1, 6))
    def deliver(self, which: int, count: int) -> None:
        line = self.pick(which)
        if line is not None:
            self.lines.deliver(line, count)

    @rule(ms=st.sampled_from([10, 300]))
    def pass_time(self, ms: int) -> None:
        self.lines.pass_time(ms)

    @rule(which=st.integers(0, 2))
    def ping(self, which: int) -> None:
        line = self.pick(which)
        if line is not None:
            self.lines.ping(line)

    @precondition(lambda self: len(self.lines.queues) < 3)
    @rule(lag=st.sampled_from([0, 0, 100, 240]))
    def connect(self, lag: int) -> None:
        self.lines.connect(lag)

    @rule(which=st.integers(0, 2))
    def kill(self, which: int) -> None:
        line = self.pick(which)
        if self.careful and self.is_impaired:
            self.lines.settle()
            self.is_impaired = False
        if line is not None and (not self.careful or self.lines.arbiter.covers_without(line)):
            self.lines.kill(line)

    @precondition(lambda self: not self.careful)
    @rule(which=st.integers(0, 2))
    def garbage_in_place_of_a_trade(self, which: int) -> None:
        line = self.pick(which)
        self.lines.venue.time += 7
        if line is not None:
            self.lines.publish(self.lines.venue.trade(1), but=line)
            self.lines.send(line, "{garbage")

    @rule(which=st.integers(0, 2))
    def skip(self, which: int) -> None:
        line = self.pick(which)
        self.lines.venue.time += 7
        if self.careful and self.is_impaired:
            self.lines.settle()
        if line is not None and (not self.careful or self.lines.arbiter.covers_without(line)):
            self.is_impaired = True
            self.lines.publish(self.lines.venue.book(), but=line)
            self.lines.publish(self.lines.venue.book())

    @invariant()
    def nothing_goes_backwards(self) -> None:
        times = [e.receive_time for e in self.lines.out]
        assert times == sorted(times)

    def teardown(self) -> None:
        lines = self.lines
        if not lines.queues:
            lines.connect()
        lines.settle()
        lines.pass_time(4_000)
        lines.settle()
        lines.out += lines.arbiter.finish(lines.now)
        for topic in TOPICS:
            accounted(lines.venue.published[topic], lines.names(topic), is_book=topic == BOOK)
        if self.careful:
            assert not lines.gaps()
            if not lines.arbiter.counters["late"]:
                assert complete(lines), [(lines.venue.published[t], lines.names(t)) for t in TOPICS]


class CarefulFate(AnyFate):
    """As long as a line that covers everything is left, nothing is missing and nothing is called missing."""

    careful = True


class CrowdedFate(AnyFate):
    """The same with so many topics held that they are not all looked at after each message."""

    def __init__(self) -> None:
        super().__init__()
        self.few, merging.FEW_HOLD = merging.FEW_HOLD, 0

    def teardown(self) -> None:
        merging.FEW_HOLD = self.few
        super().teardown()


AnyFateTest = AnyFate.TestCase
AnyFateTest.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
CarefulFateTest = CarefulFate.TestCase
CarefulFateTest.settings = AnyFateTest.settings
CrowdedFateTest = CrowdedFate.TestCase
CrowdedFateTest.settings = AnyFateTest.settings
