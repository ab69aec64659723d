"""Figures of telemetry on made-up streams whose answers can be worked out by hand."""

from __future__ import annotations

import pytest
from wld_telemetry import Telemetry, wld_sink

from wld.testing import (
    TIME,
    make_book_snapshot,
    make_gap,
    make_instrument,
    make_liquidation,
    make_ticker,
    make_trade,
    run_sink,
)

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def state_after(*events: object) -> Telemetry:
    state = Telemetry("WLDUSDT")
    for event in events:
        state.apply(event)  # type: ignore[arg-type]
    return state


def row(state: Telemetry, group: str, label: str, now: int = TIME):
    groups = {g.name: g for g in state.groups(now)}
    return next(r for r in groups[group].rows if r.label.rstrip("*") == label)


def test_taker_flow_sums_usdt_by_side_and_window() -> None:
    state = state_after(
        make_trade(price="2", size="100", aggressor_side="sell", time=TIME - 3 * MINUTE),
        make_trade(price="2", size="50", aggressor_side="buy", time=TIME - 10 * SECOND),
    )
    assert state.flow(TIME, MINUTE) == (100.0, 0.0)
    assert state.flow(TIME, 5 * MINUTE) == (100.0, 200.0)
    assert state.cvd == -100.0
    assert "buy 33%" in row(state, "flow", "5m").value


def test_a_window_that_is_not_full_yet_is_starred() -> None:
    state = state_after(make_trade(time=TIME - 2 * MINUTE), make_trade(time=TIME))
    labels = [r.label for r in state.taker_flow(TIME).rows]
    assert labels[:3] == ["1m", "5m*", "1h*"]


def test_open_interest_changes_against_what_was_seen_then() -> None:
    state = state_after(
        make_ticker(open_interest="100", time=TIME - 6 * MINUTE),
        make_ticker(open_interest="104", time=TIME - 2 * MINUTE),
        make_ticker(open_interest="110", time=TIME),
    )
    assert state.interest_change(TIME, 5 * MINUTE) == pytest.approx(0.10)
    assert state.interest_change(TIME, MINUTE) == pytest.approx(110 / 104 - 1)
    assert state.interest_change(TIME, HOUR) is None
    assert "1h --" in row(state, "positioning", "dOI").value


def test_the_open_fraction_is_the_identity_on_one_side_of_open_interest() -> None:
    state = state_after(
        make_ticker(open_interest="1000", mark_price="2", time=TIME - 2 * MINUTE),
        make_trade(price="2", size="100", time=TIME - 30 * SECOND),
        make_ticker(open_interest="1040", mark_price="2", time=TIME),  # one side: 500 to 520
    )
    assert state.open_fraction(TIME, MINUTE) == pytest.approx((100 + 20) / 200)


def test_the_book_within_25_bp() -> None:
    state = state_after(
        make_book_snapshot(bids=[("1.999", "10"), ("1.9", "500")], asks=[("2.001", "30"), ("2.1", "500")])
    )
    band = state.book_band()
    assert band is not None
    bids, asks = band
    assert bids == pytest.approx(19.99)
    assert asks == pytest.approx(60.03)
    assert row(state, "book", "imbal.").value.startswith("-0.50")


def test_a_gap_in_the_book_invalidates_it_until_the_next_snapshot() -> None:
    state = state_after(make_book_snapshot(), make_gap(reason="disconnect", topic=None))
    assert state.book_band() is None
    state.apply(make_book_snapshot(update_id=9))
    assert state.book_band() is not None


def test_liquidations_by_side_and_the_latest_first() -> None:
    state = state_after(
        make_liquidation(position_side="long", size="100", bankruptcy_price="2", time=TIME - 2 * HOUR),
        make_liquidation(position_side="short", size="10", bankruptcy_price="2", time=TIME - MINUTE),
    )
    assert state.liquidated(TIME, HOUR) == (0.0, 20.0, 0, 1)
    assert state.liquidated(TIME, 24 * HOUR) == (200.0, 20.0, 1, 1)
    rows = [r.value for r in state.forced(TIME).rows]
    assert rows[2].startswith("LONG")  # the largest
    assert rows[3].startswith("SHORT")  # the latest


def test_every_value_has_an_age_and_an_old_one_says_so_before_it_goes() -> None:
    state = state_after(make_ticker(mark_price="2", open_interest="5", time=TIME))
    fresh = row(state, "positioning", "OI", TIME + SECOND)
    assert (fresh.age, fresh.is_old) == (SECOND, False)
    old = row(state, "positioning", "OI", TIME + 10 * SECOND)
    assert old.is_old
    assert old.value.startswith("5")
    gone = row(state, "positioning", "OI", TIME + 31 * SECOND)
    assert gone.value == "--"
    assert gone.is_old


def test_a_field_never_sent_is_absent_not_zero() -> None:
    state = state_after(make_ticker(last_price="2", mark_price=None, index_price=None, open_interest=None))
    assert row(state, "price", "mark").value.startswith("--")
    assert row(state, "positioning", "OI").value.startswith("--")


def test_prices_have_the_decimals_of_the_tick() -> None:
    state = state_after(make_instrument(tick_size="0.0001"), make_ticker(last_price="2", mark_price="2.5"))
    assert row(state, "price", "mark").value.startswith("2.5000")


def test_it_runs_without_a_screen() -> None:
    run = run_sink(wld_sink(), [make_trade(), make_ticker(), make_liquidation(), make_gap()])
    assert run is not None
