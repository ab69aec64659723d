"""Whatever happens to the file or the process: whole blocks come back, no event is wrong or twice, losses are said."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wld
from wld.tape import layout, rows
from wld.tape.recovery import recover
from wld.tape.seal import is_event
from wld.tape.segment import Segment
from wld.tape.verify import verify

from .strategies import EVENTS
from .test_tape import HOUR, T0, mixed, of_many_symbols, read_until_damage, trade, write

# Hurt files ----------------------------------------------------------------------------------------------------------


def interesting(path: Path) -> list[int]:
    """Every boundary of a block and some bytes around it, and every seventh byte."""
    size = path.stat().st_size
    edges = {0, size}
    for block, _ in Segment(path).blocks(lambda _: True, check_all=True):
        edges |= {block.offset, block.payload_offset, block.payload_offset + block.directory, block.end}
    near = {edge + i for edge in edges for i in (-1, 0, 1, 4)}
    return sorted(at for at in near | set(range(0, size, 7)) if 0 <= at < size)


def check_cut_journal(folder: Path, events: list[wld.Event], sizes: list[int] | None = None) -> None:
    path = write(folder, events, seal=False, flush_every=20)
    content = path.read_bytes()
    cut = folder / "market_data_20200101_0000.bin.open"
    before = 0
    for size in sizes or interesting(path):
        cut.write_bytes(content[:size])
        got, error = read_until_damage(cut)
        assert error is None
        assert not Counter(map(repr, got)) - Counter(map(repr, events))
        assert len(got) >= before
        before = len(got)
        report = verify(cut)
        assert report.is_intact
        assert 0 <= report.files[0].torn_bytes <= size


def check_cut_sealed(folder: Path, events: list[wld.Event], sizes: list[int] | None = None) -> None:
    path = write(folder, events)
    content = path.read_bytes()
    cut = folder / "market_data_20200101_0000.bin"
    for size in sizes or interesting(path):
        cut.write_bytes(content[:size])
        got, error = read_until_damage(cut)
        assert error is not None
        assert str(cut) in error
        assert not Counter(map(repr, got)) - Counter(map(repr, events))
        assert not verify(cut).is_intact


def check_flips(path: Path, events: list[wld.Event], bits: Iterator[tuple[int, int]]) -> None:
    content = path.read_bytes()
    allowed = Counter(map(repr, events))
    blocks = [block for block, _ in Segment(path).blocks(lambda _: True, check_all=True)]
    for at, bit in bits:
        hurt = bytearray(content)
        hurt[at] ^= 1 << bit
        path.write_bytes(hurt)
        try:
            report = verify(path)
        except wld.TapeVersion:
            continue
        torn = any(file.torn_bytes for file in report.files)
        assert not report.is_intact or torn, at
        got, error = read_until_damage(path)
        assert not Counter(map(repr, got)) - allowed
        hit = next((block for block in blocks if block.offset <= at < block.end), None)
        if hit is not None and not torn:
            lost = hit.count if hit.kind in layout.EVENT_KINDS else 0
            assert len(got) >= len(events) - lost, (at, hit.kind)
            if lost:
                assert error is not None
                assert f"offset {hit.offset}" in error
        tape = wld.open_tape(path)
        for name in ("trades", "depth", "liquidations", "tickers"):
            with contextlib.suppress(wld.TapeDamaged):
                getattr(tape, name)()
    path.write_bytes(content)


def test_a_journal_cut_anywhere_gives_whole_blocks_and_no_wrong_event(tmp_path: Path) -> None:
    check_cut_journal(tmp_path, mixed(2))


def test_what_a_kill_leaves_of_a_flush_never_hides_a_gap_nor_claims_a_repair(tmp_path: Path) -> None:
    repairs = [wld.Repair(n, recovered=1, remaining=0, receive_time=T0) for n in (0, 1)]
    back = trade(90)
    events = [*mixed(1)[1:], trade(7), *mixed(8), repairs[0], back, repairs[1]]
    path = write(tmp_path, events, seal=False, flush_every=len(events))
    content = path.read_bytes()
    blocks = Segment(path).headers(is_event)
    assert len(blocks) > 2
    for block in blocks:
        path.write_bytes(content[: block.end + 5])
        found = read_until_damage(path)[0]
        last = max(map(events.index, found))
        assert all(event in found for event in events[:last] if isinstance(event, wld.Gap))
        assert repairs[1] not in found or back in found
    assert found == events


def test_a_sealed_file_cut_anywhere_says_so(tmp_path: Path) -> None:
    check_cut_sealed(tmp_path, mixed(2))


@pytest.mark.parametrize("at", [40, 1300])
def test_bytes_gone_from_a_journal_that_move_all_after_them_are_damage_and_no_torn_end(tmp_path: Path, at: int) -> None:
    path = write(tmp_path, mixed(2), seal=False, flush_every=20)
    content = path.read_bytes()
    path.write_bytes(content[:at] + content[at + 60 :])
    got, error = read_until_damage(path)
    assert len(got) < len(mixed(2))
    assert error is not None
    assert not verify(path).is_intact


@pytest.mark.parametrize("seal", [True, False])
def test_a_flipped_bit_costs_one_block_and_is_named(tmp_path: Path, seal: bool) -> None:
    path = write(tmp_path, mixed(2), seal=seal)
    check_flips(path, mixed(2), ((at, at % 8) for at in interesting(path)))


@pytest.mark.slow
@pytest.mark.parametrize("events", [mixed(3), of_many_symbols(3)], ids=["one symbol", "many"])
def test_every_cut_and_every_bit(tmp_path: Path, events: list[wld.Event]) -> None:
    sealed, journal = write(tmp_path / "s", events), write(tmp_path / "j", events, seal=False)
    check_cut_sealed(tmp_path / "cs", events, list(range(sealed.stat().st_size)))
    check_cut_journal(tmp_path / "cj", events, list(range(journal.stat().st_size)))
    for path in (sealed, journal):
        check_flips(path, events, ((at, (at * 5) % 8) for at in range(0, path.stat().st_size, 3)))


def test_appended_bytes_are_damage_and_never_events(tmp_path: Path) -> None:
    events = mixed(6)
    path = write(tmp_path, events)
    content = path.read_bytes()
    for extra in (b"x", b"\0" * 100, content):
        path.write_bytes(content + extra)
        got, error = read_until_damage(path)
        assert got == events
        assert error is not None
        assert f"offset {len(content)}" in error
        assert not verify(path).is_intact


def test_a_file_of_somebody_else_under_our_name_is_named_and_hides_nothing(tmp_path: Path) -> None:
    write(tmp_path, mixed(4))
    foreign = tmp_path / "market_data_20231114_2300.bin"
    foreign.write_bytes(b"mine, not a tape")
    (tmp_path / "market_data_20231114_2330.bin").mkdir()
    (tmp_path / "notes.bin").write_bytes(b"neither ours by name nor by content")
    got, error = read_until_damage(tmp_path)
    assert got == mixed(4)
    assert error is not None
    assert str(foreign) in error
    assert "not a wld tape" in error
    assert [damage.path for damage in verify(tmp_path).damages] == [str(foreign)]
    assert foreign.read_bytes() == b"mine, not a tape"


def blocks_of(path: Path, kind: int) -> list[layout.Block]:
    return [block for block, _ in Segment(path).blocks(lambda block: block.kind == kind)]


def test_a_block_of_another_file_that_fits_in_is_damage(tmp_path: Path) -> None:
    # Same kind, symbol and offset, and every checksum right: the index knows that it is not the block written there.
    mine = write(tmp_path / "mine", [trade(i) for i in range(50)])
    theirs = write(tmp_path / "theirs", [trade(i + 7) for i in range(50)])
    [ours], [other] = blocks_of(mine, layout.TRADE), blocks_of(theirs, layout.TRADE)
    assert (ours.offset, ours.first_number) == (other.offset, other.first_number)
    content = bytearray(mine.read_bytes())
    content[ours.offset : ours.end] = theirs.read_bytes()[other.offset : other.end]
    mine.write_bytes(content)
    got, error = read_until_damage(mine)
    assert got == []
    assert error is not None
    assert f"offset {ours.offset}" in error
    with pytest.raises(wld.TapeDamaged, match=f"offset {ours.offset}"):
        wld.open_tape(mine).trades()
    assert [damage.offset for damage in verify(mine).damages] == [ours.offset]
    [recovered] = recover(mine)
    assert recovered.damages
    assert recovered.sealed is None or list(wld.open_tape(recovered.sealed)) == []


def test_a_block_that_steps_back_in_ring_order_is_damage_and_not_recovered(tmp_path: Path) -> None:
    path = write(tmp_path, [trade(i) for i in range(30)], seal=False, flush_every=10)
    blocks = blocks_of(path, layout.TRADE)
    parts = [path.read_bytes()[block.offset : block.end] for block in blocks]
    with path.open("ab") as file:  # the first block once more, as if it had been written there
        moved = bytearray(parts[0])
        moved[60:68] = blocks[-1].end.to_bytes(8, "little")
        symbol = moved[layout.HEADER_SIZE : layout.HEADER_SIZE + blocks[0].symbol_length]
        moved[72:76] = zlib.crc32(symbol, zlib.crc32(moved[:72])).to_bytes(4, "little")
        file.write(moved)
    got, error = read_until_damage(path)
    assert got == [trade(i) for i in range(30)]
    assert error is not None
    assert "out of ring order" in error
    [recovered] = recover(tmp_path)
    assert recovered.damages
    assert list(wld.open_tape(tmp_path)) == [trade(i) for i in range(30)]


@pytest.mark.parametrize("where", [2**63, 2**64 - 1, 2**62])
def test_a_footer_that_points_anywhere_costs_no_event(tmp_path: Path, where: int) -> None:
    path = write(tmp_path, mixed(4))
    content = bytearray(path.read_bytes())
    footer = memoryview(content)[-layout.FOOTER_SIZE :]
    footer[layout.HEADER_SIZE :] = where.to_bytes(8, "little")
    footer[68:72] = zlib.crc32(footer[layout.HEADER_SIZE :]).to_bytes(4, "little")
    footer[72:76] = zlib.crc32(footer[:72]).to_bytes(4, "little")
    path.write_bytes(content)
    assert read_until_damage(path)[0] == mixed(4)
    verify(path)


def test_folders_under_the_names_of_tapes_stop_neither_recovery_nor_recording(tmp_path: Path) -> None:
    path = write(tmp_path, mixed(4), seal=False)
    base = path.name.removesuffix(".bin.open")
    (tmp_path / f"{base}.bin").mkdir()
    (tmp_path / f"{base}.sealing").mkdir()
    (tmp_path / f"{base}_2.bin.open").mkdir()
    with wld.TapeWriter(tmp_path, source="test") as writer:
        assert len(writer.recover()) == 1
        writer.append(mixed(4))
    assert list(wld.open_tape(tmp_path)) == mixed(4) * 2


def test_a_journal_deleted_while_it_is_recorded_is_said_at_the_next_flush(tmp_path: Path) -> None:
    writer = wld.TapeWriter(tmp_path, source="test")
    writer.append(mixed(4))
    writer.flush()
    assert writer.path is not None
    writer.path.unlink()
    writer.append(mixed(4))
    with pytest.raises(wld.TapeError, match="deleted while"):
        writer.flush()
    with pytest.raises(wld.TapeError, match="deleted while"):
        writer.close()


def test_an_index_that_hides_blocks_is_found_by_verify(tmp_path: Path) -> None:
    from wld.tape.seal import BlockFile

    path = tmp_path / "market_data_20231114_2200.bin"
    file = BlockFile(path, {"format": 1, "segment": "s", "run": "r"})
    file.put(rows.encode_group(list(enumerate(mixed(3))), pack=True))
    del file.written[2], file.offsets[2]
    file.finish()
    file.close()
    assert "index" in str(verify(path).damages)


# Tapes from strangers ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_columns_that_are_whole_but_make_no_sense_are_damage(data: st.DataObject) -> None:
    events = data.draw(st.lists(EVENTS, min_size=1, max_size=8))
    drafts = rows.encode_group(list(enumerate(events)), pack=data.draw(st.booleans()))
    draft = data.draw(st.sampled_from(drafts))
    payload = bytearray(draft.payload)
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    draft.parts = [bytes(payload)]
    encoded = layout.encode_header(draft, 0) + draft.payload
    block = layout.parse_header(encoded, 0)
    assert block is not None
    try:
        got = rows.decode(block, encoded[block.payload_offset :])
    except wld.TapeDamaged:
        return
    assert len(got) == block.count
    assert [number for number, _ in got] == sorted({number for number, _ in got})


_BOUNDED = """
import resource, sys, wld
from wld.tape import columns, layout
limit = 700 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
tape = wld.open_tape(sys.argv[1])
for read in (lambda: list(tape), tape.trades, tape.depth, tape.tickers):
    try:
        read()
    except wld.TapeDamaged as error:
        assert "larger than a block" in str(error), error
    else:
        sys.exit("read it")
