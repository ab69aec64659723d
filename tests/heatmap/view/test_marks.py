"""Real liquidations on the picture and on the event tape."""

from __future__ import annotations

from msgspec.structs import replace
from wld_heatmap.view.marks import mark_glyph

import wld
from tests.heatmap.demo import SYMBOL
from tests.heatmap.view.scene import Scene
from wld.terminal.palette import THEMES, Palette, Rung


def test_liquidations_are_marked_as_hit_or_miss(heatmap, scene: Scene) -> None:
    assert len(heatmap.liquidations) > 10
    text = scene.text(50, 200)
    assert any(glyph in text for glyph in "•●◆◦○◇×")
    plain = scene.text(50, 200, palette=Palette(THEMES["dark"], Rung.MONO, is_ascii=True))
    assert plain.isascii()
    mark = heatmap.liquidations[-1]
    hit = replace(mark, is_hit=True, percentile=97.0)
    miss = replace(mark, is_hit=False, percentile=10.0)
    unknown = replace(mark, is_hit=False, percentile=None)
    assert [mark_glyph(m, 0.9, is_plain=False) for m in (hit, miss, unknown)] == ["●", "○", "×"]
    letter = "L" if mark.position_side is wld.PositionSide.LONG else "S"
    assert [mark_glyph(m, 0.9, is_plain=True) for m in (hit, miss, unknown)] == [letter, letter.lower(), "x"]


def test_new_liquidations_go_on_the_event_tape_once(scene: Scene) -> None:
    scene.sink.keeper.tell()
    count = len(scene.surface.facts.notes)
    assert count == min(50, len(scene.sink.radar.maps[SYMBOL].liquidations))
    scene.sink.keeper.tell()
    assert len(scene.surface.facts.notes) == count
