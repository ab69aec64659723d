"""Owns what bytes from a terminal mean: keys, mouse, and answers to questions; not the reading of them.

Sequences of keys are resolved by blessed's tables; answers (colours, capabilities) are taken out before, so that one
that comes late is never a keystroke.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Callable
from typing import Any

from msgspec import Struct

_TOKEN = re.compile(
    r"\x1b\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    r"|\x1bP(?P<dcs>[^\x1b]*)\x1b\\"
    r"|\x1b\[<(?P<mouse>\d+;\d+;\d+)(?P<mouse_end>[Mm])"
    r"|(?P<csi>\x1b\[[0-?]*[ -/]*[@-~])"
    r"|(?P<ss3>\x1bO.)"
    r"|(?P<char>[^\x1b]|\x1b)",
    re.DOTALL,
)
_OPEN = re.compile(r"\x1b(?:\][^\x07\x1b]*\x1b?|P[^\x1b]*\x1b?|\[[0-?]*[ -/]*|O)?$", re.DOTALL)
"""A sequence that has begun and not ended."""
_OSC_BACKGROUND = re.compile(r"11;rgba?:([0-9a-fA-F]+)/([0-9a-fA-F]+)/([0-9a-fA-F]+)")
_NAMES = {
    "KEY_LEFT": "left", "KEY_RIGHT": "right", "KEY_UP": "up", "KEY_DOWN": "down", "KEY_HOME": "home", "KEY_END": "end",
    "KEY_PGUP": "pageup", "KEY_PGDOWN": "pagedown", "KEY_TAB": "tab", "KEY_BTAB": "backtab", "KEY_ENTER": "enter",
    "KEY_ESCAPE": "escape", "KEY_CTRL_L": "ctrl-l", "KEY_CTRL_C": "ctrl-c", "KEY_DELETE": "delete",
    "KEY_BACKSPACE": "backspace",
}  # fmt: skip
MAX_PENDING = 4096
"""Longer than any answer; what exceeds it is not one."""


class Mouse(Struct, frozen=True):
    """A press or a turn of the wheel at a cell of the screen, counted from 0."""

    button: str
    row: int
    column: int


class Background(Struct, frozen=True):
    """The terminal's answer to the question for its background; `is_light` above half luminance."""

    is_light: bool


class Capability(Struct, frozen=True):
    """The terminal's answer to XTGETTCAP for RGB."""

    has_rgb: bool


Input = str | Mouse | Background | Capability
"""A key: one printable character, or a name such as `left`."""


class Decoder:
    """Bytes in, inputs out; holds back a sequence that is not finished.

    `terminal` is a blessed Terminal, or anything with its `ungetch` and `inkey`.
    """

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal
        self._decode: Callable[[bytes], str] = getincrementaldecoder("utf-8")("replace").decode
        self._pending = ""

    @property
    def is_waiting(self) -> bool:
        """Whether a sequence has begun: an ESC alone is the key only if nothing follows for a moment."""
        return bool(self._pending)

    def feed(self, read: bytes) -> list[Input]:
        """What these bytes complete."""
        text = self._pending + self._decode(read)
        self._pending = ""
        unfinished = _OPEN.search(text)
        if unfinished and len(text) - unfinished.start() <= MAX_PENDING:
            self._pending = text[unfinished.start() :]
            text = text[: unfinished.start()]
        return self._inputs(text)

    def flush(self) -> list[Input]:
        """Nothing followed: take what was held back for what it is."""
        text, self._pending = self._pending, ""
        return self._inputs("\x1b") if text[:1] == "\x1b" else []

    def _inputs(self, text: str) -> list[Input]:
        inputs: list[Input] = []
        for token in _TOKEN.finditer(text):
            if token["osc"] is not None:
                answer = _OSC_BACKGROUND.match(token["osc"])
                if answer:
                    inputs.append(Background(_is_light(*answer.groups())))
            elif token["dcs"] is not None:
                if token["dcs"].startswith(("0+r", "1+r")):
                    inputs.append(Capability(token["dcs"].startswith("1+r") and "524742" in token["dcs"]))
            elif token["mouse"] is not None:
                self._mouse(token["mouse"], token["mouse_end"], inputs)
            else:
                key = self._key(token[0])
                if key:
                    inputs.append(key)
        return inputs

    @staticmethod
    def _mouse(numbers: str, end: str, inputs: list[Input]) -> None:
        button, column, row = map(int, numbers.split(";"))
        name = {0: "left", 64: "wheel_up", 65: "wheel_down"}.get(button)
        if name and end == "M":
            inputs.append(Mouse(name, row - 1, column - 1))

    def _key(self, token: str) -> str | None:
        self._terminal.ungetch(token)
        first = self._terminal.inkey(timeout=0, esc_delay=0)
        if first and len(first) < len(token):
            while self._terminal.inkey(timeout=0, esc_delay=0):
                pass  # a sequence that its tables do not know: its letters are no keys
            return None
        name = _NAMES.get(first.name or "")
        if name:
            return name
        return str(first) if len(first) == 1 and first.isprintable() else None


def _is_light(*channels: str) -> bool:
    red, green, blue = (int(c, 16) / (16 ** len(c) - 1) for c in channels)
    return bool(0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5)
