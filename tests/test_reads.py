"""Reads kept together: given on when somebody looks, when they are many, and always in their order."""

from __future__ import annotations

import pytest

import wld
from tests.columns import as_read
from wld.reads import Joined, Reads
from wld.testing import TIME, make_gap, make_ticker, make_trade

SYMBOLS = ("AAAUSDT", "BBBUSDT")
READING = {"trades": ("price",), "tickers": ("values",)}
LARGE = str(10**12)
"""A turnover that no column holds."""


class Kept:
    """What was given on, in order: numbers of joined events, or the events."""

    def __init__(self) -> None:
        self.given: list[object] = []
        self.joined: list[Joined] = []
        self.reads = Reads(READING, self.take, self.given.append)

    def take(self, joined: Joined) -> None:
        self.joined.append(joined)
        self.given.append(list(joined.present()))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr("wld.reads.FEW", 2)
    return Kept()


def trades(*symbols: str, time: int = TIME) -> wld.Batch:
    return as_read([make_trade(symbol, price="2", time=time) for symbol in symbols], SYMBOLS)


def test_nothing_is_given_on_until_somebody_looks(kept: Kept) -> None:
    kept.reads.add(trades("BBBUSDT"))
    kept.reads.add(trades("AAAUSDT", "BBBUSDT", time=TIME + 5))
    assert not kept.given
    kept.reads.flush()
    kept.reads.flush()
    (joined,) = kept.joined
    assert joined.present() == {"BBBUSDT": TIME, "AAAUSDT": TIME + 5}
    columns = joined.kinds["trades"]
    assert columns["number"].tolist() == [0, 1, 2]
    assert columns["receive_time"].tolist() == [TIME, TIME + 5, TIME + 5]
    assert joined.last(columns) == {0: 1, 1: 2}


def test_few_are_given_on_one_by_one(kept: Kept) -> None:
    batch = trades("AAAUSDT")
    kept.reads.add(batch)
    kept.reads.flush()
    assert kept.given == list(batch)


def test_many_are_given_on_unasked(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wld.reads.MOST", 3)
    for _ in range(4):
        kept.reads.add(trades("AAAUSDT"))
    assert kept.given == [["AAAUSDT"]]


def test_what_is_no_column_comes_behind_what_was_kept(kept: Kept) -> None:
    gap = make_gap(time=TIME)
    kept.reads.add(trades("AAAUSDT", "BBBUSDT"))
    kept.reads.add(wld.Batch([gap]))
    assert kept.given == [["AAAUSDT", "BBBUSDT"], gap]


def test_another_table_of_symbols_begins_anew(kept: Kept) -> None:
    kept.reads.add(trades("AAAUSDT", "AAAUSDT"))
    kept.reads.add(as_read([make_trade("CCCUSDT", time=TIME)] * 2, (*SYMBOLS, "CCCUSDT")))
    kept.reads.flush()
    assert kept.given == [["AAAUSDT"], ["CCCUSDT"]]


def test_tickers_that_fit_no_column_keep_their_order(kept: Kept) -> None:
    plain = as_read([make_ticker(name, time=TIME, last_price="1") for name in SYMBOLS], SYMBOLS)
    large = [make_ticker("AAAUSDT", time=TIME, turnover_24h=LARGE), make_ticker("BBBUSDT", time=TIME)]
    kept.reads.add(plain)
    kept.reads.add(as_read(large, SYMBOLS))
    kept.reads.add(as_read(large, SYMBOLS))
    kept.reads.add(plain)
    kept.reads.flush()
    assert [[number for number, _ in joined.tickers] for joined in kept.joined] == [[], [0, 2], []]
    assert [ticker.turnover_24h for _, ticker in kept.joined[1].tickers] == [int(LARGE) * 10**8] * 2
    assert kept.joined[1].kinds["tickers"]["number"].tolist() == [1, 3]
