"""The pictures of the documentation: the radar's own frames after two simulated hours, as SVG.

    python benchmarks/pictures.py                     # docs/images/radar-*.svg, about a minute
    python benchmarks/pictures.py --hours 1 --seed 3 --out /tmp/images

The simulated market is driven in process at speed, its messages go through the engine's own decoder into the real
sinks, and the frame that a terminal would be sent is written instead. Nothing is drawn by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from wld_heatmap import Heatmap, HeatmapConfig
from wld_telemetry import TelemetryConfig, TelemetrySink

import wld
from wld.bybit.decoder import MarketDecoder
from wld.exchange.instruments import spec_for
from wld.exchange.market import Market
from wld.terminal.frame import FrameState, draw_frame
from wld.terminal.palette import THEMES, Palette, Rung
from wld.terminal.pictures import svg
from wld.terminal.surface import Surface

SECOND = 1_000_000_000
START_MS = 1_790_000_000_000 // 3_600_000 * 3_600_000
LAG_MS = 38
FRAMES = (
    ("radar-200x50-dark", 50, 200, "dark", Rung.TRUE),
    ("radar-200x50-light", 50, 200, "light", Rung.TRUE),
    ("radar-80x24-dark", 24, 80, "dark", Rung.TRUE),
    ("radar-80x24-light", 24, 80, "light", Rung.TRUE),
    ("radar-120x40-inferno", 40, 120, "inferno", Rung.TRUE),
    ("radar-120x40-cividis", 40, 120, "cividis", Rung.CUBE),
    ("radar-80x24-ascii", 24, 80, "dark", Rung.MONO),
)


def simulated(hours: float, seed: int, symbol: str) -> Iterator[tuple[int, list[wld.Event]]]:
    """(receive time, events) of each simulated second, decoded as from the wire."""
    spec = spec_for(symbol)
    market = Market([spec], seed, START_MS)
    decoder = MarketDecoder(accept_any=True)
    instrument = wld.Instrument(
        symbol,
        tick_size=wld.parse_fixed(spec.price_text(1)),
        lot_size=wld.parse_fixed(spec.size_text(1)),
        max_leverage=spec.max_leverage * wld.SCALE,
        margin_tiers=tuple(
            wld.MarginTier(
                tier.limit * wld.SCALE,
                tier.maintenance_ppm * 100,
                wld.SCALE // tier.max_leverage,
                tier.max_leverage * wld.SCALE,
            )
            for tier in spec.tiers
        ),
        receive_time=START_MS * 1_000_000,
    )
    yield START_MS * 1_000_000, [instrument]
    encode = msgspec.json.Encoder().encode
    for topic in (f"orderbook.50.{symbol}", f"tickers.{symbol}"):
        body = market.snapshot(topic)
        yield START_MS * 1_000_000, decoder.decode(encode(body), START_MS * 1_000_000)
    for at in range(START_MS, START_MS + int(hours * 3_600_000), 1_000):
        events: list[wld.Event] = []
        for _, body in market.advance(at + 1_000):
            events += decoder.decode(encode(body), (body["ts"] + LAG_MS) * 1_000_000)
        yield (at + 1_000 + LAG_MS) * 1_000_000, events


class Scene:
    """The real sinks on a screen without a terminal."""

    def __init__(self, symbol: str, sinks: tuple[str, ...] = ("heatmap", "telemetry")) -> None:
        self.surface = Surface(symbols=[symbol], clock="live")
        context: Any = SimpleNamespace(
            screen=self.surface,
            symbols=(symbol,),
            clock="live",
            data_dir=Path("data/history"),
            statistics=lambda: SimpleNamespace(sinks=()),
            status=lambda name, figures: None,
            reports=dict,
        )
        self.heatmap = Heatmap(HeatmapConfig(), context) if "heatmap" in sinks else None
        self.telemetry = TelemetrySink(TelemetryConfig(), context) if "telemetry" in sinks else None
        self.view = self.surface.view
        self.state = FrameState()

    def apply(self, now: int, events: list[wld.Event], *, is_shown: bool = False) -> None:
        """Take a second of events."""
        self.surface.facts.apply(events)
        if self.telemetry is not None:
            self.telemetry.take(events)
        if self.heatmap is not None:
            self.heatmap.radar.apply(events)
            self.heatmap.radar.advance(now)
            self.heatmap.keeper.tell()
            if is_shown:
                self.heatmap.pane.snap(now)
        self.view.now = now

    def figures(self, **figures: Any) -> None:
        """What the screen says of itself."""
        self.view.self_figures = figures

    def frame(self, height: int, width: int, theme: str, rung: Rung) -> tuple[Any, Palette]:
        """A frame as the terminal would show it."""
        palette = Palette(THEMES[theme], rung, is_ascii=rung is Rung.MONO)
        self.view.wants_redraw = True
        while self.view.wants_redraw:
            self.view.wants_redraw = False
            draw_frame(height, width, palette, self.surface.panels, self.view, self.state)
        if self.heatmap is not None:
            self.heatmap.pane.scale.rescale()
        return draw_frame(height, width, palette, self.surface.panels, self.view, self.state), palette


def main() -> None:
    """Simulate, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--symbol", default="WLDUSDT")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    scene = Scene(arguments.symbol)
    for now, events in simulated(arguments.hours, arguments.seed, arguments.symbol):
        scene.apply(now, events)
        if now > (START_MS + int(arguments.hours * 3_600_000)) * 1_000_000 - 12 * SECOND:
            scene.frame(50, 200, "dark", Rung.TRUE)  # rates are told over the last ten seconds of frames
    if scene.heatmap is not None:
        for heatmap in scene.heatmap.radar.maps.values():
            heatmap.refresh()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, height, width, theme, rung in FRAMES:
        frame, palette = scene.frame(height, width, theme, rung)
        path = arguments.out / f"{name}.svg"
        title = f"wld --sinks heatmap,telemetry after {arguments.hours:g} simulated hours, {width} x {height}, {theme}"
        path.write_text(svg(frame.grid, palette, title=title), encoding="utf-8")
        print(f"{path}  {path.stat().st_size / 1e3:.0f} KB")


if __name__ == "__main__":
    main()
