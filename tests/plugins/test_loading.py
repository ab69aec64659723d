"""An enabled sink that cannot be loaded refuses the start: status 2, one line that names distribution and cause."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.plugins.distributions import SOUND, make_distribution
from wld import cli

Wld = Callable[..., tuple[int, str, str]]


@pytest.fixture
def wld(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Wld:
    """Run the command in this process, in a folder of its own: (status, output, errors)."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wld", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, errors = capsys.readouterr()
        return int(exit_.value.code or 0), out, errors

    return run


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder on sys.path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        del sys.modules[name]


def refused(wld: Wld, name: str, *arguments: str) -> str:
    """The one line of a refused start; nothing was written."""
    status, out, errors = wld("--source", "sim", "--sinks", name, "--duration", "1s", *arguments)
    assert status == 2, errors
    assert out == ""
    assert errors.count("\n") == 1, errors
    assert not list(Path().iterdir())
    return errors.strip()


def test_two_distributions_with_one_name(wld: Wld, site: Path) -> None:
    make_distribution(site, "view", distribution="their-view", version="2.1")
    make_distribution(site, "view", distribution="other-view")
    assert refused(wld, "view") == (
        "wld: sink view: offered by more than one distribution (other-view 1.0, their-view 2.1); uninstall all but one"
    )


def test_a_name_that_is_already_ours(wld: Wld, site: Path) -> None:
    make_distribution(site, "recorder", distribution="their-recorder")
    assert "(their-recorder 1.0, wld 0.1.0)" in refused(wld, "recorder")


def test_an_unknown_name_suggests_the_nearest(wld: Wld) -> None:
    line = refused(wld, "recoder")
    assert line.startswith("wld: sink recoder: not installed; installed: ")
    assert line.endswith('did you mean "recorder"?')


def test_a_broken_import_names_the_place(wld: Wld, site: Path) -> None:
    make_distribution(site, "view", "import wld\nvalue = 1 / 0\n")
    line = refused(wld, "view")
    assert line.startswith("wld: sink view (wld-view 1.0): cannot be imported: ZeroDivisionError: division by zero")
    assert line.endswith("fake_wld_view.py:2)")


def test_a_module_with_a_syntax_error(wld: Wld, site: Path) -> None:
    make_distribution(site, "view", "def wld_sink(:\n")
    line = refused(wld, "view")
    assert "sink view (wld-view 1.0): cannot be imported: SyntaxError" in line
    assert "line 1" in line


def test_a_module_that_exits_at_import_does_not_end_the_program_silently(wld: Wld, site: Path) -> None:
    make_distribution(site, "view", "import sys; sys.exit(0)\n")
    assert "sink view (wld-view 1.0): cannot be imported: SystemExit" in refused(wld, "view")


def test_a_missing_module_of_no_known_distribution(wld: Wld, site: Path) -> None:
    make_distribution(site, "view", "import no_such_module_here\n")
    assert "cannot be imported: No module named 'no_such_module_here' (" in refused(wld, "view")


def test_a_missing_module_names_the_extra_that_brings_it(wld: Wld, site: Path) -> None:
    requires = ['no-such.module>=2; extra == "draw"', 'no-such-module; extra == "all"', 'other; extra == "all"']
    make_distribution(site, "view", "import no_such_module\n", requires=requires)
    assert refused(wld, "view") == "wld: sink view (wld-view 1.0): needs no_such_module: pip install 'wld-view[draw]'"


def test_a_requirement_that_is_not_installed_refuses_the_start_and_keeps_the_keys_listed(wld: Wld, site: Path) -> None:
    source = SOUND.replace("create=Sink)", 'create=Sink, requires=("no_such_module",))')
    make_distribution(site, "view", source, requires=["no_such_module; extra == 'view'"])
    problem = "needs no_such_module: pip install 'wld-view[view]'"
    assert refused(wld, "view").endswith(problem)
    _, out, _ = wld("plugins", "--json")
    [info] = [plugin for plugin in json.loads(out) if plugin["name"] == "view"]
    assert info["problem"] == problem
    assert [key["key"] for key in info["keys"]] == ["width"]


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("def wld_sink():", "def wld_sink(config):", "wld_sink has the wrong signature: it takes (config)"),
        ("def wld_sink():", "def wld_sinks():", 'implements an unknown hook wld_sinks; did you mean "wld_sink"?'),
        ("def wld_sink():", "async def wld_sink():", "wld_sink is an async function; it must be a plain one"),
        ("@wld.hookimpl", "", "has no function wld_sink marked @wld.hookimpl"),
        ("return wld.SinkSpec", "wld.SinkSpec", "must return one wld.SinkSpec, it returned None"),
        ("    return wld", "    return Sink; wld", "must return one wld.SinkSpec, it returned type <class"),
        ("    return wld", "    raise KeyError('x'); wld", "wld_sink() failed: KeyError: 'x'"),
        ('name="{name}"', 'name="other"', "its SinkSpec is named 'other', the entry point 'view'"),
        ("width: int = 3", "width: int", "every key needs a default; width has none"),
        ("config_type=Config", "config_type=dict", "config_type must be a msgspec Struct, not <class 'dict'>"),
        ("create=Sink", "create=None", "create must be callable as create(config, context), not None"),
        ("(self, config, context)", "(self, config)", "create must be callable as create(config, context); it takes"),
        (
            "        async for",
            "        return\n    def run(self, batches):\n        for",
            "Sink.run has the wrong signature: it must be async def run(",
        ),
        (", *, task_status=trio.TASK_STATUS_IGNORED", "", "Sink.run has the wrong signature (self, batches): it must"),
        ("async def run", "async def start", "Sink.run is missing; a sink has async def run("),
        ("pass", "yield batch", "Sink.run has the wrong signature: it must be async def run("),
        (
            "create=Sink)",
            "create=lambda c, x: object())",
            "builtins.object.run is missing; a sink has async def run(self, batches, *, task_status)",
        ),
    ],
)
def test_what_breaks_the_contract(wld: Wld, site: Path, old: str, new: str, cause: str) -> None:
    assert old in SOUND
    make_distribution(site, "view", SOUND.replace(old, new))
    line = refused(wld, "view")
    assert line.startswith("wld: sink view")
    assert cause in line


