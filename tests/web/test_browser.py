"""The page in a real browser, against a real run: it draws, answers keys, and says when the feed is gone.

`WLD_PICTURES=FOLDER` keeps the screenshots there; the documentation's are made so.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.web.chromium import BROWSER, open_page
from tests.web.test_web import SECOND, serving
from wld import Event
from wld.testing import TIME, make_ticker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs a Chromium (Debian: chromium)"),
]


@asynccontextmanager
async def radar(folder: Path) -> AsyncIterator[tuple[trio.Process, str]]:
    """`wld --sinks web` on the simulated exchange, in a process of its own, and its address."""
    log = folder / "log"
    with log.open("w") as out:
        process = await trio.lowlevel.open_process(
            [
                str(Path(sys.executable).with_name("wld")), "--source", "sim", "--sinks", "web", "--symbols",
                "WLDUSDT,BTCUSDT", "--set", "sinks.web.port=0", "--set", "source.sim_rate=3",
            ],
            stderr=out, stdout=subprocess.DEVNULL, cwd=folder,
        )  # fmt: skip
    try:
        with trio.fail_after(30):
            while not (found := re.search(r"the radar is at (\S+)", log.read_text())):
                assert process.returncode is None, log.read_text()
                await trio.sleep(0.1)
        yield process, found[1]
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        with trio.fail_after(15):
            assert await process.wait() == 0
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def test_the_page_draws_the_market_and_answers_its_keys(tmp_path: Path) -> None:
    keep = os.environ.get("WLD_PICTURES")
    async with radar(tmp_path) as (process, url), open_page(url) as page:
        await page.until("document.querySelector('#live').textContent.startsWith('LIVE')", 30)
        await page.until("document.querySelector('#mark').textContent !== '--'")
        if keep:
            await trio.sleep(150)
        colours = (
            "(() => { const c = document.querySelector('#heat'), d = c.getContext('2d').getImageData(0, 0, c.width, "
            "c.height).data, s = new Set(); for (let i = 0; i < d.length; i += 400) s.add(d[i] << 16 | d[i+1] << 8 | "
            "d[i+2]); return s.size > 20 })()"
        )
        await page.until(colours, 40)
        first = await page.evaluate("document.querySelector('#symbol').value")
        if keep:
            await page.press("Tab")
            await page.until("document.querySelector('#live').textContent.startsWith('LIVE')")
            await trio.sleep(3)
            for theme in ("dark", "light"):
                while await page.evaluate("state_theme()") != theme:
                    await page.press("t")
                await trio.sleep(0.5)
                await page.screenshot(Path(keep) / f"web-{theme}.png")
            await page.press("Tab")
        await page.press("Tab")
        await page.until(f"document.querySelector('#symbol').value !== '{first}'")
        await page.press(" ")
        await page.until("document.querySelector('#badges').textContent.includes('FROZEN')")
        await page.press(" ")
        await page.press("b")
        await page.until("document.querySelector('#badges').textContent.includes('raw')")
        await page.press("s")
        await page.until("document.querySelector('#badges').textContent.includes('long only')")
        await page.press("?")
        await page.until("document.querySelector('#help').open")
        await page.press("?")
        assert page.problems == []
        process.send_signal(signal.SIGSTOP)
        await page.until("document.querySelector('#live').textContent.startsWith('STALE')", 20)
        await page.until("getComputedStyle(document.querySelector('header')).backgroundColor !== 'rgb(21, 18, 31)'")
        process.send_signal(signal.SIGCONT)
        await page.until("document.querySelector('#live').textContent.startsWith('LIVE')", 20)


async def test_a_column_without_heat_stops_no_picture() -> None:
    quiet: list[Event] = [make_ticker(time=TIME + second * SECOND, mark_price="1") for second in range(-60, 0)]
    async with serving(first=quiet) as (web, address), open_page(f"http://{address}/") as page:
        assert any(not len(column.raw) for column in web._radar.maps["WLDUSDT"].columns)
        await page.until("document.querySelector('#high').textContent.includes('USDT')")  # written when it has drawn
        assert page.problems == []


async def test_the_page_needs_nothing_from_anywhere_else(tmp_path: Path) -> None:
    async with radar(tmp_path) as (_, url), open_page(url) as page:
        await page.until("document.querySelector('#live').textContent.startsWith('LIVE')", 30)
        hosts = await page.evaluate(
            "[...new Set(performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin))]"
        )
        assert hosts == [url.rstrip("/")]
