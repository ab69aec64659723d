"""Owns the venue's public REST: instruments, margin tiers, time, recent trades.

The event loop turns while a list is read, entry by entry, so that no message waits for the thousand of a page.
"""

from __future__ import annotations

import importlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import trio

from wld.bybit.backoff import RequestGate
from wld.errors import RetryableSourceError, UnitError
from wld.events import AggressorSide, Instrument, MarginTier, Trade
from wld.units import ms_to_ns, parse_fixed64

if TYPE_CHECKING:
    import httpx

MAINNET = "https://api.bybit.com"
TESTNET = "https://api-testnet.bybit.com"
TIMEOUT_S = 10.0
MAX_BODY = 32 * 1024 * 1024
_MAX_PAGES = 100
TRADES_LIMIT = 1_000
"""The most that recent-trade gives."""
PIECE = 64
"""Entries read in one turn of the loop: 0.15 ms of trades (2.4 us each)."""
_CATEGORY = "linear"
_Given = TypeVar("_Given")
_Read = TypeVar("_Read")
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])


async def in_pieces(read: Callable[[_Given], _Read], entries: Sequence[_Given]) -> list[_Read]:
    """Each entry read; the loop turns now and then."""
    out: list[_Read] = []
    for start in range(0, len(entries), PIECE):
        out += map(read, entries[start : start + PIECE])
        await trio.lowlevel.checkpoint()
    return out


class RecentTrades(NamedTuple):
    """What the venue lists of a symbol's trades."""

    trades: list[Trade]
    """Newest first."""
    unreadable: int
    """Entries left out."""


class TradeList(NamedTuple):
    """The same, as it came."""

    items: list[Any]
    """Newest first."""
    time: int | None
    """The venue's clock when it answered, ns."""


