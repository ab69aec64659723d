"""Owns the written form of the faults that the simulated exchange can show: `[every:]name[:arg][@seconds]`.

Does not own what they do (server).
"""

from __future__ import annotations

from dataclasses import dataclass

from wld.errors import ConfigError


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A fault as the help shows it; `default` is the argument when none is written, None: takes none."""

    name: str
    default: str | None
    numeric: bool
    help: str


_KINDS = (
    FaultKind("drop", "reset", False, "end every connection: reset, or clean with a close frame (1001)"),
    FaultKind("stall", "3", True, "send nothing for that many seconds, then all of it"),
    FaultKind("half_open", None, False, "existing connections fall silent for ever without closing"),
    FaultKind("delayed_pong", "15", True, "answer pings that many seconds late"),
    FaultKind("skip_u", None, False, "lose the next delta of each book"),
    FaultKind("repeat_u", None, False, "send the next delta of each book twice"),
    FaultKind("restart_u1", None, False, "each book continues with a snapshot of update id 1"),
    FaultKind("resnapshot", None, False, "each book sends a snapshot in mid-stream"),
    FaultKind("crossed_book", None, False, "the next delta of each book puts a bid above the best ask"),
    FaultKind("garbage", "all", False, "send no message: text, utf8, binary, big (10 MB), or all but big"),
    FaultKind("reject_all", "0", True, "reject that many subscribe requests whole; 0 = all from now on"),
    FaultKind("slow_handshake", "2", True, "answer WebSocket handshakes that many seconds late"),
    FaultKind("rest_down", "503", True, "answer REST with that HTTP status"),
    FaultKind("list", "", False, "list a symbol"),
    FaultKind("delist", "", False, "delist a symbol"),
    FaultKind("clear", None, False, "end every lasting fault"),
)
KINDS: dict[str, FaultKind] = {kind.name: kind for kind in _KINDS}
_CHOICES = {"drop": ("reset", "clean"), "garbage": ("text", "utf8", "binary", "big", "all")}
LASTING = frozenset({"delayed_pong", "reject_all", "slow_handshake", "rest_down"})
"""Faults that hold from their moment on; written without `@`, from the very start."""


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One parsed fault.

    `at_s` counts seconds after the first subscribe that the exchange accepts or rejects; None = not written.
    """

    name: str
    arg: str
    at_s: float | None = None
    every: bool = False

    @property
    def number(self) -> float:
        """The argument of a numeric fault."""
        return float(self.arg)


def parse_fault(text: str) -> FaultSpec:
    """Read one fault.

    Raises:
        ConfigError: an unknown name, a bad argument or time; one line that names what is accepted.
    """
    rest = text.strip()
    every = rest.startswith("every:")
    body, at, seconds = rest.removeprefix("every:").partition("@")
    name, colon, arg = body.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        raise ConfigError(f"faults: unknown fault {name!r} in {text!r}; accepted: {', '.join(KINDS)}")
    at_s = None
    if at:
        at_s = _number(seconds)
        if at_s is None:
            raise ConfigError(f"faults: {text!r}: expected seconds after @, got {seconds!r}")
    if every and not at_s:
        raise ConfigError(f"faults: {text!r}: every: needs @seconds above 0, such as every:{name}@30")
    if kind.default is None:
        if colon:
            raise ConfigError(f"faults: {text!r}: {name} takes no argument")
        return FaultSpec(name, "", at_s, every)
    arg = arg if colon else kind.default
    if kind.numeric and _number(arg) is None:
        raise ConfigError(f"faults: {text!r}: expected a number after {name}:, got {arg!r}")
    if name == "rest_down" and not 400 <= float(arg) <= 599:
        raise ConfigError(f"faults: {text!r}: expected an HTTP status from 400 to 599, got {arg!r}")
    if name in _CHOICES and arg not in _CHOICES[name]:
        raise ConfigError(f"faults: {text!r}: expected one of {', '.join(_CHOICES[name])}, got {arg!r}")
    if kind.default == "" and not arg:
        raise ConfigError(f"faults: {text!r}: expected a symbol, such as {name}:OPUSDT")
    return FaultSpec(name, arg, at_s, every)


def _number(text: str) -> float | None:
    """A finite number from 0 to a day, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 86_400 else None
