"""Owns the web sink: batches to the radar's model and telemetry, and what each open page has been told so far."""

from __future__ import annotations

import logging
import time
from collections import deque
from functools import partial
from typing import Any, cast

import trio
from msgspec import Struct
from wld_heatmap import HeatMap, HeatmapConfig, Radar, judge
from wld_telemetry import Telemetry, apply_tables

from wld import SCALE, Batch, ConfigError, Event, Gap, Liquidation, SinkContext, Subscription, Ticker
from wld.terminal import numbers
from wld_web import wire

_log = logging.getLogger("wld.web")

HEALTH_INTERVAL_S = 30.0
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
    """Feeds one HeatMap and one Telemetry a symbol, and serves them."""

    def __init__(self, config: WebConfig, context: SinkContext) -> None:
        if not 0 <= config.port <= 65_535:
            raise ConfigError(f"sinks.web.port: expected 0 to 65535, got {config.port}")
        self._config = config
        self._context = context
        self._port = config.port + context.shard[0] - 1 if config.port and context.shard else config.port
        self._radar = Radar(config.model, context.symbols)
        self._telemetry: dict[str, Telemetry] = {}
        self._tape: dict[str, deque[str]] = {}
        self._now = 0
        """Receive time of the latest event, ns."""
        self._heard_at: float | None = None
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
            nursery.start_soon(self._tick)
            nursery.start_soon(self._judge)
            _log.info("the radar is at http://%s:%d/", self._config.host, self.port)
            task_status.started()
            async for batch in batches:
                self._heard_at = trio.current_time()
                self._feed(batch)
            self._radar.finish()
            nursery.cancel_scope.cancel()  # a page sees its socket close, says STALE and tries again

    async def _listen(self) -> trio.SocketListener:
        try:
            return (await trio.open_tcp_listeners(self._port, host=self._config.host))[0]
        except OSError as error:
            where = f"{self._config.host}:{self._port}"
            raise ConfigError(
                f"sinks.web: {where} cannot be had: {error.strerror or error}; set sinks.web.port"
            ) from None

    def _feed(self, batch: Batch) -> None:
        self._radar.apply(batch)
        self._now = max(self._now, batch.last_receive_time)
        liquidations = None if batch.tables is None else apply_tables(batch.tables, self._telemetry)
        if liquidations is not None:
            for liquidation in liquidations:
                self._note(liquidation)
            return
        for event in batch:
            symbol = getattr(event, "symbol", None)
            if symbol is None:
                for telemetry in self._telemetry.values():
                    telemetry.apply(event)
            else:
                self._telemetry_of(symbol).apply(event)
            if isinstance(event, Gap | Liquidation):
                self._note(event)

    def _telemetry_of(self, symbol: str) -> Telemetry:
        found = self._telemetry.get(symbol)
        if found is None:
            found = self._telemetry[symbol] = Telemetry(symbol)
        return found

    def _note(self, event: Event) -> None:
        clock = numbers.clock(event.receive_time)
        if isinstance(event, Liquidation):
            notional = event.size / SCALE * event.bankruptcy_price / SCALE
            price = numbers.price(event.bankruptcy_price, self._telemetry_of(event.symbol).tick)
            self._lines(event.symbol).append(
                f"{clock} {event.position_side.value.upper():5} {numbers.amount(notional)} USDT liquidated, bankrupt at {price}"
            )
        elif isinstance(event, Gap):
            what = f"{event.topic or 'all topics'}: {event.missed or 'unknown'} missed"
            for symbol in [event.symbol] if event.symbol else list(self._telemetry):
                self._lines(symbol).append(f"{clock} GAP {event.reason.value} {what}")

    def _lines(self, symbol: str) -> deque[str]:
        return self._tape.setdefault(symbol, deque(maxlen=TAPE_LINES))

    async def _tick(self) -> None:
        """Let quiet time pass too, once a second; runs until cancelled."""
        while True:
            await trio.sleep(1.0)
            if self._context.clock == "live":
                self._radar.advance(time.time_ns())
            self._context.status("web", {"pages": self.pages, "port": self.port})

    async def _judge(self) -> None:
        """Refresh the score now and then, in a thread; runs until cancelled."""
        while True:
            await trio.sleep(HEALTH_INTERVAL_S)
            for heatmap in list(self._radar.maps.values()):
                heatmap.refresh(await trio.to_thread.run_sync(judge, heatmap.sample(), abandon_on_cancel=True))

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

    def now(self) -> int:
        """The time that values are old against: this host's on a live feed, else the recording's."""
        return time.time_ns() if self._context.clock == "live" else self._now

    def age(self) -> float:
        """Seconds since anything came."""
        return 0.0 if self._heard_at is None else trio.current_time() - self._heard_at

    def telemetry(self, symbol: str) -> Telemetry:
        """Of a symbol."""
        return self._telemetry_of(symbol)

    def tape(self, symbol: str) -> list[str]:
        """Its latest events, oldest first."""
        return list(self._lines(symbol))


