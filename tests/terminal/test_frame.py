"""Frames of every size: nothing is clipped that must be read, nothing is wider than the terminal, nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wld
from wld.terminal import numbers
from wld.terminal.facts import Facts, status_line
from wld.terminal.frame import FrameState, draw_frame, fit, frame_text
from wld.terminal.palette import THEMES, Palette, Role, Rung
from wld.terminal.panels import Panel, PanelSet, View
from wld.testing import TIME, make_gap, make_instrument, make_ticker, make_trade

SECOND = 1_000_000_000
DARK = Palette(THEMES["dark"], Rung.TRUE)


def facts_with(symbol: str = "WLDUSDT", time: int = TIME) -> Facts:
    facts = Facts([symbol])
    facts.apply(
        [
            make_instrument(symbol, tick_size="0.0001"),
            make_ticker(
                symbol, last_price="1.0342", mark_price="1.034", index_price="1.0338", open_interest="88210000",
                funding_rate="0.0001", price_change_24h="0.0231", next_funding_time=time + 11_564 * SECOND, time=time,
            ),
        ]
    )  # fmt: skip
    return facts


def view_of(facts: Facts, *, age: int = 0, clock: str = "live") -> View:
    view = View(facts, "WLDUSDT", clock)
    view.now = TIME + age
    return view


def panels() -> PanelSet:
    panel_set = PanelSet()
    panel_set.pane = None
    for name, weight in (("one", 90), ("two", 50)):
        panel = Panel(
            name, name.upper(), order=weight, weight=weight,
            lines=lambda view, width, height, name=name: [f"{name} {i}" for i in range(8)],
            brief=lambda view, width, name=name: [f"{name} brief"],
        )  # fmt: skip
        panel_set.add(panel)
    return panel_set


def draw(
    height: int, width: int, view: View, state: FrameState | None = None, panel_set: PanelSet | None = None
) -> str:
    return frame_text(draw_frame(height, width, DARK, panel_set or panels(), view, state or FrameState()))


@pytest.mark.parametrize("size", [(24, 80), (40, 120), (50, 200), (100, 300), (15, 60), (14, 50), (5, 40), (12, 50)])
def test_open_interest_funding_and_mark_are_labelled_at_every_size(size: tuple[int, int]) -> None:
    text = draw(*size, view_of(facts_with()))
    assert "mark 1.0340" in text
    assert "fund +0.0100%" in text
    assert "OI 88.21M" in text
    assert "WLDUSDT 1.0342" in text


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 100), st.integers(1, 300), st.booleans(), st.booleans())
def test_no_size_overflows_or_fails(height: int, width: int, is_help: bool, is_old: bool) -> None:
    view = view_of(facts_with(), age=60 * SECOND if is_old else 0)
    frame = draw_frame(height, width, DARK, panels(), view, FrameState(is_help=is_help))
    rows = frame.grid.text()
    assert len(rows) == height
    assert {len(row) for row in rows} == {width}


def test_a_silent_feed_turns_the_whole_title_into_an_alarm_that_says_its_age() -> None:
    frame = draw_frame(24, 80, DARK, panels(), view_of(facts_with(), age=14 * SECOND), FrameState())
    assert "STALE 14s" in frame.grid.text()[0]
    assert set(frame.grid.styles[0].tolist()) == {DARK.roles[Role.ALARM]}


@pytest.mark.parametrize("size", [(24, 80), (6, 24), (3, 12)])
def test_stale_is_told_at_every_size(size: tuple[int, int]) -> None:
    assert "STALE 14s" in draw(*size, view_of(facts_with(), age=14 * SECOND))


def test_a_live_feed_says_its_lag_and_a_replay_the_time_of_its_data() -> None:
    facts = facts_with()
    facts.apply([make_trade(time=TIME, sent_time=TIME - 42_000_000)])
    assert "LIVE" in draw(24, 80, view_of(facts))
    assert "REPLAY 22:13:20" in draw(24, 80, view_of(facts, clock="recorded"))
    assert "WAITING" in draw(24, 80, view_of(Facts(["WLDUSDT"])))


def test_a_frozen_view_says_so_and_for_how_long() -> None:
    view = view_of(facts_with())
    view.self_figures = {"wall": TIME + 72 * SECOND}
    assert "FROZEN 01:12" in draw(24, 80, view, FrameState(frozen_since=TIME))


def test_a_feed_that_dies_behind_a_frozen_picture_is_told() -> None:
    view = view_of(facts_with())
    view.self_figures = {"wall": TIME + 20 * SECOND}
    title = draw(24, 80, view, FrameState(frozen_since=TIME)).splitlines()[0]
    assert "STALE 20s" in title
    assert "FROZEN" in title


def test_gaps_go_on_the_event_tape() -> None:
    facts = facts_with()
    facts.apply([make_gap(reason="disconnect", topic=None)])
    assert "gap disconnect all topics" in draw(24, 80, view_of(facts))


def test_the_help_lists_every_key_of_the_screen_and_of_the_pane() -> None:
    panel_set = panels()
    text = draw(50, 120, view_of(facts_with()), FrameState(is_help=True), panel_set)
    for key in ("q, Ctrl-C", "space", "Tab", "Ctrl-L", "1 one", "2 two"):
        assert key in text or key.replace("1 one", "1 two").replace("2 two", "2 one") in text


def test_a_panel_that_fails_costs_its_own_place_only() -> None:
    panel_set = panels()

    def fails(view: View, width: int, height: int) -> list[str]:
        raise ValueError("made up")

    panel_set.add(Panel("broken", "BROKEN", lines=fails))
    text = draw(40, 120, view_of(facts_with()), panel_set=panel_set)
    assert "cannot be drawn: ValueError: made up" in text
    assert "one 0" in text


def test_where_there_is_no_room_the_lightest_lose_lines_first_and_then_their_place() -> None:
    made = [Panel(n, order=i, weight=w) for i, (n, w) in enumerate((("a", 9), ("b", 1)))]
    lines = {"a": ["1", "2", "3", "4"], "b": ["1", "2", "3", "4"]}
    assert {n: len(v) for n, v in fit(made, lines, 10).items()} == {"a": 4, "b": 4}
    assert {n: len(v) for n, v in fit(made, lines, 9).items()} == {"a": 4, "b": 3}
    assert {n: len(v) for n, v in fit(made, lines, 7).items()} == {"a": 3}
    assert fit(made, lines, 3) == {}


def test_backfilled_trades_do_not_count_as_lag() -> None:
    facts = facts_with()
    facts.apply([make_trade(time=TIME, sent_time=TIME - 40_000_000)])
    facts.apply([make_trade(time=TIME, sent_time=TIME - 600 * SECOND, is_backfilled=True) for _ in range(9)])
    assert facts.lag_ms() is not None
    assert facts.lag_ms() < 100  # type: ignore[operator]


def test_posted_lines_are_shown() -> None:
    panel_set = PanelSet()
    panel = panel_set.add(Panel("whales", "WHALES"))
    panel.post(["bought 1.2M"], brief=["whale 1.2M"])
    assert "bought 1.2M" in draw(30, 120, view_of(facts_with()), panel_set=panel_set)
    assert "whale 1.2M" in draw(10, 50, view_of(facts_with()), panel_set=panel_set)


def test_a_plain_line_has_no_escape_and_every_label() -> None:
    line = status_line(facts_with(), "WLDUSDT", TIME, clock="live")
    assert line.isascii()
    assert line.isprintable()
    for part in ("WLDUSDT 1.0342", "mark 1.0340", "fund +0.0100%", "OI 88.21M", "LIVE"):
        assert part in line


def test_a_symbol_that_tries_to_move_the_cursor_is_defused() -> None:
    facts = Facts()
    facts.apply([make_ticker("EVIL\x1b[2JUSDT", last_price="1")])
    view = View(facts, "EVIL\x1b[2JUSDT", "live")
    view.now = TIME
    assert "\x1b" not in draw(24, 80, view)
    assert wld.__version__


@pytest.mark.parametrize(
    ("value", "text"),
    [(88_210_000.0, "88.2M"), (412_345.0, "412k"), (9_120.0, "9.1k"), (15.0, "15"), (0.0, "0"), (999_700.0, "1.0M"),
     (-1_234_567.0, "-1.2M"), (1.4, "1.4"), (None, "--"), (float("nan"), "--"), (2.5e12, "2.5T")],
)  # fmt: skip
def test_amounts(value: float | None, text: str) -> None:
    assert numbers.amount(value) == text


@pytest.mark.parametrize(
    ("value", "tick", "text"),
    [(103_420_000, 10_000, "1.0342"), (9_700_000_000_000, 10_000_000, "97000.0"), (2_345, None, "0.00002345"),
     (None, None, "--"), (103_400_000, None, "1.0340")],
)  # fmt: skip
def test_prices(value: int | None, tick: int | None, text: str) -> None:
    assert numbers.price(value, tick) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (14 * SECOND, "14s"), (180 * SECOND, "3m"), (7_200 * SECOND, "2h"), (None, "--"), (-5, "0s")],
)
def test_ages(nanoseconds: int | None, text: str) -> None:
    assert numbers.age(nanoseconds) == text
