"""Owns what a reader is told of installed plugins: keys, types and defaults in words, and what keeps one from loading.

Does not load anything by itself (`wld.plugins`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from typing import Any

import msgspec
from msgspec import Struct

from wld import plugins
from wld.config import SinkTable
from wld.errors import PluginError
from wld.hookspecs import GROUP, SOURCE_GROUP


class KeyInfo(Struct, frozen=True):
    """One key of a sink's table, in a reader's words."""

    key: str
    type: str
    """Such as `int`, `text`, `list of text`, `one of "a", "b"`."""
    default: Any
    """As in TOML or JSON; None: unset."""
    default_text: str
    """As one would write it in wld.toml; `unset` where there is none."""


class PluginInfo(Struct, frozen=True):
    """An installed plugin, loaded as far as it can be."""

    name: str
    kind: str
    """`sink` or `source`."""
    distribution: str
    version: str
    module: str
    keys: tuple[KeyInfo, ...] = ()
    is_critical: bool = False
    """Whether its failure ends a run with status 1."""
    problem: str | None = None
    """What is missing to load it, one line; None: it is ready."""


def describe() -> list[PluginInfo]:
    """Every installed sink and source with its keys, or with what keeps it from loading; never raises."""
    infos = []
    for kind, group in (("sink", GROUP), ("source", SOURCE_GROUP)):
        offered = plugins.installed(group)
        infos += [_describe(entry, kind, plugins.doubled(entry, offered)) for entry in offered]
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
            else:
                plugins.load_source(entry.name)
        except PluginError as error:
            problem = str(error).removeprefix(f"{plugins.who(entry)}: ")
    version = entry.dist.version if entry.dist else ""
    owner = entry.dist.name if entry.dist else ""
    return PluginInfo(entry.name, kind, owner, version, entry.module, keys, is_critical, problem)


def describe_keys(config_type: type[Struct]) -> tuple[KeyInfo, ...]:
    """The keys of a config Struct with types and defaults as a user writes them."""
    info = msgspec.inspect.type_info(config_type)
    types = {f.encode_name: f.type for f in info.fields} if isinstance(info, msgspec.inspect.StructType) else {}
    keys = []
    for field in msgspec.structs.fields(config_type):
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        plain = None if default is msgspec.NODEFAULT else msgspec.to_builtins(default)
        keys.append(KeyInfo(field.encode_name, _type_words(types.get(field.encode_name)), plain, _toml(plain)))
    return tuple(keys)


_WORDS = {
    msgspec.inspect.IntType: "int", msgspec.inspect.FloatType: "number", msgspec.inspect.StrType: "text",
    msgspec.inspect.BoolType: "true or false", msgspec.inspect.AnyType: "anything",
    msgspec.inspect.DateTimeType: "date and time", msgspec.inspect.DateType: "date", msgspec.inspect.TimeType: "time",
    msgspec.inspect.TimeDeltaType: "number of seconds", msgspec.inspect.DecimalType: "decimal",
    msgspec.inspect.BytesType: "base64 text",
}  # fmt: skip


def _type_words(kind: Any) -> str:
    inspected = msgspec.inspect
    if isinstance(kind, inspected.Metadata):
        return _type_words(kind.type)
    if isinstance(kind, inspected.UnionType):
        parts = [_type_words(t) for t in kind.types if not isinstance(t, inspected.NoneType)]
        return " or ".join(parts)
    if isinstance(kind, inspected.LiteralType):
        return "one of " + ", ".join(_toml(value) for value in kind.values)
    if isinstance(kind, inspected.EnumType):
        return "one of " + ", ".join(_toml(member.value) for member in kind.cls)
    if isinstance(kind, inspected.CollectionType):
        return f"list of {_type_words(kind.item_type)}"
    if isinstance(kind, inspected.TupleType):
        return "list of " + ", ".join(_type_words(t) for t in kind.item_types)
    if isinstance(kind, inspected.DictType | inspected.StructType):
        return "table"
    for known, word in _WORDS.items():
        if isinstance(kind, known):
            return word
    return "value"


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


def render(infos: Sequence[PluginInfo]) -> list[str]:
    """The lines that `wld plugins` prints."""
    lines = []
    for info in infos:
        scheme = f"  --source {info.name}://…" if info.kind == "source" else ""
        state = f"  cannot be loaded: {info.problem}" if info.problem else ""
        lines.append(f"{info.kind} {info.name:<12} {info.distribution} {info.version}{scheme}{state}".rstrip())
        width = max((len(key.key) for key in info.keys), default=0)
        lines += [f"    {key.key:<{width}}  {key.type} = {key.default_text}" for key in info.keys]
    if any(info.kind == "sink" for info in infos):
        lines.append("A sink's keys go into [sinks.NAME] of wld.toml. Every sink also takes:")
        common = describe_keys(SinkTable)
        width = max(len(key.key) for key in common)
        lines += [f"    {key.key:<{width}}  {key.type} = {key.default_text}" for key in common]
    return lines or ["no plugin is installed"]
