"""Owns the terminal device: entering and leaving the screen, its size, writing and reading. The only importer of blessed.

Nothing here waits for an answer of the terminal: questions are asked, and answers come among the keys, if ever. Leaving
is idempotent and has a deadline, since a terminal that is stalled (Ctrl-S, a dead ssh) takes no byte more.
"""

from __future__ import annotations

import atexit
import fcntl
import io
import os
import select
import signal
import struct
import termios
import threading
from collections.abc import Mapping
from typing import Any

from wld.terminal.keys import Decoder, Input

LEAVE_TIMEOUT_S = 0.8
"""How long a stalled terminal may keep the way out."""
_READ_BYTES = 4096
_FALLBACK_SIZE = (24, 80)
_SANE = "\x1b[0m\x1b[?2026l\x1b[?1006l\x1b[?1000l\x1b[?7h\x1b[?25h"
_ASK = "\x1b]11;?\x1b\\"
_ASK_RGB = "\x1bP+q524742\x1b\\"


def is_visual() -> bool:
    """Whether standard output is a terminal that a screen can be drawn on."""
    return os.environ.get("TERM", "") not in ("", "dumb") and os.isatty(1)


class Tty:
    """The terminal on standard output, with its keys."""

    def __init__(self) -> None:
        import blessed  # a headless run must not load it

        no_color = os.environ.pop("NO_COLOR", None)  # blessed would drop cursor moves too; colour is our own business
        try:
            # A stream of its own: blessed then asks the terminal nothing, which on one that is mute would take seconds.
            self._blessed: Any = blessed.Terminal(stream=io.StringIO(), force_styling=True)
        finally:
            if no_color is not None:
                os.environ["NO_COLOR"] = no_color
        self.number_of_colors = int(self._blessed.number_of_colors)
        if os.environ.get("COLORTERM", "") in ("truecolor", "24bit"):
            self.number_of_colors = 1 << 24
        self._decoder = Decoder(self._blessed)
        self._out = 1
        self.keys: int | None = None
        """The descriptor that keys come from; None where there is no keyboard."""
        self._opened: int | None = None
        self._saved: list[Any] | None = None
        self._lock = threading.Lock()
        self._is_entered = False
        self._took_leave = True
        self.is_gone = False
        """Whether the terminal went away (EIO, EOF): nothing is written any more."""
        self.has_mouse = False
        is_apple = os.environ.get("TERM_PROGRAM") == "Apple_Terminal"
        self.does_synchronize = not is_apple
        self._ask = _ASK if is_apple else _ASK + _ASK_RGB

    # Entering and leaving.

    def enter(self) -> bytes:
        """Take the keyboard; returns what to write first: alternate buffer, no cursor, and questions to the terminal.

        Writing is left to the caller's thread, since a stalled terminal would block here.
        """
        if os.isatty(0):
            self.keys = 0
        elif self.keys is None:
            try:
                self.keys = self._opened = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
            except OSError:
                self.keys = None
        if self._saved is None:
            self._saved = termios.tcgetattr(self._device)
            atexit.register(self.leave)
        self._set_mode()
        self._is_entered = True
        self.is_gone = False
        enter = f"{self._blessed.enter_fullscreen}\x1b[?25l\x1b[?7l\x1b[0m\x1b[2J{self._ask}".encode()
        return enter + (self.mouse_codes(True) if self.has_mouse else b"")

    @property
    def _device(self) -> int:
        return self._out if self.keys is None else self.keys

    def _set_mode(self) -> None:
        assert self._saved is not None
        mode = [*self._saved[:6], list(self._saved[6])]
        mode[0] &= ~(termios.IXON | termios.ICRNL)  # Ctrl-S must not stop the picture
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        mode[6][termios.VQUIT] = b"\0"
        termios.tcsetattr(self._device, termios.TCSANOW, mode)

    def leave(self, timeout: float = LEAVE_TIMEOUT_S) -> bool:
        """Give the terminal back as it was; False where it did not take the last bytes in time. Never raises."""
        with self._lock:
            if not self._is_entered:
                return self._took_leave
            self._is_entered = False
        # From the background (our parent is gone) setting the mode would stop us.
        previous = signal.SIG_DFL
        if threading.current_thread() is threading.main_thread():
            previous = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # type: ignore[assignment]
        end = f"{_SANE}{self._blessed.exit_fullscreen}".encode()
        taken = threading.Event()

        def say() -> None:
            self._write_all(end)
            taken.set()

        try:
            threading.Thread(target=say, name="wld-leave", daemon=True).start()
        except RuntimeError:  # the interpreter is ending: no more threads
            say()
        is_taken = taken.wait(timeout)
        try:
            if not is_taken:
                termios.tcflush(self._out, termios.TCOFLUSH)
                is_taken = taken.wait(0.05)
            if self._saved is not None:
                termios.tcsetattr(self._device, termios.TCSANOW, self._saved)
        except (termios.error, OSError):
            pass
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTTOU, previous)
        self._took_leave = is_taken
        return is_taken

    def mouse_codes(self, on: bool) -> bytes:
        """What to write to have clicks and the wheel reported, or left to the terminal's own selection."""
        self.has_mouse = on
        return b"\x1b[?1000h\x1b[?1006h" if on else b"\x1b[?1006l\x1b[?1000l"

    # Writing and reading.

    def is_hung_up(self) -> bool:
        """Whether nobody is at the other end any more."""
        poll = select.poll()
        poll.register(self._out, 0)
        down = select.POLLHUP | select.POLLERR | select.POLLNVAL
        if any(events & down for _, events in poll.poll(0)):
            self.is_gone = True
        return self.is_gone

    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        try:
            rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(self._out, termios.TIOCGWINSZ, b"\0" * 8))
        except OSError:
            return _FALLBACK_SIZE
        return (rows, columns) if rows and columns else _FALLBACK_SIZE

    def write(self, output: bytes) -> None:
        """Write it all; blocks while the terminal is stalled, so call it from a thread that may be left behind."""
        if self._is_entered:
            self._write_all(output)

    def _write_all(self, output: bytes) -> None:
        view = memoryview(output)
        while view and not self.is_gone:
            try:
                view = view[os.write(self._out, view) :]
            except BlockingIOError:  # somebody who shares the terminal made it non-blocking
                select.select([], [self._out], [], 1)
            except InterruptedError:
                continue
            except OSError:
                self.is_gone = True

    def read(self) -> list[Input]:
        """What was typed or answered; call it when `keys` is readable. Sets `is_gone` at the end of the terminal."""
        assert self.keys is not None
        try:
            read = os.read(self.keys, _READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            read = b""
        if not read:
            self.is_gone = True
            return []
        return self._decoder.feed(read)

    @property
    def is_waiting(self) -> bool:
        """Whether an escape sequence has begun and not ended."""
        return self._decoder.is_waiting

    def flush_keys(self) -> list[Input]:
        """No more came: what the bytes held back mean by themselves."""
        return self._decoder.flush()


def encoding_is_unicode(environment: Mapping[str, str] | None = None) -> bool:
    """Whether half blocks can be shown one cell wide.

    Not in a locale of another encoding, nor in a Chinese, Japanese or Korean one or with AMBIGUOUS_WIDE=2, where many
    terminals draw these glyphs two cells wide (Unicode TR 11). An unset locale, or C, counts as UTF-8: it is what bare
    containers have, and their terminals are UTF-8.
    """
    env = os.environ if environment is None else environment
    if env.get("AMBIGUOUS_WIDE") == "2":
        return False
    ctype = env.get("LC_CTYPE", "")
    if ctype in ("C.UTF-8", "C.utf8", "UTF-8") and env.get("LANG"):
        ctype = ""  # set by Python itself (PEP 538), not by the user
    name = env.get("LC_ALL") or ctype or env.get("LANG") or ""
    if name in ("", "C", "POSIX"):
        return True
    return ("utf-8" in name.lower() or "utf8" in name.lower()) and name[:2] not in ("ja", "ko", "zh")