class BybitRest:
    """Calls on one base URL. Every method raises `RetryableSourceError` naming the call that failed.

    With a gate, calls keep to the venue's limits, and none is made while it is closed.
    """

    def __init__(self, client: httpx.AsyncClient, gate: RequestGate | None = None) -> None:
        self._client = client
        self._gate = gate

    async def _pass_gate(self, where: str) -> None:
        gate = self._gate
        if gate is None:
            return
        if (closed := gate.closed_for(trio.current_time())) > 0:
            raise RetryableSourceError(f"{where}: not asked for another {closed:.0f} s, after {gate.reason}")
        wait = gate.wait_for(trio.current_time())
        gate.spend(trio.current_time() + wait)  # taken at once, so that the next caller waits for its own turn
        await trio.sleep(wait)

    async def get(self, path: str, **parameters: str | int) -> dict[str, msgspec.Raw]:
        """The fields of a GET's `result`, and `_time`; HTTP 200 with a retCode other than 0 is an error too."""
        import httpx  # loaded by whoever made the client

        where = f"GET {self._client.base_url.copy_with(path=path)}"
        await self._pass_gate(where)
        try:
            async with self._client.stream("GET", path, params=parameters) as response:
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > MAX_BODY:
                        raise RetryableSourceError(f"{where}: answer larger than {MAX_BODY >> 20} MiB")
            if response.status_code in (403, 429) and self._gate is not None:
                retry_after = response.headers.get("Retry-After", "")
                seconds = float(retry_after) if retry_after.isdecimal() and len(retry_after) < 6 else None
                self._gate.refused(response.status_code, seconds, trio.current_time())
            if response.status_code != 200:
                hint = " (rate limit or region: wait ten minutes)" if response.status_code == 403 else ""
                raise RetryableSourceError(f"{where}: HTTP {response.status_code}{hint}")
            answer = _object.decode(body)
            if (code := msgspec.json.decode(answer["retCode"])) != 0:
                message = msgspec.json.decode(answer.get("retMsg", b"null"))
                raise RetryableSourceError(f"{where}: retCode {code}: {message}")
            return {**_object.decode(answer["result"]), "_time": answer.get("time", msgspec.Raw(b"null"))}
        except httpx.HTTPError as error:
            raise RetryableSourceError(
                f"{where}: {type(error).__name__} {str(error) or error.__cause__ or ''}".rstrip()
            ) from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RetryableSourceError(f"{where}: not the venue's envelope: {error!r}") from None

    async def _pages(self, path: str, **parameters: str | int) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(_MAX_PAGES):
            page = await self.get(path, **parameters, **({"cursor": cursor} if cursor else {}))
            listed = await self._entries(path, page.get("list", msgspec.Raw(b"[]")))
            items += [item for item in listed if isinstance(item, dict) and isinstance(item.get("symbol"), str)]
            following = _field(page, "nextPageCursor")
            if not isinstance(following, str) or not following or following == cursor:
                break
            cursor = following
        return items

    async def _entries(self, path: str, listed: msgspec.Raw) -> list[Any]:
        try:
            return await in_pieces(msgspec.json.decode, _rows.decode(listed))
        except (ValueError, RecursionError):
            raise RetryableSourceError(f"GET {path}: no list") from None

    async def server_time(self) -> int:
        """The venue's clock, ns since the Unix epoch."""
        result = await self.get("/v5/market/time")
        try:
            return int(_field(result, "timeNano"))
        except (ValueError, TypeError):
            raise RetryableSourceError("GET /v5/market/time: no timeNano") from None

    async def recent_trades(self, symbol: str, receive_time: int) -> RecentTrades:
        """The last trades of a symbol, at most `TRADES_LIMIT`."""
        listed = (await self.listed_trades(symbol)).items
        trades = [trade for trade in await in_pieces(lambda i: to_trade(i, symbol, receive_time), listed) if trade]
        return RecentTrades(trades, len(listed) - len(trades))

    async def listed_trades(self, symbol: str, limit: int = TRADES_LIMIT) -> TradeList:
        """The last trades of a symbol as the venue lists them, at most `limit`."""
        path = "/v5/market/recent-trade"
        result = await self.get(path, category=_CATEGORY, symbol=symbol, limit=limit)
        items = await self._entries(path, result.get("list", msgspec.Raw(b"null")))
        time = _field(result, "_time")
        return TradeList(items[:limit], ms_to_ns(time) if isinstance(time, int) and 0 < time < 1 << 43 else None)

    async def instruments(self, symbols: Sequence[str] | None, receive_time: int) -> list[Instrument]:
        """Instruments with their margin tiers: of the given symbols, or all perpetuals and futures listed.

        The default page stops before W, so all pages are read; margin tiers come 15 symbols a page.
        """
        if symbols is not None and len(symbols) <= 20:
            listed = []
            tiers = []
            for symbol in symbols:
                listed += await self._pages("/v5/market/instruments-info", category=_CATEGORY, symbol=symbol)
                tiers += await self._pages("/v5/market/risk-limit", category=_CATEGORY, symbol=symbol)
        else:
            listed = await self._pages("/v5/market/instruments-info", category=_CATEGORY, limit=1000)
            tiers = await self._pages("/v5/market/risk-limit", category=_CATEGORY)
            if symbols is not None:
                wanted = set(symbols)
                listed = [item for item in listed if item.get("symbol") in wanted]
        by_symbol: dict[str, list[MarginTier]] = {}
        for item, tier in zip(tiers, await in_pieces(to_margin_tier, tiers), strict=True):
            if tier is not None:
                by_symbol.setdefault(str(item.get("symbol")), []).append(tier)

        def read(item: dict[str, Any]) -> Instrument:
            margin_tiers = sorted(by_symbol.get(str(item["symbol"]), []), key=lambda tier: tier.limit)
            return to_instrument(item, margin_tiers, receive_time)

        return await in_pieces(read, [item for item in listed if item.get("symbol")])


def _field(result: dict[str, msgspec.Raw], name: str) -> Any:
    """A field of a result; None where it is missing, or text that is none."""
    try:
        return msgspec.json.decode(result.get(name, b"null"))
    except (ValueError, RecursionError):
        return None


