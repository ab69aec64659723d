"""Owns the telemetry sink: feeds the state of each symbol and hangs its groups on the screen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import trio
from msgspec import Struct

from wld import Batch, Event, Gap, Liquidation, PositionSide, Repair, SinkContext, Subscription
from wld.terminal import Line, Role, View, numbers
from wld_telemetry.columns import apply_tables
from wld_telemetry.state import OLD_NS, Group, Row, Telemetry

_TONES = {"long": Role.LONG, "short": Role.SHORT, "warn": Role.WARN}
_LABEL_WIDTH = 7
BOOKS = 16
"""Order books are kept for so many symbols; further ones show the ticker's best prices."""
_TOPICS = (("trades", "publicTrade"), ("books", "orderbook"), ("tickers", "tickers"), ("liqs", "allLiquidation"))


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


class _Rates:
    """Messages a second by topic, over the last seconds."""

    def __init__(self) -> None:
        self._marks: list[tuple[int, dict[str, int]]] = []

    def of(self, now: int, counts: dict[str, int]) -> dict[str, float]:
        """Rates over the last ten seconds, to the second."""
        if not self._marks or now - self._marks[-1][0] >= 1_000_000_000:
            self._marks.append((now, dict(counts)))
            del self._marks[:-11]
        then, before = self._marks[0]
        seconds = (now - then) / 1e9
        return {topic: (n - before.get(topic, 0)) / seconds if seconds > 0 else 0.0 for topic, n in counts.items()}


class TelemetrySink:
    """Consumes batches into `Telemetry` states, one a symbol; draws nothing without a screen."""

    def __init__(self, config: TelemetryConfig, context: SinkContext) -> None:
        self._config = config
        self._context = context
        self.states: dict[str, Telemetry] = {}
        self._rates = _Rates()
        self._screen = context.screen
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
        """Take events of any symbols; a batch that holds columns without making them."""
        tables = events.tables if isinstance(events, Batch) else None
        liquidations = None if tables is None else apply_tables(tables, self.states)
        if liquidations is not None:
            for liquidation in liquidations:
                self._tell(self.state(liquidation.symbol))
            return
        for event in events:
            if isinstance(event, Gap):
                for state in self.states.values():
                    if event.symbol in (None, state.symbol):
                        state.apply(event)
            elif not isinstance(event, Repair):
                state = self.state(event.symbol)
                state.apply(event)
                if isinstance(event, Liquidation):
                    self._tell(state)

    def state(self, symbol: str) -> Telemetry:
        """The state of a symbol, made at its first sight."""
        state = self.states.get(symbol)
        if state is None:
            state = self.states[symbol] = Telemetry(symbol, with_book=len(self.states) < BOOKS)
        return state

    def _tell(self, state: Telemetry) -> None:
        """A liquidation on the event tape, unless the heat map tells it with its percentile."""
        if self._screen is None or self._screen.has("heatmap"):
            return
        seen = state.liquidations[-1]
        is_long = seen.side is PositionSide.LONG
        self._screen.note(
            seen.time,
            (
                ("liq ", Role.TEXT),
                ("LONG " if is_long else "SHORT ", Role.LONG if is_long else Role.SHORT),
                (f"{numbers.amount(seen.notional)} USDT @{numbers.price(seen.price, state.tick)}", Role.TEXT),
            ),
            state.symbol,
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
            ("feed", "FEED", 80, 75, self._feed),
            ("recorder", "RECORDER", 85, 60, self._recorder),
            ("self", "SCREEN", 90, 20, self._self),
        ):
            if name in names:
                self._screen.panel(
                    name, title=title, order=order, weight=weight, lines=self._row_lines(rows), brief=self._brief(name)
                )

    def _lines(self, group: Callable[[Telemetry, int], Group]) -> Callable[[View, int, int], Sequence[Line]]:
        def lines(view: View, width: int, height: int) -> Sequence[Line]:
            return [draw_row(row, width) for row in group(self.state(view.symbol), view.now).rows][:height]

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
        state = self.state(view.symbol)
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
            rates = self._rates.of(view.now, view.facts.counts)
            lag = view.facts.lag_ms()
            drops = sum(sink.dropped for sink in self._context.statistics().sinks)
            text = f"{sum(rates.values()):.0f}/s lag {'--' if lag is None else f'{lag:.0f}ms'} gap {view.facts.gaps} drop {drops}"
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

    def _feed(self, view: View) -> list[Row]:
        facts = view.facts
        rates = self._rates.of(view.now, facts.counts)
        seen = facts.of(view.symbol).seen
        parts = {}
        for label, topic in _TOPICS:
            time = seen.get(topic)
            rate = rates[topic]
            age = "--" if time is None else numbers.age(view.now - time)
            parts[label] = f"{rate:.{0 if rate >= 9.95 else 1}f}/s {age}"
        # Liquidations may rightly be quiet for hours; the others not.
        quiet = [seen.get(topic) for _, topic in _TOPICS[:3]]
        oldest = None if None in quiet else max(view.now - time for time in quiet if time is not None)
        is_old = oldest is None or oldest > OLD_NS
        rows = [
            Row("trades", f"{parts['trades']}  books {parts['books']}", None, is_old),
            Row("tickers", f"{parts['tickers']}  liqs {parts['liqs']}", None, is_old),
        ]
        lag = facts.lag_ms()
        drops = sum(sink.dropped for sink in self._context.statistics().sinks)
        state = self.states.get(view.symbol)
        reasons = " ".join(f"{name} {n}" for name, n in sorted(state.gaps.items())) if state else ""
        tone = "warn" if facts.gaps or drops else ""
        rows.insert(0, Row("gaps", f"{facts.gaps}  dropped {drops} {reasons}".strip(), None, False, tone))
        rows.append(Row("lag", "--" if lag is None else f"{lag:.0f} ms from the venue's push"))
        return rows

    def _recorder(self, view: View) -> list[Row]:
        figures = self._context.reports().get("recorder")
        if not figures:
            return []
        rows = []
        error = figures.get("error")
        rows.append(Row("state", f"REFUSED: {error}" if error else "OK", None, False, "warn" if error else ""))
        written = figures.get("bytes")
        if written is not None:
            rows.append(Row("written", f"{numbers.amount(float(written))}B, {figures.get('segments', 0)} sealed"))
        rows.append(Row("waiting", f"{figures.get('waiting', 0)} events"))
        with suppress(OSError):
            free = shutil.disk_usage(self._context.data_dir if self._context.data_dir.exists() else ".").free
            rows.append(Row("disk", f"{numbers.amount(float(free))}B free", None, False, "warn" if free < 1e9 else ""))
        return rows

    @staticmethod
    def _self(view: View) -> list[Row]:
        figures = view.self_figures
        if not figures:
            return []
        return [
            Row("frames", f"{figures['fps']:.0f}/s max  {numbers.amount(float(figures['frame_bytes']))}B median"),
            Row("dropped", f"{figures['dropped']} of {figures['frames'] + figures['dropped']}"),
            Row("process", f"{figures['cpu'] * 100:.0f}% cpu  {numbers.amount(float(figures['rss']))}B"),
            Row("lag", f"{figures['lag_ms']:.1f} ms event loop, worst of 1 s"),
        ]
