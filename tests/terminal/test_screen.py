"""The screen's loop on a device that is only pretended: pacing, keys, answers of the terminal, log lines."""

from __future__ import annotations

import logging
from typing import Any

import trio
import trio.testing

from wld.config import ScreenConfig
from wld.ring import Ring
from wld.terminal.keys import Background, Capability
from wld.terminal.palette import Rung
from wld.terminal.plain import PLAIN_INTERVAL_S, PlainScreen
from wld.terminal.screen import Screen
from wld.testing import TIME, make_liquidation, make_ticker, make_trade

SECOND = 1_000_000_000


class FakeTty:
    """A terminal in memory; while `is_stalled` a write does not end."""

    number_of_colors = 256
    keys = None
    is_gone = False
    has_mouse = False
    does_synchronize = True
    is_waiting = False

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_left = False

    def enter(self) -> bytes:
        return b"<enter>"

    def leave(self, timeout: float = 1.0) -> bool:
        self.is_left = True
        return True

    def size(self) -> tuple[int, int]:
        return (24, 80)

    def write(self, output: bytes) -> None:
        self.written.append(output)

    def mouse_codes(self, on: bool) -> bytes:
        self.has_mouse = on
        return b"<mouse>"


def make_screen(**config: Any) -> tuple[Screen, FakeTty]:
    tty: Any = FakeTty()
    screen = Screen(
        ScreenConfig(**config), symbols=["WLDUSDT"], clock="live", log_to_memory=False, tty=tty, wall=lambda: TIME
    )
    screen.open()
    return screen, tty


async def settle() -> None:
    """Until what was started has run, threads included."""
    for _ in range(50):
        await trio.testing.wait_all_tasks_blocked(0.002)


async def test_nothing_changed_is_nothing_written(nursery: trio.Nursery) -> None:
    screen, tty = make_screen()
    ring = Ring()
    await nursery.start(screen.run, ring.subscribe("screen"))
    await settle()
    first = len(tty.written)
    assert first >= 1
    assert tty.written[0].startswith(b"<enter>")
    await trio.sleep(0.5)
    assert len(tty.written) == first
    ring.publish([make_trade()])
    await trio.sleep(0.5)
    assert len(tty.written) > first
    nursery.cancel_scope.cancel()


async def test_the_end_of_the_run_gives_the_terminal_back_while_sinks_still_drain() -> None:
    screen, tty = make_screen()
    stopping = trio.Event()
    screen.attach(stop=stopping.set, stopping=stopping, lost=lambda why: None)
    ring = Ring()  # never closed here: others still drain
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(screen.run, ring.subscribe("screen"))
            screen.take("q")
    assert stopping.is_set()
    assert tty.is_left


async def test_answers_of_the_terminal_choose_theme_and_colours() -> None:
    screen, _ = make_screen()
    assert screen._rung is Rung.CUBE
    screen.take(Capability(True))
    assert screen._rung is Rung.TRUE
    screen.take(Background(True))
    assert screen._theme.name == "light"
    asked, _ = make_screen(theme="inferno", color="256")
    asked.take(Capability(True))
    asked.take(Background(True))
    assert (asked._rung, asked._theme.name) == (Rung.CUBE, "inferno")


async def test_t_goes_through_every_theme_and_back() -> None:
    screen, _ = make_screen()
    seen = [screen._theme.name]
    for _ in range(5):
        screen.take("t")
        seen.append(screen._theme.name)
    assert seen == ["dark", "inferno", "cividis", "mono", "light", "dark"]


async def test_log_lines_wait_in_memory_while_the_screen_is_up() -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    tty: Any = FakeTty()
    screen = Screen(ScreenConfig(), symbols=[], clock="live", log_to_memory=True, tty=tty, wall=lambda: TIME)
    screen.open()
    try:
        logging.getLogger("wld.made.up").warning("a made-up warning")
        assert screen.memory is not None
        assert [line for line in screen.memory.lines if "made-up" in line]
        assert "a made-up warning" in str(screen.facts.notes[-1].line)
    finally:
        tty.is_gone = True  # so that closing prints nothing here
        screen.close()
        root.handlers[:] = before


async def test_a_key_that_fails_costs_nothing_but_the_key() -> None:
    screen, _ = make_screen()

    def key(key: Any, view: Any) -> bool:
        raise ValueError("made up")

    screen.pane("broken", draw=lambda canvas, view: None, key=key)
    screen.take("x")
    assert "made up" in (screen._state.message or "")


async def test_a_pipe_is_told_a_line_each_ten_seconds_and_one_at_the_end(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    said: list[str] = []
    screen = PlainScreen(symbols=["WLDUSDT"], clock="live", write=said.append, wall=lambda: TIME)
    ring = Ring()
    await nursery.start(screen.run, ring.subscribe("screen"))
    ring.publish([make_ticker(last_price="1.5", mark_price="1.5"), make_liquidation()])
    await trio.sleep(2 * PLAIN_INTERVAL_S + 1)
    assert len(said) == 2
    assert "mark 1.5000" in said[-1]
    ring.close()
    await trio.sleep(1)
    assert len(said) == 3
    assert all(line.isascii() and line.isprintable() for line in said)