def _fixed(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        return parse_fixed64(str(value))
    except UnitError:
        return None


def to_margin_tier(item: dict[str, Any]) -> MarginTier | None:
    """One entry of risk-limit; None where it cannot be read. Numbers come as text, in places as numbers."""
    try:
        return MarginTier(
            limit=parse_fixed64(str(item["riskLimitValue"])),
            maintenance_margin=parse_fixed64(str(item["maintenanceMargin"])),
            initial_margin=parse_fixed64(str(item["initialMargin"])),
            max_leverage=parse_fixed64(str(item["maxLeverage"])),
            maintenance_deduction=_fixed(item.get("mmDeduction")),
        )
    except (KeyError, UnitError):
        return None


def to_trade(item: Any, symbol: str, receive_time: int) -> Trade | None:
    """One entry of recent-trade; None where it cannot be read. Its numbers come as text, seq too."""
    if not isinstance(item, dict):
        return None
    side = {"Buy": AggressorSide.BUY, "Sell": AggressorSide.SELL}.get(str(item.get("side")))
    time_ms, sequence = str(item.get("time") or ""), str(item.get("seq") or "")
    trade_id = item.get("execId")
    if side is None or not (time_ms.isdecimal() and len(time_ms) < 16) or not isinstance(trade_id, str):
        return None
    if item.get("symbol") != symbol or not 0 < len(trade_id) <= 128:
        return None
    try:
        return Trade(
            symbol=symbol,
            price=parse_fixed64(str(item["price"])),
            size=parse_fixed64(str(item["size"])),
            aggressor_side=side,
            trade_id=trade_id,
            sequence=int(sequence) if sequence.isdecimal() and len(sequence) < 19 else None,
            is_block_trade=item.get("isBlockTrade") is True,
            is_rpi=item["isRPITrade"] if isinstance(item.get("isRPITrade"), bool) else None,
            event_time=ms_to_ns(int(time_ms)),
            receive_time=receive_time,
        )
    except (KeyError, UnitError):
        return None


def to_instrument(item: dict[str, Any], tiers: Sequence[MarginTier], receive_time: int) -> Instrument:
    """One entry of instruments-info; a field that is missing or cannot be read is None."""

    def part(name: str) -> dict[str, Any]:
        value = item.get(name)
        return value if isinstance(value, dict) else {}

    lot, price, leverage = part("lotSizeFilter"), part("priceFilter"), part("leverageFilter")
    launch = str(item.get("launchTime") or "")
    interval = item.get("fundingInterval")
    return Instrument(
        symbol=str(item["symbol"]),
        tick_size=_fixed(price.get("tickSize")),
        lot_size=_fixed(lot.get("qtyStep")),
        max_leverage=_fixed(leverage.get("maxLeverage")),
        margin_tiers=tuple(tiers),
        funding_interval=interval if isinstance(interval, int) else None,
        status=str(item["status"]) if item.get("status") else None,
        contract_type=str(item["contractType"]) if item.get("contractType") else None,
        launch_time=ms_to_ns(int(launch)) if launch.isdecimal() and len(launch) < 16 and int(launch) else None,
        min_size=_fixed(lot.get("minOrderQty")),
        max_size=_fixed(lot.get("maxOrderQty")),
        min_notional=_fixed(lot.get("minNotionalValue")),
        receive_time=receive_time,
    )


@asynccontextmanager
async def open_rest(
    base_url: str, gate: RequestGate | None = None, trust: ssl.SSLContext | None = None
) -> AsyncIterator[BybitRest]:
    """A client on one base URL, closed at the end of the block."""
    verify = trust or True
    headers = {"User-Agent": "wld"}
    # It takes a tenth of a second to load, which neither the first subscribe nor the first picture should wait for.
    httpx = await trio.to_thread.run_sync(importlib.import_module, "httpx")
    async with httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT_S, headers=headers, verify=verify) as client:
        yield BybitRest(client, gate)
