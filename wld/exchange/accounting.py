"""Owns the balance between what the exchange sent and what is on a tape: every message recorded, or inside a Gap.

Pure. The truth is `Exchange.sent_log`; with several connections a message is in it once for each, and counts once.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from wld.events import BookDelta, BookSnapshot, Event, Gap, Liquidation, Repair, Ticker, Trade
from wld.units import ms_to_ns, parse_fixed64


class Balance(Struct, frozen=True):
    """What became of the messages sent; a message of many trades counts as many."""

    sent: int
    recorded: int
    in_gap: int
    """Not on the tape, and a Gap of their topic stands exactly where they belong."""
    backfilled: int
    lost: tuple[str, ...]
    """Neither: the first few, by topic and name."""
    doubled: tuple[str, ...]
    """On the tape more often than sent."""
    out_of_order: tuple[str, ...]
    """After a later one of their topic, backfilled ones aside."""
    gaps: int

    @property
    def is_exact(self) -> bool:
        """Everything is accounted for, once and in order."""
        return not (self.lost or self.doubled or self.out_of_order)

    def __str__(self) -> str:
        text = f"sent {self.sent}, recorded {self.recorded} ({self.backfilled} backfilled), in {self.gaps} gaps {self.in_gap}"
        for name in ("lost", "doubled", "out_of_order"):
            if found := getattr(self, name):
                text += f", {name.upper()} {len(found)}: {', '.join(found[:5])}"
        return text


Name = tuple[Any, ...]


def balance(sent: Iterable[str], events: Iterable[Event]) -> Balance:
    """Compare data frames in the order of sending with a tape's events in ring order."""
    truth = _truth(sent)
    places: dict[str, dict[Name, list[int]]] = defaultdict(lambda: defaultdict(list))
    gaps: list[tuple[int, str | None, str | None]] = []
    backfilled: set[tuple[str, Name]] = set()
    late: set[int] = set()
    for at, event in enumerate(events):
        if isinstance(event, Gap):
            gaps.append((at, event.topic, event.symbol))
        elif isinstance(event, Repair):
            continue
        elif (named := _name(event)) is not None:
            topic, name = named
            places[topic][name].append(at)
            if isinstance(event, Trade) and event.is_backfilled:
                backfilled.add((topic, name))
                late.add(at)
    recorded = in_gap = total = 0
    lost: list[str] = []
    doubled: list[str] = []
    out_of_order: list[str] = []
    for topic, wanted in truth.items():
        own_gaps = [at for at, prefix, symbol in gaps if _concerns(prefix, symbol, topic)]
        found = places.get(topic, {})
        used: Counter[Name] = Counter()
        where: list[int | None] = []
        for name, is_snapshot in wanted:
            total += 1
            spots = found.get(name, [])
            if used[name] < len(spots):
                where.append(spots[used[name]])
                used[name] += 1
                recorded += 1
            elif is_snapshot and spots:
                where.append(None)  # the state of a moment that is on the tape
                recorded += 1
            else:
                where.append(-1)
        if topic.startswith(("publicTrade", "allLiquidation")):
            # A backfilled trade may be one that no connection was there to be sent.
            doubled += [
                f"{topic} {name}"
                for name, spots in found.items()
                if len(spots) > max(used[name], (topic, name) in backfilled)
            ]
        spans = [spot for spot in where if spot is not None and spot >= 0 and spot not in late]
        out_of_order += _steps_back(topic, wanted, where, late)
        ordered = sorted(spans)
        before = -1
        for (name, _), spot in zip(wanted, where, strict=True):
            if spot == -1:
                after = ordered[i] if (i := bisect_right(ordered, before)) < len(ordered) else 1 << 62
                place = bisect_left(own_gaps, before)
                if place < len(own_gaps) and own_gaps[place] < after:
                    in_gap += 1
                else:
                    lost.append(f"{topic} {name}")
            elif spot is not None and spot not in late:
                before = max(before, spot)
    return Balance(
        total, recorded, in_gap, len(backfilled), tuple(lost), tuple(doubled), tuple(out_of_order), len(gaps)
    )


def _steps_back(topic: str, wanted: list[tuple[Name, bool]], where: list[int | None], late: set[int]) -> list[str]:
    highest = -1
    found: list[str] = []
    for (name, is_snapshot), spot in zip(wanted, where, strict=True):
        if spot is None or spot < 0 or spot in late or is_snapshot:
            continue
        if spot < highest:
            found.append(f"{topic} {name}")
        highest = max(highest, spot)
    return found


def _concerns(prefix: str | None, symbol: str | None, topic: str) -> bool:
    own_prefix, _, own_symbol = topic.rpartition(".")
    return prefix in (None, own_prefix) and symbol in (None, own_symbol)


def _truth(sent: Iterable[str]) -> dict[str, list[tuple[Name, bool]]]:
    """By topic, in order: (name, whether it is a snapshot of a state)."""
    truth: dict[str, list[tuple[Name, bool]]] = defaultdict(list)
    states: set[tuple[str, Name]] = set()
    # A client that is behind is sent old messages after another was sent new ones: the venue's time orders them.
    bodies = [json.loads(frame) for frame in dict.fromkeys(sent)]
    for body in sorted(bodies, key=_sent_ms):
        topic, data = body["topic"], body["data"]
        if topic.startswith("orderbook."):
            name: Name = (data["u"], data["seq"])
            is_snapshot = body["type"] == "snapshot"
            if (topic, name) in states:
                continue  # one line's snapshot is what another line's delta led to
            states.add((topic, name))
            truth[topic].append((name, is_snapshot))
        elif topic.startswith("publicTrade."):
            truth[topic] += [((item["i"],), False) for item in data]
        elif topic.startswith("allLiquidation."):
            for item in data:
                key = (ms_to_ns(item["T"]), item["S"] == "Buy", parse_fixed64(item["v"]), parse_fixed64(item["p"]))
                truth[topic].append((key, False))
        elif body["type"] == "snapshot":
            continue  # the state of a ticker: what changes it comes as deltas
        else:
            truth[topic].append(((body["cs"], ms_to_ns(body["ts"])), False))
    return truth


def _sent_ms(body: dict[str, Any]) -> int:
    return int(body["ts"])


def _name(event: Event) -> tuple[str, Name] | None:
    if isinstance(event, BookSnapshot | BookDelta):
        return f"orderbook.{event.depth}.{event.symbol}", (event.update_id, event.sequence)
    if isinstance(event, Trade):
        return f"publicTrade.{event.symbol}", (event.trade_id,)
    if isinstance(event, Liquidation):
        is_long = event.position_side.value == "long"
        name = (event.event_time, is_long, event.size, event.bankruptcy_price)
        return f"allLiquidation.{event.symbol}", name
    if isinstance(event, Ticker):
        return f"tickers.{event.symbol}", (event.sequence, event.sent_time)
    return None
