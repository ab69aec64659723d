"""Owns tickers as columns: the fields that messages carry, and the merge into rows of numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wld.bybit.decimals import Ints
from wld.bybit.decoder import Topic
from wld.bybit.messages import TICKER_FIELDS, TICKER_OTHER
from wld.bybit.plain import ODD_READS, Again
from wld.errors import UnitError
from wld.events import TickDirection
from wld.tables import DIRECTIONS, TICKER_NUMBERS, TICKER_PLACE, Columns
from wld.units import ABSENT, INT64_MAX, INT64_MIN

_DIRECTION_CODE: dict[TickDirection | None, int] = {direction: i for i, direction in enumerate(DIRECTIONS)}
_PLACE_OF = {key: TICKER_PLACE[name] for key, name in TICKER_FIELDS.items()}
_DIRECTION_PLACE = len(TICKER_NUMBERS)
_SEQUENCE, _SENT, _RECEIVED = (TICKER_PLACE[name] for name in ("sequence", "sent_time", "receive_time"))


def odd_tickers(decoded: Sequence[Any], states: Sequence[Topic]) -> set[Topic]:
    """Topics with a message that is not to be taken as it is, or with numbers that no column takes."""
    odd: set[Topic] = set()
    pushes: dict[Topic, tuple[str | None, int | None, int | None]] = {}
    for message, state in zip(decoded, states, strict=True):
        cs = message.cs
        if state in odd or state.goes_by_rows:
            continue
        push = (message.type, cs, message.ts)
        is_again = push == pushes.get(state, state.push) and None not in push
        pushes[state] = push
        if (
            message.type not in ("snapshot", "delta")
            or state.silent_since is not None
            or message.data.get("symbol") != state.symbol
            or (cs is not None and not 0 <= cs <= INT64_MAX)
            or is_again  # perhaps delivered twice: the rows compare
        ):
            odd.add(state)
        elif state.ticker_columns is None and not lay_out(state):
            state.goes_by_rows = ODD_READS
            odd.add(state)
    return odd


def _no_column(topic: Topic) -> Again:
    topic.goes_by_rows = ODD_READS
    return Again({topic})


class TickerChanges:
    """The fields that ticker messages carry: decimals as texts for the common pass, the others converted."""

    def __init__(self, messages: Sequence[Any], topics: Sequence[Topic]) -> None:
        """Raises: Again where a field is odd, or a text that columns do not hold."""
        self.texts: list[str] = []
        self.places: list[int] = []
        """Of each text, its field's."""
        self.ends: list[int] = []
        """Of each message's texts."""
        self.others: list[list[tuple[int, int]]] = []
        """Of each message, (the field's place, value)."""
        texts, places = self.texts, self.places
        for message, topic in zip(messages, topics, strict=True):
            others = []
            for key, text in message.data.items():
                place = _PLACE_OF.get(key)
                if place is None:
                    if key in TICKER_OTHER and text != "":
                        others.append(self._other(key, text, topic))
                elif type(text) is not str:
                    raise _no_column(topic)
                elif text:
                    texts.append(text)
                    places.append(place)
            self.ends.append(len(places))
            self.others.append(others)

    @staticmethod
    def _other(key: str, text: Any, topic: Topic) -> tuple[int, int]:
        name, convert = TICKER_OTHER[key]
        if type(text) is not str:
            raise _no_column(topic)
        try:
            value = convert(text)
        except (UnitError, ValueError):
            raise _no_column(topic) from None
        if isinstance(value, TickDirection):
            return _DIRECTION_PLACE, _DIRECTION_CODE[value]
        if not isinstance(value, int):
            raise _no_column(topic)
        return TICKER_PLACE[name], value


def lay_out(topic: Topic) -> bool:
    """Lay a topic's merged ticker out as a row of numbers; False where one does not fit."""
    row = np.full(len(TICKER_NUMBERS) + 1, ABSENT, np.int64)
    for name, value in topic.ticker.items():
        if isinstance(value, TickDirection):
            row[_DIRECTION_PLACE] = _DIRECTION_CODE[value]
            continue
        place = TICKER_PLACE.get(name)
        if place is None or not isinstance(value, int) or not INT64_MIN < value <= INT64_MAX:
            return False
        row[place] = value
    topic.ticker_columns = row
    return True


def merge(
    messages: Sequence[Any], topics: Sequence[Topic], changes: TickerChanges, values: Ints, sent_times: Ints,
    receive_time: int,
) -> Columns:  # fmt: skip
    """Each message's ticker, what came before merged with what it changes; the topics keep the last."""
    merged = np.empty((len(messages), len(TICKER_NUMBERS) + 1), np.int64)
    places = np.array(changes.places, np.int64)
    start = 0
    for message, topic, end, others, row in zip(messages, topics, changes.ends, changes.others, merged, strict=True):
        latest = topic.ticker_columns
        if message.type == "snapshot":
            latest[:] = ABSENT
        latest[places[start:end]] = values[start:end]
        for place, value in others:
            latest[place] = value
        row[:] = latest
        start = end
        topic.awaiting, topic.sequence, topic.last_time = False, message.cs, receive_time
        topic.push = (message.type, message.cs, message.ts)
    merged[:, _SEQUENCE] = [ABSENT if message.cs is None else message.cs for message in messages]
    merged[:, _SENT] = sent_times
    merged[:, _RECEIVED] = receive_time
    direction = merged[:, _DIRECTION_PLACE]
    return {
        "symbol": np.array([topic.place for topic in topics], np.int64),
        "tick_direction": np.where(direction == ABSENT, 0, direction),
        "values": merged[:, :_DIRECTION_PLACE],
    }
