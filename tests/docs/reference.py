"""Owns the reference pages that are made from the code: every key of wld.toml, and the names for Python.

`python -m tests.docs.reference` writes them; a test compares them with what it would write.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

import wld
from tests.docs.blocks import ROOT
from wld import batch, plugin_info, testing
from wld.config import Config, RingConfig, ScreenConfig, SinkTable, SourceConfig
from wld.plugin_info import KeyInfo, describe_keys

MADE = "<!-- Made from the code by `python -m tests.docs.reference`; a test keeps it true. -->"


def _table(keys: Sequence[KeyInfo]) -> Iterator[str]:
    yield "| key | takes | default | |"
    yield "|---|---|---|---|"
    for key in keys:
        cells = (f"`{key.key}`", key.type, f"`{key.default_text}`", key.help)
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _section(title: str, kind: type[Struct], leave_out: Sequence[str] = ()) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield from _table([key for key in describe_keys(kind) if key.key not in leave_out])


def configuration() -> str:
    """docs/reference-configuration.md."""
    lines = [
        "# Configuration: every key", "", MADE, "",
        "`wld.toml` in the working folder, or `--config FILE`. Any key can be given as `--set KEY=VALUE`, the common ones",
        "as flags, every flag as `WLD_…` in the environment (`WLD_SET` holds several `KEY=VALUE`, with `;` between them).",
        "Flags beat environment beats file beats defaults. A wrong value is one line that names the key, where it came",
        "from and what is accepted, and ends with status 2.", "",
        "## Top level\n",
        *_table(
            [k for k in describe_keys(Config)
             if k.key not in ("source", "ring", "screen", "sinks", "enabled", "isolated", "origins", "status_folder")]
        ),
        *_section("[source]", SourceConfig), *_section("[ring]", RingConfig), *_section("[screen]", ScreenConfig),
        *_section("[sinks.NAME], every sink", SinkTable),
    ]  # fmt: skip
    for info in plugin_info.describe():
        if info.kind == "sink" and info.distribution == "wld":
            lines += [f"\n## [sinks.{info.name}]\n", *(_table(info.keys) if info.keys else ["No keys of its own."])]
    return "\n".join(lines) + "\n"


def _docstring(what: Any, *, whole: bool = False) -> str:
    """The first paragraph, or the whole text less its `Raises:` headings."""
    text = inspect.getdoc(what) or ""
    return text if whole else " ".join(text.partition("\n\n")[0].split())


def _notes(kind: type) -> dict[str, str]:
    """The texts that stand under the members of a class."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    found = {}
    for member, below in pairwise(getattr(tree, "body", [])):
        target = getattr(member, "target", None) or next(iter(getattr(member, "targets", [])), None)
        if isinstance(target, ast.Name) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[target.id] = " ".join(str(below.value.value).split())
    return found


def _type(text: str) -> str:
    return re.sub(r"\btyping\.|\bnp\.|\bcollections\.abc\.", "", text)


def _event(kind: type[Struct]) -> Iterator[str]:
    notes, types = _notes(kind), kind.__annotations__
    yield f"\n### `wld.{kind.__name__}`\n\n{_docstring(kind, whole=True)}\n"
    yield "| field | type | default | |"
    yield "|---|---|---|---|"
    for field in msgspec.structs.fields(kind):
        default = "" if field.required else f"`{field.default!r}`"
        kind_ = _type(str(types[field.name])).replace("|", "\\|")
        yield f"| `{field.name}` | `{kind_}` | {default} | {notes.get(field.name, '')} |"


def _choice(kind: type[Enum]) -> Iterator[str]:
    notes = _notes(kind)
    yield f"\n### `wld.{kind.__name__}`\n\n{_docstring(kind)}\n"
    yield "| member | value | |"
    yield "|---|---|---|"
    for member in kind:
        yield f"| `{member.name}` | `{member.value}` | {notes.get(member.name, '')} |"


def _call(name: str, function: Callable[..., Any]) -> Iterator[str]:
    signature = inspect.signature(function)
    given, star = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            given.append("*")
            star = True
        if parameter.name != "self":
            given.append(_parameter(parameter))
    gives = (
        "" if signature.return_annotation in (None, "None", inspect.Signature.empty) else signature.return_annotation
    )
    arrow = f" -> {_type(str(gives))}" if gives else ""
    yield f"\n**`{name}({', '.join(given)}){arrow}`**\n\n{_docstring(function)}"


