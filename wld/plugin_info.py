"""Owns what a reader is told of installed plugins: keys, types and defaults in words, and what keeps one from loading.

Does not load anything by itself (`wld.plugins`).
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Struct

from wld import plugins
from wld.config import SinkTable, accepted, nearest
from wld.errors import PluginError
from wld.hookspecs import COMMAND_GROUP, GROUP, SOURCE_GROUP


class KeyInfo(Struct, frozen=True):
    """One key of a sink's table, in a reader's words."""

    key: str
    type: str
    """In the words that errors use, such as `integer of at least 1`, `text`, `list of texts`, `one of a, b`."""
    default: Any
    """As in TOML or JSON; None: unset."""
    default_text: str
    """As one would write it in wld.toml; `unset` where there is none."""
    help: str = ""
    """What the plugin's author says of it."""


class PluginInfo(Struct, frozen=True):
    """An installed plugin, loaded as far as it can be."""

    name: str
    kind: str
    """`sink`, `source` or `command`."""
    distribution: str
    version: str
    module: str
    keys: tuple[KeyInfo, ...] = ()
    is_critical: bool = False
    """Whether its failure ends a run with status 1."""
    problem: str | None = None
    """What is missing to load it, one line; None: it is ready."""


def describe(name: str | None = None) -> list[PluginInfo]:
    """Every installed sink, source and command, or those of one name, with keys, or with what keeps it from loading.

    Raises:
        PluginError: nothing of that name is installed.
    """
    infos, names = [], set()
    for kind, group in (("sink", GROUP), ("source", SOURCE_GROUP), ("command", COMMAND_GROUP)):
        offered = plugins.installed(group)
        names |= {entry.name for entry in offered}
        chosen = [entry for entry in offered if name in (None, entry.name)]
        infos += [_describe(entry, kind, plugins.doubled(entry, offered)) for entry in chosen]
    if name is not None and not infos:
        raise PluginError(f"plugin {name}: not installed; installed: {', '.join(sorted(names))}{nearest(name, names)}")
    return infos


def _describe(entry: EntryPoint, kind: str, problem: str | None) -> PluginInfo:
    keys: tuple[KeyInfo, ...] = ()
    is_critical = False
    if problem is None:
        try:
            if kind == "sink":
                spec = plugins.load_entry(entry)
                keys, is_critical = describe_keys(spec.config_type), spec.critical
                problem = plugins.missing(entry, spec.requires)
            elif kind == "source":
                plugins.load_source(entry.name)
            else:
                plugins.load_command(entry.name)
        except PluginError as error:
            problem = str(error).removeprefix(f"{plugins.who(entry)}: ")
    version = entry.dist.version if entry.dist else ""
    owner = entry.dist.name if entry.dist else ""
    return PluginInfo(entry.name, kind, owner, version, entry.module, keys, is_critical, problem)


def describe_keys(config_type: type[Struct]) -> tuple[KeyInfo, ...]:
    """The keys of a config Struct with types and defaults as a user writes them."""
    words = _help_of(config_type)
    keys = []
    for field in msgspec.structs.fields(config_type):
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        plain = None if default is msgspec.NODEFAULT else msgspec.to_builtins(default)
        kind = accepted(field.type).removeprefix("an ").removeprefix("a ")
        keys.append(KeyInfo(field.encode_name, kind, plain, _toml(plain), words.get(field.name, "")))
    return tuple(keys)


def _help_of(config_type: type[Struct]) -> dict[str, str]:
    """The sentences that stand under the fields in the source; empty where there is none to read."""
    try:
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(config_type))).body
    except (OSError, TypeError, ValueError, SyntaxError):
        return {}
    found = {}
    for field, below in pairwise(getattr(tree, "body", [])):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[field.target.id] = " ".join(below.value.value.split())
    return found


def _toml(value: Any) -> str:
    """A default as one writes it in wld.toml."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return str(value)


def render(infos: Sequence[PluginInfo], width: int | None = None) -> list[str]:
    """The lines that `wld plugins` prints: folded to the width of a terminal, else one a key, for grep."""
    lines = []
    for info in infos:
        use = {"source": f"  --source {info.name}://…", "command": f"  wld {info.name}"}.get(info.kind, "")
        state = f"  cannot be loaded: {info.problem}" if info.problem else ""
        head = f"{info.kind} {info.name:<12} {info.distribution} {info.version}{use}{state}".rstrip()
        lines += _folded(head, width, 8)
        lines += _key_lines(info.keys, width)
    if any(info.kind == "sink" for info in infos):
        lines.append("A sink's keys go into [sinks.NAME] of wld.toml. Every sink also takes:")
        lines += _key_lines(describe_keys(SinkTable), width)
    return lines or ["no plugin is installed"]


def _key_lines(keys: Sequence[KeyInfo], width: int | None) -> list[str]:
    longest = max((len(key.key) for key in keys), default=0)
    lines = []
    for key in keys:
        line = f"    {key.key:<{longest}}  {key.type} = {textwrap.shorten(key.default_text, 60, placeholder=' …')}"
        whole = f"{line}   # {key.help}" if key.help else line
        if width is None or len(whole) <= width:
            lines.append(whole)
        else:
            lines += _folded(line, width, 8)
            lines += _folded(f"        # {key.help}", width, 10) if key.help else []
    return lines


def _folded(line: str, width: int | None, indent: int) -> list[str]:
    if width is None or len(line) <= width:
        return [line]
    return textwrap.wrap(line, max(width, 40), subsequent_indent=" " * indent, break_on_hyphens=False)
