"""Owns the balance between what the exchange sent and what is on a tape: every message recorded, or inside a Gap.

Pure. The truth is `Exchange.sent_log`; with several connections a message is in it once for each, and counts once.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

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
    before: int = 0
    """Sent before the symbol's first recorded event, and before the topic's own: what the slower of two lines brought of
    a time when there was no recording yet."""
    at_the_end: int = 0
    """Of those lost, sent after all that is recorded, of whatever topic: they had not come when the recording ended."""

    @property
    def is_exact(self) -> bool:
        """Everything is accounted for, once and in order."""
        return not (self.lost or self.doubled or self.out_of_order)

    def __str__(self) -> str:
        text = f"sent {self.sent}, recorded {self.recorded} ({self.backfilled} backfilled), in {self.gaps} gaps {self.in_gap}"
        if self.before:
            text += f", {self.before} from before the recording"
        for name in ("lost", "doubled", "out_of_order"):
            if found := getattr(self, name):
                where = f" ({self.at_the_end} of them sent after all that is recorded)" if name == "lost" else ""
                text += f", {name.upper()} {len(found)}{where}: {', '.join(found[:5])}"
        return text


Name = tuple[Any, ...]


class _Sent(NamedTuple):
    """What was sent on a topic."""

    name: Name
    is_snapshot: bool
    """The state of a moment, which later ones supersede."""
    at: int
    """Push time, ns."""
    place: int
    """Among all that was sent."""


def balance(sent: Iterable[str], events: Iterable[Event]) -> Balance:
    """Compare data frames in the order of sending with a tape's events in ring order."""
    truth = _truth(sent)
    places: dict[str, dict[Name, list[int]]] = defaultdict(lambda: defaultdict(list))
    gaps: list[tuple[int, Gap]] = []
    begun: dict[str, tuple[int, int]] = {}
    """Of each symbol, and of each topic: push and receive time of the first event."""
    backfilled: set[tuple[str, Name]] = set()
    late: set[int] = set()
    received: array[int] = array("q")
    for at, event in enumerate(events):
        received.append(event.receive_time)
        if isinstance(event, Gap):
            gaps.append((at, event))
        elif isinstance(event, Repair):
            continue
        elif (named := _name(event)) is not None:
            topic, name = named
            places[topic][name].append(at)
            if topic not in begun:
                times = getattr(event, "sent_time", None) or 0, event.receive_time
                begun[topic] = times
                begun.setdefault(topic.rpartition(".")[2], times)
            if isinstance(event, Trade) and event.is_backfilled:
                backfilled.add((topic, name))
                late.add(at)
    recorded = in_gap = total = before_all = 0
    newest = -1
    """The place of the last that is recorded."""
    lost: list[tuple[str, int]] = []
    """Names and places."""
    doubled: list[str] = []
    out_of_order: list[str] = []
    for topic, wanted in truth.items():
        heard = [(at, gap) for at, gap in gaps if _concerns(gap.topic, gap.symbol, topic)]
        own_gaps = [at for at, _ in heard]
        found = places.get(topic, {})
        used: Counter[Name] = Counter()
        where: list[int | None] = []
        for name, is_snapshot, *_ in wanted:
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
        for message, spot in zip(wanted, where, strict=True):
            if spot == -1:
                after = ordered[i] if (i := bisect_right(ordered, before)) < len(ordered) else 1 << 62
                place = bisect_left(own_gaps, before)
                if place < len(own_gaps) and own_gaps[place] < after:
                    in_gap += 1
                elif before < 0 and _precedes(message, topic, begun):
                    before_all += 1
                elif before < 0 and _is_told_late(heard, topic, begun):
                    in_gap += 1
                elif before >= 0:
                    until = received[after] if after < len(received) else None
                    if any(_is_around(gap, received[before], until) for _, gap in heard):
                        in_gap += 1
                    else:
                        lost.append((f"{topic} {message.name}", message.place))
                else:
                    lost.append((f"{topic} {message.name}", message.place))
            elif spot is not None and spot not in late:
                before = max(before, spot)
                newest = max(newest, message.place)
    return Balance(
        total,
        recorded,
        in_gap,
        len(backfilled),
        tuple(name for name, _ in lost),
        tuple(doubled),
        tuple(out_of_order),
        len(gaps),
        before_all,
        sum(place > newest for _, place in lost),
    )


def _precedes(message: _Sent, topic: str, begun: dict[str, tuple[int, int]]) -> bool:
    """Whether the recording had not begun when a message was sent, or the topic's first event supersedes it."""
    first = begun.get(topic.rpartition(".")[2])
    return topic in begun and first is not None and (message.is_snapshot or message.at < first[0])


def _is_told_late(heard: list[tuple[int, Gap]], topic: str, begun: dict[str, tuple[int, int]]) -> bool:
    """Whether a Gap that came too late to stand in its place speaks of the time before the topic's first event."""
    return topic in begun and any(gap.last_time is not None and gap.last_time <= begun[topic][1] for _, gap in heard)


def _is_around(gap: Gap, before: int, after: int | None) -> bool:
    """Whether a Gap, told late, speaks of the time between two events of a topic; None: nothing came after."""
    first, last = gap.first_time, gap.last_time
    return first is not None and last is not None and before <= first and (after is None or last <= after)


def _steps_back(topic: str, wanted: list[_Sent], where: list[int | None], late: set[int]) -> list[str]:
    highest = -1
    found: list[str] = []
    for (name, is_snapshot, *_), spot in zip(wanted, where, strict=True):
        if spot is None or spot < 0 or spot in late or is_snapshot:
            continue
        if spot < highest:
            found.append(f"{topic} {name}")
        highest = max(highest, spot)
    return found


def _concerns(prefix: str | None, symbol: str | None, topic: str) -> bool:
    own_prefix, _, own_symbol = topic.rpartition(".")
    return prefix in (None, own_prefix) and symbol in (None, own_symbol)


def _truth(sent: Iterable[str]) -> dict[str, list[_Sent]]:
    """By topic, in order."""
    truth: dict[str, list[_Sent]] = defaultdict(list)
    states: set[tuple[str, Name]] = set()
    # A client that is behind is sent old messages after another was sent new ones: the venue's time orders them.
    bodies = [json.loads(frame) for frame in dict.fromkeys(sent)]
    for place, body in enumerate(sorted(bodies, key=_sent_ms)):
        topic, data, at = body["topic"], body["data"], ms_to_ns(body["ts"])
        if topic.startswith("orderbook."):
            name: Name = (data["u"], data["seq"])
            is_snapshot = body["type"] == "snapshot"
            if (topic, name) in states:
                continue  # one line's snapshot is what another line's delta led to
            states.add((topic, name))
            truth[topic].append(_Sent(name, is_snapshot, at, place))
        elif topic.startswith("publicTrade."):
            truth[topic] += [_Sent((item["i"],), False, at, place) for item in data]
        elif topic.startswith("allLiquidation."):
            for item in data:
                key = (ms_to_ns(item["T"]), item["S"] == "Buy", parse_fixed64(item["v"]), parse_fixed64(item["p"]))
                truth[topic].append(_Sent(key, False, at, place))
        elif body["type"] == "snapshot":
            continue  # the state of a ticker: what changes it comes as deltas
        else:
            truth[topic].append(_Sent((body["cs"], at), False, at, place))
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
