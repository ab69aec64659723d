"""What the venue published, in order, and the state of each book and ticker after every message. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from wld.bybit.messages import decode_envelope, decode_ticker
from wld.exchange.publication import Message
from wld.units import ms_to_ns, parse_fixed64

_encode = msgspec.json.Encoder().encode
fixed = lru_cache(maxsize=100_000)(parse_fixed64)


FORGOTTEN_S = 90.0
"""By then a mute link's ticker was asked for a snapshot, or every field has changed."""


class Published(NamedTuple):
    """One message, as every healthy connection is sent it."""

    topic: str
    frame: str
    at: int
    """ns, the venue's clock."""
    is_owed: bool
    """Somebody had subscribed to its topic by then."""


class Truth:
    """The market's own record, whether anybody listened or not."""

    def __init__(self) -> None:
        self.published: list[Published] = []
        self.heard: set[str] = set()
        self.delivered: dict[int, tuple[int, float]] = {}
        """Messages that reached the recorder, by their place: the first link that brought it, and when."""
        self.muted: set[int] = set()
        """Messages that a link should have been sent and was not, though it stood."""
        self.withheld: set[int] = set()
        """Messages that the venue left out for everybody."""
        self.books: dict[tuple[str, int, int], int] = {}
        """By topic, update id and sequence: a digest of the book."""
        self._mute_times: dict[str, list[int]] = {}
        self._sides: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
        self._tickers: dict[str, tuple[list[int], list[dict[str, str]]]] = defaultdict(lambda: ([], []))

    def note(self, message: Message) -> None:
        """Take in what falls due, before any fault touches it."""
        body = message.body
        self.published.append(
            Published(message.topic, _encode(body).decode(), ms_to_ns(body["ts"]), message.topic in self.heard)
        )
        self.begin(message)

    def begin(self, message: Message) -> None:
        """Take in a state that nobody needs to be sent: a symbol is listed."""
        topic, body = message
        if topic.startswith("orderbook."):
            self._take_book(topic, body)
        elif topic.startswith("tickers."):
            times, states = self._tickers[topic]
            before = states[-1] if states and body["type"] == "delta" else {}
            times.append(ms_to_ns(body["ts"]))
            states.append({**before, **body["data"]})

    def _take_book(self, topic: str, body: dict[str, Any]) -> None:
        data = body["data"]
        if body["type"] == "snapshot":
            self._sides[topic] = ({}, {})
        sides = self._sides[topic]
        for side, rows in zip(sides, (data["b"], data["a"]), strict=True):
            for price, size in rows:
                if fixed(size):
                    side[fixed(price)] = fixed(size)
                else:
                    side.pop(fixed(price), None)
        self.books[topic, data["u"], data["seq"]] = digest(*sides)

    def was_mute(self, topic: str, at: int) -> bool:
        """Whether a link was mute on a topic within `FORGOTTEN_S` before a time, ns."""
        times = self._mute_times.setdefault(topic, [])
        place = bisect_right(times, at)
        return place > 0 and at - times[place - 1] <= FORGOTTEN_S * 10**9

    def note_mute(self, index: int) -> None:
        """A link is not sent a message, though it stands."""
        self.muted.add(index)
        self._mute_times.setdefault(self.published[index].topic, []).append(self.published[index].at)

    def ticker(self, topic: str, at: int) -> list[dict[str, Any]]:
        """A ticker's fields as they stood at a push time, in our names and units; two where it was listed anew just then."""
        times, states = self._tickers[topic]
        end = bisect_right(times, at)
        begin = bisect_left(times, times[end - 1]) if end else 0
        frames = (_encode({"topic": topic, "type": "snapshot", "data": state}) for state in states[begin:end])
        return [decode_ticker(decode_envelope(frame))[1] for frame in frames]


def digest(bids: dict[int, int], asks: dict[int, int]) -> int:
    """Equal for equal books."""
    return hash((frozenset(bids.items()), frozenset(asks.items())))
