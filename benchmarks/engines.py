"""What more workers bring to long work: one export to CSV here, and on a Dask cluster of one and two workers.

    python -m benchmarks.engines [SEGMENTS]      # needs the extra dask

Sixteen segments of a seeded mix of two symbols; the same files each time. Every worker is a process of one thread.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from msgspec import structs

import wld
from benchmarks.tape_mix import decode, reference_mix
from tests.dask_cluster import open_cluster
from wld.engines import open_engine
from wld.tape.export import export

HOUR_NS = 3_600_000_000_000


def main() -> None:
    """Measure and print."""
    segments = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    events = decode(islice(reference_mix(40_000), 40_000))
    with tempfile.TemporaryDirectory() as place:
        tape = Path(place, "tape")
        with wld.TapeWriter(tape, source="benchmark", clock="recorded") as writer:
            for hour in range(segments):
                moved = [structs.replace(e, receive_time=e.receive_time + hour * HOUR_NS) for e in events]
                writer.append(wld.Batch(moved, hour * len(events)))
        began = time.monotonic()
        export([str(tape)], Path(place, "here"), "csv")
        here = time.monotonic() - began
        print(f"{segments} segments, {segments * len(events):,} events; here: {here:.1f} s")
        alone = 0.0
        for workers in (1, 2):
            with open_cluster(Path(place), workers) as cluster, open_engine("dask", cluster.address) as map_units:
                assert map_units is not None
                export(
                    [str(tape)],
                    Path(place, "warm"),
                    "csv",
                    start=0,
                    end=events[0].receive_time + 1,
                    map_units=map_units,
                )
                shutil.rmtree(Path(place, "warm"))
                began = time.monotonic()
                export([str(tape)], Path(place, f"there-{workers}"), "csv", map_units=map_units)
                took = time.monotonic() - began
            Path(place, "scheduler.json").unlink()
            alone = alone or took
            print(f"dask, {workers} workers: {took:.1f} s, {alone / took:.2f} times one worker")
            shutil.rmtree(Path(place, f"there-{workers}"))


if __name__ == "__main__":
    main()
