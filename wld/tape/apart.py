"""Owns sealing in a process of its own: threads share the interpreter, of which sealing would take its half from the event
loop. Says nothing about how a tape is sealed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, msgpack

from wld import process
from wld.errors import TapeError
from wld.tape.checkpoints import Books
from wld.tape.choices import Choices
from wld.tape.seal import Sealed, seal
from wld.tape.segment import Segment, sealed_twin

FROM_BYTES = 4 << 20
"""Of a journal: starting a process costs some 0.2 s, as much as sealing this."""
NICE = 10
"""A recorder that has work gets nine tenths of a core that both want."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Task(Struct):
    """What the other process is asked."""

    journal: Path
    books: Books
    known: dict[str, list[int]]


class _Answer(Struct):
    """What it says: what was sealed, and what the two became meanwhile; or why not."""

    sealed: Sealed | None = None
    books: Books = {}
    known: dict[str, list[int]] = {}
    refusal: str = ""


def seal_apart(journal: Path, books: Books, choices: Choices) -> Sealed:
    """As `seal`, in another process where the journal is large and one can be had; waits for it however long it takes, as
    for a disk. A kill of either leaves the journal.

    Raises:
        TapeError: as `seal`, or the process died; then the journal stays, and sealing may be tried again.
    """
    try:
        if not sys.executable or journal.stat().st_size < FROM_BYTES:
            return seal(journal, books, choices)
        # A session of its own: the terminal's Ctrl-C is not for it.
        child = subprocess.Popen(
            [sys.executable, "-m", "wld.tape.apart", str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except OSError:
        return seal(journal, books, choices)
    said, complaints = child.communicate(_encode(_Task(journal, books, choices.known)))
    if child.returncode:
        if sealed_twin(Segment(journal)):
            books.clear()  # it was done but for its answer
        lines = complaints.decode(errors="replace").strip().splitlines() or [f"status {child.returncode}"]
        raise TapeError(f"{journal}: cannot be sealed: its process ended: {lines[-1]}; the journal stays readable")
    answer = msgpack.decode(said, type=_Answer, dec_hook=_decode_part)
    if answer.sealed is None:
        raise TapeError(answer.refusal)
    books.clear()
    books.update(answer.books)
    choices.known = answer.known
    return answer.sealed


def _encode(content: _Task | _Answer) -> bytes:
    return msgpack.encode(content, enc_hook=_encode_part)


def _encode_part(part: object) -> object:
    return part.tobytes() if isinstance(part, np.ndarray) else str(part)


def _decode_part(kind: type, part: Any) -> object:
    return Path(part) if kind is Path else np.frombuffer(part, np.int64).copy()


def main(parent: int) -> None:
    """Seal what standard input asks for, and answer on standard output."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a supervisor stops all of a group: the recorder waits for this
    try:
        # When the thread ends that started this, which it does not before this does but with its process.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        process.end_with(parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(NICE)
    process.tune()
    task = msgpack.decode(sys.stdin.buffer.read(), type=_Task, dec_hook=_decode_part)
    choices = Choices(known=task.known)
    if os.getppid() != parent:
        return
    try:
        answer = _Answer(seal(task.journal, task.books, choices), task.books, choices.known)
    except TapeError as error:
        answer = _Answer(refusal=str(error))
    sys.stdout.buffer.write(_encode(answer))
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
