"""Owns what the faults of the simulated exchange do, and when.

Does not own their written form (injection), nor faults of the network between (faults).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import trio

from wld.errors import ConfigError
from wld.exchange.injection import LASTING, FaultSpec
from wld.exchange.market import Market
from wld.exchange.publication import Message
from wld.exchange.wire import Wire, raw_frame

_TEXT, _BINARY = 0x1, 0x2
_BIG_BYTES = 10_000_000


class Client(Protocol):
    """A connection, as far as faults touch it."""

    @property
    def wire(self) -> Wire:
        """Its bytes."""
        ...

    def end(self) -> None:
        """Close it properly."""
        ...


class Exchange(Protocol):
    """The exchange, as far as faults touch it."""

    nursery: trio.Nursery | None
    market: Market

    @property
    def clients(self) -> Mapping[str, Client]:
        """Who is connected."""
        ...

    def publish(self, message: Message) -> None:
        """Send a message to whoever hears its topic."""
        ...

    def list_symbol(self, symbol: str) -> None:
        """List a symbol."""
        ...

    def delist(self, symbol: str) -> None:
        """Delist a symbol."""
        ...


class Misbehaviour:
    """The faults of one exchange: what is pending, what lasts."""

    def __init__(self, exchange: Exchange, faults: Sequence[FaultSpec]) -> None:
        self._exchange = exchange
        self._timed: list[FaultSpec] = []
        self._subscribed = trio.Event()
        self._skip: set[str] = set()
        self._repeat: set[str] = set()
        self._cross: set[str] = set()
        self._uncross: dict[str, str] = {}
        self._rejections: float = 0
        self.pong_delay_s = 0.0
        self.handshake_delay_s = 0.0
        self.rest_status: int | None = None
        for fault in faults:
            if fault.at_s is None and fault.name in LASTING:
                self._apply(fault)
            else:
                self._timed.append(fault)

    def start(self) -> None:
        """Begin to wait for the first subscribe, from which `@seconds` count."""
        for fault in self._timed:
            self._spawn(self._later, fault, True)

    def inject(self, fault: FaultSpec) -> None:
        """Apply a fault now, or its seconds from now."""
        if fault.at_s is None:
            self._apply(fault)
        else:
            self._spawn(self._later, fault, False)

    def _spawn(self, task: Any, *args: Any) -> None:
        assert self._exchange.nursery is not None
        self._exchange.nursery.start_soon(task, *args)

    def first_subscribe(self) -> None:
        """Somebody subscribed: the clock of the timed faults runs from the first time."""
        self._subscribed.set()

    async def _later(self, fault: FaultSpec, after_subscribe: bool) -> None:
        if after_subscribe:
            await self._subscribed.wait()  # without limit: the clock starts with the first client
        while True:
            await trio.sleep(fault.at_s or 0.0)
            with contextlib.suppress(ConfigError):  # such as a symbol listed meanwhile
                self._apply(fault)
            if not fault.every:
                return

    def rejects(self) -> bool:
        """Whether the subscribe request at hand is rejected whole."""
        if self._rejections <= 0:
            return False
        self._rejections -= 1
        return True

    # What each fault does.

    def _apply(self, fault: FaultSpec) -> None:
        getattr(self, f"_do_{fault.name}")(fault)

    def _book_topics(self) -> set[str]:
        return {book.topic for book in self._exchange.market.books() if not book.topic.startswith("orderbook.1.")}

    def _do_drop(self, fault: FaultSpec) -> None:
        for client in tuple(self._exchange.clients.values()):
            if fault.arg == "clean":
                client.end()
            else:
                client.wire.abort()

    def _do_stall(self, fault: FaultSpec) -> None:
        wires = [client.wire for client in self._exchange.clients.values()]
        for wire in wires:
            wire.stall()
        self._spawn(self._resume, wires, fault.number)

    async def _resume(self, wires: list[Any], seconds: float) -> None:
        await trio.sleep(seconds)
        for wire in wires:
            wire.resume()

    def _do_half_open(self, fault: FaultSpec) -> None:
        for client in self._exchange.clients.values():
            client.wire.half_open()

    def _do_delayed_pong(self, fault: FaultSpec) -> None:
        self.pong_delay_s = fault.number

    def _do_skip_u(self, fault: FaultSpec) -> None:
        self._skip = self._book_topics()

    def _do_repeat_u(self, fault: FaultSpec) -> None:
        self._repeat = self._book_topics()

    def _do_restart_u1(self, fault: FaultSpec) -> None:
        for book in self._exchange.market.books():
            book.restart()

    def _do_resnapshot(self, fault: FaultSpec) -> None:
        for book in self._exchange.market.books():
            book.resend()

    def _do_crossed_book(self, fault: FaultSpec) -> None:
        self._cross = self._book_topics()

    def _do_garbage(self, fault: FaultSpec) -> None:
        payloads = {
            "text": raw_frame(_TEXT, b"upstream connect error or disconnect/reset before headers"),
            "utf8": raw_frame(_TEXT, b'{"topic":"\xff\xfe\xc3("}'),
            "binary": raw_frame(_BINARY, bytes(range(64))),
        }
        if fault.arg == "big":
            payloads["big"] = raw_frame(_TEXT, b'{"topic":"' + b"x" * _BIG_BYTES + b'"}')
        chosen = list(payloads.values()) if fault.arg == "all" else [payloads[fault.arg]]
        for client in self._exchange.clients.values():
            self._spawn(self._send_raw, client.wire, chosen)

    async def _send_raw(self, wire: Any, frames: list[bytes]) -> None:
        for frame in frames:
            try:
                await wire.send_all(frame)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    def _do_reject_all(self, fault: FaultSpec) -> None:
        self._rejections = fault.number or float("inf")

    def _do_slow_handshake(self, fault: FaultSpec) -> None:
        self.handshake_delay_s = fault.number

    def _do_rest_down(self, fault: FaultSpec) -> None:
        self.rest_status = int(fault.number)

    def _do_list(self, fault: FaultSpec) -> None:
        self._exchange.list_symbol(fault.arg)

    def _do_delist(self, fault: FaultSpec) -> None:
        self._exchange.delist(fault.arg)

    def _do_clear(self, fault: FaultSpec) -> None:
        self.pong_delay_s = self.handshake_delay_s = 0.0
        self._rejections = 0
        self.rest_status = None
        for client in self._exchange.clients.values():
            client.wire.resume()

    # Book faults act on the next message of each book.

    def publish(self, message: Message) -> None:
        """Pass a message on, as the pending faults would have it."""
        topic = message.topic
        if message.body["type"] != "delta" or not topic.startswith("orderbook."):
            self._uncross.pop(topic, None)
            self._exchange.publish(message)
            return
        if topic in self._skip:
            self._skip.discard(topic)
            return
        price = self._uncross.pop(topic, None)
        if price is not None:
            self._insert(message, price, "0")
        if topic in self._cross:
            self._cross.discard(topic)
            symbol = topic.rpartition(".")[2]
            market = self._exchange.market.symbol(symbol)
            # Well above the best ask: the book that was published may be a few ticks behind the market's.
            best = market.flow.book.asks.best
            price = market.spec.price_text(best + max(market.flow.spec.gap, best // 200))
            self._insert(message, price, market.spec.size_text(market.spec.order_lots))
            self._uncross[topic] = price
        self._exchange.publish(message)
        if topic in self._repeat:
            self._repeat.discard(topic)
            self._exchange.publish(message)

    @staticmethod
    def _insert(message: Message, price: str, size: str) -> None:
        """Put a bid into a delta where its price belongs, unless the delta has that price anyway."""
        rows = message.body["data"]["b"]
        if all(row[0] != price for row in rows):
            rows.insert(0, [price, size])
