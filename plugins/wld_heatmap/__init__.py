"""The radar's heat: where leveraged positions would be liquidated, estimated and honestly scored."""

from wld import SinkSpec, hookimpl
from wld_heatmap.column import Column
from wld_heatmap.config import HeatmapConfig
from wld_heatmap.evaluation import Scorer
from wld_heatmap.history import Health, HeatMap, LiquidationMark, Zone
from wld_heatmap.judgement import Report, judge
from wld_heatmap.keeper import Keeper
from wld_heatmap.radar import Radar
from wld_heatmap.sink import Heatmap
from wld_heatmap.view import Panels, Selection

__all__ = [
    "Column",
    "Health",
    "HeatMap",
    "Heatmap",
    "HeatmapConfig",
    "Keeper",
    "LiquidationMark",
    "Panels",
    "Radar",
    "Report",
    "Scorer",
    "Selection",
    "Zone",
    "judge",
    "wld_sink",
]

CAPACITY = 65_536
"""Events: a minute of one busy symbol; heat is worth nothing late, so more waiting would not help."""


@hookimpl
def wld_sink() -> SinkSpec:
    """The sink named `heatmap`; its failure never ends a run."""
    return SinkSpec(name="heatmap", config_type=HeatmapConfig, create=Heatmap, capacity=CAPACITY, needs_screen=True)