def test_a_wrong_key_of_a_third_party_sink_is_told_like_ours(wld: Wld, site: Path) -> None:
    make_distribution(site, "view")
    assert refused(wld, "view", "--set", "sinks.view.widht=2").endswith('unknown key; did you mean "width"?')
    assert "sinks.view.width: expected an integer, got 'wide'" in refused(wld, "view", "--set", "sinks.view.width=wide")


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("isolate=maybe", "expected true or false, got 'maybe'"),
        ("isolate_memory_mb=1", "expected an integer of at least 64, got 1"),
    ],
)
def test_a_wrong_key_of_the_engine_in_a_sinks_table(wld: Wld, site: Path, setting: str, line: str) -> None:
    make_distribution(site, "view")
    assert refused(wld, "view", "--set", f"sinks.view.{setting}").endswith(line)


def test_a_sink_that_draws_cannot_be_isolated(wld: Wld, site: Path) -> None:
    make_distribution(site, "view", SOUND.replace("create=Sink)", "create=Sink, needs_screen=True)"))
    line = refused(wld, "view", "--set", "sinks.view.isolate=true")
    assert line.endswith("sinks.view.isolate: expected false, because this sink draws on the screen")


def test_a_broken_sink_that_is_not_enabled_is_nobodys_business(wld: Wld, site: Path) -> None:
    make_distribution(site, "broken", "1 / 0\n")
    make_distribution(site, "view")
    status, _, errors = wld("--source", "sim", "--sinks", "view", "--duration", "0.1s")
    assert status == 0, errors


def test_the_list_says_all_one_needs(wld: Wld, site: Path) -> None:
    config = """
    directory: str | None = None
    rate: float = 0.5
    '''Of decay,
    a second.'''
    colours: tuple[str, ...] = ("red",)
    loud: bool = False
    mode: Literal["a", "b"] = "a"
"""
    source = "from typing import Literal\n" + SOUND.replace("    width: int = 3", config)
    make_distribution(site, "view", source, version="3.2")
    make_distribution(site, "broken", "1 / 0\n")
    make_distribution(site, "twice", distribution="a")
    make_distribution(site, "twice", distribution="b")
    status, out, _ = wld("plugins")
    assert status == 0
    for line in (
        "sink view         wld-view 3.2",
        "    directory  text = unset",
        "    rate       number = 0.5   # Of decay, a second.",
        '    colours    list of texts = ["red"]',
        "    loud       true or false = false",
        '    mode       one of a, b = "a"',
    ):
        assert line in out.splitlines()
    assert "sink broken       wld-broken 1.0  cannot be loaded: cannot be imported: ZeroDivisionError" in out
    assert "sink twice        b 1.0  cannot be loaded: offered by more than one distribution (a 1.0, b 1.0)" in out
    _, out, _ = wld("plugins", "--json")
    plugins = {plugin["name"]: plugin for plugin in json.loads(out)}
    assert plugins["view"]["problem"] is None
    assert plugins["view"]["keys"][2] == {
        "key": "colours", "type": "list of texts", "default": ["red"], "default_text": '["red"]', "help": "",
    }  # fmt: skip


def test_a_source_of_a_plugin_serves_its_scheme(wld: Wld, site: Path) -> None:
    source = """
import wld
from wld.testing import ListSource, make_trade

def create(url, context):
    if url != "list://3":
        raise wld.ConfigError(f"source.name: expected list://NUMBER, got {url}")
    return ListSource([make_trade() for _ in range(3)])

@wld.hookimpl
def wld_source():
    return wld.SourceSpec(name="list", create=create, clock="recorded")
"""
    make_distribution(site, "list", source, group="wld.sources")
    status, _, errors = wld("--source", "list://3", "--sinks", "recorder")
    assert status == 0, errors
    _, out, _ = wld("inspect", "data/history")
    assert "trade" in out
    status, _, errors = wld("--source", "list://x", "--sinks", "recorder")
    assert (status, errors) == (2, "wld: source.name: expected list://NUMBER, got list://x\n")
    status, _, errors = wld("--source", "lst://3", "--sinks", "recorder")
    assert status == 2
    assert 'did you mean "list"?' in errors


def test_the_real_program_refuses_too(tmp_path: Path) -> None:
    make_distribution(tmp_path / "site", "view", "1 / 0\n")
    done = subprocess.run(
        [sys.executable, "-m", "wld", "--source", "sim", "--sinks", "view"],
        env={"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("wld: sink view (wld-view 1.0): cannot be imported: ZeroDivisionError")
    assert "Traceback" not in done.stderr
