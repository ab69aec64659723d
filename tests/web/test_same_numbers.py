"""The page and the terminal, fed the same batches, show the same: title, panels, event tape, zones, heat."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from wld_heatmap import Heatmap, HeatmapConfig
from wld_telemetry import TelemetryConfig, TelemetrySink

import wld
from tests.columns import as_read
from tests.heatmap.demo import SECOND, SYMBOL, market
from wld.terminal.cells import line_text
from wld.terminal.frame import FrameState, draw_frame, frame_text, title_parts
from wld.terminal.palette import THEMES, Palette, Rung
from wld.terminal.surface import Surface
from wld.testing import make_book_snapshot, make_context

web = pytest.importorskip("wld_web")
wire = pytest.importorskip("wld_web.wire")
PAGE_WIDTH = 44
HOUR = 3600 * SECOND


def reads(minutes: float = 45, by_row: int = 7) -> list[wld.Batch]:
    """A market with a lost minute, a second a read; most reads in columns, each `by_row`-th as events."""
    by_second: dict[int, list[wld.Event]] = {}
    for event in market(minutes, gap_at=minutes * 0.6):
        if isinstance(event, wld.Ticker):
            assert event.mark_price is not None
            event = replace(
                event, index_price=event.mark_price - 30_000, funding_rate=12_345, price_change_24h=2_310_000,
                next_funding_time=event.receive_time // (8 * HOUR) * 8 * HOUR + 8 * HOUR, funding_interval_hour=8,
                high_price_24h=event.mark_price + 10**6, low_price_24h=event.mark_price - 10**6, turnover_24h=10**15,
            )  # fmt: skip
        by_second.setdefault(event.receive_time // SECOND, []).append(event)
    out = []
    for number, events in enumerate(by_second.values()):
        time = max(event.receive_time for event in events)
        if number % 60 == 0:
            events.append(make_book_snapshot(SYMBOL, update_id=number + 1, time=time))
        plain = all(type(e) not in (wld.Gap, wld.Instrument) and e.receive_time == time for e in events)
        out.append(as_read(events, (SYMBOL,)) if plain and number % by_row else wld.Batch(events))
    return out


class Terminal:
    """The terminal's sinks on a screen without a tty, the clock as in a replay."""

    def __init__(self) -> None:
        self.surface = Surface(symbols=[SYMBOL], clock="recorded")
        context: Any = SimpleNamespace(
            screen=self.surface, symbols=(SYMBOL,), clock="recorded", status=lambda name, figures: None, reports=dict,
            statistics=lambda: SimpleNamespace(sinks=()),
        )  # fmt: skip
        self.heatmap = Heatmap(HeatmapConfig(), context)
        self.telemetry = TelemetrySink(TelemetryConfig(), context)

    def take(self, batch: wld.Batch) -> None:
        self.surface.facts.apply(batch)
        self.heatmap.radar.apply(batch)
        self.telemetry.take(batch)

    def draw(self) -> str:
        """The whole frame as text, drawn until nothing is left to build."""
        view = self.surface.view
        view.now = self.surface._now()
        palette = Palette(THEMES["dark"], Rung.TRUE)
        while True:
            view.wants_redraw = False
            frame = draw_frame(100, 260, palette, self.surface.panels, view, FrameState())
            if not view.wants_redraw:
                return frame_text(frame)


def floats(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), "<f4")


def text_of(spans: Any) -> str:
    return "".join(text for text, _ in spans)


@pytest.fixture(scope="module")
def shown() -> tuple[Any, ...]:
    """Both after the same batches; the page was opened in the middle and told what came since."""
    terminal, sink = Terminal(), web.Web(web.WebConfig(), make_context(clock="recorded", symbols=(SYMBOL,)))
    batches = reads()
    page: Any = None
    columns: list[dict[str, Any]] = []
    liquidations: list[dict[str, Any]] = []
    tick: dict[str, Any] = {}
    for number, batch in enumerate(batches, 1):
        terminal.take(batch)
        sink.take(batch)
        if number == len(batches) // 2:
            page = sink.open(SYMBOL)
            hello = page.hello()
            columns += hello["columns"]
            liquidations += hello["liquidations"]
        if number % 30 == 0 or number == len(batches):
            terminal.heatmap.keeper.tell()
            sink._keeper.tell()
            if page is not None:
                tick = page.tick()
                columns += tick["closed"]
                liquidations += tick["liquidations"]
        if number == len(batches) - 40:
            for radar in (terminal.heatmap.radar, sink._radar):
                radar.maps[SYMBOL].refresh()
    return terminal, tick, columns, liquidations


