"""What a stranger on the network, or a tape from one, cannot do."""

from __future__ import annotations

import ast
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bybit import frames
from wld.bybit.backoff import RequestGate
from wld.bybit.decoder import MOST_TOPICS, MarketDecoder
from wld.bybit.protocol import BybitProtocol
from wld.bybit.rest import MAX_BODY, BybitRest
from wld.bybit.websocket import BinaryMessage, Message, WebSocket
from wld.errors import FatalSourceError, RetryableSourceError
from wld.events import Gap
from wld.exchange.server import ExchangeConfig

ROOT = Path(__file__).parents[1]
CORPUS = Path(__file__).parent / "corpus" / "frames"
CODE = [p for folder in ("wld", "plugins", "examples") for p in sorted((ROOT / folder).rglob("*.py"))]
TOPICS = ("orderbook.50.WLDUSDT", "publicTrade.WLDUSDT", "tickers.WLDUSDT", "allLiquidation.WLDUSDT")
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


@cache
def nodes() -> list[tuple[Path, ast.AST]]:
    return [(path, node) for path in CODE for node in ast.walk(ast.parse(path.read_text()))]


def test_nothing_we_read_is_executed_or_unpickled() -> None:
    found = []
    for path, node in nodes():
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [(node.module or "").partition(".")[0]]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(f"{path}:{node.lineno}: {node.func.id}()")
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", None):
            found.append(f"{path}: allow_pickle")
        elif isinstance(node, ast.keyword) and node.arg == "shell" and getattr(node.value, "value", None):
            found.append(f"{path}: shell=True")
        found += [f"{path}: imports {name}" for name in names if name in FORBIDDEN_MODULES]
    assert found == []


def test_tls_is_nowhere_switched_off() -> None:
    found = []
    for path, node in nodes():
        if isinstance(node, ast.keyword) and node.arg in ("verify", "check_hostname", "verify_ssl"):
            if getattr(node.value, "value", None) is False:
                found.append(f"{path}: {node.arg}=False")
        elif isinstance(node, ast.Attribute) and node.attr in (
            "CERT_NONE",
            "CERT_OPTIONAL",
            "_create_unverified_context",
        ):
            found.append(f"{path}:{node.lineno}: {node.attr}")
    assert found == []


def test_servers_listen_on_loopback_unless_told_otherwise() -> None:
    assert ExchangeConfig().host == "127.0.0.1"
    everywhere = [
        f"{path}:{node.lineno}" for path, node in nodes()
        if isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "::", "[::]")
    ]  # fmt: skip
    assert everywhere == []


@pytest.mark.filterwarnings("ignore:Async generator 'httpx", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_rest_answer_without_end_is_refused_and_not_kept() -> None:
    given_out = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal given_out
            while True:
                given_out += 1 << 20
                yield bytes(1 << 20)

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Endless()))
    async with httpx.AsyncClient(base_url="http://venue", transport=transport) as client:
        with pytest.raises(RetryableSourceError, match="larger than 32 MiB"):
            await BybitRest(client, RequestGate()).server_time()
    assert given_out <= MAX_BODY + (2 << 20)


ODD_LIST = '{"retCode":0,"result":{"list":%s,"nextPageCursor":%s}}'


@pytest.mark.parametrize(
    "body",
    [
        *(f'{{"retCode":0,"time":{odd},"result":{{"list":[],"timeNano":{odd},"nextPageCursor":{odd}}}}}' for odd in ('"\\ud800"', '"\xff"')),
        *("", "null", "[]", "{}", "[" * 200_000, "\xff", '{"retCode":0,"result":null}', '{"retCode":"zero","result":{}}'),
        *(ODD_LIST % (value, '""') for value in ("null", "5", '"text"', "{}", "[null, 1, {}, []]", '[{"symbol": [1]}]')),
        *(ODD_LIST % (f'[{{"symbol":"A","{key}":{value}}}]', "{}") for key, value in (
            ("fundingInterval", "1e400"), ("status", '"\\ud800"'), ("launchTime", '"-1"'), ("lotSizeFilter", '[{}]'),
        )),
    ],
)  # fmt: skip
async def test_a_rest_answer_of_any_shape_is_read_or_tried_again(body: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body.encode("latin-1")))
    async with httpx.AsyncClient(base_url="http://venue", transport=transport) as client:
        rest = BybitRest(client)
        for ask in (
            lambda: rest.instruments(["A"], 0),
            lambda: rest.instruments([f"A{i}" for i in range(30)], 0),
            lambda: rest.recent_trades("A", 0),
            rest.server_time,
        ):
            with suppress(RetryableSourceError):
                await ask()


async def test_rest_pages_that_never_end_are_left() -> None:
    asked = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(200, json={"retCode": 0, "result": {"list": [], "nextPageCursor": str(asked)}})

    async with httpx.AsyncClient(base_url="http://venue", transport=httpx.MockTransport(answer)) as client:
        assert await BybitRest(client).instruments(None, 0) == []
    assert asked <= 200


