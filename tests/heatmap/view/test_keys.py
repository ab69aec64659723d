"""Keys change what is shown, say so in a badge, and stay within their limits."""

from __future__ import annotations

from wld_heatmap.view import HELP
from wld_heatmap.view.selection import WIDTHS

from tests.heatmap.demo import SECOND, SYMBOL
from tests.heatmap.view.scene import Scene
from wld.terminal.panels import Click


def test_every_key_of_the_help_does_something_and_says_so_in_a_badge(scene: Scene) -> None:
    plain = scene.text()
    for keys, badge in (
        (["left"], "BACK"), (["s"], "LONGS only"), (["L"], "25x and more"), (["b"], "RAW"), (["up"], "PANNED"),
        (["+"], "zoom 1.2x"), (["c"], "linear"), (["G"], "gamma 1.4"), (["]"], "2m col"),
    ):  # fmt: skip
        other = Scene(scene.sink.radar.maps[SYMBOL])
        other.frame()
        other.key(*keys)
        text = other.text()
        assert badge in text, keys
        assert badge not in plain or badge.endswith("col")
    assert len(HELP) >= 10


def test_width_zoom_and_scroll_stay_within_their_limits(scene: Scene) -> None:
    scene.frame()
    for key in ["]"] * 20 + ["+"] * 40 + ["left"] * 200 + ["home"]:
        scene.key(key)
    scene.text()
    for key in ["["] * 20 + ["-"] * 80 + ["right"] * 400 + ["end", "0", "backspace"]:
        scene.key(key)
        scene.text() if key in ("end", "0") else None
    assert scene.sink.selection.settings.scroll == 0
    assert scene.heat._shown is not None
    assert scene.heat._shown.width // SECOND in WIDTHS


def test_the_cursor_tells_price_time_and_usdt(scene: Scene) -> None:
    scene.frame()
    scene.key("i", "up", "up", "left")
    text = scene.text()
    assert "USDT p" in text
    scene.heat.key(Click("left", 10, 40), scene.view)
    assert scene.sink.selection.settings.cursor is not None
    scene.key("escape")
    assert scene.sink.selection.settings.cursor is None
