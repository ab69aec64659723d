from __future__ import annotations

import pytest
from wld_heatmap import HeatMap

from tests.heatmap.demo import demo_map
from tests.heatmap.view.scene import MINUTES, Scene


@pytest.fixture(scope="package")
def heatmap() -> HeatMap:
    return demo_map(MINUTES, gap_at=70)


@pytest.fixture
def scene(heatmap: HeatMap) -> Scene:
    return Scene(heatmap)
