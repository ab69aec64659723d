"""The memory of trade ids: nothing of the last 2,048 is forgotten, and it takes the same from the first trade on."""

from __future__ import annotations

import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from wld.bybit.decoder import MarketDecoder
from wld.bybit.protocol import BybitProtocol
from wld.bybit.topics import PUSHES, Topic
from wld.bybit.trade_ids import BLOCK_IDS, MOST_REMEMBERED, REMEMBERED, SHARED, Hashes, OlderIds, remembered
from wld.events import Trade

MS = 1_000_000


def names(count: int) -> list[str]:
    return [str(uuid.UUID(int=n)) for n in range(count)]


def message(ids: list[str], ms: int) -> str:
    items = ",".join(
        f'{{"T":{ms},"s":"WLDUSDT","S":"Buy","v":"1","p":"2.5","L":"PlusTick","i":"{i}","BT":false}}' for i in ids
    )
    return f'{{"topic":"publicTrade.WLDUSDT","type":"snapshot","ts":{ms},"data":[{items}]}}'


def decoder() -> MarketDecoder:
    market = MarketDecoder()
    market.expect("publicTrade.WLDUSDT")
    return market


def trades(market: MarketDecoder, ids: list[str], ms: int) -> list[str]:
    return [e.trade_id for e in market.decode(message(ids, ms), ms * MS) if isinstance(e, Trade)]


@given(sizes=st.lists(st.integers(1, 700), min_size=1, max_size=12))
@settings(max_examples=20, deadline=None)
def test_the_last_ids_are_known_and_the_first_are_forgotten(sizes: list[int]) -> None:
    older, every = OlderIds(), names(sum(sizes))
    start = 0
    for n, size in enumerate(sizes):
        older.hand_over(every[start : start + size], n)
        start += size
    assert [name for name in every if name in older] == every[-REMEMBERED:]
    assert len(older) == min(REMEMBERED, len(every))


def test_more_at_once_than_it_holds_leaves_the_latest() -> None:
    older = Hashes(4)
    older.take("abc")
    older.take("defghij")
    assert [name for name in "abcdefghij" if name in older] == ["g", "h", "i", "j"]
    older.add("k")
    assert [name for name in "abcdefghijk" if name in older] == ["h", "i", "j", "k"]


def test_only_what_is_as_old_is_looked_for() -> None:
    older = OlderIds()
    older.hand_over(names(3), until=50)
    assert older.meets(names(1), since=50)
    assert not older.meets(names(1), since=51)
    assert not older.meets(["another"], since=0)


def test_a_trade_that_comes_again_after_thousands_is_dropped() -> None:
    market = decoder()
    every = names(REMEMBERED + 5 * BLOCK_IDS)
    for n in range(0, len(every), 50):
        assert trades(market, every[n : n + 50], 1000 + n) == every[n : n + 50]
    again = len(every) - REMEMBERED
    assert trades(market, every[again : again + 1], 1000 + again // 50 * 50) == []
    assert market.counters["duplicate_trade"] == 1


def test_a_backfilled_trade_is_known_though_the_stream_is_behind_it() -> None:
    """REST lists trades that the stream has yet to bring; so many that they are packed before it does."""
    market = decoder()
    old, backfilled = names(1_001)[:1], names(1_001)[1:]
    trades(market, old, 1_000)
    for n, name in enumerate(backfilled):
        market.add_trade("publicTrade.WLDUSDT", name, (2_000 + n) * MS)
    for n, name in enumerate(backfilled):
        assert trades(market, [name], 2_000 + n) == []
    assert market.known_trades("publicTrade.WLDUSDT", [*backfilled[-1:], "x"]) == {backfilled[-1]}


def test_what_is_remembered_takes_the_same_before_the_first_trade_and_after_thousands() -> None:
    market = decoder()
    topic = market.topics["publicTrade.WLDUSDT"]
    assert topic.older.nbytes == REMEMBERED * 8
    for n in range(60):
        trades(market, names(6_000)[100 * n : 100 * n + 100], 1000 + n)
        assert len(topic.recent) < BLOCK_IDS
    assert (topic.older.nbytes, len(topic.older)) == (REMEMBERED * 8, REMEMBERED)


def test_only_topics_that_have_them_set_room_aside() -> None:
    room = {name: (Topic(name).older.nbytes, Topic(name).pushes.nbytes) for name in (
        "publicTrade.X", "allLiquidation.X", "orderbook.50.X", "tickers.X",
    )}  # fmt: skip
    assert room == {
        "publicTrade.X": (8 * REMEMBERED, 0), "allLiquidation.X": (0, 8 * PUSHES), "orderbook.50.X": (0, 0),
        "tickers.X": (0, 0),
    }  # fmt: skip


def test_where_few_symbols_are_followed_each_remembers_more_and_all_together_no_more_than_is_set_aside() -> None:
    assert (remembered(1), remembered(16), remembered(128), remembered(500)) == (
        MOST_REMEMBERED, MOST_REMEMBERED, REMEMBERED, REMEMBERED,
    )  # fmt: skip
    assert all(remembered(count) * count <= max(SHARED, REMEMBERED * count) for count in range(1, 300))


def test_trades_of_minutes_ago_that_come_again_are_dropped() -> None:
    protocol = BybitProtocol(["publicTrade.WLDUSDT"])
    ids = names(12_000)
    for n in range(0, len(ids), 100):
        protocol.receive(message(ids[n : n + 100], 1_000 + n), (1_000 + n) * MS)
    for n in range(0, len(ids), 100):
        assert trades(protocol.decoder, ids[n : n + 100], 1_000 + n) == []
