"""Owns what log lines look like, text or JSON, and where they go."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from wld.errors import ConfigError


class TextFormatter(logging.Formatter):
    """`2026-11-24T00:29:22Z INFO message`, in UTC."""

    def __init__(self, worker: str | None = None) -> None:
        who = f"worker {worker}: " if worker else ""
        super().__init__(f"%(asctime)s %(levelname)s {who}%(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, logger, message; figures of a status line, error where there is one."""

    def __init__(self, worker: str | None = None) -> None:
        super().__init__()
        self._worker = {"worker": worker} if worker else {}
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._worker,
            "message": record.getMessage(),
        }
        if figures := getattr(record, "figures", None):
            line["figures"] = figures
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up(level: str, form: str, file: str | None, *, worker: str | None = None) -> None:
    """Send wld's log to standard error, or to a file only; `worker` (`1/4`) is named in every line.

    Raises:
        ConfigError: the file cannot be opened.
    """
    handler: logging.Handler
    if file:
        try:
            handler = logging.FileHandler(Path(file), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"log_file: {file}: cannot be opened: {error.strerror}") from None
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(worker) if form == "json" else TextFormatter(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_level("wld", level)


def set_level(package: str, level: str) -> None:
    """Let a package say what is of this level or graver; other packages are heard from `warning` on."""
    logging.getLogger(package).setLevel(level.upper())
