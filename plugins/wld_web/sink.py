"""Owns the web sink: batches to the radar's model and telemetry, and what each open page has been told so far."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import trio
from msgspec import Struct
from wld_heatmap import HeatMap, HeatmapConfig, Keeper, LiquidationMark, Panels, Radar, Selection, Zone
from wld_telemetry import Feed, Running, draw_row

from wld import Batch, ConfigError, SinkContext, Subscription
from wld.terminal import Facts, Line, View, numbers
from wld_web import wire

_log = logging.getLogger("wld.web")

PANEL_WIDTH, PANEL_HEIGHT = 44, 40
"""Cells of a panel, as beside a wide terminal's pane."""
TAPE_LINES = 50
HELP = """\
Tab            next symbol
space          freeze the page (the engine goes on)
left, right    scroll time; End is live; older columns come as you scroll
up, down       pan price; 0 recentres
+ -            zoom price (or the wheel); [ ] more or fewer columns
b              heat with or without the boost by real liquidations
s              both sides, longs only, shorts only
g G            gamma of the ramp
t              theme

Longs are projected BELOW the mark price, shorts ABOVE. Every value is an estimate in USDT; filled circles are real
liquidations that fell into the hottest tenth, pale ones are misses."""


class WebConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[sinks.web]`."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback lets others on the network read the page."""
    port: int = 8787
    """0 takes any free one; the log says which. With --workers each takes the next one."""
    model: HeatmapConfig = HeatmapConfig()
    """The heat model's keys, as `[sinks.heatmap]` has them."""


class Web:
    """Feeds what the terminal's sinks feed, a Radar and a Telemetry a symbol, and serves what their panels say."""

    def __init__(self, config: WebConfig, context: SinkContext) -> None:
        if not 0 <= config.port <= 65_535:
            raise ConfigError(f"sinks.web.port: expected 0 to 65535, got {config.port}")
        self._config = config
        self._context = context
        self._port = config.port + context.shard[0] - 1 if config.port and context.shard else config.port
        self._radar = Radar(config.model, context.symbols)
        self._facts = Facts(context.symbols or ())
        self._keeper = Keeper(self._radar, context.clock, self._facts.note)
        self._feed = Feed()
        self._running = Running(context, self._feed)
        self._selection = Selection(self._radar)
        self._panels = Panels(self._selection)
        self.pages = 0
        """Open now."""
        self.port: int | None = None
        """Where it listens, once it does."""

    async def run(
        self, batches: Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until the batches end. Raises: ConfigError: the address cannot be had."""
        from hypercorn.config import Config  # a run without this sink loads no HTTP server
        from hypercorn.trio import serve

        from wld_web.server import make_app

        listener = await self._listen()
        self.port = listener.socket.getsockname()[1]
        hypercorn = Config()
        hypercorn.bind = [f"fd://{listener.socket.detach()}"]
        hypercorn.errorlog = hypercorn.accesslog = None
        hypercorn.include_server_header = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(serve, cast(Any, make_app(self)), hypercorn, shutdown_trigger=trio.sleep_forever, mode="asgi")
            )
            nursery.start_soon(self._keeper.run, self._report)
            _log.info("the radar is at http://%s:%d/", self._config.host, self.port)
            task_status.started()
            async for batch in batches:
                self.take(batch)
            self._radar.finish()
            nursery.cancel_scope.cancel()  # a page sees its socket close, says STALE and tries again

    def _report(self, now: int) -> None:
        self._context.status("web", {"pages": self.pages, "port": self.port})

    async def _listen(self) -> trio.SocketListener:
        try:
            return (await trio.open_tcp_listeners(self._port, host=self._config.host))[0]
        except OSError as error:
            where = f"{self._config.host}:{self._port}"
            raise ConfigError(
                f"sinks.web: {where} cannot be had: {error.strerror or error}; set sinks.web.port"
            ) from None

    def take(self, batch: Batch) -> None:
        """Give a batch to everything that the page shows."""
        self._facts.apply(batch)
        self._radar.apply(batch)
        self._feed.take(batch)

    # -- what pages ask (wld_web.server.Radar)

    def meta(self) -> dict[str, Any]:
        """Symbols, themes, help."""
        symbols = [symbol for symbol, heatmap in self._radar.maps.items() if heatmap.is_ready]
        return {
            "wld": self._context.wld_version, "symbols": sorted(symbols), "themes": wire.themes(), "theme": "dark",
            "help": HELP,
        }  # fmt: skip

    def history(self, symbol: str, before: int | None, count: int) -> dict[str, Any] | None:
        """Older columns and the liquidations among them."""
        heatmap = self._radar.maps.get(symbol)
        if heatmap is None:
            return None
        columns, more = wire.history(heatmap, before, count)
        first = columns[0]["start"] if columns else 0
        marks = [m for m in heatmap.liquidations if m.time >= first and (before is None or m.time < before)]
        return {"columns": columns, "liquidations": [wire.liquidation_of(m) for m in marks], "more": more}

    def open(self, symbol: str) -> Page | None:
        """A page opens."""
        heatmap = self._radar.maps.get(symbol)
        if heatmap is None or not heatmap.is_ready:
            return None
        self.pages += 1
        return Page(self, symbol, heatmap)

    def view(self, symbol: str) -> View:
        """What a screen would look at now: this host's time on a live feed, else the recording's."""
        view = View(self._facts, symbol, self._context.clock)
        view.now = time.time_ns() if view.clock == "live" else self._facts.receive_time or 0
        return view

    def groups(self, view: View) -> list[tuple[str, Sequence[Line]]]:
        """(title, lines) of the terminal's panels, in its order."""
        told = [
            (group.title, [draw_row(row, PANEL_WIDTH) for row in group.rows])
            for group in self._feed.state(view.symbol).groups(view.now)
            if group.name != "liquidations"  # the heat map's say how hot it was there
        ]
        panels, size = self._panels, (PANEL_WIDTH, PANEL_HEIGHT)
        return [
            *told,
            (panels.LIQUIDATIONS, panels.liquidation_lines(view, *size)),
            (panels.ZONES, panels.zone_lines(view, *size)),
            (panels.MODEL, panels.model_lines(view, *size)),
            ("FEED", [draw_row(row, PANEL_WIDTH) for row in self._running.feed(view)]),
        ]

    def zones(self, view: View) -> list[tuple[str, Zone]]:
        """The zones that the terminal names."""
        return self._selection.named_zones(view)


class Page:
    """What one open page has been told."""

    def __init__(self, web: Web, symbol: str, heatmap: HeatMap) -> None:
        self._web = web
        self._symbol = symbol
        self._heatmap = heatmap
        self._told = 0
        self._marked: LiquidationMark | None = None

    def hello(self) -> dict[str, Any]:
        """The grid and the latest columns."""
        heatmap = self._heatmap
        digits = numbers.decimals(heatmap.mark_price or 0, heatmap.model.rules.tick)
        columns, more = wire.history(heatmap, None, wire.HISTORY_COLUMNS)
        self._told = columns[-1]["end"] if columns else 0
        marks = list(heatmap.liquidations)
        self._marked = marks[-1] if marks else None
        return {
            "kind": "hello", "symbol": self._symbol, "grid": wire.grid_of(heatmap, digits), "columns": columns,
            "more": more, "liquidations": [wire.liquidation_of(m) for m in marks],
        }  # fmt: skip

    def tick(self) -> dict[str, Any]:
        """Columns that closed, the open one, and every figure as it stands."""
        web, heatmap = self._web, self._heatmap
        view = web.view(self._symbol)
        facts, now = view.facts, view.now
        closed = []
        for column in reversed(heatmap.columns):
            if column.start < self._told:
                break
            closed.append(column)
        closed.reverse()
        if closed:
            self._told = closed[-1].end
        open_column = heatmap.open_column(now)
        fresh = heatmap.liquidations_since(self._marked)
        if fresh:
            self._marked = fresh[-1]
        return {
            "kind": "tick", "now": now, "state": facts.state(self._symbol, now, clock=view.clock), "closed": wire.columns_of(closed),
            "open": None if open_column is None else wire.column_of(open_column),
            "liquidations": [wire.liquidation_of(m) for m in fresh],
            "zones": [wire.zone_of(name, zone) for name, zone in web.zones(view)],
            "header": facts.of(self._symbol).headline(now),
            "groups": [wire.group_of(title, lines) for title, lines in web.groups(view) if lines],
            "tape": [wire.note_of(note) for note in facts.notes_of(self._symbol)[-TAPE_LINES:]],
        }  # fmt: skip

    def close(self) -> None:
        """The page is gone."""
        self._web.pages -= 1


__all__ = ["Page", "Web", "WebConfig"]
