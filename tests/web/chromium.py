"""Owns a headless Chromium for tests: starts it, opens a page, evaluates, presses keys, takes a screenshot.

Speaks the DevTools protocol over trio-websocket; no driver beside the browser is needed.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One open page; every wait has a limit."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._id = 0
        self.problems: list[str] = []
        """Exceptions and console errors of the page, as they came."""

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer."""
        self._id += 1
        await self._connection.send_message(json.dumps({"id": self._id, "method": method, "params": parameters}))
        with trio.fail_after(30):
            while True:
                message = json.loads(await self._connection.get_message())
                if message.get("method") == "Runtime.exceptionThrown":
                    self.problems.append(json.dumps(message["params"]["exceptionDetails"])[:500])
                if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                    self.problems.append(json.dumps(message["params"]["entry"])[:500])
                if message.get("id") == self._id:
                    if "error" in message:
                        raise AssertionError(message["error"])
                    return message["result"]  # type: ignore[no-any-return]

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str, limit_s: float = 20) -> Any:
        """Wait until an expression is true."""
        guarded = f"(() => {{ try {{ return {expression} }} catch {{ return false }} }})()"
        with trio.fail_after(limit_s):
            while not (value := await self.evaluate(guarded)):  # noqa: ASYNC110
                await trio.sleep(0.1)
        return value

    async def press(self, key: str) -> None:
        """One key."""
        text = {"text": key} if len(key) == 1 else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def screenshot(self, path: Path) -> None:
        """The page as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        await trio.Path(path).write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def open_page(url: str, *, width: int = 1400, height: int = 800) -> AsyncIterator[Page]:
    """A page in a browser of its own, ended with the block."""
    assert BROWSER is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:  # its children may still write
        process = await trio.lowlevel.open_process(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
                "--remote-allow-origins=*", "--disable-background-networking", "--no-first-run",
                f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": profile},
        )  # fmt: skip
        try:
            marker = trio.Path(profile) / "DevToolsActivePort"
            with trio.fail_after(60):
                while not await marker.exists() or not (await marker.read_text()).strip():  # noqa: ASYNC110
                    await trio.sleep(0.1)
                port = (await marker.read_text()).split()[0]
                async with httpx.AsyncClient() as client:
                    targets = (await client.get(f"http://127.0.0.1:{port}/json")).json()
            target = next(t for t in targets if t["type"] == "page")["webSocketDebuggerUrl"]
            async with open_websocket_url(target, max_message_size=64 << 20) as connection:
                page = Page(connection)
                for domain in ("Page", "Runtime", "Log"):
                    await page.call(f"{domain}.enable")
                await page.call(
                    "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
                )
                await page.call("Page.navigate", url=url)
                yield page
        finally:
            process.kill()
            with trio.CancelScope(shield=True):  # a killed process ends at once
                await process.wait()
