"""A distribution of somebody else: built, installed beside our built wheel into a fresh environment, and run."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from wld.errors import ConfigError
from wld.skeleton import write_skeleton

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "third_party_sink"


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """Standard output; the command must end with `status`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "WLD_", "PYTEST"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + (done.stderr if status else "")


def build(project: Path, into: Path) -> Path:
    """The wheel of a project, built with what is installed here: no network."""
    before = set(into.glob("*.whl"))
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index",
        "--disable-pip-version-check", "-w", into, project, cwd=into,
    )  # fmt: skip
    [wheel] = set(into.glob("*.whl")) - before
    return wheel


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with our wheel in it; its dependencies are this environment's, and nothing of this checkout."""
    folder = tmp_path_factory.mktemp("fresh")
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    for packages in site.getsitepackages():
        for entry in Path(packages).iterdir():
            if "wld" not in entry.name.lower() and entry.suffix != ".pth" and not entry.name.startswith("__"):
                (dependencies / entry.name).symlink_to(entry)
    venv.create(folder / "venv", with_pip=True)
    [packages] = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    install(folder, build(ROOT, folder))
    return folder


def install(fresh: Path, wheel: Path) -> None:
    pip = fresh / "venv" / "bin" / "pip"
    run(pip, "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check", wheel, cwd=fresh)


@pytest.mark.slow
def test_the_example_is_built_installed_listed_tested_and_run(fresh: Path, tmp_path: Path) -> None:
    lines = (EXAMPLE / "wld_whales.py").read_text().splitlines()
    assert len(lines) <= 40
    copy = tmp_path / "copy"
    run("cp", "-r", EXAMPLE, copy, cwd=tmp_path)
    install(fresh, build(copy, fresh))
    python, program = fresh / "venv" / "bin" / "python", fresh / "venv" / "bin" / "wld"
    assert str(ROOT) not in run(python, "-c", "import wld; print(wld.__file__)", cwd=tmp_path)
    plugins = {plugin["name"]: plugin for plugin in json.loads(run(program, "plugins", "--json", cwd=tmp_path))}
    assert plugins["whales"]["distribution"] == "wld-whales"
    assert plugins["whales"]["keys"][0]["default"] == 1000.0
    assert plugins["recorder"]["problem"] is None
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", copy / "tests", cwd=tmp_path)
    run(
        program, "--source", "sim", "--sinks", "recorder,whales", "--set", "sinks.whales.minimum=50",
        "--set", "source.sim_rate=20", "--duration", "3s", cwd=tmp_path,
    )  # fmt: skip
    history = tmp_path / "data" / "history"
    trades = [json.loads(line) for line in (history / "whales.jsonl").read_text().splitlines()]
    assert trades
    assert all(trade["price"] * trade["size"] >= 50 * 10**16 for trade in trades)
    assert list(history.glob("market_data_*.bin"))
    run(program, "verify", "data/history", cwd=tmp_path)


@pytest.mark.slow
def test_the_skeleton_is_written_tested_built_installed_and_run(fresh: Path, tmp_path: Path) -> None:
    python, program = fresh / "venv" / "bin" / "python", fresh / "venv" / "bin" / "wld"
    run(program, "plugins", "new", "whale-alert", cwd=tmp_path)
    folder = tmp_path / "wld-whale-alert"
    install(fresh, build(folder, fresh))
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder / "tests", cwd=tmp_path)
    assert "sink whale-alert" in run(program, "plugins", cwd=tmp_path)
    run(program, "--source", "sim", "--sinks", "whale-alert", "--duration", "2s", cwd=tmp_path)
    assert not (tmp_path / "data").exists()
    again = run(program, "plugins", "new", "whale-alert", cwd=tmp_path, status=2)
    assert again == "wld: plugins new whale-alert: wld-whale-alert already offers a sink of this name; take another\n"


@pytest.mark.parametrize("name", ["depth_2", "config", "none"])
def test_the_skeleton_reads_well_and_its_tests_pass_at_once(name: str, tmp_path: Path) -> None:
    folder = write_skeleton(name, tmp_path)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "README.md", "pyproject.toml", f"tests/test_{name}.py", f"wld_{name}.py",
    ]  # fmt: skip
    text = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert not any(word in text for word in ("NAME", "MODULE", "CLASS", "VERSION"))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, "-m", "pytest", "-q", folder / "tests"], env=environment, cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", ["", "Whale", "9lives", "a b", "../a", "a-", "recorder", "screen", "status"])
def test_a_name_that_cannot_be_a_sinks_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="plugins new"):
        write_skeleton(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "wld-mine").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        write_skeleton("mine", tmp_path)
    assert not list((tmp_path / "wld-mine").iterdir())
