"""Owns the words of `--help` that click does not lay out itself: the first screen, and each command's examples."""

from __future__ import annotations

from collections.abc import Sequence

import click

SCREEN = """\
Usage: wld [OPTIONS] [COMMAND] [ARGS]...
  Record crypto perpetuals exactly, or watch them. Without a command: run.
Options:
  --sinks NAMES     such as recorder, or heatmap,telemetry (see wld plugins)
  --source NAME     bybit, sim, PATH of tapes, a ws(s):// or redis:// URL, or -
  --symbols NAMES   such as WLDUSDT,BTCUSDT; all   --workers N      processes
  --data-dir PATH   of tapes (data/history)        --duration TIME  such as 30s
  --config FILE     TOML (wld.toml)                --speed SPEED    1, 10x, max
  --set KEY=VALUE   any key of the file            --log-file FILE  log there
  --log-level debug|info|warning|error             --log-format text|json
  --theme dark|inferno|cividis|mono|light  --color 24|256|16|none  --[no-]ascii
  -h, --help        this screen                    --version
Commands, each with a --help:
  inspect  what tapes hold                   doctor   is this host fit?
  verify   prove tapes: status 0 intact      health   is a recorder well?
  merge    one recording of several          plugins  list them; or write one
  export   to Parquet, CSV, npz, C structs   sim      the simulated exchange
  recover  seal what a crash left open       serve    tapes, as an exchange
  {others}
Examples:
  wld --source sim --sinks recorder --duration 10s   record a simulation
  wld --sinks heatmap,telemetry                      watch; ? shows the keys
  wld inspect data/history                           what a tape holds
"""
"""23 lines of 80 columns: a small terminal shows all of it above its prompt. A test holds it to the flags there are."""

EXAMPLES = {
    "sim": ("wld sim --symbols WLDUSDT,BTCUSDT --rate 5", "wld sim --port 0 --faults drop@5,skip_u@8"),
    "serve": ("wld serve data/history --port 8766 --speed 10x",),
    "merge": ("wld merge host-a/history host-b/history --out merged",),
    "export": (
        "wld export data/history --format parquet --out lake",
        "wld export data/history --format csv --out csv --datasets trades,tickers",
    ),
    "inspect": ("wld inspect data/history", "wld inspect data/history/market_data_20261124_0700.bin --json"),
    "verify": ("wld verify data/history", "wld verify data/history --complete && echo whole"),
    "recover": ("wld recover data/history",),
    "plugins": ("wld plugins", "wld plugins recorder", "wld plugins new whale-alert"),
    "new": ("wld plugins new whale-alert",),
    "health": ("wld health", "wld health --data-dir /var/lib/wld --max-event-age 5m"),
    "doctor": ("wld doctor", "wld --sinks recorder --data-dir /var/lib/wld doctor"),
}


def first_screen(others: Sequence[str]) -> str:
    """The text of `wld --help`; `others` are commands of installed plugins."""
    line = f"Of plugins: {', '.join(others)}" if others else "(no command of a plugin is installed)"
    return SCREEN.format(others=line if len(line) < 78 else f"{line[:76]}…")


def give_examples(group: click.Group) -> None:
    """Put the examples under the help of each command below the group."""
    for name, command in group.commands.items():
        if lines := EXAMPLES.get(name):
            command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
        if isinstance(command, click.Group):
            give_examples(command)
