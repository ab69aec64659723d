"""Faults of a stranger's proxy together, drawn by a seed: whatever comes of it, every event sent is accounted for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import pytest
import trio

import wld
from tests.faults.rig import recording
from tests.faults.stranger import CLOSE, PING, TEXT, Frame, Hangup, Stranger, written
from wld.exchange.wire import raw_frame

Change = Callable[[Frame], Iterable[bytes]]
BOOK, TRADES = "orderbook.", "publicTrade."
SEEDS = range(4)


def _vanishing(luck: random.Random) -> Change:
    """Books and trades, of which an update id or REST tells: of tickers and liquidations nothing does, on one line."""
    prefix, share = luck.choice([BOOK, TRADES]), luck.choice([0.05, 0.3])
    return lambda frame: [] if frame.is_of(prefix) and luck.random() < share else [frame.raw]


def _coming_again(luck: random.Random) -> Change:
    past: list[bytes] = []

    def change(frame: Frame) -> list[bytes]:
        out = [frame.raw]
        if (frame.topic and "snapshot" not in frame.text[:80]) or frame.is_of(TRADES):
            past.append(frame.raw)
            if luck.random() < 0.2:
                out.append(luck.choice(past))
            if luck.random() < 0.02:
                out += past
        return out

    return change


def _exchanged(luck: random.Random) -> Change:
    held: list[bytes] = []

    def change(frame: Frame) -> list[bytes]:
        if not frame.is_of(BOOK):
            return [frame.raw]
        if held:
            return [frame.raw, held.pop()]
        if luck.random() < 0.2:
            held.append(frame.raw)
            return []
        return [frame.raw]

    return change


def _in_pieces(luck: random.Random) -> Change:
    def change(frame: Frame) -> list[bytes]:
        if frame.opcode != TEXT:
            return [frame.raw]
        ends = sorted({0, len(frame.payload), *(luck.randrange(len(frame.payload)) for _ in range(luck.randrange(5)))})
        parts = [frame.payload[start:end] for start, end in pairwise(ends)]
        out: list[bytes] = []
        for place, part in enumerate(parts):
            piece = raw_frame(0 if place else TEXT, part)
            out.append(piece if place == len(parts) - 1 else bytes((piece[0] & 0x7F,)) + piece[1:])
            if luck.random() < 0.3:
                out.append(raw_frame(PING, bytes(luck.randrange(126))))
        return out

    return change


def _cut(luck: random.Random) -> Change:
    def change(frame: Frame) -> list[bytes]:
        if not frame.topic or luck.random() > 0.02:
            return [frame.raw]
        if luck.random() < 0.5:
            raise Hangup(raw_frame(CLOSE, luck.choice([1000, 1001, 1012, 4001]).to_bytes(2, "big") + b"bye"))
        raise Hangup(frame.raw[: luck.randrange(len(frame.raw))])

    return change


def _unreadable(luck: random.Random) -> Change:
    def change(frame: Frame) -> list[bytes]:
        if not frame.topic or luck.random() > 0.05:
            return [frame.raw]
        return [written(frame.text[: luck.randrange(1, len(frame.text))])]

    return change


def _written_otherwise(luck: random.Random) -> Change:
    def change(frame: Frame) -> list[bytes]:
        if not frame.topic or luck.random() < 0.7:
            return [frame.raw]
        body = frame.text
        return [
            written(
                luck.choice([f" {body}\n", f'{body[:-1]},"new":{{"a":[1,null]}}}}', body.replace("USDT", "\\u0055SDT")])
            )
        ]

    return change


KINDS = (_vanishing, _coming_again, _exchanged, _in_pieces, _cut, _unreadable, _written_otherwise)


def _composed(luck: random.Random) -> Change:
    """Two kinds at once: the second sees what the first lets pass as it came."""
    kinds = sorted(luck.sample(KINDS, 2), key=lambda kind: kind is _coming_again)  # only what was delivered comes again
    first, second = (kind(luck) for kind in kinds)

    def change(frame: Frame) -> list[bytes]:
        out: list[bytes] = []
        for content in first(frame):
            out += second(frame) if content is frame.raw else [content]
        return out

    return change


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wld.bybit.auditor.YOUNG_NS", 500_000_000)


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_event_is_accounted_for_whatever_faults_come_together(
    seed: int, lines: int, tmp_path: Path
) -> None:
    luck = random.Random(f"{seed} {lines}")
    async with recording(tmp_path / "tapes", proxies=lines, connections=lines, proxy=Stranger, audit=0.5) as rig:
        await rig.until_connected(lines)
        await rig.flow(40)
        for proxy in rig.proxies:
            assert isinstance(proxy, Stranger)
            proxy.change = _composed(luck)
        await rig.exchange_time(1.5)
        for proxy in rig.proxies:
            proxy.restore()
        await rig.until_connected(lines)
        await rig.flow(40)
        await trio.sleep(1.0)
    result = rig.balance()
    assert result.is_exact, str(result)
    assert rig.status == 0
    times = [event.receive_time for event in rig.events if not isinstance(event, wld.Instrument)]
    assert times == sorted(times)
