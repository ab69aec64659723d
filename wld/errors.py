"""Owns the error tree: everything that wld raises on purpose derives from `WldError`.

Does not own messages: whoever raises says who, where and what to do, in one line.
"""

from __future__ import annotations


class WldError(Exception):
    """Base of every error that wld raises; its text is one line fit for a user."""


class UnitError(WldError, ValueError):
    """A number that is not exact in 1e-8, not a decimal, or does not fit."""


class ConfigError(WldError):
    """A wrong flag, variable or key; ends the program with status 2."""


class PluginError(ConfigError):
    """An enabled sink that cannot be loaded; ends the program with status 2."""


class SourceError(WldError):
    """The source cannot deliver."""


class RetryableSourceError(SourceError):
    """A connection that failed or ended; the source reconnects."""


class FatalSourceError(SourceError):
    """Nothing that trying again would mend; ends the run with status 1."""


class RemoteProtocolError(WldError):
    """The venue sent something that cannot be read: `kind` groups it for counting.

    `symbol` is the one that the content names where the topic names another: either may be the wrong one.
    """

    def __init__(self, kind: str, detail: str, symbol: str | None = None) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.symbol = symbol


class BookInvalid(WldError):
    """A delta that does not continue the book it was applied to."""


class SinkOverrun(WldError):
    """A sink under `Overflow.FAIL` fell behind."""


class SinkFailed(WldError):
    """A sink in a process of its own ended before its batches did; the text says how."""


class PackError(WldError, ValueError):
    """Packed events that cannot be read."""


class TapeError(WldError):
    """A tape that cannot be opened or written."""


class Interrupted(TapeError):
    """Work on tapes that a signal ended; ends the program with 128 and the signal's `number`, as a shell would say."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


class TapeDamaged(TapeError):
    """Bytes of a tape that fail their checksum or are cut short; raised after every whole block was read."""


class TapeVersion(TapeError):
    """A tape of a format version this reader does not know."""


class TapeMissing(TapeError, ConfigError):
    """No tape where one was named; ends the program with status 2, as 1 would say that a tape is damaged."""


class TapeLocked(TapeError, ConfigError):
    """Another recorder writes into the same folder; ends the program with status 2."""
