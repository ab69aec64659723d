"""Only as much is kept as was asked for, and never anything but finished tapes is deleted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import wld
from wld.tape.retention import parse_keep, retain

from .test_tape import HOUR, T0, trade


def hours(folder: Path, count: int, *, leave_open: bool = True) -> wld.TapeWriter:
    """A tape an hour, the last one an open journal."""
    writer = wld.TapeWriter(folder, source="test")
    for i in range(count):
        writer.append([trade(i, T0 + i * HOUR)])
    writer.flush()
    return writer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("market_data_*"))


@pytest.mark.parametrize(
    ("text", "age", "size"),
    [
        ("30d", 30 * 24 * HOUR, None), ("12h", 12 * HOUR, None), ("1.5h", HOUR * 3 // 2, None), ("90m", 90 * HOUR // 60, None),
        ("2w", 14 * 24 * HOUR, None), ("50GB", None, 50 * 10**9), ("1 TiB", None, 2**40), ("500mb", None, 5 * 10**8),
    ],
)  # fmt: skip
def test_an_age_or_a_size(text: str, age: int | None, size: int | None) -> None:
    keep = parse_keep(text)
    assert (keep.age_ns, keep.size) == (age, size)


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "0d", "30 days", "many"])
def test_anything_else_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match=r'"30d".*"50GB"'):
        parse_keep(text)


def test_tapes_older_than_an_age_go_oldest_first_by_their_last_event(tmp_path: Path) -> None:
    writer = hours(tmp_path, 5)
    gone = retain(tmp_path, parse_keep("2h"), T0 + 4 * HOUR)
    assert [Path(one.path).name for one in gone] == ["market_data_20231114_2200.bin", "market_data_20231114_2300.bin"]
    assert gone[0].reason == "its last event is older than 2h"
    assert [e.size for e in wld.open_tape(tmp_path) if isinstance(e, wld.Trade)] == [3, 4, 5]
    writer.close()


def test_the_open_journal_never_goes_however_old_or_large(tmp_path: Path) -> None:
    writer = hours(tmp_path, 2)
    retain(tmp_path, parse_keep("1m"), T0 + 10**6 * HOUR)
    assert names(tmp_path) == ["market_data_20231114_2300.bin.open"]
    retain(tmp_path, parse_keep("1KB"), T0)
    assert names(tmp_path) == ["market_data_20231114_2300.bin.open"]
    writer.append([trade(9, T0 + HOUR + 1)])
    writer.close()
    assert len(list(wld.open_tape(tmp_path))) == 2


def test_a_size_counts_the_journal_and_recovered_originals(tmp_path: Path) -> None:
    writer = hours(tmp_path, 4)
    writer.close(seal=False)
    with wld.TapeWriter(tmp_path, source="test") as again:
        again.recover()
    total = sum(path.stat().st_size for path in tmp_path.glob("market_data_*"))
    assert retain(tmp_path, parse_keep(f"{total / 1000}KB"), T0) == []
    gone = retain(tmp_path, parse_keep(f"{(total - 1) / 1000:.3f}KB"), T0)
    assert [Path(one.path).name for one in gone] == ["market_data_20231114_2200.bin"]
    assert "more than" in gone[0].reason
    retain(tmp_path, parse_keep("0.001KB"), T0)
    assert names(tmp_path) == []


def test_files_of_somebody_else_stay(tmp_path: Path) -> None:
    foreign = tmp_path / "market_data_20200101_0000.bin"
    foreign.write_bytes(b"not a tape")
    other = tmp_path / "archive.bin"
    other.write_bytes(b"x")
    hours(tmp_path, 2).close()
    retain(tmp_path, parse_keep("1m"), T0 + 10**6 * HOUR)
    assert sorted(os.listdir(tmp_path)) == [".wld.lock", "archive.bin", foreign.name]


def test_a_folder_that_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours(tmp_path, 2).close()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(wld.TapeError, match="cannot be given up: Permission denied"):
        retain(tmp_path, parse_keep("1m"), T0 + 10**6 * HOUR)
