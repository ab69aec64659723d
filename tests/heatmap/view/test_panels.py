"""The panels beside the heat: zones, what the model is worth."""

from __future__ import annotations

from tests.heatmap.view.scene import Scene


def test_the_strongest_zones_of_each_side_are_labelled(scene: Scene) -> None:
    text = scene.text(50, 200)
    names = [name for name, _ in scene.sink.selection.named_zones(scene.view)]
    assert names[0] == "L1" or names[0] == "S1"
    assert {"L1", "S1"} <= set(names)
    for name in names:
        assert name in text
    assert "within 2%" in text


def test_panels_say_what_the_model_is_worth_and_what_it_does_not_know(scene: Scene) -> None:
    text = scene.text(50, 200)
    assert "HEAT MODEL" in text
    assert any(word in text for word in ("unproven", "validated", "not better"))
    assert "of OI" in text
