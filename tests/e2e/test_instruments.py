"""Instruments and the list of symbols while a recording runs: over the simulated exchange's WebSocket and REST."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

import wld
from tests.e2e.scripted import Recording, recording
from wld.exchange import ExchangeAddress, ExchangeConfig, serve_exchange


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wld.bybit.source.REFRESH_WAIT_S", 0.01)
    monkeypatch.setattr("wld.bybit.source.REST_RETRY_S", 0.05)


@asynccontextmanager
async def exchange(*symbols: str, **config: Any) -> AsyncIterator[ExchangeAddress]:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_exchange, ExchangeConfig(symbols=symbols or ("WLDUSDT",), **config))
        with trio.fail_after(30):
            yield address
        nursery.cancel_scope.cancel()


def follow(folder: Path, address: ExchangeAddress, **keys: Any) -> Any:
    return recording(folder, address.ws_url, source__rest_url=address.rest_url, **keys)


async def instrument(record: Recording, symbol: str = "WLDUSDT") -> wld.Instrument:
    """The next Instrument event of a symbol."""
    found: list[wld.Instrument] = []

    def look(event: wld.Event) -> bool:
        if isinstance(event, wld.Instrument) and event.symbol == symbol:
            found.append(event)
        return bool(found)

    await record.until(look)
    return found[0]


async def data(record: Recording, symbol: str) -> None:
    """Until market data of a symbol came."""
    await record.until(lambda e: not isinstance(e, wld.Instrument) and e.symbol == symbol)


async def test_instruments_and_margin_tiers_are_read_at_the_start(tmp_path: Path) -> None:
    async with exchange() as address, follow(tmp_path, address) as record:
        read = await instrument(record)
    assert (read.tick_size, read.lot_size, read.max_leverage) == (10_000, 10_000_000, 75 * wld.SCALE)
    assert (read.funding_interval, read.status) == (480, "Trading")
    assert len(read.margin_tiers) > 5
    assert [tier.limit for tier in read.margin_tiers] == sorted(tier.limit for tier in read.margin_tiers)
    assert read in record.events


async def test_a_change_found_at_the_interval_is_an_instrument_event_and_no_change_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with exchange() as address, follow(tmp_path, address, source__instrument_interval=0.05) as record:
        before = await instrument(record)
        await trio.sleep(0.3)
        market = address.exchange.market.symbol("WLDUSDT")
        market.spec = replace(market.spec, max_leverage=25)
        after = await instrument(record)
        while after.max_leverage == before.max_leverage:  # a reading that was on its way when the specification changed
            after = await instrument(record)
        await trio.sleep(0.3)
    told = [event.max_leverage for event in record.events if isinstance(event, wld.Instrument)]
    assert (told[0], told[-1], told.count(25 * wld.SCALE)) == (75 * wld.SCALE, 25 * wld.SCALE, 1)
    assert "WLDUSDT: the instrument changed" in caplog.text


async def test_a_book_that_restarts_with_update_id_1_has_its_instrument_read_again(tmp_path: Path) -> None:
    async with exchange() as address, follow(tmp_path, address) as record:
        await instrument(record)
        market = address.exchange.market.symbol("WLDUSDT")
        market.spec = replace(market.spec, max_leverage=25)
        await data(record, "WLDUSDT")
        address.exchange.inject("restart_u1")
        assert (await instrument(record)).max_leverage == 25 * wld.SCALE
    assert not [event for event in record.events if isinstance(event, wld.Gap)]


async def test_with_all_new_listings_join_and_delisted_ones_end_with_a_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keys = {"source__symbols": "all", "source__instrument_interval": 0.05}
    async with exchange("WLDUSDT", "OPUSDT") as address, follow(tmp_path, address, **keys) as record:
        await data(record, "OPUSDT")
        address.exchange.inject("list:NEWUSDT")
        await data(record, "NEWUSDT")
        address.exchange.inject("delist:OPUSDT")
        while "delisted" not in caplog.text:  # noqa: ASYNC110
            await trio.sleep(0.01)
        await data(record, "NEWUSDT")
        connections = address.exchange.clients
        assert len(connections) == 1
        (client,) = connections.values()
        assert {topic.rpartition(".")[2] for topic in client.session.topics} == {"WLDUSDT", "NEWUSDT"}
    assert "following all 2 listed symbols" in caplog.text
    assert "newly listed, now followed: NEWUSDT" in caplog.text
    assert "delisted, no longer followed: OPUSDT" in caplog.text
    listed = {event.symbol for event in record.events if isinstance(event, wld.Instrument)}
    assert listed == {"WLDUSDT", "OPUSDT", "NEWUSDT"}
    books = [event for event in record.events if isinstance(event, wld.BookSnapshot) and event.symbol == "NEWUSDT"]
    assert books
    assert not [event for event in record.events if isinstance(event, wld.Gap)]


async def test_a_topic_that_is_refused_at_run_time_has_the_list_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with exchange("WLDUSDT", "OPUSDT") as address, follow(tmp_path, address, source__symbols="all") as record:
        await data(record, "OPUSDT")
        address.exchange.delist("OPUSDT")
        address.exchange.inject("drop")
        while "delisted" not in caplog.text:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert "delisted, no longer followed: OPUSDT" in caplog.text


async def test_recording_goes_on_without_rest_and_instruments_come_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with exchange(faults=("rest_down:503",)) as address, follow(tmp_path, address) as record:
        await data(record, "WLDUSDT")
        while "instruments cannot be read" not in caplog.text:  # noqa: ASYNC110
            await trio.sleep(0.01)
        await data(record, "WLDUSDT")
        address.exchange.inject("clear")
        await instrument(record)
    assert "recording goes on without: GET http" in caplog.text
    assert "HTTP 503" in caplog.text
    assert record.service.failures == []


async def test_after_a_403_rest_is_left_alone_for_ten_minutes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with exchange(faults=("rest_down:403",)) as address, follow(tmp_path, address) as record:
        while "HTTP 403" not in caplog.text:  # noqa: ASYNC110
            await trio.sleep(0.01)
        address.exchange.inject("clear")
        await data(record, "WLDUSDT")
        await trio.sleep(0.3)
    assert not [event for event in record.events if isinstance(event, wld.Instrument)]


async def test_with_all_and_no_rest_the_list_is_asked_for_until_it_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"source__symbols": "all"}
    async with exchange(faults=("rest_down:503",)) as address, follow(tmp_path, address, **keys) as record:
        while "needs the instrument list" not in caplog.text:  # noqa: ASYNC110
            await trio.sleep(0.01)
        address.exchange.inject("clear")
        await data(record, "WLDUSDT")


async def test_all_over_many_symbols_reads_every_page_of_instruments_and_tiers(tmp_path: Path) -> None:
    symbols = [f"{letter}{n}USDT" for letter in "AB" for n in range(9)] + ["WLDUSDT"]
    async with exchange(*symbols, rate=0.1) as address, follow(tmp_path, address, source__symbols="all") as record:
        await data(record, "WLDUSDT")
    read = {event.symbol: event for event in record.events if isinstance(event, wld.Instrument)}
    assert sorted(read) == sorted(symbols)
    assert all(event.margin_tiers for event in read.values())
