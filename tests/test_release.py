"""What would be released: a wheel and a source archive that build from a clean tree, install alone, and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import wld

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, and the wheel built from it rather than from the tree."""
    folder = tmp_path_factory.mktemp("built")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "source", filter="data")
    [source] = (folder / "source").iterdir()
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    return folder


def test_versions_agree() -> None:
    declared = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert declared is not None
    assert declared[1] == wld.__version__
    assert re.search(rf"^## (Unreleased|{re.escape(wld.__version__)})", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_the_wheel_holds_the_engine_every_plugin_and_nothing_else(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert top == {"wld"} | {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()}
    for name in ("wld/py.typed", "wld_web/static/app.js", "wld_web/static/index.html"):
        assert name in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_the_wheel_alone_records_and_reads_back(built: Path, tmp_path: Path) -> None:
    """In an environment of its own, with its dependencies from here: what is tested is what the wheel declares."""
    [wheel] = built.glob("*.whl")
    _run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    _run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    program = python.with_name("wld")
    assert _run(program, "--version", cwd=tmp_path).split() == ["wld,", "version", wld.__version__]
    _run(program, "--source", "sim", "--sinks", "recorder", "--duration", "2s", cwd=tmp_path)
    assert "intact; complete" in _run(program, "verify", "data/history", cwd=tmp_path)
    listed = _run(program, "plugins", cwd=tmp_path)
    assert "sink recorder" in listed
    assert "wld[parquet]" in listed
