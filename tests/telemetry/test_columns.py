"""What is known of the market after a read in columns is what is known after its events one by one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wld_heatmap import Radar
from wld_telemetry import Feed, Telemetry
from wld_telemetry.columns import last_words, sums_of_products
from wld_web import Web, WebConfig

import wld
from tests.columns import as_read
from wld.terminal.facts import Facts
from wld.testing import TIME, make_context, make_gap, make_liquidation, make_ticker, make_trade

SECOND = 1_000_000_000
SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")


def reads_of(seed: int, sizes: list[int]) -> list[list[wld.Event]]:
    """Reads of several symbols: holes, snapshots, several depths, late trades, absent fields, some events as rows."""
    luck = random.Random(seed)
    ids = dict.fromkeys(SYMBOLS, 0)
    time = TIME
    out = []
    for size in sizes:
        time += luck.choice((0, 1, SECOND, 7 * SECOND, 61 * SECOND))
        out.append([_event(luck, ids, time) for _ in range(size)])
    return out


READS = st.builds(reads_of, st.integers(0, 1 << 32), st.lists(st.sampled_from((1, 5, 60, 200)), min_size=1, max_size=6))


def _event(luck: random.Random, ids: dict[str, int], time: int) -> wld.Event:
    symbol, kind = luck.choice(SYMBOLS), luck.random()
    sent = luck.choice((None, time - luck.randrange(10**9)))
    if kind < 0.6:
        return _book(luck, symbol, ids, sent, time)
    if kind < 0.8:
        return make_trade(
            symbol, price=str(luck.randint(1, 9)), size=str(luck.randint(1, 10**6)), time=time, sent_time=sent,
            aggressor_side=luck.choice(("buy", "sell")), is_backfilled=luck.random() < 0.2,
        )  # fmt: skip
    if kind < 0.95:
        names = ("last_price", "mark_price", "index_price", "open_interest", "funding_rate")
        values = {name: str(luck.randint(1, 99)) for name in names if luck.random() < 0.6}
        if luck.random() < 0.01:
            values["turnover_24h"] = str(10**12)  # beyond 64 bits: no column holds it
        return make_ticker(symbol, time=time, sent_time=sent, **values)  # type: ignore[arg-type]
    if kind < 0.9995:
        return make_liquidation(symbol, size=str(luck.randint(1, 999)), time=time, sent_time=sent)
    return make_gap(symbol=luck.choice((None, symbol)), topic=luck.choice((None, "orderbook")), time=time)


def _book(luck: random.Random, symbol: str, ids: dict[str, int], sent: int | None, time: int) -> wld.Event:
    ids[symbol] += 1 if luck.random() < 0.999 else 2
    sides = [
        tuple((luck.randint(1, 40), luck.choice((0, luck.randint(1, 9)))) for _ in range(luck.randint(0, 8)))
        for _ in range(2)
    ]
    is_snapshot = luck.random() < (0.9 if ids[symbol] < 2 else 0.01)
    return (wld.BookSnapshot if is_snapshot else wld.BookDelta)(
        symbol, *sides, ids[symbol], luck.choice((None, ids[symbol] * 7)), time, sent, time,
        1 if luck.random() < 0.01 else 50,
    )  # fmt: skip


def _book_of(book: wld.OrderBook | None) -> Any:
    if book is None or not book.is_valid:
        return None
    return book.bids(), book.asks(), book.update_id, book.sequence, book.receive_time, book.depth


def known(state: Telemetry) -> dict[str, Any]:
    """Everything that a state holds; of an invalid book only that it is."""
    sums = {name: list(getattr(state, name)._sums) for name in ("_flow", "_hour_flow", "_liquidated")}
    names = (
        "symbol", "first_time", "ticker", "instrument", "last_price", "trade_time", "liquidations", "largest", "gaps",
        "cvd", "_interest", "_basis", "_cvds",
    )  # fmt: skip
    return {name: getattr(state, name) for name in names} | sums | {"book": _book_of(state.book)}


def facts_known(facts: Facts) -> dict[str, Any]:
    """Everything that facts hold."""
    each = {s: {name: getattr(facts.of(s), name) for name in facts.of(s).__slots__} for s in facts.symbols}
    return {name: value for name, value in vars(facts).items() if name != "_reads"} | {"_symbols": each}


def in_columns(reads: Sequence[list[wld.Event]]) -> list[wld.Batch]:
    return [as_read(read, SYMBOLS) for read in reads]


@contextmanager
def crossings(few: int, slots: int = 1 << 13) -> Iterator[None]:
    """Fewer events than `few` go one by one; a side of a book may be so many ticks wide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wld.reads.FEW", few)
        patch.setattr("wld_telemetry.columns._SLOTS", slots)
        yield


LOOKS = st.sampled_from((1, 2, 100))
"""After how many reads somebody looks."""


@settings(deadline=None, max_examples=80)
@given(READS, st.sampled_from((0, 40)), st.sampled_from((2, 16, 1 << 13)), LOOKS)
def test_telemetry_of_columns_is_telemetry_of_events(
    reads: list[list[wld.Event]], few: int, slots: int, looks: int
) -> None:
    with crossings(few, slots):
        one, two = Feed(), Feed()
        for number, (read, batch) in enumerate(zip(reads, in_columns(reads), strict=True), 1):
            one.take(read)
            two.take(batch)
            if number % looks == 0 or number == len(reads):
                assert list(one.states) == list(two.states)
                for symbol, state in one.states.items():
                    assert known(state) == known(two.states[symbol])


