"""Owns batches on their way to a `TapeWriter`, as columns as soon as they come. Pure; does not know segments."""

from __future__ import annotations

from collections import deque
from operator import itemgetter

from wld.batch import Batch
from wld.tape.collector import Collector
from wld.tape.table import Numbered, to_events


class Gathered:
    """Batches for one `TapeWriter.append`, made columns where they are added and not where they are written.

    Events that came one by one are Python's work to turn into columns and to free, and Python runs one thread: done for
    a second's events at once by the thread that writes, it holds up what comes meanwhile by some 20 ms; done here it is
    some microseconds each (`wld.tape.flat`).
    """

    def __init__(self) -> None:
        self.collector = Collector()
        self.first_number = self.next_number = 0
        """Ring number of its first event, and the one after its last."""
        self.first_receive_time = self.last_receive_time = 0
        """Of its first event, and the latest of all; ns."""
        self.rest: deque[Numbered] = deque()
        """What a writer still has to take one by one."""

    def __len__(self) -> int:
        """Events that no writer has taken."""
        return self.collector.count + len(self.rest)

    def add(self, batch: Batch) -> None:
        """Take a batch. Ring numbers are kept where they rise, else continued from the last."""
        if not len(batch):
            return
        number = max(batch.first_number, self.next_number)
        if not self.collector.count:
            self.first_number, self.first_receive_time = number, batch.first_receive_time
        self.last_receive_time = max(self.last_receive_time, batch.last_receive_time)
        if batch.tables is not None:
            self.next_number = self.collector.add_columns(batch.tables, number)
        else:
            self.next_number = self.collector.add_rows(batch, number)

    def take_apart(self) -> None:
        """Make `rest` of all that is gathered, in ring order."""
        events = [numbered for table in self.collector.tables() for numbered in to_events(table)]
        self.rest.extend(sorted(events, key=itemgetter(0)))
        self.collector.clear()


def gather(batch: Batch, next_number: int) -> Gathered:
    """One batch, its numbers from `next_number` on."""
    gathered = Gathered()
    gathered.next_number = next_number
    gathered.add(batch)
    return gathered
