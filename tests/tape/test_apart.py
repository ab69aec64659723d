"""Sealing in another process is sealing: the same bytes, the same errors, and whoever is killed leaves the journal."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import wld
from wld.tape import apart
from wld.tape.checkpoints import Books, empty
from wld.tape.choices import Choices
from wld.tape.seal import seal

T0 = 1_790_000_000_000_000_000


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of a book and its changes, large enough for a process."""
    monkeypatch.setattr(apart, "FROM_BYTES", 0)
    with_book = wld.BookSnapshot("X", ((99, 1),), ((101, 1),), 1, 7, T0, T0, T0, 50)
    changes = [wld.BookDelta("X", ((99, n),), (), n, 7 + n, T0, T0, T0 + n, 50) for n in range(2, 40)]
    writer = wld.TapeWriter(tmp_path, source="test", clock="recorded")
    writer.append([with_book, *changes])
    return Path(writer.close(seal=False).files[0])


def test_a_tape_sealed_apart_is_the_one_sealed_here(journal: Path) -> None:
    here: Books = {}
    known = Choices()
    one = seal(journal, here, known).path
    expected = one.read_bytes()
    one.unlink()
    there: Books = {}
    choices = Choices()
    assert apart.seal_apart(journal, there, choices).path.read_bytes() == expected
    assert choices.known == known.known
    assert there.keys() == here.keys() == {("X", 50)}
    assert there["X", 50].bids[1].tolist() == here["X", 50].bids[1].tolist() == [39]


def test_a_refusal_is_told_as_if_it_were_here(journal: Path) -> None:
    journal.write_bytes(b"no tape")
    with pytest.raises(wld.TapeError, match="not a wld tape"):
        apart.seal_apart(journal, {}, Choices())


def test_a_killed_process_leaves_the_journal(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _start_instead(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(wld.TapeError, match="its process ended: status -9; the journal stays readable"):
        apart.seal_apart(journal, {}, Choices())
    assert len(list(wld.open_tape(journal))) == 39
    monkeypatch.undo()
    assert apart.seal_apart(journal, {}, Choices()).damages == ()


def test_one_killed_when_it_was_done_but_for_its_answer_counts_as_done(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(journal)
    _start_instead(monkeypatch, "raise SystemExit('gone')")
    books: Books = {("X", 50): empty()}
    with pytest.raises(wld.TapeError, match="gone"):
        apart.seal_apart(journal, books, Choices())
    assert not books  # what they became is not known


def test_where_no_process_can_be_had_it_is_sealed_here(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert apart.seal_apart(journal, {}, Choices()).damages == ()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends within a second")
def test_it_does_not_outlive_who_asked_for_it(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, os, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'wld.tape.apart', str(os.getpid())], stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout
        child = int(asking.stdout.readline())
        asking.kill()
    _until(lambda: not Path(f"/proc/{child}").exists())


def _start_instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Another program in the place of the one that seals."""
    start = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda arguments, **options: start([sys.executable, "-c", program], **options)
    )


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
