"""Owns the reference page that is made from the code: every key of wld.toml.

`python -m tests.docs.reference` writes it; a test compares it with what it would write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from tests.docs.blocks import ROOT
from wld import plugin_info
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


PAGES = {"docs/reference-configuration.md": configuration}

if __name__ == "__main__":
    for path, make in PAGES.items():
        (ROOT / Path(path)).write_text(make())
