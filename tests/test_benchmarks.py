"""The benchmark's own parts: the same messages each time, and a comparison that can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs

pytest.importorskip("trustme")

from benchmarks import check, messages
from benchmarks.__main__ import plot, spread
from wld.bybit.protocol import BybitProtocol, topics_for
from wld.config import TOPICS
from wld.events import BookDelta, Event, Gap, GapReason, Ticker, Trade


def decoded(content: list[bytes], size: int, symbols: int) -> list[Event]:
    protocol = BybitProtocol(topics_for(messages.symbols_of(symbols), TOPICS, 50))
    protocol.open(0)
    return [e for i in range(0, len(content), size) for e in protocol.receive_read(content[i : i + size], i + 1)]


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("size", [1, 200])
@pytest.mark.parametrize("symbols", [1, 20])
def test_every_message_becomes_the_events_that_decimal_says(unique: bool, size: int, symbols: int) -> None:
    content = list(messages.stream(400, symbols=symbols, unique=unique))
    assert check.compare(decoded(content, size, symbols), content) >= 400


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert list(messages.stream(50, seed=3)) == list(messages.stream(50, seed=3))
    assert list(messages.stream(50, seed=3)) != list(messages.stream(50, seed=4))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda events: events.pop(),
        lambda events: events.append(events[-1]),
        lambda events: events.reverse(),
        lambda events: events.insert(3, Gap(gap_id=1, reason=GapReason.UPDATE_ID)),
        lambda events: events.__setitem__(5, events[6]),
    ],
)
def test_a_lost_doubled_or_moved_event_fails_the_comparison(spoil: Callable[[list[Event]], object]) -> None:
    content = list(messages.stream(60))
    events = decoded(content, 1, 1)
    spoil(events)
    with pytest.raises(AssertionError):
        check.compare(events, content)


@pytest.mark.parametrize(
    ("kind", "field"), [(BookDelta, "update_id"), (Trade, "price"), (Trade, "size"), (Ticker, "last_price")]
)
def test_a_number_that_is_off_by_one_unit_fails_the_comparison(kind: type, field: str) -> None:
    content = list(messages.stream(200))
    events = decoded(content, 1, 1)
    place = next(i for i, e in enumerate(events) if isinstance(e, kind))
    events[place] = structs.replace(events[place], **{field: getattr(events[place], field) + 1})
    with pytest.raises(AssertionError):
        check.compare(events, content)


def test_figures_and_the_plot() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)"
    picture = plot({"symbols": [(1, 4.0), (500, 5.0)]})
    assert picture.startswith("<svg")
    assert picture.count("<circle") == 2
