"""What a stranger's proxy does to the frames between venue and recorder, as docs/reference-faults.md says."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

import wld
from tests.faults.rig import Rig
from tests.faults.rows import Act, run
from tests.faults.stranger import CLOSE, PING, TEXT, Frame, Hangup, Stranger, written
from wld.exchange.control import Reply, Session
from wld.exchange.wire import raw_frame

Change = Callable[[Frame], Iterable[bytes]]
TRADES, BOOK = "publicTrade.", "orderbook."


def stranger(rig: Rig) -> Stranger:
    (proxy,) = rig.proxies
    assert isinstance(proxy, Stranger)
    return proxy


def changed(make: Callable[[], Change], seconds: float = 0.8, *, cut: bool = False) -> Act:
    """Let a change act for a while; `cut`: on new connections too, of which the first is wanted at once."""

    async def act(rig: Rig) -> None:
        stranger(rig).change = make()
        if cut:
            stranger(rig).reset_all()
        await rig.exchange_time(seconds)
        stranger(rig).restore()

    return act


def once(prefix: str, make: Callable[[Frame], Iterable[bytes]], *, after: int = 0) -> Callable[[], Change]:
    """The change happens to one message of a topic."""

    def begin() -> Change:
        left = [after + 1]

        def change(frame: Frame) -> Iterable[bytes]:
            if frame.is_of(prefix):
                left[0] -= 1
                if left[0] == 0:
                    return make(frame)
            return [frame.raw]

        return change

    return begin


def exchanged(prefix: str) -> Callable[[], Change]:
    """Each message of a topic changes places with the next."""

    def begin() -> Change:
        held: list[bytes] = []

        def change(frame: Frame) -> list[bytes]:
            if not frame.is_of(prefix):
                return [frame.raw]
            if held:
                return [frame.raw, held.pop()]
            held.append(frame.raw)
            return []

        return change

    return begin


def edited(edit: Callable[[dict[str, Any]], list[dict[str, Any]]], prefix: str = "") -> Callable[[], Change]:
    """Each JSON message as `edit` would have it."""

    def change(frame: Frame) -> list[bytes]:
        if frame.opcode != TEXT or not frame.topic.startswith(prefix):
            return [frame.raw]
        return [written(json.dumps(body, separators=(",", ":"))) for body in edit(json.loads(frame.text))]

    return lambda: change


def is_ack(body: dict[str, Any]) -> bool:
    return body.get("op") == "subscribe"


def no_success(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [{k: v for k, v in body.items() if k != "success"} if is_ack(body) else body]


def other_request(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**body, "req_id": "zz"} if is_ack(body) else body]


def hang_up_within(frame: Frame) -> list[bytes]:
    raise Hangup(frame.raw[: len(frame.raw) // 2])


def closing(code: int) -> Callable[[Frame], list[bytes]]:
    return lambda frame: [frame.raw, raw_frame(CLOSE, code.to_bytes(2, "big"))]


def cut_in_two(frame: Frame) -> list[bytes]:
    half = len(frame.payload) // 2
    first, rest = frame.payload[:half], frame.payload[half:]
    return [bytes([raw_frame(TEXT, first)[0] & 0x7F]) + raw_frame(TEXT, first)[1:], raw_frame(0, rest)]


def with_bits(bits: int) -> Callable[[Frame], list[bytes]]:
    return lambda frame: [frame.raw, bytes([frame.raw[0] | bits]) + frame.raw[1:]]


def answer(status: str) -> Act:
    """The handshake answered otherwise, after a reset."""

    async def act(rig: Rig) -> None:
        proxy = stranger(rig)
        proxy.upgrade = lambda head: re.sub(rb"HTTP/1.1 101[^\r]*", f"HTTP/1.1 {status}".encode(), head)
        proxy.reset_all()
        await rig.exchange_time(0.4)
        proxy.restore()
        proxy.reset_all()

    return act


async def refused_for_rate(rig: Rig) -> None:
    """Each subscribe refused, after a reset, for the rate of requests; nothing of it is carried out."""

    def refuse(session: Session, topics: list[str], req_id: str) -> Reply:
        return session._failure("Too many visits. Exceeded the API Rate Limit.", req_id, "subscribe")

    carry_out = Session._subscribe
    Session._subscribe = refuse  # type: ignore[method-assign]
    try:
        stranger(rig).reset_all()
        await rig.exchange_time(0.5)
    finally:
        Session._subscribe = carry_out  # type: ignore[method-assign]


def counted_anew(*, with_snapshot: bool) -> Act:
    """The books go on with lower update ids, and none of them is 1."""

    async def act(rig: Rig) -> None:
        for book in rig.exchange.market.books():
            book.update_id = 4_321
            if with_snapshot:
                book.resend()
        await rig.exchange_time(0.5)

    return act


async def liquidated_alike(rig: Rig) -> None:
    """Each liquidation message, and behind it one of the same content that was pushed a millisecond later."""
    seen: list[str] = []

    def change(frame: Frame) -> list[bytes]:
        if not frame.is_of("allLiquidation."):
            return [frame.raw]
        body = json.loads(frame.text)
        again = json.dumps({**body, "ts": body["ts"] + 1}, separators=(",", ":"))
        assert rig.exchange.sent_log is not None
        rig.exchange.sent_log.append(again)
        seen.append(again)
        return [frame.raw, written(again)]

    stranger(rig).change = change
    with trio.fail_after(15):
        while len(seen) < 2:  # noqa: ASYNC110
            await trio.sleep(0.05)
    stranger(rig).restore()


def split_everywhere(rig_piece: int) -> Act:
    async def act(rig: Rig) -> None:
        stranger(rig).piece = rig_piece
        await rig.exchange_time(0.8)
        stranger(rig).restore()

    return act


def garbled_half() -> Change:
    luck = random.Random(5)

    def change(frame: Frame) -> list[bytes]:
        if frame.is_of(TRADES) and luck.random() < 0.5:
            return [written(frame.text.replace("publicTrade", "publicTrdae", 1))]
        return [frame.raw]

    return change


def half_of_the_books() -> Change:
    luck = random.Random(5)
    return lambda frame: [] if frame.is_of(BOOK) and luck.random() < 0.5 else [frame.raw]


def no_data(frame: Frame) -> list[bytes]:
    return [] if frame.topic else [frame.raw]


def no_pongs(frame: Frame) -> list[bytes]:
    return [] if '"pong"' in frame.text else [frame.raw]


def replaced(text: bytes) -> Callable[[Frame], list[bytes]]:
    return lambda frame: [frame.raw, text]


Rows = list[tuple[str, str, Act]]
ROWS: Rows = [
    ("frame split at each byte", "every byte by itself for 0.8 s", split_everywhere(1)),
    ("topics garbled", "two letters of the topic exchanged, in every other message of trades", changed(garbled_half)),
    ("frame duplicated", "every message sent twice", changed(lambda: lambda f: [f.raw, f.raw] if f.opcode == TEXT else [f.raw])),
    ("frame cut, closed cleanly", "half a message, then the end of the stream", changed(once(TRADES, hang_up_within))),
    ("ping of 125 bytes", "a ping of the longest kind before each trade", changed(lambda: lambda f: [raw_frame(PING, b"x" * 125), f.raw])),
    ("message in fragments", "each message in two frames", changed(lambda: lambda f: cut_in_two(f) if f.opcode == TEXT else [f.raw])),
]  # fmt: skip
SLOW_ROWS: Rows = [
    ("book frames exchanged", "two deltas of a book in the other order", changed(exchanged(BOOK), 0.3)),
    ("half of a topic dropped", "every other delta of the book never delivered", changed(half_of_the_books, 0.5)),
    ("mute, shortly", "pongs and no message of any topic for 2.5 s, half as long as a topic may be silent", changed(lambda: no_data, 2.5)),
    ("no pongs, but data", "pongs are not delivered for longer than they may take", changed(lambda: no_pongs, 2.5)),
    ("continuation of nothing", "a continuation frame that continues nothing", changed(once(TRADES, replaced(raw_frame(0, b"x"))))),
    ("compressed bit", "RSV1 set, though no compression was agreed on", changed(once(TRADES, with_bits(0x40)))),
    ("reserved opcode", "a frame of opcode 3", changed(once(TRADES, replaced(raw_frame(3, b""))))),
    ("text that is no UTF-8", "a text message of bytes that are none", changed(once(TRADES, replaced(raw_frame(TEXT, b'{"topic":"\xff"}'))))),
    *(
        (f"closed with {code}", f"a close frame of code {code}", changed(once(TRADES, closing(code))))
        for code in (1000, 1001, 1006, 1008, 1011, 1012, 4000)
    ),
    ("empty close frame", "a close frame without a code", changed(once(TRADES, replaced(raw_frame(CLOSE, b""))))),
    ("subscribe refused for its rate", "every subscribe refused as one too many for 0.5 s, after a reset", refused_for_rate),
    ("lower update ids", "each book goes on with lower update ids, none of them 1, and no snapshot", counted_anew(with_snapshot=False)),
    ("lower update ids, in a snapshot", "each book goes on with a snapshot of a lower update id that is not 1", counted_anew(with_snapshot=True)),
    ("liquidations alike", "each liquidation message followed by one of the same content, pushed 1 ms later", liquidated_alike),
    ("ack twice", "every answer to a subscribe sent twice, after a reset", changed(edited(lambda b: [b, b] if is_ack(b) else [b]), cut=True)),
    ("ack without success", "answers to a subscribe that do not say whether it succeeded, after a reset", changed(edited(no_success), cut=True)),
    ("ack never", "no answer to a subscribe, after a reset", changed(edited(lambda b: [] if is_ack(b) else [b]), cut=True)),
    ("ack of another request", "answers with another `req_id`, after a reset", changed(edited(other_request), cut=True)),
    ("unknown messages", "text that is no message before each trade", changed(lambda: lambda f: [written('{"hello":1}'), f.raw] if f.is_of(TRADES) else [f.raw])),
    ("times of 0", "`ts` of each message is 0", changed(edited(lambda b: [{**b, "ts": 0}] if "ts" in b else [b], "orderbook"))),
    ("times far ahead", "`ts` of each message is a hundred years ahead", changed(edited(lambda b: [{**b, "ts": b["ts"] + 3_155_760_000_000}] if "ts" in b else [b], "orderbook"))),
    ("handshake: HTTP 302", "the upgrade redirected for 0.4 s, after a reset", answer("302 Found\r\nLocation: http://elsewhere.test/")),
    ("handshake: HTTP 200", "the upgrade answered with a page for 0.4 s, after a reset", answer("200 OK")),
    ("handshake: HTTP 429", "the upgrade refused for the rate of connections for 0.4 s, after a reset", answer("429 Too Many Requests")),
    ("handshake: HTTP 503", "the upgrade refused for 0.4 s, after a reset", answer("503 Service Unavailable")),
]  # fmt: skip


def tls(last: str) -> Act:
    """What the records of TLS end with."""

    async def act(rig: Rig) -> None:
        rig.fronts[0].cut(last)
        await rig.exchange_time(0.5)

    return act


TLS_ROWS: Rows = [
    ("TLS: cut within a record", "half a record, then the end of the stream", tls("half")),
    ("TLS: alert", "a fatal alert in the place of a record, then the end of the stream", tls("alert")),
    ("TLS: closed within a message", "half a message, then close_notify", changed(once(TRADES, hang_up_within))),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "happened", "act"), TLS_ROWS, ids=[row[0] for row in TLS_ROWS])
async def test_fault_of_tls(
    name: str, happened: str, act: Act, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    await run(
        name, happened, tmp_path, caplog, act,
        told_only=1, proxy=Stranger, authority=authority, ca_file=str(tmp_path / "ca.pem"),
    )  # fmt: skip


MUTE = (
    "no data, but pongs",
    "pongs go on, and no message of any topic is delivered for 2.5 s",
    changed(lambda: no_data, 2.5),
)


@pytest.mark.parametrize(
    ("name", "happened", "act"),
    [
        *ROWS[:3],
        pytest.param(*MUTE, marks=pytest.mark.slow),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in (*ROWS[3:], *SLOW_ROWS)),
    ],
    ids=[row[0] for row in (*ROWS[:3], MUTE, *ROWS[3:], *SLOW_ROWS)],
)
async def test_fault(name: str, happened: str, act: Act, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    silence_timeout = 1.0 if name.startswith("no data") else 5.0
    rig = await run(
        name,
        happened,
        tmp_path,
        caplog,
        act,
        told_only=1 + name.startswith(("handshake", "subscribe")),
        proxy=Stranger,
        silence_timeout=silence_timeout,
    )
    receive_times = [event.receive_time for event in rig.events]
    assert receive_times == sorted(receive_times)
    assert not any(isinstance(event, wld.Gap) and event.reason is wld.GapReason.OVERRUN for event in rig.events)
