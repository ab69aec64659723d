"""Owns what the rooms of columns say of messages that are not plain, and counts and times as columns. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wld.bybit.decimals import Ints
from wld.bybit.topics import Topic
from wld.units import ABSENT, INT64_MAX

ODD_READS = 64
"""A topic with numbers that no column takes is left to the rows for so many reads."""
MAX_MS = INT64_MAX // 1_000_000


class Strange(Exception):
    """This read is for the rows."""


class Again(Exception):
    """These topics are for the rows; decode the read again without them."""

    def __init__(self, topics: set[Topic]) -> None:
        self.topics = topics


def counts(values: Sequence[int | None]) -> Ints:
    """Counts of the venue (ids, sequences), `ABSENT` for None. Raises: Strange where one is out of range."""
    return _within(values, INT64_MAX)[0]


def times(values: Sequence[int | None]) -> Ints:
    """Milliseconds to nanoseconds. Raises: Strange where one is no time."""
    column, is_whole = _within(values, MAX_MS)
    if is_whole:
        column *= 1_000_000
        return column
    return np.where(column == ABSENT, ABSENT, np.where(column == ABSENT, 0, column) * 1_000_000)


def _within(values: Sequence[int | None], most: int) -> tuple[Ints, bool]:
    """(column, whether it is without None). Raises: Strange for what is not from 0 to `most`."""
    try:
        column = np.fromiter(values, np.int64, len(values))
        if np.count_nonzero(column.view(np.uint64) > most):  # as unsigned, a negative number is large
            raise Strange
        return column, True
    except TypeError:
        if values.count(None) == len(values):
            return np.full(len(values), ABSENT), False
        if any(value is not None and not 0 <= value <= most for value in values):
            raise Strange from None
        return np.array([ABSENT if value is None else value for value in values], np.int64), False
    except OverflowError:
        raise Strange from None
