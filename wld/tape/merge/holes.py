"""Owns the holes of two recordings of one feed: what each lacks, and what of that neither has. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from wld.events import Gap

JITTER_NS = 50_000_000
"""Ends of two holes closer than this are the same end."""
FAR = 1 << 62


class Hole(Struct):
    """Time in which a recording has nothing of a scope, on the venue's clock, ns; `gap` None: it was not recording."""

    first: int
    last: int
    gap: Gap | None = None
    place: int = 0
    """Which of the recording's Gaps it is, counted from 0."""


class Side(Struct):
    """What is known of a recording before it is read: its holes, and how its clock stands to the venue's."""

    gaps: list[Hole]
    """Open Gaps and closed ones, in order."""
    is_closed: list[bool]
    """Of each Gap: whether a Repair closed it."""
    pauses: list[Hole]
    """Not recording: before the first run, between runs, after the last."""


def left_over(a: Side, b: Side) -> dict[tuple[int, int], list[Gap]]:
    """The holes that both recordings have: (which side, which of its Gaps) to what is said in its place.

    A hole stands where the first of the two resumes; side 2 and 3 are the starts of runs of the first and second. Where
    both resume at about the same time the same Gap stands at both places, to be said at the one that is reached first.
    """
    plan: dict[tuple[int, int], list[Gap]] = {}
    for mine, other, who in ((a, b, 0), (b, a, 1)):
        for hole, is_closed in zip(mine.gaps, mine.is_closed, strict=True):
            gap = hole.gap
            assert gap is not None
            against = [*other.pauses]
            if who == 0:
                against += [h for h, closed in zip(other.gaps, other.is_closed, strict=True) if not closed]
            for theirs in against:
                first, last = max(hole.first, theirs.first), min(hole.last, theirs.last)
                scope = _common_scope(gap, theirs.gap)
                if scope is None or first > last or (first == last and hole.first != hole.last):
                    continue
                is_whole = first <= hole.first + JITTER_NS and last >= hole.last - JITTER_NS
                if is_whole and scope == (gap.topic, gap.symbol):
                    left = gap
                elif is_closed:
                    continue
                else:
                    shift = (gap.last_time if gap.last_time is not None else gap.receive_time) - hole.last
                    left = msgspec.structs.replace(
                        gap, topic=scope[0], symbol=scope[1], missed=None, first_time=first + shift,
                        last_time=last + shift, receive_time=last + shift,
                    )  # fmt: skip
                its_end = (1 - who if theirs.gap is not None else 3 - who, theirs.place)
                for marker, end in (((who, hole.place), hole.last), (its_end, theirs.last)):
                    known = plan.setdefault(marker, []) if end - last <= JITTER_NS else [left]
                    if left not in known:
                        known.append(left)
    return plan


def _common_scope(gap: Gap, other: Gap | None) -> tuple[str | None, str | None] | None:
    """What both miss: the narrower topic and symbol; None where they miss different things."""
    if other is None:
        return gap.topic, gap.symbol
    if None not in (gap.topic, other.topic) and gap.topic != other.topic:
        return None
    if None not in (gap.symbol, other.symbol) and gap.symbol != other.symbol:
        return None
    return gap.topic or other.topic, gap.symbol or other.symbol
