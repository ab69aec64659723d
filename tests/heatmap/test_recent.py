"""The last values of something and their quantiles: what numpy makes of the same values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wld_heatmap.recent import Recent


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=30), st.integers(1, 12))
def test_quantiles_are_those_of_the_last_values(values: list[float], most: int) -> None:
    recent = Recent(most)
    recent.extend(values)
    assert list(recent) == values[-most:]
    assert len(recent) == min(most, len(values))
    for share in (0.0, 0.5, 0.95, 1.0):
        assert recent.quantile(share) == pytest.approx(float(np.quantile(values[-most:], share)), rel=1e-12, abs=1e-12)