def test_topics_without_end_are_not_all_remembered() -> None:
    decoder = MarketDecoder(accept_any=True)
    decoder.topics.update(dict.fromkeys(map(str, range(MOST_TOPICS))))  # type: ignore[arg-type]
    assert decoder.decode(frames.snapshot(5), 1) == []
    assert len(decoder.topics) == MOST_TOPICS


VALID = [
    frames.snapshot(10), frames.book(11, [("1.0", "5")], [("1.1", "0")]), frames.trades(frames.trade(1), frames.trade(2)),
    frames.ticker("snapshot", lastPrice="1.5", openInterest="5"), frames.ticker(lastPrice="1.6"),
    frames.liquidation({"T": 1, "s": "WLDUSDT", "S": "Buy", "v": "1", "p": "2"}),
    '{"success":true,"ret_msg":"","conn_id":"c","req_id":"w1","op":"subscribe"}',
    '{"success":false,"ret_msg":"error:handler not found,topic:tickers.WLDUSDT","req_id":"w1","op":"subscribe"}',
]  # fmt: skip
PARTS = [
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"1e999",
    b"-1",
    b"9" * 40,
    b"\\ud800",
    b"\xff",
    b'"' * 9,
    b"[" * 500,
    b"1.000000001",
    b"0",
]


def survives(messages: list[Message]) -> None:
    """Whatever comes, there is an answer: events, or a Gap; and what is healthy afterwards is read."""
    protocol = BybitProtocol(TOPICS)
    protocol.open(0)
    events = []
    try:
        for at in range(0, len(messages), 20):
            events += list(protocol.receive_read(messages[at : at + 20], at + 1))
        times = [e.receive_time for e in events]
        assert times == sorted(times)
        for gap in (e for e in events if isinstance(e, Gap)):
            assert gap.gap_id > 0
        assert protocol.receive(frames.snapshot(1 << 40), 1 << 50)
    except FatalSourceError:
        pass  # every topic refused: the one thing that a venue may say to end a run


def mutated(luck: random.Random) -> bytes:
    frame = bytearray(luck.choice(VALID).encode())
    for _ in range(luck.randint(1, 4)):
        at = luck.randrange(len(frame) + 1)
        kind = luck.random()
        if kind < 0.3:
            frame[at : at + luck.randint(0, 12)] = luck.choice(PARTS)
        elif kind < 0.6:
            del frame[at : at + luck.randint(1, 20)]
        elif kind < 0.8:
            frame[at:at] = luck.randbytes(luck.randint(1, 6))
        else:
            frame[at : at + 1] = bytes([luck.randrange(256)])
        frame = frame or bytearray(b"{")
    return bytes(frame)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), healthy=st.booleans())
def test_no_message_brings_the_decoder_down(seed: int, healthy: bool) -> None:
    luck = random.Random(seed)
    messages: list[Message] = [mutated(luck) for _ in range(30)]
    if healthy:
        messages = [
            m for pair in zip(messages, [luck.choice(VALID).encode() for _ in messages], strict=True) for m in pair
        ]
    survives(messages)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*")), ids=lambda path: path.name)
def test_what_once_was_found_stays_harmless(path: Path) -> None:
    content = path.read_bytes()
    survives([content, *[v.encode() for v in VALID], content, BinaryMessage(content)])


def test_there_is_a_corpus() -> None:
    assert len(list(CORPUS.glob("*"))) >= 20


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(pieces=st.lists(st.binary(max_size=300), max_size=20))
def test_no_bytes_bring_the_socket_down_or_make_it_keep_more_than_it_may(pieces: list[bytes]) -> None:
    socket = WebSocket(max_message_bytes=1_000, next_mask=lambda: b"abcd")
    for piece in pieces:
        messages = socket.receive(piece)
        assert all(len(m) <= 1_000 for m in messages if isinstance(m, bytes))
        if socket.ended is not None:
            break


def test_a_frame_that_claims_to_be_huge_ends_the_connection_before_it_is_kept() -> None:
    socket = WebSocket(max_message_bytes=1_000, next_mask=lambda: b"abcd")
    assert socket.receive(bytes([0x81, 127]) + (1 << 62).to_bytes(8, "big")) == []
    assert socket.ended is not None or socket.take_outgoing()


def test_the_sample_of_hostile_numbers_is_exact_or_an_error() -> None:
    decoder = MarketDecoder()
    for topic in TOPICS:
        decoder.expect(topic)
    for text in ("1e5", "NaN", "Infinity", "0x10", "1_000", " 1", "1 ", "+1", "", "٣", "1.123456789", "9" * 30, "--1"):
        (event,) = decoder.decode(json.dumps(json.loads(frames.snapshot(10).replace('"1.0"', json.dumps(text)))), 1)
        assert isinstance(event, Gap), text
