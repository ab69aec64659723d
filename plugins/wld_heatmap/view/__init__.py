"""How the radar's heat looks on a screen: pane, panels, keys. Knows the model only by what it reads of it."""

from wld_heatmap.view.keys import FOOTER, HELP
from wld_heatmap.view.marks import mark_spans
from wld_heatmap.view.pane import HeatPane
from wld_heatmap.view.panels import Panels
from wld_heatmap.view.selection import Selection

__all__ = ["FOOTER", "HELP", "HeatPane", "Panels", "Selection", "mark_spans"]
