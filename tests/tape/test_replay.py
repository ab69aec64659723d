"""Replay: the same events again, at their recorded pace or as fast as the sinks take them."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wld
from tests.tape.strategies import EVENTS
from wld.config import SourceConfig, parse_speed
from wld.ring import Ring
from wld.sources import find_paths, make_source
from wld.tape.replay import LONGEST_WAIT_S, ReplaySource

T0 = 1_764_000_000_000_000_000
SECOND = 1_000_000_000


def trade(number: int, time: int, symbol: str = "WLDUSDT") -> wld.Trade:
    return wld.Trade(symbol, 1, number + 1, wld.AggressorSide.BUY, "", event_time=time, receive_time=time)


def write(folder: Path, events: list[wld.Event], **arguments: Any) -> Path:
    with wld.TapeWriter(folder, source="test", **arguments) as writer:
        writer.append(events)
    return folder


class Collector:
    """A ring's publishing side that notes what came and when."""

    def __init__(self) -> None:
        self.events: list[wld.Event] = []
        self.times: list[float] = []
        self.batches: list[int] = []

    async def publish_wait(self, events: list[wld.Event]) -> None:
        await trio.lowlevel.checkpoint()
        self.batches.append(len(events))
        for event in events:
            self.events.append(event)
            self.times.append(trio.current_time())


@pytest.mark.parametrize("speed", [1, 4])
async def test_a_paced_replay_keeps_the_recorded_distances(
    tmp_path: Path, speed: float, autojump_clock: trio.testing.MockClock
) -> None:
    offsets = [0.0, 0.5, 0.5, 2.0, 30.0]
    events: list[wld.Event] = [trade(i, T0 + int(s * SECOND)) for i, s in enumerate(offsets)]
    ring = Collector()
    await ReplaySource(write(tmp_path, events), speed=speed).run(ring)
    assert ring.events == events
    assert [t - ring.times[0] for t in ring.times] == pytest.approx([s / speed for s in offsets])
    assert ring.batches == [1, 2, 1, 1]  # what came at one instant stays one batch


async def test_symbols_that_are_not_on_the_tape_are_said(tmp_path: Path) -> None:
    source = ReplaySource(write(tmp_path, [trade(0, T0)]), ("NOPEUSDT",))
    with pytest.raises(wld.TapeError, match=f"{tmp_path}: holds none of NOPEUSDT"):
        await source.run(Collector())


async def test_hours_without_a_recording_are_skipped_and_said(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[wld.Event] = [trade(0, T0), trade(1, T0 + 36_000 * SECOND), trade(2, T0 + 36_001 * SECOND)]
    ring = Collector()
    with caplog.at_level("INFO"):
        await ReplaySource(write(tmp_path, events), speed=1).run(ring)
    assert ring.times[-1] - ring.times[0] < LONGEST_WAIT_S
    assert ring.times[2] - ring.times[1] == pytest.approx(1)
    assert "nothing recorded for 36000 s: skipped" in caplog.text


async def test_at_full_speed_nothing_is_lost_to_a_slow_sink(tmp_path: Path) -> None:
    events: list[wld.Event] = [trade(i, T0 + i) for i in range(10_000)]
    write(tmp_path, events)
    ring = Ring()
    subscription = ring.subscribe("slow", capacity=5_000)
    seen: list[wld.Event] = []

    async def consume() -> None:
        async for batch in subscription:
            await trio.lowlevel.checkpoint()
            seen.extend(batch)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        await ReplaySource(tmp_path).run(ring)
        ring.close()
    assert seen == events


def hurt(folder: Path) -> list[wld.Event]:
    """Flip a byte in the middle of a tape; returns what is still whole."""
    (path,) = folder.glob("*.bin")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    whole: list[wld.Event] = []
    with pytest.raises(wld.TapeDamaged):
        whole.extend(wld.open_tape(folder))
    return whole


async def test_a_damaged_tape_gives_every_whole_block_and_then_fails(tmp_path: Path) -> None:
    events: list[wld.Event] = [trade(i, T0 + i) for i in range(100)]
    events += [wld.Gap(1, wld.GapReason.SILENCE, receive_time=T0 + 100)]
    write(tmp_path, events)
    whole = hurt(tmp_path)
    ring = Collector()
    with pytest.raises(wld.TapeDamaged):
        await ReplaySource(tmp_path).run(ring)
    assert ring.events == whole


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, min_size=1, max_size=20))
def test_a_replay_recorded_is_the_same_tape(tmp_path: Path, events: list[wld.Event]) -> None:
    """Whatever was recorded: gaps, repairs and instruments too, in ring order."""
    place = Path(mkdtemp(dir=tmp_path))
    times = sorted(T0 + abs(e.receive_time) % (3 * 3_600 * SECOND) for e in events)
    events = [msgspec.structs.replace(e, receive_time=t) for e, t in zip(events, times, strict=True)]
    write(place / "a", events)

    async def record() -> None:
        ring = Ring()
        subscription = ring.subscribe("recorder")
        with wld.TapeWriter(place / "b", source="replay", clock="recorded") as writer:
            await ReplaySource(place / "a").run(ring)
            ring.close()
            async for batch in subscription:
                writer.append(batch)

    trio.run(record)
    assert list(wld.open_tape(place / "b").numbered()) == list(wld.open_tape(place / "a").numbered())


