"""Owns trades and liquidations as columns: what makes a topic's odd, their columns, what is remembered of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wld.bybit.decimals import Ints
from wld.bybit.decoder import Topic
from wld.bybit.messages import MAX_ID
from wld.bybit.plain import Again, counts, times
from wld.bybit.trade_ids import BLOCK_IDS
from wld.tables import BLOCK_TRADE, BUY, DIRECTION_SHIFT, DIRECTIONS, RPI, RPI_KNOWN, Columns

_SIDE_FLAG = {"Buy": BUY, "Sell": 0}
_IS_LONG = {"Buy": 1, "Sell": 0}
_RPI_FLAG = {None: 0, False: RPI_KNOWN, True: RPI_KNOWN | RPI}
_DIRECTION_FLAG: dict[str | None, int] = {
    None: 0, "": 0, **{d.value: i << DIRECTION_SHIFT for i, d in enumerate(DIRECTIONS) if d is not None},
}  # fmt: skip
_TRADE_FLAGS = {
    (side, direction, rpi, is_block): _SIDE_FLAG[side] | _DIRECTION_FLAG[direction] | _RPI_FLAG[rpi] | is_block * BLOCK_TRADE
    for side in _SIDE_FLAG for direction in _DIRECTION_FLAG for rpi in _RPI_FLAG for is_block in (False, True)
}  # fmt: skip


def odd_trades(decoded: Sequence[Any], states: Sequence[Topic]) -> set[Topic]:
    """Topics with an item that came before, or that is not to be taken as it is."""
    odd: set[Topic] = set()
    items_of: dict[Topic, list[Any]] = {}
    for message, state in zip(decoded, states, strict=True):
        items_of.setdefault(state, []).extend(message.data)
    for state, items in items_of.items():
        ids = [item.i for item in items]
        unique = set(ids)
        if (
            len(unique) != len(ids)
            or not unique.isdisjoint(state.recent)
            or (bool(ids) and state.older.meets(ids, min([item.T for item in items]) * 1_000_000))
            or "" in unique
            or max(map(len, ids), default=0) > MAX_ID
            or [item.s for item in items].count(state.symbol) != len(items)
        ):
            odd.add(state)
    return odd


def trade_columns(decoded: Sequence[Any], states: Sequence[Topic], items: list[Any], pairs: Ints) -> Columns | None:
    """Raises: Again where a word is not known; Strange where a count or a time is none."""
    if not items:
        return None
    lengths = [len(message.data) for message in decoded]
    flags = _TRADE_FLAGS
    try:
        flags_of = [flags[item.S, item.L, item.RPI, item.BT] for item in items]
    except KeyError:
        raise Again({state for m, state in zip(decoded, states, strict=True) if _is_unknown_word(m)}) from None
    return {
        "symbol": np.repeat(np.array([state.place for state in states], np.int64), lengths),
        "price": pairs[0 : 2 * len(items) : 2],
        "size": pairs[1 : 2 * len(items) : 2],
        "event_time": times([item.T for item in items]),
        "sequence": counts([item.seq for item in items]),
        "sent_time": np.repeat(times([message.ts for message in decoded]), lengths),
        "flags": np.array(flags_of, np.int64),
        "trade_id": [item.i for item in items],
    }


def _is_unknown_word(message: Any) -> bool:
    return any(item.S not in _SIDE_FLAG or item.L not in _DIRECTION_FLAG for item in message.data)


def keep_trades(decoded: Sequence[Any], states: Sequence[Topic], now: int) -> None:
    """Remember the trades' ids, and which is the last."""
    for message, state in zip(decoded, states, strict=True):
        data = message.data
        state.recent.update([item.i for item in data])
        if data:
            last = data[-1]
            state.last_trade = (last.i, last.T * 1_000_000)
            state.newest = max(state.newest, max([item.T for item in data]) * 1_000_000)
        if len(state.recent) >= BLOCK_IDS:
            state.forget_old_trades()
        state.awaiting, state.last_time = False, now


def odd_liquidations(decoded: Sequence[Any], states: Sequence[Topic]) -> set[Topic]:
    """Topics with an item that is not to be taken as it is, or with messages of one push time."""
    odd: set[Topic] = set()
    seen: set[tuple[Topic, int | None]] = set()
    for message, state in zip(decoded, states, strict=True):
        symbol, ts = state.symbol, message.ts
        if any(item.s != symbol or item.S not in _IS_LONG for item in message.data):
            odd.add(state)
        elif ts is not None and ((state, ts) in seen or any(push[0] == ts for push in state.pushes)):
            odd.add(state)  # perhaps delivered twice: the rows compare
        seen.add((state, ts))
    return odd


def liquidation_columns(
    decoded: Sequence[Any], states: Sequence[Topic], items: list[Any], pairs: Ints
) -> Columns | None:
    """Raises: Strange where a time is none."""
    if not items:
        return None
    lengths = [len(message.data) for message in decoded]
    return {
        "symbol": np.repeat(np.array([state.place for state in states], np.int64), lengths),
        "is_long": np.array([_IS_LONG[item.S] for item in items], np.int64),
        "size": pairs[1::2],
        "bankruptcy_price": pairs[0::2],
        "event_time": times([item.T for item in items]),
        "sent_time": np.repeat(times([message.ts for message in decoded]), lengths),
    }


def keep_liquidations(decoded: Sequence[Any], states: Sequence[Topic], made: Columns | None, now: int) -> None:
    """Remember the messages, to know one that is delivered twice."""
    at = 0
    names = ("size", "bankruptcy_price")
    sizes, prices = ([] if made is None else made[name].tolist() for name in names)
    for message, state in zip(decoded, states, strict=True):
        state.awaiting, state.last_time = False, now
        content = [(item.T, item.S == "Buy", sizes[at + i], prices[at + i]) for i, item in enumerate(message.data)]
        at += len(content)
        if message.ts is not None and content:
            state.pushes.append((message.ts, tuple(content)))
