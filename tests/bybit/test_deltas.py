"""Book deltas written as the venue writes them are read all at once; whatever is not, decides nothing."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wld.bybit.book_columns
import wld.bybit.columns
import wld.bybit.deltas
import wld.bybit.ticker_columns
from tests.bybit import frames
from tests.bybit.frames import S
from tests.bybit.test_columns import SYMBOLS, Exchange, Pair
from wld.bybit.deltas import Deltas, read_deltas, without_spaces
from wld.bybit.websocket import BinaryMessage, Message
from wld.events import BookDelta, Gap, GapReason


@pytest.fixture(autouse=True, params=[0, 10**9], ids=["with the cache", "few"])
def any_read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wld.bybit.book_columns, "FEW", request.param)
    monkeypatch.setattr(wld.bybit.columns, "COLUMNS_FROM", 1)
    monkeypatch.setattr(wld.bybit.columns, "DELTAS_FROM", 1)
    monkeypatch.setattr(wld.bybit.ticker_columns, "_MANY", request.param)


def usual(message: dict[str, Any]) -> bytes:
    """As the venue writes it, without white space and in its order."""
    data = message["data"]
    if "u" in data:
        data = {"seq": 10**11 + data["u"], **data}
        message = {
            **{key: message[key] for key in ("topic", "type", "ts")},
            "data": {key: data[key] for key in ("s", "b", "a", "u", "seq")},
            "cts": message["cts"],
        }
    return json.dumps(message, separators=(",", ":")).encode()


def delta(update_id: int, symbol: str = "WLDUSDT", **more: Any) -> bytes:
    message = {
        "topic": f"orderbook.50.{symbol}", "type": "delta", "ts": 1_700_000_000_123,
        "data": {"s": symbol, "b": [["1.0", "2.5"]], "a": [], "u": update_id, "seq": 10**12 + update_id}, "cts": 1_700_000_000_120,
    }  # fmt: skip
    return usual({**message, **more})


def read(*messages: bytes, tail: bytes = b"", strings: int = 0) -> Deltas | None:
    found = read_deltas(messages, tail, strings)
    if found is None:
        return None
    text, deltas = found
    _, bad = text.decimals(deltas.places.first, deltas.places.length)
    return None if len(bad) else deltas


def test_every_field_is_where_it_should_be() -> None:
    first = (
        b'{"topic":"orderbook.50.1000PEPEUSDT","type":"delta","ts":1700000000001,"data":{"s":"1000PEPEUSDT",'
        b'"b":[["1.5","2"],["1.4","0"]],"a":[["1.6","3"]],"u":1234567890123456,"seq":0},"cts":5}'
    )
    found = read(first, delta(12), first, tail=b'"7""8"', strings=2)
    assert found is not None
    names = [found.topics[i] for i in found.which.tolist()]
    assert names == ["orderbook.50.1000PEPEUSDT", "orderbook.50.WLDUSDT", "orderbook.50.1000PEPEUSDT"]
    assert found.update_id.tolist() == [1234567890123456, 12, 1234567890123456]
    assert found.sequence.tolist() == [0, 10**12 + 12, 0]
    assert found.sent_ms.tolist() == [1700000000001, 1_700_000_000_123, 1700000000001]
    assert found.event_ms.tolist() == [5, 1_700_000_000_120, 5]
    assert found.places.counts.tolist() == [2, 1, 1, 0, 2, 1]
    assert len(found.places.first) == 16


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"u":12', b'"u":012'), (b'"u":12', b'"u":-12'), (b'"u":12', b'"u":1.2'), (b'"u":12', b'"u":12345678901234567'),
        (b'"u":12', b'"u":'), (b'"u":12', b'"v":12'), (b'"delta"', b'"snapshot'), (b'"delta"', b'"snapshots"'),
        (b'"delta"', b'"snapshut"'), (b'"delta"', b'"snapsh"'), (b'"delta"', b'"delto"'), (b'"delta","ts"', b'"snapshot","tt"'),
        (b'"delta"', b'"snapshat"'), (b'"s":"WLDUSDT"', b'"s":"WLDUSD"'),
        (b'"s":"WLDUSDT"', b'"s":"XLDUSDT"'), (b'"a":[]', b'"a":[[]]'), (b'"a":[]', b'"a":[["1","2"],]'),
        (b'"a":[]', b'"a":[["1","2","3"]]'), (b'"a":[]', b'"a":null'), (b'["1.0","2.5"]', b'["1.0"],["2.5"]'),
        (b'["1.0","2.5"]', b'["1.0","2.5"],["1.0","a"]'), (b'["1.0","2.5"]', b'["1.0", "2.5"]'), (b'"cts":', b'"cts": '),
        (b'["1.0","2.5"]', b'["1.0","2\\"5\\""]'), (b"}", b"} "), (b"{", b" {"), (b'"b":[["1.0","2.5"]]', b'"b":[["1.0","2.5"],[]]'),
    ],
)  # fmt: skip
def test_what_is_written_otherwise_is_not_read(old: bytes, new: bytes) -> None:
    message = delta(12)
    assert old in message
    assert read(message) is not None
    for messages in ([message.replace(old, new, 1)], [delta(11), message.replace(old, new, 1), delta(13)]):
        assert read(*messages) is None


def spaced(message: bytes) -> bytes:
    return json.dumps(json.loads(message)).encode()


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.5]), st.booleans())
@settings(deadline=None, max_examples=60)
def test_usual_streams_equal_rows(seed: int, trouble: float, has_spaces: bool) -> None:
    luck = random.Random(seed)
    exchange, pair = Exchange(luck, trouble), Pair()
    taken = 0
    for now in range(1, 9):
        messages: list[Message] = []
        for _ in range(luck.randint(1, 60)):
            make = luck.choice([exchange.book] * 6 + [exchange.trades, exchange.ticker, exchange.liquidation])
            message = make(luck.choice(SYMBOLS))
            try:
                messages.append(spaced(usual(message)) if has_spaces else usual(message))
            except (KeyError, TypeError):
                messages.append(json.dumps(message).encode())
        pair.columns._columns._unusual = 0
        pair.read(messages, now * S)
        taken += pair.columns._columns._unusual == 0
    assert trouble or taken == 8


_LETTERS = st.sampled_from(
    [bytes([c]) for c in b' "{}[],:.0123456789-+eE aubstnl\\/\x00\x7f\xc3\xff'] + [b"", b'","', b"[]"]
)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 170), st.booleans(), _LETTERS), min_size=1, max_size=3),
    st.booleans(),
)
@settings(deadline=None, max_examples=400)
def test_no_byte_may_be_another_one_unseen(changes: list[tuple[int, int, bool, bytes]], has_spaces: bool) -> None:
    pair = Pair()
    pair.read([frames.snapshot(10).encode()], 1 * S)
    messages = [
        delta(11),
        delta(12, data={"s": "WLDUSDT", "b": [], "a": [["1.9", "0"]], "u": 12, "seq": 10**13}),
        delta(13, type="snapshot"),
    ]
    if has_spaces:
        messages = list(map(spaced, messages))
    for which, at, replaces, letter in changes:
        message = messages[which]
        messages[which] = message[:at] + letter + message[at + replaces :]
    pair.read(list(messages), 2 * S)
    pair.read([delta(14), delta(15)], 3 * S)


def test_spaces_behind_commas_and_colons_are_nothing_and_others_may_be_part_of_a_text() -> None:
    messages = [delta(11), delta(12, symbol="AUSDT")]
    assert without_spaces(list(map(spaced, messages))) == messages
    for old, new in ((b"2.5", b"2 .5"), (b"2.5", b"2.5 "), (b"2.5", b" 2.5"), (b"WLD", b"WL D"), (b"]]", b"] ]")):
        assert without_spaces([spaced(messages[0]).replace(old, new, 1)]) == []


def test_many_topics_come_and_go() -> None:
    topics = [f"A{i}USDT" for i in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wld.bybit.deltas, "_MOST_HEADS", 2)
        for turn in range(4):
            found = read(*[delta(12, symbol=symbol, type=kind) for symbol in topics for kind in ("delta", "snapshot")])
            assert found is not None
            assert [found.topics[i] for i in found.which.tolist()] == [
                f"orderbook.50.{s}" for s in topics for _ in "ab"
            ]
            assert len(found.topics) == 3
            assert read(delta(turn, symbol="BUSDT")) is not None


def test_snapshots_are_as_usual_as_deltas() -> None:
    messages = [delta(10, type="snapshot"), delta(11), delta(7, symbol="AUSDT", type="snapshot"), delta(12)]
    found = read(*messages)
    assert found is not None
    assert found.is_snapshot.tolist() == [True, False, True, False]
    assert found.sent_ms.tolist() == [1_700_000_000_123] * 4
    pair = Pair()
    pair.read(list(messages), 1 * S)
    assert pair.columns._columns._unusual == 0
    tables = pair.batches[-1].tables
    assert tables is not None
    assert (tables.count, tables.rows) == (4, [])


def test_unusual_messages_are_not_tried_again_for_a_while() -> None:
    pair = Pair()
    pair.read([frames.snapshot(10).encode()], 1 * S)
    other_order = dict(reversed(json.loads(delta(11)).items()))
    pair.read([json.dumps(other_order).encode()], 2 * S)
    assert pair.columns._columns._unusual > 0
    pair.read([delta(12)], 3 * S)


def test_a_hole_and_a_cross_cost_only_their_topic() -> None:
    pair = Pair()
    symbols = SYMBOLS[:3]
    pair.read([frames.snapshot(10, symbol=symbol).encode() for symbol in symbols], 1 * S)
    messages = [delta(u, symbol) for u in range(11, 30) for symbol in symbols]
    messages[18] = delta(18, symbols[0])  # where 17 was due
    crossed = {"s": symbols[1], "b": [["9.0", "1"]], "a": [], "u": 20, "seq": 10**13}
    messages[28] = delta(20, symbols[1], data=crossed)
    events = pair.read(list(messages), 2 * S)
    gaps = [event for event in events if isinstance(event, Gap)]
    assert [(gap.symbol, gap.reason) for gap in gaps] == [
        (symbols[0], GapReason.UPDATE_ID), (symbols[1], GapReason.CROSSED_BOOK),
    ]  # fmt: skip
    tables = pair.batches[-1].tables
    assert tables is not None
    assert tables.books is not None
    assert len(tables.books["number"]) == 19
    assert sum(isinstance(event, BookDelta) for event in events) > 19


def test_a_binary_message_is_no_text_whatever_it_holds() -> None:
    pair = Pair()
    pair.read([frames.snapshot(10).encode()], 1 * S)
    for size in (1, 2):
        events = pair.read([*[delta(11)] * (size - 1), BinaryMessage(delta(12))], (1 + size) * S)
        assert isinstance(events[-1], Gap)


def test_prices_beyond_the_cache_s_are_as_good() -> None:
    pair = Pair()
    pair.read([frames.snapshot(10).encode()], 1 * S)
    high = [[["2000000.5", "1"], ["1.9", "0"]], [["2000000.5", "0"]], [["2000000.5", "0"], ["3000000", "1"]]]
    pair.read(
        [
            delta(11 + i, data={"s": "WLDUSDT", "b": [], "a": a, "u": 11 + i, "seq": 10**13})
            for i, a in enumerate(high * 3)
        ],
        2 * S,
    )


def test_what_is_no_number_costs_its_own_topic_only() -> None:
    pair = Pair()
    pair.read([delta(10, type="snapshot"), delta(10, symbol="AUSDT", type="snapshot")], 1 * S)
    odd = delta(11).replace(b'"2.5"', b'"x"')
    events = pair.read([odd, *(delta(11 + i, symbol="AUSDT") for i in range(5))], 2 * S)
    assert [type(event) for event in events] == [Gap, *[BookDelta] * 5]
    tables = pair.batches[-1].tables
    assert tables is not None
    assert [number for number, _ in tables.rows] == [0]


def test_a_topic_too_long_for_the_columns_is_still_read() -> None:
    symbol = "A" * 30 + "USDT"
    pair = Pair(f"orderbook.50.{symbol}")
    pair.read([delta(10, symbol=symbol, type="snapshot"), delta(11, symbol=symbol)], 1 * S)
    assert len(pair.read([delta(12 + i, symbol=symbol) for i in range(5)], 2 * S)) == 5
