"""Wire frames for tests: what the venue would send, made here."""

from __future__ import annotations

import json
from typing import Any

MS = 1_000_000
S = 1_000 * MS
T0 = 1_790_000_000_000


def book(
    update_id: int,
    bids: list[tuple[str, str]] | None = None,
    asks: list[tuple[str, str]] | None = None,
    *,
    kind: str = "delta",
    symbol: str = "WLDUSDT",
    depth: int = 50,
    sequence: int | None = None,
) -> str:
    data: dict[str, Any] = {"s": symbol, "b": bids or [], "a": asks or [], "u": update_id}
    data["seq"] = 800_000_000_000 + update_id if sequence is None else sequence
    topic = f"orderbook.{depth}.{symbol}"
    return json.dumps({"topic": topic, "type": kind, "ts": T0, "data": data, "cts": T0 - 2})


def snapshot(update_id: int, **keys: Any) -> str:
    return book(update_id, [("1.0", "5"), ("0.9", "7")], [("1.1", "6"), ("1.2", "8")], kind="snapshot", **keys)


def trade(i: int, **fields: Any) -> dict[str, Any]:
    return {
        "T": T0 + i, "s": "WLDUSDT", "S": "Buy", "v": "0.1", "p": "1.0342", "L": "PlusTick",
        "i": f"6052ed84-95df-5f17-887b-{i:012x}", "BT": False, "RPI": False, "seq": 800_000_000_000 + i, **fields,
    }  # fmt: skip


def trades(*items: dict[str, Any]) -> str:
    return json.dumps({"topic": "publicTrade.WLDUSDT", "type": "snapshot", "ts": T0, "data": list(items)})


def ticker(kind: str = "delta", cs: int = 5, *, ts: int = T0, **fields: str) -> str:
    data = {"symbol": "WLDUSDT", **fields}
    return json.dumps({"topic": "tickers.WLDUSDT", "type": kind, "data": data, "cs": cs, "ts": ts})


def liquidation(*items: dict[str, Any]) -> str:
    return json.dumps({"topic": "allLiquidation.WLDUSDT", "type": "snapshot", "ts": T0, "data": list(items)})


def ack(request: str, **fields: Any) -> str:
    sent = json.loads(request)
    return json.dumps(
        {"success": True, "ret_msg": "", "conn_id": "c1", "req_id": sent["req_id"], "op": sent["op"], **fields}
    )


def refusal(request: str, text: str) -> str:
    return ack(request, success=False, ret_msg=text)
