"""What is wrong with a seed's tape, if anything: held against what the venue published. Pure.

Beside the balance of `wld.exchange.accounting` (everything once, in order, or where a Gap stands): every state of a book
and a ticker is the venue's, nothing that reached the recorder over a connection without fault is in a Gap, and no Gap
stands where nothing went wrong. Excused is, by name:

- ticker fields for a while after a link was mute on it: they change with the next snapshot;
- *mute*: the venue left it out on a connection that stood, and no other brought it: nothing from outside can tell;
- *overtaken*: a link that was mute on it brought what follows before another brought it: a trade or liquidation comes
  late rather than never, a ticker is a Gap, if anything is told of it at all;
- *replaced*: the venue left a book's update out for everybody, and its next message was a snapshot or update id 1.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from msgspec import Struct

from tests.virtual.truth import Truth, digest
from tests.virtual.venue import EPOCH_MS
from tests.virtual.world import World
from wld.bybit.messages import TICKER_FIELDS, TICKER_OTHER, decode_envelope, decode_items
from wld.events import BookDelta, BookSnapshot, Event, Gap, GapReason, Repair, Ticker, Trade
from wld.exchange.accounting import Balance, balance

FIELDS = [*TICKER_FIELDS.values(), *(name for name, _ in TICKER_OTHER.values())]
RECENT_S = 75.0
"""A Gap so long after a fault may still be its consequence: a topic's silence is noticed late."""


class Verdict(Struct):
    """Of one seed."""

    balance: Balance
    wrong: list[str]
    """One sentence for each thing that is not as it must be."""
    excused: Counter[str]
    """How many messages are missing for a reason that is stated above."""


def judge(world: World) -> Verdict:
    """What came of a seed."""
    truth, events = world.venue.truth, list(_joined(world.lives))
    result = balance([p.frame for p in truth.published if p.is_owed], events)
    unknowable = dict(_unknowable(truth))
    excused: Counter[str] = Counter(unknowable[name] for name in result.lost if name in unknowable)
    wrong = [f"lost: {name}" for name in result.lost if name not in unknowable]
    wrong += [f"doubled: {name}" for name in result.doubled]
    overtaken = set(_overtaken(truth))
    wrong += [f"out of order: {name}" for name in result.out_of_order if name not in overtaken]
    excused["overtaken"] += sum(name in overtaken for name in result.out_of_order)
    for life in world.lives:
        wrong += _states(truth, life)
        wrong += _needless(life, world.troubled)
    if world.plan.is_gentle:
        gaps = [e for e in events if isinstance(e, Gap) and e.gap_id and not _is_of_overtaken(e, truth)]
        wrong += [f"a Gap though one line was well: {gap_words(gap)}" for gap in gaps]
    return Verdict(result, wrong, excused)


def _joined(lives: Sequence[Sequence[Event]]) -> Iterator[Event]:
    for n, life in enumerate(lives):
        if n:
            yield Gap(0, GapReason.SHUTDOWN)
        yield from life


def seconds(at: int) -> float:
    """Since virtual time began."""
    return at / 1e9 - EPOCH_MS / 1e3


def gap_words(gap: Gap) -> str:
    first, last, now = (
        "?" if at is None else f"{seconds(at):.2f}" for at in (gap.first_time, gap.last_time, gap.receive_time)
    )
    return (
        f"{gap.reason.value} {gap.topic or 'all'} {gap.symbol or ''} {first} to {last}, missed {gap.missed}, told {now}"
    )


def names(frame: str) -> Sequence[str]:
    """What a message's items are called in a balance."""
    return balance([frame], []).lost


def _overtaken(truth: Truth) -> Iterator[str]:
    """What a link was mute on, and what followed soon: of these the one or the other counts as out of order."""
    for index in truth.muted:
        left_out = truth.published[index]
        if left_out.topic.startswith("tickers"):
            continue  # never out of order
        for published in truth.published[index : index + 200]:
            if published.topic == left_out.topic and published.at - left_out.at < 2_000_000_000:
                yield from names(published.frame)


def _is_of_overtaken(gap: Gap, truth: Truth) -> bool:
    """Whether a Gap is that of a ticker that was overtaken: one message to the next."""
    delivered = (truth.published[i] for i in truth.muted & truth.delivered.keys())
    first, last = gap.first_time, gap.last_time
    return gap.topic == "tickers" and any(
        published.topic == f"tickers.{gap.symbol}" and (first or 0) - 1_000_000_000 < published.at < (last or 0)
        for published in delivered
    )


