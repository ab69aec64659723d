"""The command line as its user sees it: help on one screen, the nearest right name, completion in the shell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from wld.cli import cli, main


def help_of(*arguments: str) -> list[str]:
    result = CliRunner().invoke(cli, [*arguments, "--help"], terminal_width=80, max_content_width=80)
    assert result.exit_code == 0
    return result.output.splitlines()


def test_help_fits_a_screen_and_has_examples() -> None:
    lines = help_of()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "Examples:" in text
    assert "wld --source sim --sinks recorder --duration 10s" in text
    for name in cli.commands:
        assert f"\n  {name} " in text
    assert "..." not in text.partition("Commands:")[2]  # nothing is cut short


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_of_its_own(name: str) -> None:
    assert help_of(name)[0].startswith(f"Usage: cli {name}")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["inspct", "x"], "inspect"),
        (["plugin"], "plugins"),
        (["--sink", "recorder"], "--sinks"),
        (["--simbols", "X"], "--symbols"),
        (["verify", "--jsn", "x"], "--json"),
        (["--sinks", "recodrer"], '"recorder"'),
        (["--sinks", "recorder", "--source", "bibit"], '"bybit"'),
        (["--sinks", "recorder", "--source", "redsi://h"], '"redis"'),
        (["--sinks", "recorder", "--set", "source.simbols=X"], '"symbols"'),
    ],
)
def test_a_mistyped_name_gets_the_nearest_right_one_in_one_line(
    arguments: list[str], hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["wld", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    errors = capsys.readouterr().err
    assert end.value.code == 2
    assert hint in errors
    assert len(errors.splitlines()) == 1


def test_the_shell_completes_commands_and_flags() -> None:
    def complete(words: str) -> list[str]:
        environment = {"COMP_WORDS": words, "COMP_CWORD": "1", "_WLD_COMPLETE": "bash_complete"}
        command = [sys.executable, "-c", "import sys; sys.argv[0] = 'wld'; from wld.cli import main; main()"]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert complete("wld ver") == ["verify"]
    assert complete("wld --so") == ["--source"]
