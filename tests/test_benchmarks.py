"""The benchmark's own parts: the same messages each time, and a comparison that can fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

pytest.importorskip("trustme")

from benchmarks import check, messages
from benchmarks.bench import Bench, ratio, spread, steady
from benchmarks.blaster import frame
from benchmarks.messages import Mix
from benchmarks.page import fill, plot
from benchmarks.parts.cost import MIXES
from benchmarks.parts.rates import events_in
from wld.bybit.protocol import BybitProtocol
from wld.bybit.subscriptions import topics_for
from wld.config import TOPICS
from wld.events import BookDelta, Event, Gap, GapReason, Ticker, Trade


def decoded(content: list[bytes], size: int, mix: Mix | None = None) -> list[Event]:
    protocol = BybitProtocol(topics_for((mix or Mix()).names(), TOPICS, 50))
    protocol.open(0)
    return [e for i in range(0, len(content), size) for e in protocol.receive_read(content[i : i + size], i + 1)]


@pytest.mark.parametrize("mix", [*MIXES.values(), Mix(symbols=20, unique=True)], ids=[*MIXES, "20 symbols"])
@pytest.mark.parametrize("size", [1, 200])
def test_every_message_of_every_mix_becomes_the_events_that_decimal_says(mix: Mix, size: int) -> None:
    content = list(messages.stream(200, mix))
    assert check.compare(decoded(content, size, mix), content) == sum(map(events_in, content))


def test_the_same_options_give_the_same_bytes() -> None:
    assert list(messages.stream(50, Mix(seed=3))) == list(messages.stream(50, Mix(seed=3)))
    assert list(messages.stream(50, Mix(seed=3))) != list(messages.stream(50, Mix(seed=4)))


def test_the_reference_is_the_mix_that_it_says() -> None:
    deltas = [m for m in messages.stream(4000) if b'"type":"delta"' in m and m[10:11] == b"o"]
    assert 0.68 < len(deltas) / 4000 < 0.72
    assert 14.4 < sum(m.count(b'["') for m in deltas) / len(deltas) < 15.4


@pytest.mark.parametrize("size", [1, 300])
def test_a_stream_follows_itself_as_often_as_asked_without_a_gap_or_a_repeated_trade(size: int) -> None:
    content = list(messages.stream(300, Mix(symbols=3)))
    content = [messages.later(message, turn) for turn in range(3) for message in content]
    assert check.compare(decoded(content, size, Mix(symbols=3)), content) == sum(map(events_in, content))
    assert [len(frame(m)) for m in content[:302]] == [len(frame(m)) for m in content[-306:][:302]]


def test_a_stream_is_made_once(tmp_path: Path) -> None:
    path, count = Bench(tmp_path, tmp_path / "streams").stream(20, Mix(symbols=2))
    assert len(messages.read(path)) == count == 24
    path.write_bytes(b"kept\n")
    assert Bench(tmp_path, tmp_path / "streams").stream(20, Mix(symbols=2))[0].read_bytes() == b"kept\n"


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
    events = decoded(content, 1)
    spoil(events)
    with pytest.raises(AssertionError):
        check.compare(events, content)


@pytest.mark.parametrize(
    ("kind", "field"), [(BookDelta, "update_id"), (Trade, "price"), (Trade, "size"), (Ticker, "last_price")]
)
def test_a_number_that_is_off_by_one_unit_fails_the_comparison(kind: type, field: str) -> None:
    content = list(messages.stream(200))
    events = decoded(content, 1)
    place = next(i for i, e in enumerate(events) if isinstance(e, kind))
    events[place] = structs.replace(events[place], **{field: getattr(events[place], field) + 1})
    with pytest.raises(AssertionError):
        check.compare(events, content)


def test_figures_and_the_plot() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)"
    assert ratio([3.0, 8.0], [1.0, 2.0]) == "3.50x (3.00 to 4.00)"
    picture = plot({"symbols": [(1, 4.0), (500, 5.0)]})
    assert picture.startswith("<svg")
    assert picture.count("<circle") == 2


def test_what_is_paid_once_at_the_start_is_not_a_cost_of_each_message() -> None:
    samples = [(float(i), 100.0 * i, 0.3 + 100.0 * i * 5e-6, 60.0) for i in range(11)]
    assert steady(samples) == pytest.approx(5.0)
    assert steady(samples, 0.5, 0.6) == pytest.approx(5.0)


def test_a_page_keeps_every_word_outside_its_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "by hand\n<!-- measured: ring -->\n\nold\n\n<!-- end -->\nmore\n<!-- measured: x -->\n<!-- end -->\n"
    )
    assert fill(page, "ring", "| new |")
    assert page.read_text() == (
        "by hand\n<!-- measured: ring -->\n\n| new |\n\n<!-- end -->\nmore\n<!-- measured: x -->\n<!-- end -->\n"
    )
    assert not fill(page, "absent", "| new |")
