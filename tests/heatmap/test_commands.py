"""`wld evaluate` and `wld plot` as their user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from wld_heatmap.assessment import assess, assess_symbol
from wld_heatmap.commands import evaluate, plot, read_config

import wld
from wld import plugins
from wld.cli import cli

from .demo import SYMBOL, market


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tape")
    with wld.TapeWriter(folder, source="test", clock="recorded") as writer:
        writer.append(list(market(12, gap_at=6.0)))
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wld.toml of the checkout."""
    monkeypatch.chdir(tmp_path)


def test_evaluate_says_unproven_where_there_is_too_little(tape: Path) -> None:
    result = CliRunner().invoke(evaluate, [str(tape)])
    assert result.exit_code == 0, result.output
    assert "unproven" in result.stdout
    assert "not enough" in result.stdout
    assert "MMR 1% max 50x" in result.stdout


def test_evaluate_for_programs(tape: Path) -> None:
    result = CliRunner().invoke(evaluate, [str(tape), "--json", "--lead", "1"])
    (one,) = json.loads(result.stdout)
    assert one["symbol"] == SYMBOL
    assert one["reports"][0]["verdict"] == "unproven"
    assert one["reports"][0]["lead"] == 1
    assert one["tiers"]


def test_a_long_tape_gets_the_whole_table(tmp_path: Path) -> None:
    """The same table from a sample of known truth, so that no test needs hours of market."""
    from rich.console import Console
    from wld_heatmap.assessment import Assessment
    from wld_heatmap.commands import _print
    from wld_heatmap.judgement import judge

    from .test_evaluation import sample

    report = judge(sample(model="truth", boosted="truth"), resamples=50)
    console = Console(record=True, width=132, file=(tmp_path / "out").open("w"))
    about = Assessment(SYMBOL, 40.0, 1000, "MMR 1%", None, ((10.0, 1.0, 3.0),), ("a note",), (), (report,), ())
    _print(console, about)
    console.file.close()
    text = console.export_text()
    for word in ("distance", "recency", "uniform", "predecessor", "untouched", "placebo", "Calibration", "validated"):
        assert word in text
    assert "Note: a note" in text


def test_a_setting_reaches_the_model_and_a_wrong_one_is_one_line(tape: Path, tmp_path: Path) -> None:
    (tmp_path / "wld.toml").write_text("[sinks.heatmap]\nlearn = false\nenabled = true\n")
    assert read_config(None).learn is False
    assert read_config(None, ("learn=true", "sinks.heatmap.bin_width=0.001")).bin_width == 0.001
    with pytest.raises(wld.ConfigError, match='leran: unknown key; did you mean "learn"'):
        read_config(None, ("leran=true",))
    with pytest.raises(wld.ConfigError, match=r"sinks.heatmap.wide_share: expected a fraction from 0 to 1, got 2"):
        read_config(None, ("wide_share=2",))
    with pytest.raises(wld.ConfigError, match=r"sinks.heatmap.learn: expected `bool`"):
        read_config(None, ("learn=perhaps",))
    with pytest.raises(wld.ConfigError, match="expected KEY=VALUE"):
        read_config(None, ("learn",))
    with pytest.raises(wld.ConfigError, match="cannot be read"):
        read_config("none.toml")


def test_a_symbol_that_is_not_there_is_one_line(tape: Path) -> None:
    with pytest.raises(wld.TapeError, match="BTCUSDT: not on these tapes; they hold WLDUSDT"):
        assess([str(tape)], ["BTCUSDT"])


