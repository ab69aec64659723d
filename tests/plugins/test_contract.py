"""The contract's page names every field and hook there is, and no other; public names do not change unnoticed."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pluggy
import pytest

import wld
from wld import hookspecs, testing

PAGE = (Path(__file__).parents[2] / "docs" / "reference-plugin-contract.md").read_text()


def section(heading: str) -> str:
    return PAGE.split(f"\n{heading}\n")[1].split("\n#")[0]


@pytest.mark.parametrize("struct", [wld.SinkSpec, wld.SinkContext, wld.SourceSpec, wld.SourceContext])
def test_every_field_is_on_the_page_and_no_other(struct: type[msgspec.Struct]) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(f"### `wld.{struct.__name__}`"), re.MULTILINE)
    assert rows == [field.name for field in msgspec.structs.fields(struct)]


def test_every_hook_is_on_the_page() -> None:
    manager = pluggy.PluginManager("wld")
    manager.add_hookspecs(hookspecs)
    hooks = sorted(name for name in vars(manager.hook) if not name.startswith("_"))
    assert sorted(re.findall(r"^\| `(\w+)` \|", section("## Hooks"), re.MULTILINE)) == hooks


def test_every_group_is_on_the_page() -> None:
    groups = re.findall(r"^\| `(wld\.\w+)` \|", section("## Entry points"), re.MULTILINE)
    assert groups == [hookspecs.GROUP, hookspecs.SOURCE_GROUP, hookspecs.COMMAND_GROUP]


def test_every_name_of_the_test_kit_is_on_the_page() -> None:
    missing = [name for name in testing.__all__ if name.startswith(("make", "run", "List")) and name not in PAGE]
    assert missing == []


def test_what_the_page_calls_by_name_is_public() -> None:
    modules = {"sinks", "sources", "commands", "testing", "parquet", "tables", "reads", "engines", "terminal"}
    names = set(re.findall(r"`wld\.([A-Za-z]+)`", PAGE)) - modules
    assert names <= set(wld.__all__)


def test_every_plugin_of_ours_uses_public_names_only() -> None:
    """What may be imported: `wld`, and the modules that say they are public."""
    public = {"wld", "wld.terminal.palette"}
    public |= {f"wld.{name}" for name in ("testing", "parquet", "tables", "reads", "engines", "terminal")}
    for path in (Path(__file__).parents[2] / "plugins").glob("wld_*/**/*.py"):
        for module in re.findall(r"^\s*(?:from|import) (wld(?:\.\w+)*)\b", path.read_text(), re.MULTILINE):
            assert module in public, f"{path.name}: {module}"
