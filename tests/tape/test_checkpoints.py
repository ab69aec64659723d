"""The book computed by columns is the book applied event by event."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import wld
from wld.tape import checkpoints, layout, rows
from wld.tape.table import from_events

MINUTE = 60_000_000_000
LEVELS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), max_size=4).map(tuple)
STEPS = st.tuples(
    st.sampled_from("ddddds"), LEVELS, LEVELS, st.sampled_from((1, 1, 1, 1, 2)), st.sampled_from((1, 50)),
    st.integers(0, 30),
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.lists(STEPS, min_size=1, max_size=30), st.integers(1, 30))
def test_books_by_columns_are_the_books_by_events(
    steps: list[tuple[str, tuple, tuple, int, int, int]], cut: int
) -> None:
    live: dict[int, wld.OrderBook] = {}
    events: list[wld.Event] = []
    states: list[dict[int, tuple[object, ...]]] = []
    time = 0
    for kind, bids, asks, step, depth, seconds in steps:
        time += seconds * 1_000_000_000
        book = live.setdefault(depth, wld.OrderBook("X"))
        event = wld.BookSnapshot if kind == "s" else wld.BookDelta
        last = next((e.update_id for e in reversed(events) if e.depth == depth), 0)
        events.append(event("X", bids, asks, last + step, 7, None, None, time, depth))
        states.append({d: state(b) for d, b in live.items() if b.is_valid})
        with contextlib.suppress(wld.BookInvalid):
            book.apply(events[-1])
    books: checkpoints.Books = {}
    drafts = []
    for start in range(0, len(events), cut):
        part = events[start : start + cut]
        table = from_events(layout.BOOK, range(start, start + len(part)), part)
        drafts += checkpoints.advance(books, [table], is_start=start == 0)
    for draft in drafts:
        encoded = layout.encode_header(draft, 0) + draft.payload
        block = layout.parse_header(encoded, 0)
        assert block is not None
        ((number, snapshot),) = rows.decode(block, encoded[block.payload_offset :])
        book = wld.OrderBook("X")
        book.apply(snapshot)
        assert state(book) == states[number][snapshot.depth]
    for depth, book in live.items():
        assert books[("X", depth)].is_valid == book.is_valid
    minutes = {(e.depth, e.receive_time // MINUTE) for e in events}
    assert len(drafts) <= len(minutes) + sum(isinstance(e, wld.BookSnapshot) for e in events)


def test_many_snapshots_make_one_checkpoint_a_second() -> None:
    second = 1_000_000_000
    kinds = [wld.BookSnapshot, *[wld.BookDelta, wld.BookSnapshot] * 20, wld.BookDelta]
    events = [
        kind("X", ((1, 1),), (), i + 1, 7, None, None, i * second // 10, 50) for i, kind in enumerate(kinds)
    ]  # 4.1 seconds
    table = from_events(layout.BOOK, range(len(events)), events)
    assert len(checkpoints.advance({}, [table])) == 5


def state(book: wld.OrderBook) -> tuple[object, ...]:
    return book.bids(), book.asks(), book.update_id, book.sequence, book.receive_time, book.depth


@given(
    st.lists(st.tuples(st.one_of(st.integers(0, 30), st.sampled_from((3000, 2**40))), st.booleans()), max_size=60),
    st.sampled_from([1, 7]),
)
@settings(deadline=None, max_examples=120)
def test_of_each_price_of_a_side_the_last_word_counts(levels: list[tuple[int, bool]], tick: int) -> None:
    last = {(price * tick, is_bid): place for place, (price, is_bid) in enumerate(levels)}
    prices, is_bid = np.array([p for p, _ in levels], np.int64) * tick, np.array([b for _, b in levels], np.bool_)
    assert checkpoints.last_of_each(prices, is_bid).tolist() == [last[key] for key in sorted(last)]
