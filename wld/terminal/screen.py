"""Owns the screen's loop: one task paints at a fixed rate through a thread, one takes keys, one minds signals. What is
painted is `frame.draw_frame`'s; the device is `tty.Tty`'s.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from wld.config import ScreenConfig
from wld.ring import Subscription
from wld.terminal.cells import compose
from wld.terminal.facts import Facts
from wld.terminal.frame import Frame, FrameState, draw_frame
from wld.terminal.keys import Background, Capability, Input, Mouse
from wld.terminal.palette import THEMES, Palette, Rung
from wld.terminal.panels import Click
from wld.terminal.surface import Surface
from wld.terminal.tty import Tty, encoding_is_unicode

_log = logging.getLogger("wld.terminal")

FORCE_WINDOW_S = 2.0
ESCAPE_WAIT_S = 0.05
"""An ESC after which nothing comes for so long is the key."""
REPAINT_S = 300.0
"""Everything is painted again so often, whatever else wrote on the terminal."""
PARENT_CHECK_S = 0.25
HANGUP_WAIT_S = 0.2
_MESSAGE_S = 5.0
_COLORS = {"auto": None, "24": Rung.TRUE, "256": Rung.CUBE, "16": Rung.SIXTEEN, "none": Rung.MONO}


class MemoryLog(logging.Handler):
    """Keeps log lines while the screen is up: the newest, for the event tape and for the end."""

    def __init__(self, facts: Facts, formatter: logging.Formatter | None, limit: int = 2_000) -> None:
        super().__init__()
        self.formatter = formatter
        self._facts = facts
        self.lines: deque[str] = deque(maxlen=limit)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it; what a person should know at once also goes on the event tape."""
        try:
            self.lines.append(self.format(record))
            if record.levelno >= logging.WARNING:
                self._facts.note(int(record.created * 1e9), record.getMessage().splitlines()[0])
        except Exception:
            self.handleError(record)