class Page:
    """What one open page has been told."""

    def __init__(self, web: Web, symbol: str, heatmap: HeatMap) -> None:
        self._web = web
        self._symbol = symbol
        self._heatmap = heatmap
        self._told = 0
        self._marked = 0

    def hello(self) -> dict[str, Any]:
        """The grid and the latest columns."""
        web, heatmap = self._web, self._heatmap
        tick = web.telemetry(self._symbol).tick
        digits = numbers.decimals(heatmap.mark_price or 0, tick)
        columns, more = wire.history(heatmap, None, wire.HISTORY_COLUMNS)
        self._told = columns[-1]["end"] if columns else 0
        marks = list(heatmap.liquidations)
        self._marked = marks[-1].time if marks else 0
        return {
            "kind": "hello", "symbol": self._symbol, "grid": wire.grid_of(heatmap, digits), "columns": columns,
            "more": more, "liquidations": [wire.liquidation_of(m) for m in marks],
        }  # fmt: skip

    def tick(self) -> dict[str, Any]:
        """Columns that closed, the open one, and every figure as it stands."""
        web, heatmap = self._web, self._heatmap
        now = web.now()
        closed = []
        for column in reversed(heatmap.columns):
            if column.start < self._told:
                break
            closed.append(column)
        closed.reverse()
        if closed:
            self._told = closed[-1].end
        open_column = heatmap.open_column(now)
        fresh = [m for m in heatmap.liquidations if m.time > self._marked]
        if fresh:
            self._marked = fresh[-1].time
        telemetry = web.telemetry(self._symbol)
        return {
            "kind": "tick", "now": now, "age": web.age(), "closed": wire.columns_of(closed),
            "open": None if open_column is None else wire.column_of(open_column),
            "liquidations": [wire.liquidation_of(m) for m in fresh],
            "zones": [wire.zone_of(zone) for zone in heatmap.zones(3)],
            "header": _header(telemetry, now), "groups": [*_groups(telemetry, now), _health(heatmap)],
            "tape": web.tape(self._symbol),
        }  # fmt: skip

    def close(self) -> None:
        """The page is gone."""
        self._web.pages -= 1


def _header(telemetry: Telemetry, now: int) -> dict[str, str]:
    ticker = telemetry.ticker or Ticker(telemetry.symbol)
    rate, due = ticker.funding_rate, ticker.next_funding_time
    return {
        "last": numbers.price(telemetry.last_price, telemetry.tick),
        "change": numbers.percent(None if ticker.price_change_24h is None else ticker.price_change_24h / SCALE),
        "mark": numbers.price(ticker.mark_price, telemetry.tick),
        "fund": f"{numbers.percent(None if rate is None else rate / SCALE, 4)} in "
        f"{numbers.countdown(None if due is None else due - now)}",
        "oi": numbers.amount_long(None if ticker.open_interest is None else ticker.open_interest / SCALE),
    }


def _groups(telemetry: Telemetry, now: int) -> list[dict[str, Any]]:
    return [
        {
            "title": group.title,
            "rows": [{"label": row.label, "value": row.value, "old": row.is_old} for row in group.rows],
        }
        for group in telemetry.groups(now)
    ]


def _health(heatmap: HeatMap) -> dict[str, Any]:
    health = heatmap.health
    rows = [("verdict", health.verdict), ("events", f"{health.events} in {health.hours} h"), ("margin", health.margin)]
    if health.lift is not None and health.lift_low is not None and health.lift_high is not None:
        rows.append(("lift@10", f"{health.lift:.1f}x [{health.lift_low:.1f}-{health.lift_high:.1f}]"))
    if health.placebo is not None:
        rows.append(("placebo", f"{health.placebo:.1f}x"))
    if health.bits is not None:
        rows.append(("bits/event", f"{health.bits:+.2f} against distance"))
    if health.coverage_long is not None and health.coverage_short is not None:
        rows.append(("cov of OI", f"L {health.coverage_long:.0%}  S {health.coverage_short:.0%}"))
    rows += [("note", note) for note in health.notes]
    return {"title": "MODEL (estimate)", "rows": [{"label": k, "value": v, "old": False} for k, v in rows]}


__all__ = ["Page", "Web", "WebConfig"]