def test_the_program_replays_a_folder_and_several_files_into_an_equal_tape(tmp_path: Path) -> None:
    events: list[wld.Event] = [trade(i, T0 + i * 1800 * SECOND, "AB"[i % 2] + "USDT") for i in range(8)]
    events.insert(3, wld.Gap(1, wld.GapReason.DISCONNECT, first_time=T0, receive_time=events[2].receive_time))
    write(tmp_path / "a", events)
    files = sorted((tmp_path / "a").glob("*.bin"))
    assert len(files) > 2
    for name, source in (("b", str(tmp_path / "a")), ("c", ",".join(map(str, files)))):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "wld",
                "--source",
                source,
                "--sinks",
                "recorder",
                "--data-dir",
                str(tmp_path / name),
            ],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        again = wld.open_tape(tmp_path / name)
        assert list(again) == events
        assert again.summary().header["clock"] == "recorded"


def test_recording_a_replay_into_its_own_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [trade(0, T0)])
    done = subprocess.run(
        [sys.executable, "-m", "wld", "--source", str(tmp_path), "--sinks", "recorder", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "is what is being replayed; choose another --data-dir" in done.stderr
    assert len(list(wld.open_tape(tmp_path))) == 1


@pytest.mark.parametrize(("text", "speed"), [("1", 1), ("10x", 10), ("2.5", 2.5), (0.5, 0.5), ("max", math.inf)])
def test_speeds_are_numbers_or_max(text: str | float, speed: float) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan", "inf", ""])
def test_other_speeds_are_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="1 or 10x, or max"):
        parse_speed(text)


def test_a_screen_replays_at_the_recorded_pace_unless_told_otherwise(tmp_path: Path) -> None:
    config = SourceConfig(name=str(write(tmp_path, [trade(0, T0)])))
    assert make_source(config)._speed == math.inf
    assert make_source(config, has_screen=True)._speed == 1
    fast = SourceConfig(name=config.name, speed="max")
    assert make_source(fast, has_screen=True)._speed == math.inf


def test_a_name_is_a_path_a_list_or_a_pattern(tmp_path: Path) -> None:
    for name in ("b.bin", "a.bin", "with,comma.bin"):
        (tmp_path / name).touch()
    a, b, comma = (tmp_path / name for name in ("a.bin", "b.bin", "with,comma.bin"))
    assert find_paths(str(comma)) == [comma]
    assert find_paths(f"{b}, {a}") == [b, a]
    assert find_paths(f"{tmp_path}/?.bin") == []
    assert find_paths(f"{tmp_path}/*.bin") == [a, b, comma]
    assert find_paths(f"{a},{tmp_path}/none.bin") == []
