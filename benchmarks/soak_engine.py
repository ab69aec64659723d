"""The engine of a soak: the program itself, on a clock that runs fast and can be set, beside a sink that crashes.

Started by `benchmarks/soak.py` with a control file before the program's own arguments. Each second it writes what it
holds to standard output, a JSON object a line. The control file is read again on SIGUSR1.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

_steady = time.monotonic_ns
"""The clock of the host, which every process on it shares."""


class Control:
    """What the soak asks of this process: its clock, its names, its disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.read()

    def read(self, *_: Any) -> None:
        asked = json.loads(self._path.read_text())
        self.begun: int = asked["begun"]
        self.wall: int = asked["wall"]
        self.speed: int = asked["speed"]
        self.offset: int = asked["offset"]
        self.names_fail_until: int = asked["names_fail_until"]
        self.slow_disk_until: int = asked["slow_disk_until"]
        self.proof: int = asked["proof"]

    def monotonic_ns(self) -> int:
        return self.begun + (_steady() - self.begun) * self.speed

    def time_ns(self) -> int:
        return self.wall + (_steady() - self.begun) * self.speed + self.offset


class Proof:
    """Whether all that had been sent when the soak asked has come: each line answered a ping that left after that."""

    AGAIN = 10
    """Gauges between two pings: an engine that is behind answers late."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._number = self._since = self._looks = 0
        self._is_given = False

    def look(self, source: Any) -> int:
        """The number of the proof that was given last; 0 while one is asked for."""
        if self._control.proof != self._number:
            self._number, self._since, self._looks, self._is_given = self._control.proof, source._clock.now(), 0, False
        if not self._is_given:
            self._is_given = min(group.answered() for group in source._groups) >= self._since
            if not self._is_given and self._looks % self.AGAIN == 0:
                for group in source._groups:
                    group.probe()
            self._looks += 1
        return self._number * self._is_given


class _Heap(ctypes.Structure):
    _fields_ = [  # mallinfo2, malloc.h
        (name, ctypes.c_size_t)
        for name in ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]
    ]  # fmt: skip


def heap_mb() -> float:
    """What is allocated of the C library, and not freed: arrays, and all objects above 512 bytes; 0 where it does not say."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0.0
    ask.restype = _Heap
    found = ask()
    return float(found.uordblks + found.hblkhd) / 1e6


def main() -> None:
    """Set the clock, then be the program."""
    control = Control(Path(sys.argv[1]))
    signal.signal(signal.SIGUSR1, control.read)
    time.time_ns, time.monotonic_ns = control.time_ns, control.monotonic_ns
    resolve = socket.getaddrinfo

    def getaddrinfo(*args: Any, **options: Any) -> Any:
        if _steady() < control.names_fail_until:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(*args, **options)

    socket.getaddrinfo = getaddrinfo

    import trio

    from wld import cli, engine, process
    from wld.bybit import arbitration, connection, losses, merging, overlap
    from wld.ring import Subscription
    from wld.service import Service, SinkEntry
    from wld.tape.seal import BlockFile

    connection.ProtocolConfig = functools.partial(connection.ProtocolConfig, answer_timeout=10.0 * control.speed)  # type: ignore

    # What the venue's servers may be apart is told by the market's time, and by a clock that runs as fast.
    overlap.OVERLAP_S *= control.speed
    overlap.PROBE_S *= control.speed
    arbitration.AHEAD_S *= control.speed
    losses.LATELY_S *= control.speed

    if control.speed == 1:
        # What is freed is given back each time, so that what is left to be seen is in use: also what lies on top of the
        # heap of worker threads, which glibc trims of the first heap only.
        process.GROWN_BYTES, process.ARENAS = 0, 1

    write = BlockFile._write

    def slow_write(file: BlockFile, content: bytes) -> None:
        if _steady() < control.slow_disk_until:
            time.sleep(1.0)
        write(file, content)

    BlockFile._write = slow_write  # type: ignore[method-assign]

    class View:
        """A sink that crashes now and then."""

        async def run(self, batches: Subscription, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()
            async for _ in batches:
                if random.random() < 0.0002:
                    raise RuntimeError("crashed on purpose") from None

    proof = Proof(control)

    def figures(service: Service) -> dict[str, Any]:
        groups = service._source._groups  # type: ignore[attr-defined]
        lines = [line for group in groups for line in group.lines]
        topics = [topic for group in groups if group.arbiter for topic in group.arbiter._topics.values()]
        return {
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "threads": threading.active_count(),
            "blocks": sys.getallocatedblocks(),
            "heap_mb": heap_mb(),
            "garbage": len(gc.garbage),
            "lines": sum(line.is_open and line.protocol.has_data for line in lines),
            "proof": proof.look(service._source),  # type: ignore[attr-defined]
            "waiting": sum(s.depth for s in service.ring.statistics().sinks),
            "peak": max((s.peak for s in service.ring.statistics().sinks), default=0),
            "drops": sum(s.dropped for s in service.ring.statistics().sinks),
            "entries": sum(len(topic.log.entries) for topic in topics),
            "names": sum(len(topic.extra) for topic in topics),
            "most_entries": sum(merging.TAIL[topic.kind] + 64 for topic in topics),
            "most_names": sum(merging.EXTRA for topic in topics if topic.kind in ("trade", "liquidation")),
            "source": service._source.figures(),  # type: ignore[attr-defined]
        }

    async def tell(service: Service) -> None:
        while True:
            text = json.dumps(figures(service)) + "\n"
            await trio.to_thread.run_sync(os.write, 1, text.encode(), abandon_on_cancel=True)
            await trio.sleep(1)

    assemble = engine.assemble

    def with_view(*args: Any) -> Service:
        service = assemble(*args)
        service._sinks.append(SinkEntry("view", View))  # type: ignore[attr-defined]
        service._beside.append(lambda: tell(service))  # type: ignore[attr-defined]
        return service

    engine.assemble = with_view
    sys.argv = ["wld", *sys.argv[2:]]
    cli.main()


if __name__ == "__main__":
    main()
