"""Owns one client's control protocol: what a request is answered, and which topics the client then hears.

Pure: text in, reply out. Does not own topics as such (market) nor sending (server). Shapes: fact sheet,
section 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_ARGS_CHARACTERS = 21_000
"""The venue's limit for the topics of one public connection, all requests together."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request, and what it changed."""

    body: dict[str, Any]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    is_pong: bool = False


@dataclass(slots=True)
class Session:
    """The subscriptions of one connection.

    `knows` says whether a topic exists; `reject` is asked once per subscribe request and True rejects it
    whole.
    """

    conn_id: str
    knows: Callable[[str], bool]
    reject: Callable[[], bool] = lambda: False
    topics: dict[str, None] = field(default_factory=dict)

    def answer(self, text: str) -> Reply:
        """Answer one text frame. Never raises: whatever a client sends has an answer; the socket stays open."""
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            return self._failure(_decode_error(text), "", "")
        if not isinstance(request, dict):
            return self._failure(_decode_error(text), "", "")
        req_id = request.get("req_id", "")
        req_id = req_id if isinstance(req_id, str) else str(req_id)
        op = request.get("op", "")
        if op == "ping":
            return Reply(self._body(True, "pong", req_id, "ping"), is_pong=True)
        if op not in ("subscribe", "unsubscribe"):
            return self._failure("error:invalid op", req_id, op if isinstance(op, str) else "")
        args = request.get("args")
        if not isinstance(args, list) or not args or not all(isinstance(arg, str) for arg in args):
            return self._failure("error:invalid args", req_id, op)
        topics = list(dict.fromkeys(args))
        return self._subscribe(topics, req_id) if op == "subscribe" else self._unsubscribe(topics, req_id)

    def forget(self, symbol: str) -> list[str]:
        """Drop the topics of a delisted symbol, and return them."""
        gone = [topic for topic in self.topics if topic.rpartition(".")[2] == symbol]
        for topic in gone:
            del self.topics[topic]
        return gone

    def _subscribe(self, topics: list[str], req_id: str) -> Reply:
        unknown = topics[0] if self.reject() else next((t for t in topics if not self.knows(t)), None)
        if unknown is not None:
            return self._failure(f"error:handler not found,topic:{unknown}", req_id, "subscribe")
        double = next((topic for topic in topics if topic in self.topics), None)
        if double is not None:
            return self._failure(f"error:already subscribed,topic:{double}", req_id, "subscribe")
        length = sum(map(len, self.topics)) + sum(map(len, topics))
        if length > MAX_ARGS_CHARACTERS:
            return self._failure(f"args size >{MAX_ARGS_CHARACTERS}", req_id, "subscribe")
        self.topics.update(dict.fromkeys(topics))
        return Reply(self._body(True, "", req_id, "subscribe"), added=tuple(topics))

    def _unsubscribe(self, topics: list[str], req_id: str) -> Reply:
        """A topic that is not active is ignored, as far as is known; one that does not exist is an error."""
        unknown = next((t for t in topics if t not in self.topics and not self.knows(t)), None)
        if unknown is not None:
            return self._failure(f"error:handler not found,topic:{unknown}", req_id, "unsubscribe")
        removed = tuple(topic for topic in topics if topic in self.topics)
        for topic in removed:
            del self.topics[topic]
        return Reply(self._body(True, "", req_id, "unsubscribe"), removed=removed)

    def _body(self, success: bool, message: str, req_id: str, op: str) -> dict[str, Any]:
        return {
            "success": success,
            "ret_msg": message,
            "conn_id": self.conn_id,
            "req_id": req_id,
            "op": op,
        }

    def _failure(self, message: str, req_id: str, op: str) -> Reply:
        return Reply(self._body(False, message, req_id, op))


def _decode_error(text: str) -> str:
    """The venue's own words, with the first character that is not white space."""
    found = text.strip()[:1] or "\x00"
    shown = text.strip()[:30]
    return (
        "Failed to decode incoming data:readObjectStart: expect { or n, "
        f"but found {found}, error found in #1 byte of ...|{shown}|..., bigger context ...|{shown}|..."
    )
