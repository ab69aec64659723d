"""Owns the page's server: routes, headers, the live socket. Knows the radar only through the functions it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

_STATIC = Path(__file__).parent / "static"
_FILES = {"/": "index.html", "/app.js": "app.js", "/style.css": "style.css"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
TICK_S = 1.0
SEND_TIMEOUT_S = 10.0
"""A browser that takes nothing for so long is let go."""
_encode = msgspec.json.Encoder().encode


class Session(Protocol):
    """One open page of one symbol."""

    def hello(self) -> dict[str, Any]:
        """What it is told first."""
        ...

    def tick(self) -> dict[str, Any]:
        """What happened since the last call."""
        ...

    def close(self) -> None:
        """The page is gone."""
        ...


class Radar(Protocol):
    """What the page asks for; every value is ready for JSON."""

    def meta(self) -> dict[str, Any]:
        """Symbols, themes, help."""
        ...

    def history(self, symbol: str, before: int | None, count: int) -> dict[str, Any] | None:
        """Older columns; None for a symbol that is not followed."""
        ...

    def open(self, symbol: str) -> Session | None:
        """A page opens; None for a symbol that is not followed."""
        ...


def make_app(radar: Radar) -> Starlette:
    """The ASGI application."""

    def file(name: str) -> Callable[[Request], Any]:
        async def serve(request: Request) -> Response:
            return FileResponse(_STATIC / name, headers=_HEADERS)

        return serve

    async def meta(request: Request) -> Response:
        return _json(radar.meta())

    async def history(request: Request) -> Response:
        query = request.query_params
        try:
            before = int(query["before"]) if "before" in query else None
            count = int(query.get("count", "240"))
        except ValueError:
            return PlainTextResponse("before and count: expected integers\n", 400)
        found = radar.history(query.get("symbol", ""), before, count)
        return PlainTextResponse("symbol: not followed\n", 404) if found is None else _json(found)

    async def live(socket: WebSocket) -> None:
        if not _is_same_site(socket):
            await socket.close(1008)
            return
        session = radar.open(socket.query_params.get("symbol", ""))
        if session is None:
            await socket.close(1008)
            return
        try:
            await socket.accept()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, socket, nursery.cancel_scope)
                await _tell(socket, session)
        except* (WebSocketDisconnect, trio.TooSlowError):
            pass
        finally:
            session.close()

    routes: Sequence[BaseRoute] = [
        *(Route(path, file(name)) for path, name in _FILES.items()),
        Route("/api/meta", meta),
        Route("/api/history", history),
        WebSocketRoute("/ws", live),
    ]
    return Starlette(routes=routes)


async def _tell(socket: WebSocket, session: Session) -> None:
    """Send what happens, once a second; runs until cancelled."""
    message = session.hello()
    while True:
        with trio.fail_after(SEND_TIMEOUT_S):
            await socket.send_text(_encode(message).decode())
        await trio.sleep(TICK_S)
        message = session.tick()


async def _until_gone(socket: WebSocket, scope: trio.CancelScope) -> None:
    """A page says nothing; its going is the one thing to hear. No limit: it may stay for days."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
    scope.cancel()


def _is_same_site(socket: WebSocket) -> bool:
    """A page of another site must not read the radar through a visitor's browser."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")


def _json(value: Any) -> Response:
    return Response(_encode(value), media_type="application/json", headers=_HEADERS)