class Screen(Surface):
    """The terminal as a screen. `run` is a sink's; `close` gives the terminal back and never raises."""

    is_visual = True

    def __init__(
        self,
        config: ScreenConfig,
        *,
        symbols: Sequence[str],
        clock: str,
        log_to_memory: bool,
        tty: Tty | None = None,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(symbols=symbols, clock=clock, wall=wall)
        self._config = config
        self._tty = tty or Tty()
        self._rung = self._first_rung()
        self._is_ascii = config.ascii if config.ascii is not None else not encoding_is_unicode()
        self._theme = THEMES["dark" if config.theme == "auto" else config.theme]
        self._palette = Palette(self._theme, self._rung, is_ascii=self._is_ascii)
        self._state = FrameState()
        self._still: Frame | None = None
        self._shown: Frame | None = None
        """The frame that the terminal shows once what is in flight has arrived."""
        self._prefix = b""
        self._in_flight = False
        self._wake = trio.Event()
        self._limiter = trio.CapacityLimiter(2)
        self._stop: Callable[[], None] = lambda: None
        self._stopping: trio.Event | None = None
        self._tell_lost: Callable[[str], None] = lambda why: self._stop()
        self._is_lost = False
        self._quit_time = -FORCE_WINDOW_S
        self._message_until = 0.0
        self._drawn_version = -1
        self._parent = os.getppid()
        self.frames = 0
        self.dropped = 0
        self.bytes = 0
        self._sizes: deque[int] = deque(maxlen=64)
        self._lag_ms = 0.0
        self._cpu = (time.monotonic(), time.process_time())
        self._cpu_share = 0.0
        self.memory: MemoryLog | None = None
        self._handlers: list[logging.Handler] = []
        self._log_to_memory = log_to_memory
        self._log_to_file = False
        self.first_paint_s: float | None = None

    def attach(self, *, stop: Callable[[], None], stopping: trio.Event, lost: Callable[[str], None]) -> None:
        """What `q` calls, the event that says the run is ending, and what is told, once, why the terminal is lost."""
        self._stop = stop
        self._stopping = stopping
        self._tell_lost = lost

    # The device.

    def open(self) -> None:
        """Take the terminal and keep log lines in memory, before the event loop starts."""
        self._tty.has_mouse = self._config.mouse
        self._prefix = self._tty.enter()
        if self._log_to_memory:
            root = logging.getLogger()
            self._handlers = root.handlers[:]
            formatter = self._handlers[0].formatter if self._handlers else None
            self.memory = MemoryLog(self.facts, formatter)
            files = [handler for handler in self._handlers if isinstance(handler, logging.FileHandler)]
            self._log_to_file = bool(files)
            root.handlers[:] = [*files, self.memory]

    def close(self) -> bool:
        """Give the terminal back and print what was logged meanwhile; False where the terminal did not take it."""
        taken = self._tty.leave()
        if self.memory is not None:
            logging.getLogger().handlers[:] = self._handlers
            lines, self.memory = list(self.memory.lines), None
            if taken and not self._tty.is_gone and lines and not self._log_to_file:
                with suppress(OSError):
                    os.write(2, ("\n".join(lines) + "\n").encode(errors="replace"))
        return taken

    def _first_rung(self) -> Rung:
        asked = _COLORS[str(self._config.color)]
        if asked is not None:
            return asked
        if os.environ.get("NO_COLOR"):
            return Rung.MONO
        colors = self._tty.number_of_colors
        return (
            Rung(max(rung for rung in Rung if rung <= max(0, colors) or rung is Rung.MONO))
            if colors >= 8
            else (Rung.MONO)
        )

    def _set_palette(self) -> None:
        self._palette = Palette(self._theme, self._rung, is_ascii=self._is_ascii)
        self._shown = None
        self._still = None

    # The loop.

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Paint until the run ends, then give the terminal back at once: sinks may still be draining."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._paint, nursery)
                nursery.start_soon(self._mind_signals)
                nursery.start_soon(self._mind_parent)
                nursery.start_soon(self._measure)
                nursery.start_soon(self._end_when_stopping, nursery.cancel_scope)
                if self._tty.keys is not None:
                    nursery.start_soon(self._take_keys)
                task_status.started()
                async for batch in batches:
                    self.facts.apply(batch)
                nursery.cancel_scope.cancel()
        finally:
            await self._close_in_thread()

    async def hold(self) -> None:
        """The input has ended: keep the picture until the run is stopped, where there are keys to stop it with."""
        if self._config.hold and self._clock == "recorded" and self._tty.keys is not None and not self._is_lost:
            self._state.has_ended = True
            self._changed()
            await trio.sleep_forever()  # cancelled by q or a signal, with the source's scope

    async def _close_in_thread(self) -> None:
        # `leave` has a deadline of its own, so this does not hang.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._tty.leave, limiter=self._limiter)
            self.close()

    async def _end_when_stopping(self, scope: trio.CancelScope) -> None:
        if self._stopping is None:
            return
        await self._stopping.wait()
        scope.cancel()

    def _changed(self) -> None:
        self._drawn_version = -1
        self._wake.set()

    async def _paint(self, nursery: trio.Nursery) -> None:
        """At most `fps` frames a second, and sooner after a key; nothing while the last one is still being written."""
        period = 1 / self._config.fps
        last_full = trio.current_time()
        while True:
            begun = trio.current_time()
            second = self._wall() // 1_000_000_000
            if self.facts.version != self._drawn_version or second != self._second:
                if self._in_flight:
                    self.dropped += 1
                else:
                    if begun - last_full > REPAINT_S:
                        self._shown, last_full = None, begun
                    self._second = second
                    self._draw(nursery)
            with trio.move_on_after(max(0.02, period - (trio.current_time() - begun))):
                await self._wake.wait()
            self._wake = trio.Event()

    _second = -1

    def _draw(self, nursery: trio.Nursery) -> None:
        self._drawn_version = self.facts.version
        self._choose_symbol()
        wall = self._wall()
        self.view.now = self._state.frozen_since if self._state.frozen_since is not None else self._now()
        if self._clock == "recorded" and self._state.frozen_since is not None:
            self.view.now = self._frozen_now
        self.view.self_figures = self._figures(wall)
        if self._state.message and trio.current_time() > self._message_until:
            self._state.message = None
        height, width = self._tty.size()
        self.view.wants_redraw = False
        frame = draw_frame(height, width, self._palette, self.panels, self.view, self._state, self._still)
        if self.view.wants_redraw:
            self._changed()
        old = self._shown.grid if self._shown is not None else None
        text = compose(frame.grid, old, self._palette, frame.shifts)
        self._shown = frame
        if not text and not self._prefix:
            return
        output = text.encode()
        if self._tty.does_synchronize:
            output = b"\x1b[?2026h" + output + b"\x1b[?2026l"
        output, self._prefix = self._prefix + output, b""
        self.frames += 1
        self.bytes += len(output)
        self._sizes.append(len(output))
        self._in_flight = True
        nursery.start_soon(self._write, output)

    async def _write(self, output: bytes) -> None:
        # Abandoned where the run ends while the terminal is stalled; the thread is a daemon.
        await trio.to_thread.run_sync(self._write_in_thread, output, abandon_on_cancel=True, limiter=self._limiter)
        if self._tty.is_gone:
            self._lose("the terminal is gone")
        elif self._drawn_version == -1:
            self._wake.set()  # something waited for the terminal

    def _write_in_thread(self, output: bytes) -> None:
        self._tty.write(output)
        if self.first_paint_s is None:
            self.first_paint_s = time.monotonic()
        self._in_flight = False

    # Signals.

    async def _mind_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    await self._take_hangup()
                elif number == signal.SIGTSTP:
                    await trio.to_thread.run_sync(self._tty.leave, limiter=self._limiter)
                    os.kill(os.getpid(), signal.SIGSTOP)  # on the way back SIGCONT comes here too
                else:
                    if number == signal.SIGCONT:
                        self._resume()
                    self._shown = None
                    self._changed()

    async def _take_hangup(self) -> None:
        """SIGHUP: from a terminal that is closing, or sent by hand to end the run."""
        with trio.move_on_after(HANGUP_WAIT_S):  # the signal comes a little before the line is seen to be down
            while not self._tty.is_hung_up():  # noqa: ASYNC110
                await trio.sleep(HANGUP_WAIT_S / 10)
            self._lose("the terminal is gone")
            return
        _log.info("SIGHUP: stopping")
        self._stop()

    def _lose(self, why: str) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._tell_lost(why)

    def _resume(self) -> None:
        self._prefix = self._tty.enter()
        self._shown = None
        self._changed()

    async def _mind_parent(self) -> None:
        """Stop when whoever started us is gone: a terminal without an owner would be painted for nobody."""
        while True:
            await trio.sleep(PARENT_CHECK_S)
            if os.getppid() != self._parent or self._tty.is_gone:
                self._lose("the parent process or the terminal is gone")
                return

    async def _measure(self) -> None:
        """Loop lag and CPU share, once a second."""
        worst = 0.0
        while True:
            for _ in range(10):
                due = trio.current_time() + 0.1
                await trio.sleep_until(due)
                worst = max(worst, trio.current_time() - due)
            self._lag_ms, worst = worst * 1e3, 0.0
            now, used = time.monotonic(), time.process_time()
            self._cpu_share = (used - self._cpu[1]) / max(1e-9, now - self._cpu[0])
            self._cpu = (now, used)

    def _figures(self, wall: int) -> Mapping[str, Any]:
        sizes = sorted(self._sizes)
        return {
            "wall": wall,
            "fps": self._config.fps,
            "frames": self.frames,
            "dropped": self.dropped,
            "frame_bytes": sizes[len(sizes) // 2] if sizes else 0,
            "cpu": self._cpu_share,
            "rss": _resident_bytes(),
            "lag_ms": self._lag_ms,
        }

    # Keys.

    async def _take_keys(self) -> None:
        keys = self._tty.keys
        assert keys is not None
        while True:
            await trio.lowlevel.wait_readable(keys)
            inputs = self._tty.read()
            if self._tty.is_gone:
                self._lose("the terminal is gone")
                return
            if self._tty.is_waiting:
                with trio.move_on_after(ESCAPE_WAIT_S) as limit:
                    await trio.lowlevel.wait_readable(keys)
                if limit.cancelled_caught:
                    inputs += self._tty.flush_keys()
            for one in inputs:
                self.take(one)
            await trio.lowlevel.checkpoint()

    def take(self, one: Input) -> None:
        """Do what a key, a click or an answer of the terminal asks for."""
        if isinstance(one, Background):
            if self._config.theme == "auto" and one.is_light and self._theme.name == "dark":
                self._theme = THEMES["light"]
                self._set_palette()
        elif isinstance(one, Capability):
            if one.has_rgb and self._config.color == "auto" and self._rung is Rung.CUBE:
                self._rung = Rung.TRUE
                self._set_palette()
        elif isinstance(one, Mouse):
            self._click(one)
        else:
            self._key(one)
        self._changed()

    def _click(self, mouse: Mouse) -> None:
        pane = self.panels.pane
        place = self._shown.pane_at if self._shown is not None else None
        if pane is None or pane.key is None or place is None:
            return
        top, left, height, width = place
        if top <= mouse.row < top + height and left <= mouse.column < left + width:
            self._give(Click(mouse.button, mouse.row - top, mouse.column - left))

    def _give(self, key: str | Click) -> None:
        """A key or click for the pane; one that it fails on costs nothing else."""
        pane = self.panels.pane
        if pane is None or pane.key is None:
            return
        try:
            pane.key(key, self.view)
        except Exception as error:
            _log.error("pane %s: a key failed: %s", pane.name, error, exc_info=error)
            self._tell(f"{pane.name}: {type(error).__name__}: {error}")

    def _key(self, key: str) -> None:
        if key in ("q", "ctrl-c"):
            self.quit()
        elif self._state.is_help:
            self._state.is_help = False
        elif key == "?":
            self._state.is_help = True
        elif key == " ":
            self._freeze()
        elif key in ("tab", "backtab"):
            self._next_symbol(1 if key == "tab" else -1)
        elif key.isdigit() and key != "0":
            shown = self.panels.ordered()
            if int(key) <= len(shown):
                panel = shown[int(key) - 1]
                panel.is_shown = not panel.is_shown
                self._tell(f"panel {panel.title} {'shown' if panel.is_shown else 'hidden'}")
        elif key == "t":
            names = list(THEMES)
            self._theme = THEMES[names[(names.index(self._theme.name) + 1) % len(names)]]
            self._set_palette()
            self._tell(f"theme {self._theme.name}")
        elif key == "a":
            self._is_ascii = not self._is_ascii
            self._set_palette()
        elif key == "m":
            self._prefix += self._tty.mouse_codes(not self._tty.has_mouse)
            self._tell(f"mouse {'on: wheel zooms, click inspects' if self._tty.has_mouse else 'off'}")
        elif key == "w":
            self._save()
        elif key == "ctrl-l":
            self._shown = None
        else:
            self._give(key)

    def quit(self) -> None:
        """End the run; a second time within two seconds ends the process without draining."""
        now = time.monotonic()
        if now - self._quit_time < FORCE_WINDOW_S:
            self._tty.leave()
            os._exit(130)
        self._quit_time = now
        self._state.is_stopping = True
        self._stop()

    _frozen_now = 0

    def _freeze(self) -> None:
        if self._state.frozen_since is None:
            self._frozen_now = self._now()
            self._state.frozen_since = self._wall()
            self.view.is_frozen = True
            self._still = self._shown
        else:
            self._state.frozen_since = None
            self.view.is_frozen = False
            self._still = None

    def _next_symbol(self, step: int) -> None:
        symbols = self.facts.symbols
        if not symbols:
            return
        at = symbols.index(self.view.symbol) if self.view.symbol in symbols else 0
        self.view.symbol = symbols[(at + step) % len(symbols)]
        self._still = None

    def _tell(self, message: str) -> None:
        self._state.message = message
        self._message_until = trio.current_time() + _MESSAGE_S

    def _save(self) -> None:
        """Write what is on the screen to three files; the only thing the screen ever writes to disk."""
        if self._shown is None:
            return
        from wld.terminal import pictures  # loaded once somebody saves

        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.view.now / 1e9))
        stem = Path(self._config.directory) / f"wld-{self.view.symbol or 'screen'}-{stamp}"
        pane = self.panels.pane
        picture = dict(pane.picture(self.view)) if pane is not None and pane.picture is not None else {}
        try:
            written = pictures.save(stem, self._shown.grid, self._palette, self.view, self.panels, picture)
        except OSError as error:
            self._tell(f"cannot write {stem}: {error.strerror}")
            return
        self._tell(f"saved {written}")


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
