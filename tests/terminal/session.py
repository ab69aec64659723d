"""A real process on a real pseudo-terminal, and the screen it draws there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.terminal.emulator import Emulator

PATIENCE_S = 30.0
"""Far longer than anything here takes, and still an end."""
LEAVE = ("\x1b[?25h", "\x1b[?7h", "\x1b[?2026l", "\x1b[?1000l", "\x1b[?1006l", "\x1b[?1049l")
WLD = (sys.executable, "-m", "wld")


class Session:
    """`command` with a terminal of a size as its standard streams; nothing answers its questions."""

    def __init__(
        self,
        command: tuple[str, ...],
        *,
        cwd: Path,
        size: tuple[int, int] = (24, 80),
        env: Mapping[str, str] | None = None,
        stdin: Any = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.size = size
        self.master, self.slave = pty.openpty()
        self.resize(*size, tell=False)
        self.mode = termios.tcgetattr(self.slave)
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        for name in ("NO_COLOR", "LC_ALL", "AMBIGUOUS_WIDE"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**environment, **(env or {})},
            stdin=self.slave if stdin is None else stdin,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            pass_fds=pass_fds,
            # The terminal becomes the controlling one, as a shell's would be.
            preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),
        )
        self.output = ""
        self._emulator = Emulator(*size)
        self._fed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for descriptor in (self.master, self.slave):
            if descriptor >= 0:
                os.close(descriptor)

    def resize(self, rows: int, columns: int, *, tell: bool = True) -> None:
        """Change the window; `tell` lets the process know as a terminal does."""
        self.size = (rows, columns)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def read(self, timeout: float = 0.05) -> None:
        """Take what the process wrote."""
        while select.select([self.master], [], [], timeout)[0]:
            try:
                read = os.read(self.master, 65536)
            except OSError:
                return
            if not read:
                return
            self.output += read.decode(errors="replace")
            timeout = 0.0

    def until(self, condition: Callable[[], Any]) -> None:
        """Read until a condition holds. Raises: AssertionError with the screen where it never does."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, (
                f"never happened; screen:\n{self.text()}\noutput ends: {self.output[-500:]!r}"
            )
            self.read()

    def text(self) -> str:
        """What the terminal shows: everything since the last clear, on a screen of the size it has now."""
        if (self._emulator.screen.lines, self._emulator.screen.columns) != self.size:
            self._emulator = Emulator(*self.size)
            self._fed = max(0, self.output.rfind("\x1b[2J"))
        self._emulator.feed(self.output[self._fed :])
        self._fed = len(self.output)
        return self._emulator.text()

    def shows(self, pattern: str) -> bool:
        """Whether the screen matches."""
        return re.search(pattern, self.text()) is not None

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def ended(self) -> int:
        """Read on until it ended; its status."""
        self.until(lambda: self.process.poll() is not None)
        self.read()
        return self.process.wait()

    def is_restored(self) -> bool:
        """Whether the last thing that the terminal was told is to be as before, and its mode is."""
        last = max(self.output.rfind("\x1b[?1049h"), self.output.rfind("\x1b[?25l"))
        told = all(self.output.rfind(code) > last for code in LEAVE)
        return told and termios.tcgetattr(self.slave) == self.mode


def radar(*arguments: str) -> tuple[str, ...]:
    """The command of a visual run on the simulated exchange."""
    return (*WLD, "--source", "sim", "--sinks", "heatmap,telemetry", *arguments)
