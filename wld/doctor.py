"""Owns `wld doctor`: is this host fit, each finding with what to do about it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import trio
from msgspec import Struct

from wld.bybit.rest import open_rest
from wld.bybit.source import endpoints
from wld.config import Config
from wld.errors import RetryableSourceError

REACH_TIMEOUT_S = 5.0
FREE_WARN = 5 * 1024**3
OFFSET_WARN_MS = 250.0


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
        findings.append(await _reach(ws_url))
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
    if not os.access(existing, os.W_OK):
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
    if os.environ.get("TMUX") and os.environ.get("COLORTERM") not in ("truecolor", "24bit"):
        return Finding("terminal", "warn", found, "tmux: set -as terminal-features ',*:RGB' and COLORTERM=truecolor")
    return Finding("terminal", "ok", found)


async def _reach(url: str) -> Finding:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    begun = trio.current_time()
    try:
        with trio.fail_after(REACH_TIMEOUT_S):
            stream = await trio.open_tcp_stream(parts.hostname or "", port)
            await stream.aclose()
    except (OSError, trio.TooSlowError, socket.gaierror) as error:
        return Finding(
            "reachability", "fail", f"{parts.hostname}:{port}: {error or type(error).__name__}",
            "check the network, DNS and firewall; --source sim works without",
        )  # fmt: skip
    return Finding("reachability", "ok", f"{parts.hostname}:{port} in {(trio.current_time() - begun) * 1e3:.0f} ms")


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
