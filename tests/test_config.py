from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def wld(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wld", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "no sink enabled"),
        (["--sinks", "recoder"], 'did you mean "recorder"'),
        (["--sinks", "recorder", "--source", "nowhere"], "source.name"),
        (["--sinks", "recorder", "--symbols", "wldusdt"], "source.symbols"),
        (["--sinks", "recorder", "--symbols", "all,WLDUSDT"], "source.symbols"),
        (["--sinks", "recorder", "--duration", "soon"], "duration"),
        (["--sinks", "recorder", "--set", "source.depht=50"], 'did you mean "depth"'),
        (["--sinks", "recorder", "--set", "source.depth=51"], "source.depth"),
        (["--sinks", "recorder", "--set", "source.depth=deep"], "source.depth"),
        (["--sinks", "recorder", "--set", "nonsense"], "KEY=VALUE"),
        (["--sinks", "recorder", "--set", "sinks.recorder.rotate=5"], "sinks.recorder.rotate"),
        (["--sinks", "recorder", "--set", "sinks.recorder.rotate_minutes=often"], "sinks.recorder.rotate_minutes"),
        (["--sinks", "recorder", "--set", "ring.capacity=0"], "ring.capacity"),
        (["--sinks", "recorder", "--log-level", "loud"], "log_level"),
        (["--sinks", "recorder", "--config", "none.toml"], "none.toml"),
        (["--sinks", "recorder", "--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_wrong_value_is_one_line_and_status_2(arguments: list[str], named: str, tmp_path: Path) -> None:
    done = wld(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_file_names_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "wld.toml").write_text("[source]\nsilence_timeout = 'x'\n[sinks.recorder]\nenabled = true\n")
    done = wld(cwd=tmp_path)
    assert done.returncode == 2
    assert "wld.toml: source.silence_timeout" in done.stderr


def test_flags_beat_environment_beats_file_beats_defaults(tmp_path: Path) -> None:
    (tmp_path / "wld.toml").write_text('data_dir = "from-file"\n[sinks.recorder]\nenabled = true\n')
    for folder, arguments, environment in (
        ("from-file", [], {}),
        ("from-env", [], {"WLD_DATA_DIR": "from-env"}),
        ("from-flag", ["--data-dir", "from-flag"], {"WLD_DATA_DIR": "from-env2"}),
    ):
        done = wld("--source", "-", *arguments, cwd=tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / folder).is_dir()
    assert not (tmp_path / "from-env2").exists()
