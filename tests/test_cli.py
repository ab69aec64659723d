"""The command line as its user sees it: help on one screen, the nearest right name, completion in the shell."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from wld.cli import cli, main
from wld.engines import ENGINES
from wld.help import EXAMPLES, first_screen
from wld.tape.export import FORMATS, NUMBERS
from wld.tape.export.fields import DATASETS


def help_of(*arguments: str) -> list[str]:
    result = CliRunner().invoke(cli, [*arguments, "--help"], terminal_width=80, max_content_width=80)
    assert result.exit_code == 0
    return result.output.splitlines()


def test_the_first_screen_fits_a_small_terminal_and_names_every_flag_and_command() -> None:
    lines = help_of()
    assert len(lines) <= 23  # of 24: the prompt stands below
    assert max(map(len, lines)) < 80
    text = "\n".join(lines)
    for option in (o for o in cli.params if isinstance(o, click.Option) and not o.hidden):
        assert option.opts[0].removeprefix("--") in text
    assert [name for name in cli.list_commands(click.Context(cli)) if name not in text] == []
    assert "wld --source sim --sinks recorder --duration 10s" in text.partition("Examples:")[2]


def test_commands_of_plugins_that_do_not_fit_a_line_are_cut_there() -> None:
    assert max(map(len, first_screen([f"command-{i}" for i in range(20)]).splitlines())) < 80
    assert "no command" in first_screen([])


@pytest.mark.parametrize("name", [*sorted(cli.commands), "evaluate", "plot"])
def test_every_command_has_help_of_one_screen_with_examples(name: str) -> None:
    lines = help_of(name)
    assert lines[0].startswith(f"Usage: cli {name}")
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    examples = [line.strip() for line in lines[lines.index("  Examples:") + 1 :]]
    assert examples
    assert all(line.startswith("wld ") for line in examples)


@pytest.mark.parametrize("text", [line for lines in EXAMPLES.values() for line in lines])
def test_an_example_of_the_help_is_one_that_the_command_takes(text: str) -> None:
    words = text.partition(" && ")[0].split()[1:]
    context = cli.make_context("wld", list(words))
    while isinstance(context.command, click.Group) and context._protected_args:
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)


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
        (["--sinks", "recorder", "--set", "source.topics=orderbok"], '"orderbook"'),
        (["--sinks", "recorder", "--set", "source.transport=NATIVE"], '"native"'),
        (["--sinks", "recorder", "--theme", "drak"], '"dark"'),
        (["--sinks", "recorder", "--log-level", "DEBUG"], '"debug"'),
        (["--sinks", "recorder", "--source", "http://localhost"], "expected bybit, sim"),
        (["plugins", "recoder"], '"recorder"'),
        (["export", "x", "--format", "parkuet", "--out", "y"], '"parquet"'),
        (["export", "x", "--format", "csv", "--out", "y", "--numbers", "int46"], '"int64"'),
        (["export", "x", "--format", "csv", "--out", "y", "--engine", "dsk"], '"dask"'),
        (["export", "x", "--format", "csv", "--out", "y", "--start", "20", "--end", "10"], "after --start"),
        (["inspect", "nowhere"], "no such file or folder"),
        (["verify", "."], "holds no tapes"),
        (["recover", "nowhere"], "no such file or folder"),
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


def completed(*words: str) -> list[str]:
    """What Tab offers for the last word."""
    *before, last = words
    return [item.value for item in ShellComplete(cli, {}, "wld", "_WLD_COMPLETE").get_completions(before, last)]


def test_the_shell_completes_what_stands_behind_a_flag() -> None:
    assert completed("--sinks", "reco") == ["recorder"]
    assert completed("--sinks", "recorder,tele") == ["recorder,telemetry"]
    assert "recorder,recorder" not in completed("--sinks", "recorder,")
    assert completed("--source", "by") == ["bybit"]
    assert completed("--source", "redis:") == ["redis://"]
    assert completed("--theme", "l") == ["light"]
    assert completed("--log-level", "w") == ["warning"]
    assert completed("export", "--format", "p") == ["parquet"]
    assert completed("export", "--datasets", "trades,de") == ["trades,depth"]
    [item] = ShellComplete(cli, {}, "wld", "_WLD_COMPLETE").get_completions(["inspect"], "da")
    assert item.type == "file"  # the shell looks for it


def test_completed_words_are_what_an_export_takes() -> None:
    assert completed("export", "--format", "") == list(FORMATS)
    assert completed("export", "--numbers", "") == list(NUMBERS)
    assert completed("export", "--datasets", "") == list(DATASETS)
    assert completed("export", "--engine", "") == list(ENGINES)


def test_a_misspelt_variable_is_refused_and_a_strangers_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["wld", "--sinks", "nobody"])
    monkeypatch.setenv("WLD_FAVOURITE_COLOUR", "green")
    monkeypatch.setenv("WLD_SORCE", "sim")
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == 'wld: WLD_SORCE: unknown variable; did you mean "WLD_SOURCE"?\n'