"""


def test_a_hostile_tape_takes_no_more_memory_than_a_block_may(tmp_path: Path) -> None:
    from wld.tape import columns as codec
    from wld.tape.layout import Draft
    from wld.tape.seal import BlockFile

    from .test_columns import _HOLLOW, column_bytes, payload_of

    names = ("number", "price", "size", "event_time", "flags", "receive_time", "bid_count", "ask_count", "depth")
    payload = payload_of(*(column_bytes(name, codec.PACKED, codec.MAX_ROWS, _HOLLOW) for name in names))
    path = tmp_path / "market_data_20231114_2200.bin"
    file = BlockFile(path, {"format": 1, "segment": "s", "run": "r"})
    for kind in (layout.TRADE, layout.BOOK, layout.TICKER):
        file.put([Draft(kind, 0, "X", layout.MAX_EVENTS, [payload], 1000)])
    file.finish()
    file.close()
    done = subprocess.run([sys.executable, "-c", _BOUNDED, path], capture_output=True, text=True)
    assert done.stderr == ""


# Killed processes ----------------------------------------------------------------------------------------------------

_RECORDER = """
import sys, wld
folder, run = sys.argv[1], int(sys.argv[2])
T0 = 1_700_000_000_000_000_000
w = wld.TapeWriter(folder, source="x", rotate_minutes=1, sync_interval_s=0)
w.recover()
i = 0
while True:
    events = []
    for _ in range(7):
        t = T0 + run * 10**15 + i * 1_500_000_000
        events.append(wld.Trade("X", run, i, wld.AggressorSide.BUY, f"{run}-{i}", event_time=t, receive_time=t))
        events.append(wld.BookDelta("X", ((i, 1),), (), i, None, t, t, t))
        i += 1
    w.append(events)
    w.flush()
    print(i, flush=True)
