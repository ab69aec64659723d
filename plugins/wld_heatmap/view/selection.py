"""Owns what is looked at: what the keys have changed, and of the radar what that leaves: zones, liquidations, sums. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from wld import PositionSide
from wld.terminal import View
from wld_heatmap.column import TierFilter
from wld_heatmap.history import HeatMap, Zone
from wld_heatmap.radar import Radar
from wld_heatmap.view.marks import Marks
from wld_heatmap.view.timeline import SECOND

WIDTHS = (1, 2, 5, 10, 20, 30, 40, 60, 120, 300, 900, 1800, 3600)
"""Seconds that a cell column may be wide."""
GAMMAS = (0.5, 0.7, 1.0, 1.4, 2.0)
SCALES = ("log", "linear", "percentile")
SIDES: tuple[PositionSide | None, ...] = (None, PositionSide.LONG, PositionSide.SHORT)
TIERS: tuple[TierFilter, ...] = ("all", "high", "low")
ZONES_LOOKED_AT = 8
NEAR = 0.08
"""Zones within this fraction of the mark price are named first: the picture shows them, and price may get there."""


class Settings(Struct):
    """What the keys have changed; the picture follows these alone."""

    width: int | None = None
    """Seconds a column; None: automatic."""
    zoom: int = 0
    pan: int = 0
    """Pixels that the centre was moved up by hand."""
    scroll: int = 0
    """Columns that the right edge lies before now."""
    gamma: int = 2
    scale: int = 0
    side: int = 0
    tiers: int = 0
    is_boosted: bool = True
    cursor: tuple[int, int] | None = None
    """Row and column of the inspected cell, from the top left of the heat."""
    centre: int | None = None
    """The pixel of price in the middle of the pane; None: the mark price's, from the next frame on."""


class Selection:
    """The radar as the user has chosen to see it; pane and panels draw the same one."""

    def __init__(self, radar: Radar) -> None:
        self.radar = radar
        self.settings = Settings()
        self.loading: str | None = None
        """Said instead of the picture while history is read."""
        self._zones: tuple[tuple[Any, ...], list[Zone]] = ((), [])
        self._within: tuple[tuple[Any, ...], list[tuple[float, float]]] = ((), [])
        self._marks: dict[str, Marks] = {}

    def map_of(self, view: View) -> HeatMap | None:
        """The map that is shown; None while there is nothing to show of it."""
        heatmap = self.radar.maps.get(view.symbol)
        return None if heatmap is None or self.loading else heatmap

    def ready_map(self, view: View) -> HeatMap | None:
        """The same, and None before a mark price came."""
        heatmap = self.map_of(view)
        return heatmap if heatmap is not None and heatmap.is_ready else None

    @property
    def side(self) -> PositionSide | None:
        """The side filter."""
        return SIDES[self.settings.side]

    @property
    def tiers(self) -> TierFilter:
        """The leverage filter."""
        return TIERS[self.settings.tiers]

    def marks_of(self, heatmap: HeatMap) -> Marks:
        """Its real liquidations, up to now."""
        marks = self._marks.setdefault(heatmap.symbol, Marks())
        marks.refresh(heatmap)
        return marks

    def zones(self, view: View) -> list[Zone]:
        """The three strongest of each side within 8 % of the mark price, then those beyond; looked up once a second."""
        heatmap = self.ready_map(view)
        if heatmap is None:
            return []
        key = (view.symbol, view.now // SECOND, self.side, self.tiers, self.settings.is_boosted)
        if key != self._zones[0]:
            found = heatmap.zones(ZONES_LOOKED_AT, side=self.side, tiers=self.tiers, boosted=self.settings.is_boosted)
            chosen = []
            for side in (PositionSide.LONG, PositionSide.SHORT):
                zones = [zone for zone in found if zone.side is side]
                near = [zone for zone in zones if abs(zone.distance) <= NEAR]
                chosen += (near + [zone for zone in zones if zone not in near])[:3]
            self._zones = (key, chosen)
        return self._zones[1]

    def named_zones(self, view: View) -> list[tuple[str, Zone]]:
        """`S1` is the strongest zone of shorts above, `L1` of longs below."""
        counts = {PositionSide.LONG: 0, PositionSide.SHORT: 0}
        named = []
        for zone in self.zones(view):
            counts[zone.side] += 1
            named.append((f"{'L' if zone.side is PositionSide.LONG else 'S'}{counts[zone.side]}", zone))
        return named

    def within(self, heatmap: HeatMap, view: View, fractions: tuple[float, ...]) -> list[tuple[float, float]]:
        """USDT of (longs, shorts) within each fraction of the mark price; looked up once a second."""
        key = (view.symbol, view.now // SECOND, self.tiers, fractions)
        if key != self._within[0]:
            self._within = (key, [heatmap.within(fraction, tiers=self.tiers) for fraction in fractions])
        return self._within[1]
