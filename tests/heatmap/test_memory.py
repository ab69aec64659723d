"""What outlives a restart: only a state file that the user named, whole or not at all; and tapes to start from."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from wld_heatmap.config import HeatmapConfig
from wld_heatmap.evaluation import SERIES
from wld_heatmap.memory import load_history, load_state, pack_state, save_state, write_state
from wld_heatmap.radar import Radar

import wld

from .demo import SECOND, SYMBOL, T0, market

SOON = 300 * SECOND


def watched(minutes: float, config: HeatmapConfig | None = None) -> Radar:
    radar = Radar(config, warm_up=SOON)
    radar.apply(market(minutes))
    return radar


@pytest.fixture(scope="module")
def radar() -> Radar:
    return watched(12)


def test_ledger_weights_and_score_survive_a_restart(radar: Radar, tmp_path: Path) -> None:
    save_state(radar, tmp_path / "heat.state")
    again = Radar(warm_up=SOON)
    assert any("restored" in note for note in load_state(again, tmp_path / "heat.state"))
    before, after = radar.maps[SYMBOL], again.maps[SYMBOL]
    np.testing.assert_array_equal(before.model.ledger.mass, after.model.ledger.mass)  # type: ignore[union-attr]
    np.testing.assert_array_equal(before.model.field(), after.model.field())
    np.testing.assert_array_equal(before.model.weights, after.model.weights)
    assert (before.model.mark, before.model.open_interest) == (after.model.mark, after.model.open_interest)
    assert len(before.scorer) == len(after.scorer) > 0
    for name in SERIES:
        one, two = before.sample().heat[name], after.sample().heat[name]
        np.testing.assert_allclose(one, two, rtol=1e-6)


def test_what_follows_a_restart_is_as_if_there_had_been_a_hole(radar: Radar, tmp_path: Path) -> None:
    """The first column is marked, the ledger goes on, the notes say so."""
    save_state(radar, tmp_path / "heat.state")
    again = Radar(warm_up=SOON)
    load_state(again, tmp_path / "heat.state")
    later = [e for e in market(16) if e.receive_time > T0 + 12 * 60 * SECOND]
    again.apply(later)
    heatmap = again.maps[SYMBOL]
    assert heatmap.columns[0].has_gap
    assert any("restored" in note for note in heatmap.health.notes)
    whole = watched(16).maps[SYMBOL]
    one, two = whole.model.field().sum(), heatmap.model.field().sum()
    assert two == pytest.approx(one, rel=0.02)


def test_no_file_yet_is_a_cold_start_without_a_word(tmp_path: Path) -> None:
    assert load_state(Radar(), tmp_path / "none") == []


def test_a_damaged_state_starts_cold_and_says_so(radar: Radar, tmp_path: Path) -> None:
    path = tmp_path / "heat.state"
    save_state(radar, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    again = Radar()
    assert "damaged" in load_state(again, path)[0]
    assert again.maps == {}
    path.write_bytes(bytes(data[: len(data) // 3]))
    assert "damaged" in load_state(again, path)[0]
    data[7] = 99
    path.write_bytes(bytes(data))
    assert "version 99" in load_state(again, path)[0]


def test_a_file_that_is_no_state_is_never_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear diary")
    with pytest.raises(wld.WldError, match="not a state file"):
        load_state(Radar(), path)


def test_a_state_of_other_bins_or_leverages_starts_cold(radar: Radar, tmp_path: Path) -> None:
    path = tmp_path / "heat.state"
    save_state(radar, path)
    wide = Radar(HeatmapConfig(bin_width=0.002))
    assert "other bins" in load_state(wide, path)[0]
    assert wide.maps[SYMBOL].model.ledger is None
    other = Radar(HeatmapConfig(tier_leverages=(7.0, 13.0), tier_weights=(1.0, 1.0)))
    assert "other leverages" in load_state(other, path)[0]


def test_a_kill_while_writing_leaves_the_old_state(
    radar: Radar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "heat.state"
    write_state(path, pack_state(radar))
    old = path.read_bytes()

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_state(path, b"half")
    assert path.read_bytes() == old


def test_a_place_that_cannot_be_written_is_one_line(radar: Radar, tmp_path: Path) -> None:
    with pytest.raises(wld.WldError, match="cannot be written"):
        write_state(tmp_path / "no" / "such" / "folder", b"")


# Tapes.


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tape")
    with wld.TapeWriter(folder, source="test", clock="recorded") as writer:
        writer.append(list(market(12)))
    return folder


def test_the_radar_starts_from_tapes_and_its_columns_say_so(tape: Path) -> None:
    radar, told = Radar(warm_up=SOON), []
    count = load_history(radar, str(tape), progress=told.append)
    assert told[-1] == count > 1_000
    heatmap = radar.maps[SYMBOL]
    assert all(column.is_seed for column in heatmap.columns)
    direct = watched(12).maps[SYMBOL]
    np.testing.assert_array_equal(heatmap.model.ledger.mass, direct.model.ledger.mass)  # type: ignore[union-attr]
    later = [e for e in market(14) if e.receive_time > T0 + 12 * 60 * SECOND + SECOND]
    radar.apply(later)
    kinds = [column.is_seed for column in heatmap.columns]
    assert kinds[0]
    assert not kinds[-1]
    assert len(list(itertools.groupby(kinds))) == 2


def test_history_of_other_symbols_is_left_out(tape: Path) -> None:
    radar = Radar(symbols=["BTCUSDT"])
    assert load_history(radar, str(tape), ["BTCUSDT"]) == 0
    assert not radar.maps["BTCUSDT"].is_ready


def test_history_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(wld.TapeError):
        load_history(Radar(), str(tmp_path / "none"))


def test_a_damaged_tape_gives_what_is_whole(tape: Path, tmp_path: Path) -> None:
    source = next(tape.glob("*.bin"))
    copy = tmp_path / source.name
    data = bytearray(source.read_bytes())
    data[len(data) // 3] ^= 255
    copy.write_bytes(bytes(data))
    radar = Radar()
    assert load_history(radar, str(copy)) > 0
