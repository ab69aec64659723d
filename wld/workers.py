"""Owns `--workers`: several wld processes that share nothing but the symbols between them, and one that minds them.

Each worker is the same command with `--shard i/n`: it follows its part of the symbols on its own connections and writes
into its own folder `shard-i-of-n` of the data directory, which `wld.open_tape` reads together.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

import trio

log = logging.getLogger(__name__)


class _Worker:
    def __init__(self, name: str, process: trio.Process) -> None:
        self.name = name
        self.process = process


def run_workers(arguments: Sequence[str], count: int) -> int:
    """Run the same command `count` times, each a shard; the exit status of all of them.

    0 where every worker ended with 0. The first that ends otherwise stops the others, which drain; its status is the
    answer (1 where a signal ended it).
    """
    return trio.run(_run, tuple(arguments), count)


async def _run(arguments: tuple[str, ...], count: int) -> int:
    workers: list[_Worker] = []
    failures: list[int] = []
    stopping = False

    def stop(number: int) -> None:
        nonlocal stopping
        stopping = True
        for worker in workers:
            if worker.process.returncode is None:
                worker.process.send_signal(number)

    async def mind(worker: _Worker) -> None:
        # No limit: a worker ends by itself, and bounds its own drain.
        status = await worker.process.wait()
        if status == 0:
            log.info("worker %s ended", worker.name)
            return
        said = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
        first = not failures
        failures.append(status)
        if first and not stopping:
            log.error("worker %s %s; stopping the others", worker.name, said)
            stop(signal.SIGTERM)
        else:
            log.error("worker %s %s", worker.name, said)

    async def relay(*, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                log.info("%s: stopping %d workers", _signal_name(number), count)
                stop(number)

    async with trio.open_nursery() as watching:
        await watching.start(relay)
        try:
            async with trio.open_nursery() as nursery:
                for i in range(1, count + 1):
                    if stopping:
                        break
                    process = await trio.lowlevel.open_process(
                        [sys.executable, "-m", "wld", *arguments, "--shard", f"{i}/{count}"],
                        stdin=None,
                        env={**os.environ, _PARENT: str(os.getpid())},
                        start_new_session=True,  # a terminal's Ctrl-C reaches the parent only, which passes it on once
                    )
                    workers.append(_Worker(f"{i}/{count}", process))
                    log.info("worker %d/%d: pid %d", i, count, process.pid)
                    nursery.start_soon(mind, workers[-1])
        finally:
            watching.cancel_scope.cancel()
            for worker in workers:
                if worker.process.returncode is None:
                    worker.process.kill()
    if not failures:
        return 0
    return failures[0] if failures[0] > 0 else 1


_PARENT = "WLD_WORKER_OF"


def parent_of_this_worker() -> int | None:
    """The pid of the process that minds this one; None where nobody does."""
    text = os.environ.get(_PARENT, "")
    return int(text) if text.isdecimal() else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