def test_the_title_says_the_same(shown: Any) -> None:
    terminal, tick, _, _ = shown
    title = terminal.draw().splitlines()[0]
    said = tick["header"]
    for text in (said.last, said.change, said.mark, said.index, said.funding, said.countdown, said.interest):
        assert text in title
        assert text != "--"
    parts, end, is_alarm = title_parts(terminal.surface.view, FrameState())
    assert tick["state"] == (end, is_alarm)
    assert any(said.last in text for _, text, _ in parts)


def test_every_panel_of_the_terminal_says_the_same_on_the_page(shown: Any) -> None:
    terminal, tick, _, _ = shown
    frame = terminal.draw()
    told = {group["title"]: [text_of(line) for line in group["lines"]] for group in tick["groups"]}
    view = terminal.surface.view
    named = {panel.name: panel for panel in terminal.surface.panels.ordered()}
    assert set(named) == {
        "price", "positioning", "flow", "book", "liquidations", "zones", "model", "feed", "recorder", "self",
    }  # fmt: skip
    for name, panel in named.items():
        if name in ("recorder", "self"):  # of the run, not of the market; this one has neither
            continue
        lines = [line_text(line) for line in panel.lines(view, PAGE_WIDTH, 40)]
        if name == "feed":  # rates are told over the last seconds of each view's own looks
            assert len(lines) == len(told[panel.title])
            continue
        assert told[panel.title] == lines, name
        assert lines
        for line in panel.lines(view, 42, 40):  # and that is what is drawn
            assert line_text(line).strip() in frame, name


def test_the_event_tape_says_the_same(shown: Any) -> None:
    terminal, tick, _, _ = shown
    notes = terminal.surface.facts.notes_of(SYMBOL)
    assert len(notes) > 10
    assert [text_of(line).partition("] ")[2] for line in tick["tape"]] == [line_text(n.line) for n in notes[-50:]]
    assert any("gap disconnect" in line_text(note.line) for note in notes)
    assert any("liq LONG" in line_text(note.line) for note in notes)


def test_the_zones_are_the_same_ones(shown: Any) -> None:
    terminal, tick, _, _ = shown
    named = terminal.heatmap.selection.named_zones(terminal.surface.view)
    assert {"L1", "S1"} <= {name for name, _ in named}
    assert [(z["name"], z["price"], z["tiers"]) for z in tick["zones"]] == [
        (name, zone.price / wld.SCALE, zone.tiers) for name, zone in named
    ]


def test_the_heat_of_a_pixel_is_the_sum_of_the_pages_bins(shown: Any) -> None:
    terminal, _, columns, _ = shown
    terminal.draw()
    pane = terminal.heatmap.pane._shown
    assert pane is not None
    by_end = {column["end"]: column for column in columns}
    compared = 0
    for x, cell in enumerate(pane.cells):
        column = by_end.get(0 if cell is None else cell.end)
        if column is None or cell is None or not cell.is_final:
            continue
        heat = floats(column["raw"]).copy()
        if column["boosted"] is not None:
            heat = floats(column["boosted"])
        for y in range(0, pane.layout.pixels, 7):
            low = (pane.bottom + y) * pane.bins - column["low"]
            told = float(heat[max(0, low) : max(0, low + pane.bins)].sum())
            assert pane.heat[y, x] == pytest.approx(told, rel=1e-4, abs=0.1)
            compared += told > 1
        assert cell.has_gap >= column["gap"]  # a cell may be several columns wide
        if cell.mark_close is not None:  # in a hole the page draws the last known price on
            mark = terminal.heatmap.radar.maps[SYMBOL].bin_of(round(column["mark"][3] * wld.SCALE))
            assert cell.mark_close == mark // pane.bins
    assert compared > 100


def test_real_liquidations_are_the_same_ones(shown: Any) -> None:
    terminal, _, _, liquidations = shown
    marks = list(terminal.heatmap.radar.maps[SYMBOL].liquidations)
    assert len(marks) > 5
    assert liquidations == [wire.liquidation_of(mark) for mark in marks]
