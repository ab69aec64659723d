"""Owns the telemetry sink: feeds the state of each symbol and hangs its groups on the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import trio
from msgspec import Struct

from wld import SCALE, Event, Liquidation, PositionSide, SinkContext, Subscription
from wld.terminal import Line, Role, View, numbers
from wld_telemetry.feed import Feed
from wld_telemetry.running import Running
from wld_telemetry.state import Group, Row, Telemetry

_TONES = {"long": Role.LONG, "short": Role.SHORT, "warn": Role.WARN}
_LABEL_WIDTH = 7


class TelemetryConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[sinks.telemetry]`."""

    groups: tuple[str, ...] = ("price", "positioning", "flow", "book", "liquidations", "feed", "recorder", "self")
    """Which groups to show."""


def draw_row(row: Row, width: int) -> Line:
    """Label, value, and at the right edge its age; faint where it is old."""
    tone = Role.FAINT if row.is_old else _TONES.get(row.tone, Role.TEXT)
    label = f"{row.label:<{_LABEL_WIDTH}.{max(_LABEL_WIDTH, len(row.label))}} "
    age = "" if row.age is None else numbers.age(row.age)
    room = max(0, width - len(label) - (len(age) + 1 if age else 0))
    return (
        (label, Role.FAINT),
        (f"{row.value[:room]:<{room}}", tone),
        (f" {age}" if age else "", Role.WARN if row.is_old else Role.BORDER),
    )


class TelemetrySink:
    """Consumes batches into `Telemetry` states, one a symbol; draws nothing without a screen."""

    def __init__(self, config: TelemetryConfig, context: SinkContext) -> None:
        self._screen = context.screen
        self.feed = Feed(self._tell if self._screen is not None else None)
        self._running = Running(context, self.feed)
        if self._screen is not None:
            self._hang(config.groups)

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Consume until the batches end."""
        task_status.started()
        async for batch in batches:
            self.take(batch)

    def take(self, events: Iterable[Event]) -> None:
        """Take events of any symbols."""
        self.feed.take(events)

    def _tell(self, event: Liquidation) -> None:
        """A liquidation on the event tape, unless the heat map tells it with its percentile."""
        if self._screen is None or self._screen.has("heatmap"):
            return
        is_long = event.position_side is PositionSide.LONG
        notional = event.size / SCALE * (event.bankruptcy_price / SCALE)
        price = numbers.price(event.bankruptcy_price, self.feed.state(event.symbol).tick)
        self._screen.note(
            event.receive_time,
            (
                ("liq ", Role.TEXT),
                ("LONG " if is_long else "SHORT ", Role.LONG if is_long else Role.SHORT),
                (f"{numbers.amount(notional)} USDT @{price}", Role.TEXT),
            ),
            event.symbol,
        )

    # The screen's side.

    def _hang(self, names: Sequence[str]) -> None:
        assert self._screen is not None
        for name, title, order, weight, group in (
            ("price", "PRICE (USDT)", 10, 90, Telemetry.price),
            ("positioning", "POSITIONING", 20, 85, Telemetry.positioning),
            ("flow", "TAKER FLOW (USDT)", 30, 70, Telemetry.taker_flow),
            ("book", "BOOK 25 bp (USDT)", 40, 50, Telemetry.book_group),
            ("liquidations", "LIQUIDATIONS (real, USDT)", 50, 80, Telemetry.forced),
        ):
            if name in names and not (name == "liquidations" and self._screen.has("liquidations")):
                self._screen.panel(
                    name,
                    title=title,
                    order=order,
                    weight=weight,
                    lines=self._lines(group),
                    brief=self._brief(name),
                )
        for name, title, order, weight, rows in (
            ("feed", "FEED", 80, 75, self._running.feed),
            ("recorder", "RECORDER", 85, 60, self._running.recorder),
            ("self", "SCREEN", 90, 20, self._running.screen),
        ):
            if name in names:
                self._screen.panel(
                    name, title=title, order=order, weight=weight, lines=self._row_lines(rows), brief=self._brief(name)
                )

    def _lines(self, group: Callable[[Telemetry, int], Group]) -> Callable[[View, int, int], Sequence[Line]]:
        def lines(view: View, width: int, height: int) -> Sequence[Line]:
            return [draw_row(row, width) for row in group(self.feed.state(view.symbol), view.now).rows][:height]

        return lines

    @staticmethod
    def _row_lines(rows: Callable[[View], list[Row]]) -> Callable[[View, int, int], Sequence[Line]]:
        def lines(view: View, width: int, height: int) -> Sequence[Line]:
            return [draw_row(row, width) for row in rows(view)][:height]

        return lines

    def _brief(self, name: str) -> Callable[[View, int], Sequence[Line]]:
        def brief(view: View, width: int) -> Sequence[Line]:
            return self.brief(name, view)

        return brief

    def brief(self, name: str, view: View) -> list[Line]:
        """The one line of a group that a small terminal shows."""
        state = self.feed.state(view.symbol)
        now = view.now
        if name == "positioning":
            found = {row.label: row for row in state.positioning(now).rows}
            role = Role.FAINT if found["OI"].is_old else Role.TEXT
            return [(("OI   ", Role.FAINT), (f"{found['OI'].value.split(' ')[0]} {found['dOI'].value}", role))]
        if name == "flow":
            return [self._flow_brief(state, now)]
        if name == "price":
            found = {row.label: row for row in state.price(now).rows}
            basis = found["basis"].value.split(" (")[0] if "basis" in found else numbers.NONE
            spread = found["bid|ask"].value.split("  ")[-1] if "bid|ask" in found else numbers.NONE
            band = state.book_band()
            share = f" imb {2 * band[0] / (band[0] + band[1]) - 1:+.2f}" if band and sum(band) else ""
            return [(("book ", Role.FAINT), (f"sprd {spread} basis {basis}{share}".replace(" bp", "bp"), Role.TEXT))]
        if name == "liquidations":
            longs, shorts, long_count, short_count = state.liquidated(now, 3_600_000_000_000)
            return [
                (
                    ("liq  ", Role.FAINT),
                    ("1h ", Role.TEXT),
                    (f"L {numbers.amount(longs)} ({long_count})", Role.LONG),
                    (f"  S {numbers.amount(shorts)} ({short_count})", Role.SHORT),
                )
            ]
        if name == "feed":
            lag = view.facts.lag_ms()
            drops = self._running.dropped()
            rate = sum(self._running.rates(view).values())
            text = f"{rate:.0f}/s lag {'--' if lag is None else f'{lag:.0f}ms'} gap {view.facts.gaps} drop {drops}"
            return [(("feed ", Role.FAINT), (text, Role.WARN if view.facts.gaps or drops else Role.TEXT))]
        return []

    @staticmethod
    def _flow_brief(state: Telemetry, now: int) -> Line:
        buys, sells = state.flow(now, 60_000_000_000)
        total = buys + sells
        if not total:
            return (("flow ", Role.FAINT), ("1m no trades", Role.FAINT))
        share = buys / total
        return (
            ("flow ", Role.FAINT),
            (f"1m B {share * 100:.0f}% ", Role.TEXT),
            (numbers.bar(share, 8), Role.LONG if share >= 0.5 else Role.SHORT),
            (f" CVD {numbers.signed(state.cvd)}", Role.TEXT),
        )
