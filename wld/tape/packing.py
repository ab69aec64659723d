"""Owns which form packs integers smallest, for the columns of many blocks at a time. Pure; knows no events.

Flags, then: the bits of what is present (HAS_ABSENT); the sibling's name (MINUS); then numbers: the bits of what
differs from the row before (CHANGES); the first value (DELTA); base, step; and the offsets as byte planes or
magnitudes. `wld.tape.integers` reads them back.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wld.tape.choices import Choices
from wld.tape.forms import (
    Offsets,
    Segments,
    changes,
    join,
    offsets_of,
    pack_bits,
    pack_form,
    same,
    sizes,
    stepped,
)
from wld.tape.integers import CHANGES, DELTA, HAS_ABSENT, MAGNITUDE, MINUS, ZIGZAG, IntColumn, less
from wld.units import ABSENT

_TRIED = (
    0,
    DELTA,
    DELTA | ZIGZAG,
    MAGNITUDE,
    DELTA | MAGNITUDE,
    DELTA | MAGNITUDE | ZIGZAG,
    ZIGZAG,
    MAGNITUDE | ZIGZAG,
    CHANGES,
    CHANGES | DELTA,
)
"""The simpler ones first."""
SAMPLE = 2048
"""Rows at the beginning of a column that decide."""


class Sibling(NamedTuple):
    """A column that may be near, as it stands beside each of some columns."""

    name: str
    values: IntColumn
    """Row by row; where there is none, anything."""
    is_there: Sequence[bool]
    """A column each."""


def pack_integers(
    columns: Segments,
    choices: Choices,
    *,
    symbols: Sequence[str] = (),
    sibling: Sibling | None = None,
    fast: bool = False,
) -> list[bytes]:
    """Each column in the smallest of some forms, or in the one that was the smallest for those before it.

    `symbols` says whose each column is (for long ones), `sibling` what they may be stored against; `fast` keeps to
    forms that are read back quickly.
    """
    lengths = columns.lengths.tolist()
    heads = [(0, b"")] * len(lengths)
    values = columns.values
    near = columns._replace(values=sibling.values) if sibling else None
    if len(values) and int(np.minimum.reduce(values)) == ABSENT:
        there = values != ABSENT
        if near:
            near = near.where(there)
        filled = columns.where(there)
        lacking = np.flatnonzero(filled.lengths < columns.lengths).tolist()
        masks = pack_bits(columns._replace(values=there).some(lacking))
        for place, mask in zip(lacking, masks, strict=True):
            heads[place] = HAS_ABSENT, mask
        columns = filled
    own = _Form(columns, choices.of("own"), fast)
    # Where the sibling is absent the difference is far off, and then this is not the smallest.
    apart = columns._replace(values=less(columns.values, near.values)) if near else columns
    against = _Form(apart, choices.of("less"), fast)
    name = sibling.name.encode() if sibling else b""
    label = bytes([len(name)]) + name
    asked = choices.of("minus")
    is_minus: list[int | None] = [0] * len(lengths)
    for place, length in enumerate(lengths):
        symbol = symbols[place] if symbols else ""
        is_there = sibling is not None and sibling.is_there[place] and own.lengths[place] > 0
        answer = asked.for_rows(length, symbol).recall() if is_there else 0
        if answer != 1:
            own.choose(place, length, symbol)
        if answer != 0:
            against.choose(place, length, symbol)
        if answer is None:
            difference = len(label) + len(against.pack(place)) - len(own.pack(place))
            answer = asked.for_rows(length, symbol).note(int(difference < 0))
        is_minus[place] = answer
    own.pack_all()
    against.pack_all()
    packed: list[bytes] = []
    for place, (absent, head) in enumerate(heads):
        minus = MINUS if is_minus[place] else 0
        form = against if minus else own
        parts = bytes((absent | minus | form.flags[place],)), head, label if minus else b"", form.bodies[place]
        packed.append(b"".join(parts))
    return packed


def pack_numbers(column: IntColumn) -> bytes:
    """One column without what is absent: its flags and its smallest form."""
    form = _Form(join([column]), Choices(remembers=False), False)
    form.choose(0, len(column), "")
    body = form.pack(0)
    return bytes((form.flags[0],)) + body


class _Form:
    """Columns, the form that was chosen for each of some of them, and their bytes in it."""

    def __init__(self, columns: Segments, choices: Choices, fast: bool) -> None:
        self.flags: dict[int, int] = {}
        self.bodies: dict[int, bytes] = {}
        self.lengths: list[int] = columns.lengths.tolist()
        self._columns = columns
        self._choices = choices
        self._fast = fast
        self._bounds: tuple[list[int], list[int]] | None = None
        self._chosen: dict[int, list[int]] = {}
        """Columns by flags."""
        self._tried: list[int] = []
        """Columns whose smallest form has to be found."""
        self._following: dict[int, list[int]] = {}
        """Columns that get the form of one of those."""

    def choose(self, place: int, rows: int, symbol: str) -> None:
        """Say which form a column gets; one that has to be found is found together with those of others."""
        if self._bounds is None:
            least, most = self._columns.each(np.minimum), self._columns.each(np.maximum)
            self._bounds = least.tolist(), most.tolist()
        value = self._bounds[0][place]
        if value == self._bounds[1][place]:
            self.flags[place], self.bodies[place] = 0, same(value)
            return
        choices = self._choices.for_rows(rows, symbol)
        flags = choices.recall()
        if flags is None and choices is not self._choices:  # a long one, from which another symbol's may begin
            flags = choices.note(smallest(self._columns.some([place]), self._fast)[0])
        elif flags is None:
            flags = choices.note(~place)
            self._tried.append(place)
        if flags < 0:
            self._following.setdefault(~flags, []).append(place)
        else:
            self._chosen.setdefault(flags, []).append(place)

    def pack(self, place: int) -> bytes:
        """The bytes of one column."""
        self.pack_all()
        return self.bodies[place]

    def pack_all(self) -> None:
        """Make the bytes of all that were chosen."""
        if self._tried:
            found = smallest(self._columns.some(self._tried), self._fast)
            for place, flags in zip(self._tried, found, strict=True):
                self._choices.settle(~place, flags)
                self._chosen.setdefault(flags, []).extend(self._following.pop(place))
            self._tried.clear()
        for flags, places in self._chosen.items():
            places.sort()
            self.flags.update(dict.fromkeys(places, flags))
            self.bodies.update(zip(places, pack_form(self._columns.some(places), flags), strict=True))
        self._chosen.clear()


def smallest(columns: Segments, fast: bool) -> list[int]:
    """The flags of the smallest form of each column's beginning; the first of those in `_TRIED` that are as small."""
    sample = columns.beginnings(SAMPLE)
    changed = changes(sample)
    lengths = sample.lengths
    kept = sample.where(changed).lengths
    tried: list[dict[int, int]] = [{} for _ in lengths]
    most = [sys.maxsize] * len(lengths)

    def attempt(flags: int, offsets: Offsets, places: Sequence[int]) -> None:
        found = sizes(offsets, flags, [most[place] for place in places])
        for place, size in zip(places, found, strict=True):
            tried[place][flags] = size
            most[place] = min(most[place], size)

    every = range(len(lengths))
    for delta in (0, DELTA):
        steps = stepped(sample, delta)
        least = steps.columns.each(np.minimum)
        offsets = offsets_of(steps, 0)
        attempt(delta, offsets, every)
        if not fast:
            if int(least.max()) > 0:
                offsets = offsets_of(steps, MAGNITUDE)
            attempt(delta | MAGNITUDE, offsets, every)
            zigzag = every if delta else np.flatnonzero(least < 0).tolist()
            if len(zigzag):
                some = Offsets([steps.heads[place] for place in zigzag], steps.columns.some(zigzag))
                offsets = offsets_of(some, ZIGZAG)
                attempt(delta | ZIGZAG, offsets, zigzag)
                attempt(delta | ZIGZAG | MAGNITUDE, offsets, zigzag)
    few = np.flatnonzero(kept < lengths * (0.4 if fast else 0.9)).tolist()
    if few:
        heads, differing = stepped(sample.some(few), CHANGES)
        for delta in (0, DELTA):
            attempt(CHANGES | delta, offsets_of(stepped(differing, delta, heads), delta), few)
    return [min(each, key=lambda flags: (each[flags], _TRIED.index(flags))) for each in tried]