"""


def kill_again_and_again(folder: Path, times: int, rng: random.Random) -> None:
    flushed: list[int] = []
    for run in range(times):
        with subprocess.Popen([sys.executable, "-c", _RECORDER, folder, str(run)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(rng.randrange(1, 60)):
                child.stdout.readline()
            # Between two flushes, in one, or in the seal of the minute before.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(rng.random() * 0.02)
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().split()
        flushed.append(int(rest[-1]) if rest else 0)
    recover(folder)
    report = verify(folder)
    assert report.is_intact, report.damages
    runs: dict[int, list[int]] = {}
    books = 0
    for event in wld.open_tape(folder):
        if isinstance(event, wld.Trade):
            runs.setdefault(event.price, []).append(event.size)
        else:
            books += 1
    for run, sizes in runs.items():
        assert sizes == list(range(len(sizes)))  # in order, none twice, none left out
        assert len(sizes) >= flushed[run]
    assert books == sum(map(len, runs.values()))
    assert not list(folder.glob("*.sealing"))


def test_a_recorder_killed_while_it_writes_rotates_and_seals_loses_nothing_flushed(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 3, random.Random(5))


@pytest.mark.slow
def test_a_recorder_killed_forty_times(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 40, random.Random(6))


def test_a_kill_after_any_step_of_sealing_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    events = mixed(6)
    steps = [("fsync", 1), ("fsync", 2), ("link", 1), ("unlink", 1), ("unlink", 2), ("open", 1), ("rename", 1)]
    for name, when in steps:
        folder = tmp_path / f"{name}{when}"
        write(folder, events, seal=False)
        real = getattr(os, name)
        calls = [0]

        def dying(
            *args: object, real: object = real, calls: list[int] = calls, when: int = when, **kwargs: object
        ) -> object:
            calls[0] += 1
            if calls[0] == when:
                raise Killed
            return real(*args, **kwargs)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            patch.setattr(os, name, dying)
            with contextlib.suppress(Killed):
                recover(folder)
        assert list(wld.open_tape(folder)) == events, name
        recover(folder)
        assert list(wld.open_tape(folder)) == events, name
        assert len(list(folder.glob("*.bin"))) == 1
        assert verify(folder).is_intact


# Disks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 400 KiB; needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_costs_nothing_that_was_flushed(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    writer = wld.TapeWriter(small_disk, source="test")
    flushed = given_events = 0
    events = mixed(6000)
    refused = None
    for start in range(0, len(events), 50):
        try:
            writer.append(events[start : start + 50])
            given_events = start + 50
            writer.flush()
        except wld.TapeError as error:
            refused = str(error)
            break
        flushed = given_events
    assert flushed > 0
    assert refused is not None
    assert refused.endswith("cannot be written: No space left on device")
    assert list(wld.open_tape(small_disk)) == events[:flushed]
    with pytest.raises(wld.TapeError, match="No space left on device"):
        writer.flush()
    ballast.unlink()
    writer.flush()
    assert list(wld.open_tape(small_disk)) == events[:given_events]
    for start in range(given_events, given_events + 100, 50):
        writer.append(events[start : start + 50])
    writer.flush()
    ballast.write_bytes(b"")
    with contextlib.suppress(OSError), ballast.open("wb") as file:  # no room to seal
        while True:
            file.write(bytes(4096))
            file.flush()
    with pytest.raises(wld.TapeError, match="cannot be sealed: No space left on device; the journal stays readable"):
        writer.close()
    assert list(wld.open_tape(small_disk)) == events[: given_events + 100]
    assert not list(small_disk.glob("*.sealing"))
    ballast.unlink()
    recover(small_disk)
    assert list(wld.open_tape(small_disk)) == events[: given_events + 100]


def test_a_disk_that_cannot_be_written_is_said_in_one_line(small_disk: Path) -> None:
    write(small_disk, mixed(2))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(wld.TapeError, match=r"^[^\n]*cannot be written: Read-only file system[^\n]*$"):
        wld.TapeWriter(small_disk, source="test")
    assert list(wld.open_tape(small_disk)) == mixed(2)


def test_a_hurt_place_in_the_journal_keeps_the_journal_when_it_is_sealed(tmp_path: Path) -> None:
    writer = wld.TapeWriter(tmp_path, source="test")
    for i in range(5):
        writer.append([trade(i)])
        writer.flush()
    assert writer.path is not None
    journal = writer.path
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 1
    journal.write_bytes(content)
    writer.close()
    (note,) = writer.notes
    assert "damaged" in note
    assert journal.with_name(journal.name + ".recovered").read_bytes() == bytes(content)
    assert 3 <= len(list(wld.open_tape(tmp_path))) < 5


def test_a_folder_read_while_its_journal_is_sealed_misses_nothing(tmp_path: Path) -> None:
    writer = wld.TapeWriter(tmp_path, source="test")
    writer.append([trade(i, T0 + i * HOUR // 3) for i in range(4)])
    writer.flush()
    tape = wld.open_tape(tmp_path)  # the second hour is a journal now
    writer.close()
    assert list(tape) == [trade(i, T0 + i * HOUR // 3) for i in range(4)]
    assert tape.trades()["size"].tolist() == [1, 2, 3, 4]


def test_a_damaged_sealed_file_is_recovered_to_its_whole_blocks_and_its_bytes_stay(tmp_path: Path) -> None:
    events = mixed(30)
    path = write(tmp_path, events)
    with pytest.raises(wld.TapeError, match="nothing to recover"):
        recover(path)
    trades = next(block for block, _ in Segment(path).blocks(lambda block: block.kind == layout.TRADE))
    content = bytearray(path.read_bytes())
    content[trades.end - 5] ^= 1
    path.write_bytes(content)
    (done,) = recover(path)
    assert "checksum of a trade block fails" in done.damages[0]
    assert Path(done.journal).read_bytes() == bytes(content)
    assert done.sealed == str(path)
    assert list(wld.open_tape(tmp_path)) == [e for e in events if not isinstance(e, wld.Trade)]
    assert verify(tmp_path).is_intact


def test_a_journal_that_is_being_written_is_not_left_over(tmp_path: Path) -> None:
    writer = wld.TapeWriter(tmp_path, source="test")
    writer.append(mixed(3))
    writer.flush()
    assert writer.path is not None
    for place in (tmp_path, writer.path):
        with pytest.raises(wld.TapeLocked, match="another recorder"):
            recover(place)
    assert writer.path.exists()
    writer.close()
    assert list(wld.open_tape(tmp_path)) == mixed(3)
    assert recover(tmp_path) == []


# Memory --------------------------------------------------------------------------------------------------------------

_LARGE = """
import resource, sys, wld
tape = wld.open_tape(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
size = sum(segment.path.stat().st_size for segment in tape.segments)
limit = int(open("/proc/self/statm").read().split()[0]) * 4096 + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
events = sum(1 for _ in tape)
rows = sum(len(chunk) for chunk in tape.chunks("trades"))
levels = sum(len(chunk) for chunk in tape.chunks("depth", columns=["price", "size"]))
print(events, rows, levels)
"""


@pytest.mark.slow
def test_a_tape_larger_than_memory_is_read_in_pieces(tmp_path: Path) -> None:
    """2.4 million trades are 190 MB as an array and 700 MB as events; 150 MB are enough to iterate and to read pieces."""
    from wld.batch import TRADE_DTYPE
    from wld.tape import table
    from wld.tape.seal import BlockFile

    rng = np.random.default_rng(1)
    path = tmp_path / "market_data_20231114_2200.bin"
    file = BlockFile(path, {"format": 1, "segment": "s", "run": "r"})
    count, each = 2_400_000, 240_000
    for start in range(0, count, each):
        trades = np.zeros(each, TRADE_DTYPE)
        trades["number"] = np.arange(start, start + each)
        trades["receive_time"] = trades["event_time"] = T0 + trades["number"] * 1_000_000
        trades["size"] = rng.integers(1, 2**40, each)
        trades["trade_id"] = np.frombuffer(rng.bytes(16 * each), "V16")
        file.put(rows.encode_tables([table.from_trades(trades, ["X"])], pack=True))
    file.finish()
    file.close()
    command = [sys.executable, "-c", _LARGE, path, str(150 * 2**20)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(count), str(count), "0"]
