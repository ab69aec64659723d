"""Owns the levels of book events as columns of the tape: prices by their steps, sizes by price. Pure; knows no events."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wld.errors import TapeDamaged
from wld.tape.choices import Choices
from wld.tape.forms import Segments, common_divisor, join, joined, pack_bits
from wld.tape.integers import MASK64, U64, Bits, IntColumn, get_bits, get_integers, less
from wld.tape.packing import SAMPLE, pack_integers
from wld.tape.streams import SMALL, Reader


class Runs(NamedTuple):
    """How levels lie: each event's bids, then its asks; a run is one event's levels of one side."""

    is_bid: Bits
    """One a level."""
    starts_run: Bits
    """One a level: the first of its run."""

    def cut(self, start: int, end: int) -> Runs:
        """Those of the levels from `start` to before `end`, which begin a run."""
        return Runs(self.is_bid[start:end], self.starts_run[start:end])


def runs_of(bid_count: IntColumn, ask_count: IntColumn, levels: int) -> Runs:
    counts = np.empty(2 * len(bid_count), np.int64)
    counts[::2], counts[1::2] = bid_count, ask_count
    if len(counts) and (int(counts.min()) < 0 or int(counts.max()) > levels):
        raise TapeDamaged("level counts and levels disagree")
    ends = np.cumsum(counts)
    if (int(ends[-1]) if len(ends) else 0) != levels:
        raise TapeDamaged("level counts and levels disagree")
    is_bid = np.repeat(np.tile(np.array([True, False]), len(bid_count)), counts)
    starts_run = np.zeros(levels, np.bool_)
    starts_run[(ends - counts)[counts > 0]] = True
    return Runs(is_bid, starts_run)


def pack_prices(
    prices: Segments, runs: Runs, choices: Choices, symbols: Sequence[str] = (), fast: bool = False
) -> list[bytes]:
    """Of the levels of each block: the first price of each run (bids, then asks), and the steps outwards from it."""
    firsts = (runs.starts_run & runs.is_bid, runs.starts_run & ~runs.is_bid)
    pieces = [(prices.where(mask), choices.of(i)) for i, mask in enumerate(firsts)]
    steps = np.zeros(len(prices.values), np.int64)
    steps[1:] = less(prices.values[1:], prices.values[:-1])
    steps *= np.where(runs.is_bid, -1, 1)
    pieces.append((prices._replace(values=steps).where(~runs.starts_run), choices.of("steps")))
    packed = (pack_integers(piece, own, symbols=symbols, fast=fast) for piece, own in pieces)
    return [b"".join(parts) for parts in zip(*packed, strict=True)]


def get_prices(reader: Reader, rows: int, runs: Runs) -> IntColumn:
    firsts = []
    for side in (runs.is_bid, ~runs.is_bid):
        where = np.flatnonzero(runs.starts_run & side)
        firsts.append((where, get_integers(reader, len(where), {})))
    steps = np.zeros(rows, np.int64)
    steps[~runs.starts_run] = get_integers(reader, rows - sum(len(where) for where, _ in firsts), {})
    np.negative(steps, out=steps, where=runs.is_bid)
    total = np.cumsum(steps)  # wraps, modulo 2^64
    base = np.zeros(rows, np.int64)
    for where, values in firsts:
        base[where] = less(values, total[where])
    run_of = np.cumsum(runs.starts_run) - 1
    prices: IntColumn = total + base[np.flatnonzero(runs.starts_run)][run_of]
    return prices


PLAIN, KNOWN, SORTED = range(3)
"""How sizes are stored: as they stand; against the size before at the same side and price; or by price and side."""


def places(values: IntColumn) -> U64:
    """Whole numbers from 0 on in the order of the values, as small as their steps allow."""
    base = int(values.min()) if len(values) else 0
    offsets = values.view(np.uint64) - np.uint64(base & MASK64)
    step = common_divisor(offsets)
    return offsets // np.uint64(step) if step > 1 else offsets


def _by_price(prices: IntColumn, is_bid: Bits) -> tuple[IntColumn, Bits]:
    """(order by price, asks before bids, stable; which is the first of its price and side)."""
    keys = places(prices)
    if len(keys) and int(keys.max()) < 1 << 15:  # numpy sorts 16 bits by radix, ten times as fast
        narrow: npt.NDArray[Any] = keys.astype(np.uint16) << np.uint16(1) | is_bid
        order = np.argsort(narrow, kind="stable")
        there = narrow[order]
        first = np.ones(len(order), np.bool_)
        np.not_equal(there[1:], there[:-1], out=first[1:])
    else:
        order = np.lexsort((is_bid, keys))
        first = np.ones(len(order), np.bool_)
        first[1:] = (keys[order][1:] != keys[order][:-1]) | (is_bid[order][1:] != is_bid[order][:-1])
    return order, first


def pack_sizes(
    sizes: Segments, prices: IntColumn, runs: Runs, choices: Choices, symbols: Sequence[str] = (), fast: bool = False
) -> list[bytes]:
    """The sizes of the levels of each block, in the way that is the smallest."""
    modes: dict[int | None, list[int]] = {}
    asked = choices.of("mode")
    bounds = sizes.bounds.tolist()
    for place, (start, end) in enumerate(itertools.pairwise(bounds)):
        mode = None
        if not fast and end - start >= SMALL:
            own = asked.for_rows(end - start, symbols[place] if symbols else "")
            mode = own.recall()
            if mode is None:
                mode = own.note(_smallest(sizes.values[start:end], prices[start:end], runs.cut(start, end)))
        modes.setdefault(mode, []).append(place)
    packed: dict[int, bytes] = {}
    for mode, places in modes.items():
        whose = [symbols[place] for place in places] if symbols else ()
        if mode is None:
            bodies = _plain(sizes.some(places), choices, whose, fast)
        else:
            levels = [slice(bounds[place], bounds[place + 1]) for place in places]
            bodies = _sizes(mode, sizes, prices, runs, levels, places, choices.of(mode), whose)
        packed.update(zip(places, bodies, strict=True))
    return [packed[place] for place in range(len(bounds) - 1)]


def _smallest(sizes: IntColumn, prices: IntColumn, runs: Runs) -> int:
    """The mode that is the smallest for the beginning: whole runs of it decide."""
    few = len(sizes) if len(sizes) <= 2 * SAMPLE else int(np.flatnonzero(runs.starts_run[: 2 * SAMPLE])[-1])
    part = joined(sizes[:few], [few])
    begun = prices[:few], runs.cut(0, few), [slice(0, few)], [0], Choices(remembers=False), ()
    tried = {mode: len(_sizes(mode, part, *begun)[0]) for mode in (PLAIN, KNOWN, SORTED)}
    return min(tried, key=tried.__getitem__)


def _plain(sizes: Segments, choices: Choices, symbols: Sequence[str], fast: bool = False) -> list[bytes]:
    return [bytes((PLAIN,)) + body for body in pack_integers(sizes, choices, symbols=symbols, fast=fast)]


def _sizes(
    mode: int, sizes: Segments, prices: IntColumn, runs: Runs, levels: Sequence[slice], places: Sequence[int],
    choices: Choices, symbols: Sequence[str],
) -> list[bytes]:  # fmt: skip
    """Those of the columns at `places`, whose rows are `levels`."""
    if mode == PLAIN:
        return _plain(sizes.some(places), choices, symbols)
    zeros: list[Bits] = []
    first_piece: list[IntColumn] = []
    second_piece: list[IntColumn] = []
    for mine in levels:
        own = sizes.values[mine]
        order, first = _by_price(prices[mine], runs.is_bid[mine])
        zero = own == 0
        zeros.append(zero)
        if mode == SORTED:
            by_price = own[order]
            first_piece.append(by_price[by_price != 0])
        else:
            before, known = _before(own, zero, order, first)
            first_piece.append(less(own, before)[known])
            second_piece.append(own[~zero & ~known])
    parts = [[bytes((mode,))] * len(zeros), pack_bits(join(zeros))]
    if mode == SORTED:
        parts.append(pack_integers(join(first_piece), choices, symbols=symbols))
    else:
        parts.append(pack_integers(join(first_piece), choices.of("deltas"), symbols=symbols))
        parts.append(pack_integers(join(second_piece), choices.of("news"), symbols=symbols))
    return [b"".join(pieces) for pieces in zip(*parts, strict=True)]


def _before(sizes: IntColumn, zero: Bits, order: IntColumn, first: Bits) -> tuple[IntColumn, Bits]:
    """(size before at the same side and price, whether there is one and neither it nor the new one is zero)."""
    known_there = np.zeros(len(order), np.bool_)
    known_there[1:] = ~first[1:] & ~zero[order][1:] & ~zero[order][:-1]
    before = np.zeros(len(order), np.int64)
    before[order[1:]] = sizes[order[:-1]]
    known = np.empty(len(order), np.bool_)
    known[order] = known_there
    return before, known


def get_sizes(reader: Reader, rows: int, prices: IntColumn, runs: Runs) -> IntColumn:
    mode = reader.byte()
    if mode == PLAIN:
        return get_integers(reader, rows, {})
    if mode not in (KNOWN, SORTED):
        raise TapeDamaged(f"sizes of an unknown kind {mode}")
    order, first = _by_price(prices, runs.is_bid)
    zero = get_bits(reader, rows)
    sizes = np.zeros(rows, np.int64)
    if mode == SORTED:
        sizes[order[~zero[order]]] = get_integers(reader, int(np.count_nonzero(~zero)), {})
        return sizes
    _, known = _before(sizes, zero, order, first)
    sizes[known] = get_integers(reader, int(np.count_nonzero(known)), {})
    new = ~zero & ~known
    sizes[new] = get_integers(reader, int(np.count_nonzero(new)), {})
    # In the order of side and price: sums that start anew wherever nothing was known.
    values = sizes[order]
    total = np.cumsum(values)
    starts = np.flatnonzero(~known[order])
    run_of = np.cumsum(~known[order]) - 1
    values = total - (total[starts] - values[starts])[run_of]
    sizes[order] = values
    return sizes