def test_a_damaged_tape_is_scored_as_far_as_it_goes_and_is_status_1(tape: Path, tmp_path: Path) -> None:
    source = next(tape.glob("*.bin"))
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / source.name).write_bytes(bytes(data))
    run = subprocess.run(
        [sys.executable, "-m", "wld", "evaluate", str(tmp_path), "--lead", "1"], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "WLDUSDT" in run.stdout
    assert run.stderr.startswith("wld: ")
    assert run.stderr.count("\n") == 1


def test_one_unit_a_symbol_and_any_map(tape: Path) -> None:
    def backwards(function, items):  # type: ignore[no-untyped-def]
        return [function(item) for item in list(items)[::-1]]

    (one,) = assess([str(tape)], map_=backwards)
    alone = assess_symbol([str(tape)], SYMBOL)
    assert one.reports == alone.reports
    np.testing.assert_array_equal(one.samples[0].times, alone.samples[0].times)


@pytest.mark.slow
def test_a_dask_cluster_scores_as_this_process_does(tape: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    from tests.dask_cluster import open_cluster

    near = CliRunner().invoke(evaluate, [str(tape), "--json"])
    with open_cluster(tmp_path, 2) as cluster:
        where = ["--engine", "dask", "--scheduler", cluster.address]
        far = CliRunner().invoke(evaluate, [str(tape), "--json", *where])
    assert far.exit_code == 0, far.exception
    assert far.stdout == near.stdout


def test_an_unknown_engine_is_one_line(tape: Path) -> None:
    result = CliRunner().invoke(evaluate, [str(tape), "--engine", "spark"])
    assert isinstance(result.exception, wld.ConfigError)
    assert "one of local, dask" in str(result.exception)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_plot_draws_a_picture_of_the_asked_size(tape: Path, tmp_path: Path, theme: str) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    target = tmp_path / "out.png"
    result = CliRunner().invoke(plot, [str(tape), "-o", str(target), "--theme", theme, "--size", "800x500"])
    assert result.exit_code == 0, result.output
    assert "liquidations" in result.stdout
    picture = imread(target)
    assert picture.shape[:2] == (500, 800)
    background = picture[2, 2, :3].mean()
    assert background < 0.2 if theme == "dark" else background > 0.9
    # Heat: many distinct colours.
    assert len(np.unique((picture[..., :3] * 255).astype(int).reshape(-1, 3), axis=0)) > 200


def test_plot_refuses_what_it_cannot_write(tape: Path) -> None:
    for arguments, text in (
        (["-o", "out.bmp"], "ending in .png"),
        (["--size", "big"], "WIDTHxHEIGHT"),
        (["--theme", "pink"], "'dark', 'light'"),
    ):
        result = CliRunner().invoke(plot, [str(tape), *arguments])
        assert result.exit_code == 2
        assert text in result.output


def test_without_matplotlib_the_extra_is_named(tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = CliRunner().invoke(plot, [str(tape)])
    assert isinstance(result.exception, wld.WldError)
    assert "pip install 'wld[plot]'" in str(result.exception)


# The entry-point group.


def test_help_lists_commands_of_plugins_without_importing_them() -> None:
    code = (
        "import sys\nfrom wld.cli import cli\ncli.main(['--help'], standalone_mode=False)\n"
        "print('loaded:', sorted(m for m in sys.modules if m.startswith('wld_heatmap')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "evaluate" in run.stdout
    assert "loaded: []" in run.stdout


def offer(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    monkeypatch.setattr(plugins, "installed", lambda group=None: list(entries))


def test_a_command_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, EntryPoint("broken", "no_such_module:thing", "wld.commands"))
    with pytest.raises(wld.PluginError, match=r"command broken .*no_such_module"):
        cli.main(["broken"], standalone_mode=False)
    offer(monkeypatch, EntryPoint("number", "math:pi", "wld.commands"))
    with pytest.raises(wld.PluginError, match="must be a click command"):
        cli.main(["number"], standalone_mode=False)


def test_two_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("evaluate", "wld_heatmap.commands:evaluate", "wld.commands")
    offer(monkeypatch, entry, entry)
    with pytest.raises(wld.PluginError, match="more than one distribution"):
        cli.main(["evaluate", "x"], standalone_mode=False)


def test_our_own_commands_win_over_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, EntryPoint("verify", "no_such_module:thing", "wld.commands"))
    result = CliRunner().invoke(cli, ["verify", "--help"])
    assert "Prove tapes" in result.output