def _parameter(parameter: inspect.Parameter) -> str:
    default = parameter.default
    shown = str(default) if isinstance(default, Enum) else repr(default).replace("'", '"')
    stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
    tail = "" if default is parameter.empty else f" = {shown}"
    return f"{stars}{parameter.name}: {_type(str(parameter.annotation))}{tail}"


def _methods(kind: type, leave_out: Sequence[str] = ()) -> Iterator[str]:
    for name, member in vars(kind).items():
        if name.startswith("_") or name in leave_out:
            continue
        if isinstance(member, property):
            yield f"\n**`{kind.__name__}.{name}`**\n\n{_docstring(member)}"
        elif inspect.isfunction(member):
            yield from _call(f"{kind.__name__}.{name}", member)


def _array(name: str, dtype: np.dtype[Any]) -> str:
    return f"| `{name}` | " + ", ".join(f"`{f}` {dtype[f].str.lstrip('<|')}" for f in dtype.names or ()) + " |"


def python() -> str:
    """docs/reference-python.md."""
    events = (
        wld.Trade, wld.BookSnapshot, wld.BookDelta, wld.Liquidation, wld.Ticker, wld.Gap, wld.Repair, wld.Instrument,
        wld.MarginTier,
    )  # fmt: skip
    errors = [
        kind for name in wld.__all__
        if inspect.isclass(kind := getattr(wld, name)) and issubclass(kind, wld.WldError)
    ]  # fmt: skip
    lines = [
        "# Python: events, tapes, arrays", "", MADE, "",
        "`import wld` has all of it. Numbers are integers at 1e-8 (`wld.SCALE`) and times ns since the Unix epoch, each",
        "named after its clock: `event_time` the matching engine's, `sent_time` the venue's push, `receive_time` the",
        "recording host's. None, in arrays `wld.ABSENT`, in floats nan: the venue did not send it. What a plugin is given",
        "beside these is in [the plugin contract](reference-plugin-contract.md).", "",
        "## Tapes",
        *_call("wld.open_tape", wld.open_tape), "",
        "Iterating a tape gives every event in ring order, gaps included. It may be read as often as you like; where bytes",
        "are damaged, every whole block is given before `wld.TapeDamaged` is raised.",
        *_methods(wld.Tape), "",
        "`scale`: `fixed` (integers at 1e-8, the default) or `float`. `columns`: only these are read.", "",
        "## Arrays", "",
        "numpy structured arrays, of a tape or of a `wld.Batch`; types as numpy writes them. `symbol` is an index into",
        "`tape.symbols` (or `batch.symbols`); of a tape the ring number stands before the rest as `number`.", "",
        "| array | columns |", "|---|---|",
        _array("trades", batch.TRADE_DTYPE), _array("depth", batch.DEPTH_DTYPE),
        _array("liquidations", batch.LIQUIDATION_DTYPE), _array("tickers", batch.TICKER_DTYPE),
        _array("gaps", batch.GAP_DTYPE), "",
        "## Events", *(line for kind in events for line in _event(kind)), "",
        "## Words", *(line for kind in (wld.AggressorSide, wld.PositionSide, wld.TickDirection, wld.GapReason)
                       for line in _choice(kind)), "",
        "## Books", "", _docstring(wld.OrderBook), *_methods(wld.OrderBook), "",
        "## Writing tapes", "", _docstring(wld.TapeWriter), *_call("wld.TapeWriter", wld.TapeWriter), *_methods(wld.TapeWriter),
        *_call("wld.Gathered", wld.Gathered), *_methods(wld.Gathered), "",
        "## Numbers and bytes",
        *(line for f in (wld.parse_fixed, wld.format_fixed, wld.pack_events, wld.unpack_events)
          for line in _call(f"wld.{f.__name__}", f)), "",
        "## Errors", "", "| error | |", "|---|---|",
        *(f"| `wld.{kind.__name__}` | {_docstring(kind)} |" for kind in errors), "",
        "## For tests: `wld.testing`",
        *(line for name in testing.__all__ if inspect.isfunction(f := getattr(testing, name)) for line in _call(name, f)), "",
        f"**`ListSource`**\n\n{_docstring(testing.ListSource)}", "",
        "`run_sink` gives a run that is over: `.sink`, the sink itself with what it kept, and `.status`, the figures that it",
        "reported last. Its sink writes into a folder that is gone afterwards, unless `data_dir=` is given. `TIME` is the time",
        "of events that are made without one. In a test that is itself async: `run = await run_sink(…)`.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


PAGES = {"docs/reference-configuration.md": configuration, "docs/reference-python.md": python}

if __name__ == "__main__":
    for path, make in PAGES.items():
        (ROOT / Path(path)).write_text(make())
