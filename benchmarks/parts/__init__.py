"""The parts of `python -m benchmarks` by name: each takes a Bench and gives a table."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench, Table
from benchmarks.parts.cost import end_to_end, mixes, views
from benchmarks.parts.growth import growth
from benchmarks.parts.others import predecessor
from benchmarks.parts.pieces import ceiling, decoding, formats, ring, transports
from benchmarks.parts.rates import breadth, latency, paced, sealing
from benchmarks.parts.scaling import workers

PARTS: dict[str, Callable[[Bench], Table]] = {
    part.__name__: part
    for part in (
        ceiling, end_to_end, views, mixes, transports, decoding, ring, predecessor, paced, latency, sealing, breadth,
        growth, workers, formats,
    )
}  # fmt: skip
