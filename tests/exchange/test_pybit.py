"""The venue's own Python client, unmodified but for the address, against `wld sim`."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wld

STREAMS = """
import json, os, sys, threading
from pybit import unified_trading

unified_trading.PUBLIC_WSS = sys.argv[1].replace("linear", "{CHANNEL_TYPE}")
books, seen, enough = [], {"trade": [], "ticker": [], "liquidation": []}, threading.Event()

def note(kind):
    def callback(message):
        seen[kind].append(json.loads(json.dumps(message)))
        check()
    return callback

def on_book(message):
    books.append(json.dumps(message["data"]))  # pybit goes on with the same object
    check()

def check():
    if len(books) >= 60 and all(seen.values()) and len(seen["ticker"]) >= 5:
        enough.set()

client = unified_trading.WebSocket(testnet=False, channel_type="linear")
client.orderbook_stream(50, "WLDUSDT", on_book)
client.trade_stream("WLDUSDT", note("trade"))
client.ticker_stream("WLDUSDT", note("ticker"))
client.all_liquidation_stream("WLDUSDT", note("liquidation"))
came = enough.wait(40)
print(json.dumps({"came": came, "connected": client.is_connected(), "books": [json.loads(b) for b in books[:60]], **seen}),
      flush=True)
os._exit(0)
"""
REST = """
import json, sys
from pybit.unified_trading import HTTP

client = HTTP(testnet=False)
client.endpoint = sys.argv[1]
ask = dict(category="linear", symbol="WLDUSDT")
print(json.dumps({
    "time": client.get_server_time(),
    "instruments": client.get_instruments_info(**ask),
    "book": client.get_orderbook(limit=5, **ask),
    "tickers": client.get_tickers(**ask),
    "trades": client.get_public_trade_history(limit=5, **ask),
    "interest": client.get_open_interest(intervalTime="5min", **ask),
    "tiers": client.get_risk_limit(**ask),
}))
"""


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """WebSocket and REST of a `wld sim` process."""
    command = [sys.executable, "-m", "wld", "sim", "--port", "0", "--rate", "30", "--seed", "11"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        yield lines[0].split()[1], lines[1].split()[1]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()


def pybit(script: str, address: str) -> Any:
    done = subprocess.run([sys.executable, "-c", script, address], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr, done.stderr
    return json.loads(done.stdout)


def recorded(folder: Path) -> None:
    """Until the journal holds something."""
    for _ in range(600):
        if any(path.stat().st_size > 4096 for path in folder.glob("*.open")):
            return
        time.sleep(0.05)
    raise AssertionError("nothing was recorded")


def test_all_four_topics_reach_pybit_and_its_book_is_the_recorded_one(
    addresses: tuple[str, str], tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "wld",
        "--source",
        addresses[0],
        "--sinks",
        "recorder",
        "--data-dir",
        str(tmp_path),
    ]
    recorder = subprocess.Popen(
        [*command, "--set", "sinks.recorder.flush_interval=0.05"], stderr=subprocess.PIPE, text=True
    )
    try:
        recorded(tmp_path)
        heard = pybit(STREAMS, addresses[0])
    finally:
        recorder.terminate()
        _, errors = recorder.communicate(timeout=20)
    assert recorder.returncode == 0, errors
    assert heard["came"]
    assert heard["connected"]
    books = heard["books"]
    assert [book["u"] for book in books] == list(range(books[0]["u"], books[0]["u"] + 60))
    truth, states = wld.OrderBook("WLDUSDT"), {}
    for event in wld.open_tape(tmp_path):
        if isinstance(event, wld.BookSnapshot | wld.BookDelta):
            truth.apply(event)
            states[event.update_id] = (truth.bids(), truth.asks())
    compared = 0
    for book in books:
        bids = sorted(((wld.parse_fixed(p), wld.parse_fixed(s)) for p, s in book["b"]), reverse=True)
        asks = sorted((wld.parse_fixed(p), wld.parse_fixed(s)) for p, s in book["a"])
        assert (len(bids), len(asks)) == (50, 50)
        assert bids[0][0] < asks[0][0]
        if book["u"] in states:
            assert (bids, asks) == states[book["u"]]
            compared += 1
    assert compared > 10
    ticker = heard["ticker"][-1]["data"]
    assert float(ticker["openInterest"]) == pytest.approx(2 * float(ticker["singleOpenInterest"]))
    trade = heard["trade"][0]["data"][0]
    assert re.fullmatch(r"[0-9a-f-]{36}", trade["i"])
    liquidation = heard["liquidation"][0]["data"][0]
    assert list(liquidation) == ["T", "s", "S", "v", "p"]
    below = float(liquidation["p"]) < float(ticker["markPrice"])
    assert below == (liquidation["S"] == "Buy")


def test_rest_as_pybit_asks_it(addresses: tuple[str, str]) -> None:
    answers = pybit(REST, addresses[1])
    assert {answer["retCode"] for answer in answers.values()} == {0}
    assert answers["instruments"]["result"]["list"][0]["symbol"] == "WLDUSDT"
    assert len(answers["book"]["result"]["b"]) == 5
    assert answers["tickers"]["result"]["list"][0]["symbol"] == "WLDUSDT"
    assert answers["interest"]["result"]["list"]
    assert answers["tiers"]["result"]["list"][0]["isLowestRisk"] == 1
