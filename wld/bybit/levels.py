"""Owns which levels of a read's books may make one of them cross. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wld.bybit.decimals import Ints
from wld.bybit.topics import Sides


class Levels(Struct, frozen=True):
    """The levels of a read's books, flat."""

    price: Ints
    size: Ints
    counts: Ints
    """Levels of each side in turn: bids and asks of the first message, of the second, …"""


class Slow(Struct):
    """Levels of a read that may change which prices of a book have a size, in the order of the wire."""

    price: Ints
    fragment: Ints
    """Twice the place of the message among the books, and one more for asks."""
    is_gone: npt.NDArray[np.bool_]
    pair: Ints
    cell: Ints


_FEW_NEWS = 100
"""Fewer levels are looked at one by one rather than first asked whether they say anything new (measured)."""
_CELL_BITS = 18
_PRICE_BITS = 47
"""A price below 1.4 million and its owner are one number, which the cache compares."""
_OWNERS = 1 << 16
_ASKS, _LARGEST, _0 = np.array(1 << _PRICE_BITS), np.array((1 << _PRICE_BITS) - 1), np.array(0)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_CELL_SHIFT = np.uint64(64 - _CELL_BITS)


class KnownLevels:
    """A cache of (side of a book, price) pairs that are known to have a size: most levels of a delta are of these.

    A pair that is not found may still have one; whoever is found has one for sure. `Sides.owner` is a name given
    here: a generation, and 16 bits that stand in the pairs; with each generation everything is forgotten.
    """

    def __init__(self) -> None:
        self._pair = np.full(1 << _CELL_BITS, -1, np.int64)
        self._dirty = np.zeros(1 << _CELL_BITS, np.bool_)
        self._next_owner = 0

    @staticmethod
    def _cells(pair: Ints) -> Ints:
        return ((pair.view(np.uint64) * _MIX) >> _CELL_SHIFT).view(np.int64)

    def unknown(self, sides: Sequence[Sides], which: Ints, levels: Levels, fresh: Ints) -> Slow:
        """The levels that the cache cannot vouch for: unknown ones, removals, and what follows a removal.

        `which` of the sides each message's levels are of. `fresh` messages are snapshots, of sides that hold their
        levels and nothing else.
        """
        if self._next_owner % _OWNERS + 2 * len(sides) >= _OWNERS:
            self._next_owner += _OWNERS - self._next_owner % _OWNERS
            self._pair.fill(-1)
        generation = self._next_owner // _OWNERS
        if len(fresh):
            for place in which[fresh].tolist():
                self._name(sides[place])
        for one in sides:
            if one.owner is None or one.owner // _OWNERS != generation:
                self._adopt(one)
            elif one.gone:
                owner = one.owner % _OWNERS
                gone = [
                    (owner + is_ask) << _PRICE_BITS | price for price, is_ask in one.gone if price >> _PRICE_BITS == 0
                ]
                self._pair[self._cells(np.array(gone, np.int64))] = -1
                one.gone.clear()
        owners = np.empty((len(which), 2), np.int64)
        names = np.array([(one.owner or 0) % _OWNERS << _PRICE_BITS for one in sides], np.int64)
        owners[:, 0] = names.take(which)
        np.add(owners[:, 0], _ASKS, owners[:, 1])
        pair = owners.ravel().repeat(levels.counts)
        pair |= levels.price
        cell = self._cells(pair)
        is_gone = levels.size == _0
        is_large = levels.price > _LARGEST
        has_large = np.count_nonzero(is_large) > 0
        if len(fresh):
            is_fresh = np.zeros(len(which), np.bool_)
            is_fresh[fresh] = True
            new = is_fresh.repeat(2).repeat(levels.counts) & ~is_large
            self._pair[cell[new]] = pair[new]
        unknown = self._pair.take(cell) != pair
        if has_large:
            unknown |= is_large  # never known, and no pair of theirs is to be trusted
        changed = cell[unknown | is_gone]
        # What follows a change in this read is no longer known by the cache, but by the update before it.
        self._dirty[changed] = True
        at = self._dirty.take(cell).nonzero()[0]
        self._dirty[changed] = False
        if len(at) > _FEW_NEWS and not has_large:
            at = at[self._is_news(cell.take(at), pair.take(at), is_gone.take(at), unknown.take(at))]
        fragment = np.add.accumulate(levels.counts).searchsorted(at, "right")
        return Slow(levels.price.take(at), fragment, is_gone.take(at), pair.take(at), cell.take(at))

    @staticmethod
    def _is_news(
        cell: Ints, pair: Ints, is_gone: npt.NDArray[np.bool_], unknown: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Which of those levels say something else than the level's update before, in this read or in the cache.

        Cells whose last 16 bits agree are sorted together (numpy sorts so many bits by radix): of these only the very
        first asks the cache, and one that follows another pair is news.
        """
        few = cell.astype(np.uint16)
        order = few.argsort(kind="stable")
        few, pair, is_gone = few.take(order), pair.take(order), is_gone.take(order)
        repeated = np.zeros(len(order), np.bool_)
        repeated[1:] = (pair[1:] == pair[:-1]) & (is_gone[1:] == is_gone[:-1])
        first = np.ones(len(order), np.bool_)
        first[1:] = few[1:] != few[:-1]
        repeated |= first & ~(unknown.take(order) | is_gone)
        news = np.empty(len(order), np.bool_)
        news[order] = ~repeated
        return news

    def _name(self, sides: Sides) -> int:
        """Give a book's state a name; what stands of it in the pairs."""
        sides.owner = self._next_owner
        self._next_owner += 2
        sides.gone.clear()
        return sides.owner % _OWNERS

    def _adopt(self, sides: Sides) -> None:
        """Give a book's state a name, and learn its levels."""
        name = self._name(sides)
        price = np.array([*sides.bids, *sides.asks], np.int64)
        owner = np.full(len(price), name, np.int64)
        owner[len(sides.bids) :] += 1
        pair = (owner << _PRICE_BITS | price)[price >> _PRICE_BITS == 0]
        self._pair[self._cells(pair)] = pair

    def learn(self, slow: Slow) -> None:
        """Remember how those levels stand now; the last word on a cell counts."""
        self._pair[slow.cell] = np.where(slow.is_gone | (slow.price >> _PRICE_BITS > 0), -1, slow.pair)
