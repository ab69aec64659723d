"""Owns what Tab completes to behind a flag; does not own the flags (`wld.cli`) nor how a shell asks (click)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial

import click
from click.shell_completion import CompletionItem

from wld import config, plugins
from wld.hookspecs import SOURCE_GROUP

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def words(*names: str) -> Complete:
    """One of a few words."""
    return lambda _context, _parameter, text: _starting(text, names)


def several(*names: str) -> Complete:
    """Some of a few words, with commas between."""
    return lambda _context, _parameter, text: _next(text, names)


def files(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """A file or a folder, which the shell looks for itself."""
    return [CompletionItem(text, type="file")]


def sinks(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Installed sinks, with commas between; nothing is imported."""
    return _next(text, [entry.name for entry in plugins.installed()])


def sources(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """The venue, the simulation, the schemes of URLs, or a path."""
    schemes = [f"{entry.name}://" for entry in plugins.installed(SOURCE_GROUP)]
    found = _starting(text, ("bybit", "sim", "ws://", "wss://", *schemes))
    return found if found and not os.path.exists(text) else [CompletionItem(text, type="file")]


WORDS: dict[str, Complete] = {
    "sinks": sinks, "source": sources, "speed": words("1", "10x", "max"),
    "config_file": files, "data_dir": files, "log_file": files, "paths": files, "out": files, "directory": files,
    "log_level": words(*config.LOG_LEVELS), "log_format": words(*config.LOG_FORMATS),
    "theme": words(*config.SCREEN_THEMES), "color": words(*config.SCREEN_COLORS),
    "form": words("parquet", "csv", "hftbacktest", "structs"),
    "datasets": several("trades", "depth", "liquidations", "tickers", "gaps", "repairs", "instruments"),
    "numbers": words("decimal", "int64", "float"), "engine": words("local", "dask"),
}  # fmt: skip
"""By a parameter's name in Python. What only an export knows is repeated here (a test compares), to import nothing."""


def teach(command: click.Command) -> None:
    """Give each parameter of the command, and of those below it, what it completes to."""
    for parameter in command.params:
        complete = WORDS.get(parameter.name or "")
        if complete is not None:
            parameter.shell_complete = partial(_complete, complete, parameter)  # type: ignore[method-assign]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            teach(below)


def _complete(
    complete: Complete, parameter: click.Parameter, context: click.Context, text: str
) -> list[CompletionItem]:
    return complete(context, parameter, text)


def _starting(text: str, names: Iterable[str], before: str = "") -> list[CompletionItem]:
    return [CompletionItem(before + name) for name in names if name.startswith(text)]


def _next(text: str, names: Iterable[str]) -> list[CompletionItem]:
    """The words for the part behind the last comma, less those that stand before it."""
    done, comma, part = text.rpartition(",")
    return _starting(part, [name for name in names if name not in done.split(",")], done + comma)