def _unknowable(truth: Truth) -> Iterator[tuple[str, str]]:
    """(name, why) of what may be missing without a Gap."""
    for index in sorted(truth.muted - truth.delivered.keys()):
        for name in names(truth.published[index].frame):
            yield name, "mute"
    for index in sorted(truth.muted & truth.delivered.keys()):
        if truth.published[index].topic.startswith("tickers"):
            for name in names(truth.published[index].frame):
                yield name, "overtaken"
    for index in sorted(truth.withheld):
        left_out = truth.published[index]
        following = next((p for p in truth.published[index + 1 :] if p.topic == left_out.topic), None)
        if following is not None and '"type":"snapshot"' in following.frame:
            for name in names(left_out.frame):
                yield name, "replaced"


def _states(truth: Truth, life: Sequence[Event]) -> Iterator[str]:
    """Books, tickers and trades that are not what the venue published."""
    books: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
    trades = _trades(truth)
    for event in life:
        if isinstance(event, Gap):
            continue
        if isinstance(event, BookSnapshot | BookDelta):
            topic = f"orderbook.{event.depth}.{event.symbol}"
            if isinstance(event, BookSnapshot):
                books[topic] = ({}, {})
            if topic not in books:
                yield f"state: {topic} begins with a delta, u {event.update_id}"
                books[topic] = ({}, {})
            for side, levels in zip(books[topic], (event.bids, event.asks), strict=True):
                for price, size in levels:
                    if size:
                        side[price] = size
                    else:
                        side.pop(price, None)
            known = truth.books.get((topic, event.update_id, event.sequence or 0))
            if known is None:
                yield f"state: {topic} u {event.update_id} seq {event.sequence} was never published"
            elif known != digest(*books[topic]):
                yield f"state: {topic} is another book at u {event.update_id} ({type(event).__name__})"
        elif isinstance(event, Ticker):
            topic = f"tickers.{event.symbol}"
            found = {name: getattr(event, name) for name in FIELDS if getattr(event, name, None) is not None}
            wanted = truth.ticker(topic, event.sent_time or 0)
            if found not in wanted and not truth.was_mute(topic, event.sent_time or 0):
                fields = sorted({name for name, value in found.items() if value != (wanted or [{}])[-1].get(name)})
                yield f"state: {topic} cs {event.sequence} sent {event.sent_time} differs in {', '.join(fields)}"
        elif isinstance(event, Trade):
            own = event.price, event.size, event.aggressor_side, event.event_time, event.sequence
            if trades.get(event.trade_id, own) != own:
                yield f"state: trade {event.trade_id} is another"


def _trades(truth: Truth) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for published in truth.published:
        if published.topic.startswith("publicTrade"):
            for item in decode_items(decode_envelope(published.frame), 0)[0]:
                assert isinstance(item, Trade)
                found[item.trade_id] = item.price, item.size, item.aggressor_side, item.event_time, item.sequence
    return found


def _needless(life: Sequence[Event], troubled: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Gaps without any fault that could have caused them, and Gaps of a topic side by side."""
    for event in life:
        if isinstance(event, Gap):
            at = seconds(event.receive_time)
            if not any(begun <= at <= ended + RECENT_S for begun, ended in troubled):
                yield f"a Gap without a fault: {gap_words(event)}"
            if event.first_time is not None and event.last_time is not None and event.first_time > event.last_time:
                yield f"a Gap that ends before it begins: {gap_words(event)}"
    since: dict[str, Gap] = defaultdict()
    for event in life:
        if isinstance(event, Gap):
            if event.topic is None or event.symbol is None:
                continue
            topic = f"{event.topic}.{event.symbol}"
            before = since.get(topic)
            if before is not None and _overlap(before, event):
                yield f"two Gaps overlap: {gap_words(before)}; {gap_words(event)}"
            since[topic] = event
        elif not isinstance(event, Repair) and (symbol := getattr(event, "symbol", None)) is not None:
            for topic in [t for t in since if t.endswith(f".{symbol}")]:
                if topic_of(event) == topic:
                    del since[topic]


def topic_of(event: Event) -> str:
    kinds = {"Trade": "publicTrade", "Liquidation": "allLiquidation", "Ticker": "tickers"}
    kind = kinds.get(type(event).__name__, "orderbook.50")
    return f"{kind}.{getattr(event, 'symbol', '')}"


def _overlap(one: Gap, other: Gap) -> bool:
    first = max(one.first_time or 0, other.first_time or 0)
    return first < min(at or first for at in (one.last_time, other.last_time))
