"""Events that are packed as they come, and those that cannot be, are the same events again as columns."""

from __future__ import annotations

from operator import itemgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tape.strategies import EVENTS
from wld.events import BookDelta, Event, Liquidation, PositionSide, Ticker
from wld.tape.collector import Collector
from wld.tape.table import to_events
from wld.testing import make_trade
from wld.units import ABSENT


def back(collector: Collector) -> list[tuple[int, Event]]:
    return sorted((row for table in collector.tables() for row in to_events(table)), key=itemgetter(0))


@given(st.lists(EVENTS, max_size=12), st.integers(0, 12))
@settings(deadline=None, max_examples=150)
def test_all_events_come_back(events: list[Event], taken: int) -> None:
    ours, other = Collector(), Collector()
    other.add_rows(events[:taken], 0)
    ours.take(other)
    ours.add_rows(events[taken:], min(taken, len(events)))
    assert ours.count == len(events)
    assert back(ours) == list(enumerate(events))
    assert back(ours) == list(enumerate(events))  # a flush that the disk refused is tried again


@pytest.mark.parametrize(
    "odd",
    [
        BookDelta("S", ((1, ABSENT),), ((2**63 - 1, 0),), 5, 6, 7, 8, 9),
        BookDelta("S", ((1, 2), (1 << 63, 2)), (), 5, 6, 7, 8, 9),
        BookDelta("S", ((1, 2),), (), 1 << 70, None, 7, 8, 9),
        Liquidation("S", PositionSide.LONG, 1, 2, 3, None, 4),
        Ticker("S", volume_24h=1 << 80, last_price=ABSENT, receive_time=3),
        Ticker("S", delivery_time="2026-11-27T08:00:00Z", receive_time=3),
    ],
)
def test_what_no_row_holds_leaves_the_others_as_they_are(odd: Event) -> None:
    plain: list[Event] = [
        make_trade(),
        BookDelta("S", ((1, 2),), ((3, 0), (4, 5)), 5, 6, 7, 8, 9),
        Liquidation("T", PositionSide.SHORT, 1, 2, 3, 4, 5),
        Ticker("T", last_price=7, receive_time=3),
    ]
    events = [*plain, odd, *plain]
    collector = Collector()
    collector.add_rows(events, 3)
    assert back(collector) == list(enumerate(events, 3))