@settings(deadline=None, max_examples=80)
@given(READS, st.sampled_from((0, 40)), LOOKS)
def test_facts_of_columns_are_facts_of_events(reads: list[list[wld.Event]], few: int, looks: int) -> None:
    with crossings(few):
        one, two = Facts(SYMBOLS[1:]), Facts(SYMBOLS[1:])
        for number, (read, batch) in enumerate(zip(reads, in_columns(reads), strict=True), 1):
            one.apply(read)
            two.apply(batch)
            if number % looks == 0 or number == len(reads):
                assert one.symbols == two.symbols
                assert facts_known(one) == facts_known(two)


@settings(deadline=None, max_examples=20)
@given(READS, st.sampled_from((0, 40)), LOOKS)
@example(reads_of(19285, [1, 60, 5]), 0, 1)  # liquidations at the very edge of the heat map's grid
def test_the_web_sink_knows_the_same_of_columns_and_events(reads: list[list[wld.Event]], few: int, looks: int) -> None:
    pytest.importorskip("hypercorn")
    with crossings(few):
        compare_web(reads, looks)


def compare_web(reads: list[list[wld.Event]], looks: int) -> None:
    one, two = (Web(WebConfig(), make_context()) for _ in range(2))
    for number, (read, batch) in enumerate(zip(reads, in_columns(reads), strict=True), 1):
        for web, given_ in ((one, wld.Batch(read)), (two, batch)):
            web.take(given_)
        if number % looks and number < len(reads):
            continue
        assert facts_known(one._facts) == facts_known(two._facts)
        assert set(one._radar.maps) == set(two._radar.maps)
        for symbol, heatmap in one._radar.maps.items():
            step, other = heatmap.model.step, two._radar.maps[symbol].model.step
            assert (step is None) == (other is None)
            if step is not None and other is not None:
                assert (step.liquidations, step.open_interest) == (other.liquidations, other.open_interest)
                assert (step.start, step.has_gap, step.late) == (other.start, other.has_gap, other.late)
        for symbol in SYMBOLS:
            assert known(one._feed.state(symbol)) == known(two._feed.state(symbol))


def test_plain_reads_make_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wld.reads.FEW", 0)
    sink, facts, radar = Feed(), Facts(), Radar()
    first: list[wld.Event] = [
        wld.BookSnapshot("AAAUSDT", ((9, 1),), ((11, 1),), 1, None, TIME, None, TIME, 50),
        make_trade("AAAUSDT", time=TIME), make_ticker("AAAUSDT", time=TIME, last_price="1"),
    ]  # fmt: skip
    second: list[wld.Event] = [
        wld.BookDelta("AAAUSDT", ((9, 0), (8, 4)), (), 2, None, TIME, None, TIME, 50),
        make_trade("AAAUSDT", time=TIME), make_ticker("AAAUSDT", time=TIME, last_price="2"),
        make_liquidation("AAAUSDT", time=TIME),
    ]  # fmt: skip
    batches = []
    for read in (first, second):
        batch = as_read(read, SYMBOLS)
        sink.take(batch)
        facts.apply(batch)
        radar.apply(batch)
        batches.append(batch)
    assert radar.maps["AAAUSDT"].model.step is not None
    book = sink.states["AAAUSDT"].book
    assert book is not None
    assert book.bids() == [(8, 4)]
    assert facts.counts == {"publicTrade": 2, "orderbook": 2, "tickers": 2, "allLiquidation": 1}
    assert [batch._made for batch in batches] == [None, None]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from((1, 10_000, 3 << 20, 1 << 40)), min_size=1, max_size=3), st.integers(1, 600),
    st.sampled_from((9, 10_000)), st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_last_word_on_each_price_is_found_whatever_the_ticks(
    ticks: list[int], count: int, reach: int, luck: Any
) -> None:
    sides = np.array([luck.choice((1, 2, 7)) for _ in range(count)])
    counts = np.array([luck.randrange(4) for _ in range(count)])
    prices = np.array([luck.choice(ticks) * (5 + luck.randrange(reach)) for _ in range(counts.sum())], np.int64)
    found, places = last_words(sides, counts, prices)
    each = np.repeat(sides, counts)
    assert found.tolist() == sorted(found.tolist())
    assert found.tolist() == each[places].tolist()
    every = dict(zip(zip(each.tolist(), prices.tolist(), strict=True), range(len(prices)), strict=True))
    assert dict(zip(zip(found.tolist(), prices[places].tolist(), strict=True), places.tolist(), strict=True)) == every
    if reach == 9 and len(ticks) == 1:
        assert len(places) == len(every)


NUMBERS = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 25), 1 << 25), st.sampled_from((0, -1, 1 << 24))
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 5), NUMBERS, NUMBERS), min_size=1, max_size=40), st.sampled_from((1, 4, 14)))
def test_sums_of_products_are_exact_beyond_64_bits(rows: list[tuple[int, int, int]], bits: int) -> None:
    groups, first, second = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wld_telemetry.columns._BITS_LEFT", bits)
        sums, counts = sums_of_products(groups, first, second)
    assert len(sums) == len(counts)
    assert len(sums) % 2 == 0
    for group in range(len(sums)):
        mine = [(a, b) for which, a, b in rows if which == group]
        assert counts[group] == len(mine)
        assert sums[group] == sum(a * b for a, b in mine)


def test_a_thousand_of_the_greatest_products_are_exact() -> None:
    most = np.full(1 << 15, (1 << 63) - 1, np.int64)
    sums, _ = sums_of_products(np.zeros(1 << 15, np.int64), most, most)
    assert sums == [(1 << 15) * ((1 << 63) - 1) ** 2, 0]
