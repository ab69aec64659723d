"""Owns `wld doctor`: is this host fit, each finding with what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import trio
from msgspec import Struct

from wld.bybit.rest import open_rest
from wld.bybit.source import endpoints
from wld.bybit.transport import make_connect
from wld.config import Config, SourceConfig
from wld.errors import RetryableSourceError

REACH_TIMEOUT_S = 5.0
FREE_WARN = 5 * 1024**3
OFFSET_WARN_MS = 250.0
SMALLEST = (80, 24)
"""Columns and lines below which the radar has no room."""


class Finding(Struct, frozen=True):
    """One check: `ok`, `warn` or `fail`, what was found, what to do."""

    name: str
    state: str
    found: str
    advice: str = ""


async def examine(config: Config) -> list[Finding]:
    """Every check, in order; network checks take at most a few seconds."""
    findings = [_python(), _disk(Path(config.data_dir)), _files(), _terminal()]
    if config.source.name == "bybit" or config.source.name.startswith(("ws://", "wss://")):
        ws_url, rest_url = endpoints(config.source)
        findings.append(await _reach(config.source, ws_url))
        findings.append(await _clock(rest_url))
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", version)


def _disk(folder: Path) -> Finding:
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    found = f"{folder}: {free / 1024**3:.1f} GiB free"
    if not existing.is_dir():
        return Finding("disk", "fail", f"{existing} is a file", "choose another --data-dir")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("disk", "fail", f"{existing} is not writable", "choose another --data-dir, or its permissions")
    if free < FREE_WARN:
        return Finding("disk", "warn", found, "free some space: a busy symbol takes about 1 GiB a day")
    return Finding("disk", "ok", found)


def _files() -> Finding:
    try:
        import resource
    except ImportError:
        return Finding("file handles", "warn", "limit unknown on this system")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 256:
        return Finding("file handles", "warn", f"limit {soft}", "raise it: ulimit -n 1024")
    return Finding("file handles", "ok", f"limit {soft}")


def _terminal() -> Finding:
    if not sys.stdout.isatty():
        return Finding("terminal", "ok", "not a terminal: fine for the recorder, the radar prints one line at a time")
    size = shutil.get_terminal_size()
    found = f"{os.environ.get('TERM', '?')} {size.columns}x{size.lines} {os.environ.get('COLORTERM', '')}".strip()
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return Finding(
            "terminal", "warn", found, "the radar needs a terminal that can draw: set TERM, such as xterm-256color"
        )
    if size.columns < SMALLEST[0] or size.lines < SMALLEST[1]:
        return Finding("terminal", "warn", found, f"make the window at least {SMALLEST[0]}x{SMALLEST[1]} for the radar")
    if os.environ.get("COLORTERM") not in ("truecolor", "24bit"):
        if os.environ.get("TMUX"):
            advice = "tmux: add to ~/.tmux.conf: set -as terminal-features ',*:RGB', and run with COLORTERM=truecolor"
        else:
            advice = "true colour is not announced: if your terminal has it, run with COLORTERM=truecolor"
        return Finding("terminal", "warn", found, advice)
    if "utf" not in (sys.stdout.encoding or "").lower():
        return Finding("terminal", "warn", found, "not UTF-8: set LANG=C.UTF-8, or use --ascii")
    return Finding("terminal", "ok", found)


async def _reach(config: SourceConfig, url: str) -> Finding:
    """Open the WebSocket as the recorder would, certificate and handshake included."""
    host = urlsplit(url).netloc.rpartition("@")[2] or url
    begun = trio.current_time()
    try:
        with trio.fail_after(REACH_TIMEOUT_S):
            async with make_connect(config)(url):
                took = trio.current_time() - begun
    except (RetryableSourceError, trio.TooSlowError) as error:
        reason = str(error) or f"no answer within {REACH_TIMEOUT_S:g} s"
        return Finding(
            "reachability", "fail", f"{host}: {reason}",
            "check the network, DNS, firewall and proxy; the venue refuses some regions; --source sim works without",
        )  # fmt: skip
    return Finding("reachability", "ok", f"{host}: WebSocket open in {took * 1e3:.0f} ms")


async def _clock(rest_url: str) -> Finding:
    try:
        with trio.fail_after(REACH_TIMEOUT_S):
            async with open_rest(rest_url) as rest:
                await rest.server_time()  # opens the connection, so that the second call is one round trip
                sent = time.time_ns()
                venue = await rest.server_time()
                back = time.time_ns()
    except (RetryableSourceError, trio.TooSlowError) as error:
        return Finding("clock", "warn", f"offset to the venue unknown: {error or 'timed out'}", "see reachability")
    offset = ((sent + back) / 2 - venue) / 1e6
    found = f"offset to the venue {offset:+.1f} ms, round trip {(back - sent) / 1e6:.1f} ms"
    if abs(offset) > OFFSET_WARN_MS:
        return Finding("clock", "warn", found, "set the clock: run an NTP service such as chrony")
    return Finding("clock", "ok", found)
