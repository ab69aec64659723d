"""Owns which forms of numbers were the smallest lately: those of a neighbour are not tried anew each time. Pure."""

from __future__ import annotations


class Choices:
    """Which forms were the smallest in the blocks before: those of a neighbour are not tried anew each time.

    Any form holds any numbers, so a choice that has become a bad one costs bytes, for a few blocks. A long column has
    choices of its own, beginning with those of another symbol; shorter ones share those of their kind whatever their
    symbol.
    """

    def __init__(
        self,
        place: str = "",
        known: dict[str, list[int]] | None = None,
        shared: str | None = None,
        *,
        remembers: bool = True,
    ) -> None:
        self.remembers = remembers
        """Whether what is noted is ever recalled."""
        self._place = place
        self.known = {} if known is None else known
        """(choice, for how many blocks more) by place."""
        self._shared = place if shared is None else shared

    def of(self, part: object) -> Choices:
        """Those of a part of this: of a kind, a column, a piece of a column."""
        return Choices(f"{self._place}/{part}", self.known, remembers=self.remembers)

    def for_rows(self, count: int, symbol: str = "") -> Choices:
        """Those of a symbol's column of so many rows."""
        return self if count < _MANY else Choices(f"{self._place}\n{symbol}", self.known, self._place)

    def recall(self) -> int | None:
        """What was chosen here lately; None: try again."""
        kept = self.known.get(self._place)
        if kept is None and self._place != self._shared:
            lent = self.known.get(self._shared + _LONG)
            if lent is not None:
                kept = self.known[self._place] = [lent[0], _RELIED]
        if kept is None or kept[1] == 0:
            return None
        kept[1] -= 1
        return kept[0]

    def note(self, choice: int) -> int:
        """Remember a choice for some blocks."""
        if not self.remembers:
            return choice
        if self._place == self._shared:
            self.known[self._place] = [choice, _RELIED_SHORT]
        else:
            self.known[self._place] = [choice, _RELIED]
            self.known[self._shared + _LONG] = [choice, 0]
        return choice

    def settle(self, noted: int, choice: int) -> None:
        """Where `noted` is remembered, it is this choice."""
        kept = self.known.get(self._place)
        if kept is not None and kept[0] == noted:
            kept[0] = choice


_LONG = "/long"
"""Behind a shared place: what the last long column chose there."""
_RELIED = 15
_RELIED_SHORT = 63
"""For short columns, whose choices many symbols share: trying costs more than they do, and less is lost by a bad one."""
_MANY = 16_384
"""Rows from which trying all forms costs little beside the rows themselves."""
