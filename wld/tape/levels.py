"""Owns the levels of book events as columns of the tape: prices by their steps, sizes by price. Pure; knows no events."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wld.errors import TapeDamaged
from wld.tape.choices import Choices
from wld.tape.integers import (
    MASK64,
    SAMPLE,
    U64,
    Bits,
    IntColumn,
    common_divisor,
    get_bits,
    get_integers,
    less,
    pack_bits,
    pack_integers,
)
from wld.tape.streams import SMALL, Reader


class Runs(NamedTuple):
    """How levels lie: each event's bids, then its asks; a run is one event's levels of one side."""

    is_bid: Bits
    """One a level."""
    starts_run: Bits
    """One a level: the first of its run."""


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


def pack_prices(prices: IntColumn, runs: Runs, fast: bool, choices: Choices) -> bytes:
    """The first price of each run (bids, then asks), and the steps outwards from it."""
    parts = [
        pack_integers(prices[runs.starts_run & side], fast=fast, choices=choices.of(i))
        for i, side in enumerate((runs.is_bid, ~runs.is_bid))
    ]
    steps = np.zeros(len(prices), np.int64)
    steps[1:] = less(prices[1:], prices[:-1])
    np.negative(steps, out=steps, where=runs.is_bid)
    parts.append(pack_integers(steps[~runs.starts_run], fast=fast, choices=choices.of("steps")))
    return b"".join(parts)


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


def pack_sizes(sizes: IntColumn, prices: IntColumn, runs: Runs, fast: bool, choices: Choices) -> bytes:
    if fast or len(sizes) < SMALL:
        return bytes([PLAIN]) + pack_integers(sizes, fast=fast, choices=choices)
    choices = choices.for_rows(len(sizes))
    mode = choices.of("mode").recall()
    if mode is None:
        # Whole runs of the beginning decide.
        few = len(sizes) if len(sizes) <= 2 * SAMPLE else int(np.flatnonzero(runs.starts_run[: 2 * SAMPLE])[-1])
        part = Runs(runs.is_bid[:few], runs.starts_run[:few])
        tried = {m: len(_sizes(m, sizes[:few], prices[:few], part, Choices())) for m in (PLAIN, KNOWN, SORTED)}
        mode = choices.of("mode").note(min(tried, key=tried.__getitem__))
    return _sizes(mode, sizes, prices, runs, choices.of(mode))


def _sizes(mode: int, sizes: IntColumn, prices: IntColumn, runs: Runs, choices: Choices) -> bytes:
    if mode == PLAIN:
        return bytes([PLAIN]) + pack_integers(sizes, choices=choices)
    order, first = _by_price(prices, runs.is_bid)
    zero = sizes == 0
    if mode == SORTED:
        by_price = sizes[order]
        return bytes([SORTED]) + pack_bits(zero) + pack_integers(by_price[by_price != 0], choices=choices)
    before, known = _before(sizes, zero, order, first)
    deltas = pack_integers(less(sizes, before)[known], choices=choices.of("deltas"))
    news = pack_integers(sizes[~zero & ~known], choices=choices.of("news"))
    return bytes([KNOWN]) + pack_bits(zero) + deltas + news


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
