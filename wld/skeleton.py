"""Owns what `wld plugins new` writes: a whole distribution with one working, tested sink."""

from __future__ import annotations

import re
from pathlib import Path

import wld
from wld import plugins
from wld.errors import ConfigError

_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.24"]
build-backend = "hatchling.build"

[project]
name = "wld-NAME"
version = "0.1.0"
description = "A sink for wld"
requires-python = ">=3.11"
dependencies = ["wld>=VERSION"]

[project.optional-dependencies]
test = ["pytest>=8.0"]

# The name on the left is the sink's name: `--sinks NAME`, and its table in wld.toml is [sinks.NAME].
[project.entry-points."wld.sinks"]
NAME = "MODULE"

[tool.hatch.build.targets.wheel]
only-include = ["MODULE.py"]

[tool.hatch.build.targets.sdist]
include = ["MODULE.py", "tests", "README.md"]
"""

_MODULE = '''\
"""The sink `NAME`: counts trades and their value, and says so at an interval."""

import logging

import trio
from msgspec import Struct

import wld

log = logging.getLogger("wld.NAME")


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """`[sinks.NAME]`: every key has a default, an unknown one is refused."""

    interval: float = 10.0
    """Seconds between two log lines."""


class CLASS:
    """One instance per run; a crash makes a new one after a pause and costs the other sinks nothing."""

    def __init__(self, config: Config, context: wld.SinkContext) -> None:
        self.config = config
        self.context = context
        self.trades = 0
        self.value = 0  # 1e-8 quote units: integers are exact, floats are not

    async def run(
        self, batches: wld.Subscription, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Open what you need, say started(), take batches until they end, close, return."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.speak)
            task_status.started()
            async for batch in batches:
                for event in batch:
                    if isinstance(event, wld.Trade):
                        self.trades += 1
                        self.value += event.price * event.size // wld.SCALE
                    elif isinstance(event, wld.Gap):
                        log.warning("something is missing here: %s", event.reason.value)
            nursery.cancel_scope.cancel()
        self.report()

    async def speak(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(self.config.interval)
            self.report()

    def report(self) -> None:
        """Into the log, and into the status line of the run."""
        log.info("%d trades worth %s", self.trades, wld.format_fixed(self.value))
        self.context.status("NAME", {"trades": self.trades, "value": wld.format_fixed(self.value)})


@wld.hookimpl
def wld_sink() -> wld.SinkSpec:
    """What the entry point in pyproject.toml leads to."""
    return wld.SinkSpec(name="NAME", config_type=Config, create=CLASS)
'''

_TEST = """\
from MODULE import wld_sink
from wld.testing import make_gap, make_trade, run_sink


def test_trades_are_counted_and_valued():
    run = run_sink(wld_sink(), [make_trade(price="2.5", size="4"), make_gap(), make_trade(price="2", size="1")])
    assert run.status == {"trades": 2, "value": "12"}


def test_nothing_is_nothing():
    assert run_sink(wld_sink(), [], {"interval": 1}).status == {"trades": 0, "value": "0"}
"""

_README = """\
# wld-NAME

A sink for wld, the market-data engine for crypto perpetuals.

```sh
pip install -e '.[test]'
pytest
wld plugins                                            # it is listed
wld --source sim --sinks NAME --duration 10s           # it runs, no network
python -m pip wheel --no-deps -w dist .                # it builds
```

`MODULE.py` is the whole of it; `pyproject.toml` says how wld finds it.
"""


def write_skeleton(name: str, directory: Path) -> Path:
    """Write `directory/wld-NAME`; returns the folder.

    Raises:
        ConfigError: a name that cannot be a sink's, one that is taken, or a folder that exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name):
        raise ConfigError(
            f"plugins new {name}: expected a name of lower-case letters, digits, - and _, such as whale-alert"
        )
    if name in plugins.RESERVED:
        raise ConfigError(f"plugins new {name}: the engine has a {name} of its own; take another name")
    for entry in plugins.installed():
        if entry.name == name:
            owner = entry.dist.name if entry.dist else entry.value
            raise ConfigError(f"plugins new {name}: {owner} already offers a sink of this name; take another")
    folder = directory / f"wld-{name}"
    module = f"wld_{name.replace('-', '_')}"
    title = "".join(part.capitalize() for part in re.split("[-_]", name)) + "Sink"  # never Config, True or None
    files = {
        "pyproject.toml": _PYPROJECT,
        f"{module}.py": _MODULE,
        f"tests/test_{module.removeprefix('wld_')}.py": _TEST,
        "README.md": _README,
    }
    words = {"NAME": name, "MODULE": module, "CLASS": title, "VERSION": wld.__version__}
    try:
        folder.mkdir(parents=True)
        (folder / "tests").mkdir()
        for path, text in files.items():
            for word, value in words.items():
                text = re.sub(rf"\b{word}\b", value, text)
            (folder / path).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise ConfigError(f"plugins new {name}: {folder} exists already; remove it or take another name") from None
    except OSError as error:
        raise ConfigError(f"plugins new {name}: {folder} cannot be written: {error.strerror}") from None
    return folder
