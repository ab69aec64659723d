"""Owns configuration: frozen Structs for wld.toml, and the merge of flags over environment over file over defaults.

Does not know any sink's own keys: a sink's table is checked against its `config_type` when it is loaded.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from wld.errors import ConfigError

T = TypeVar("T", bound=Struct)

TOPICS = ("orderbook", "publicTrade", "tickers", "allLiquidation")
DEPTHS = (1, 50, 200, 500, 1000)


class SourceConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[source]`."""

    name: str = "bybit"
    """`bybit`, `sim`, a path, a ws:// or wss:// URL, or `-`."""
    symbols: tuple[str, ...] | None = None
    """None: the default of the source (WLDUSDT live, all for recorded input); `all` alone: every listed one."""
    topics: tuple[str, ...] = TOPICS
    depth: int = 50
    testnet: bool = False
    rest_url: str | None = None
    transport: str = "trio-websocket"
    ping_interval: float = 20.0
    pong_timeout: float = 10.0
    silence_timeout: float = 30.0
    """Seconds without a book or ticker message before that topic is taken for dead."""
    first_data_timeout: float = 10.0
    connect_timeout: float = 10.0
    backoff_initial: float = 0.5
    backoff_max: float = 60.0
    max_message_bytes: int = 4 * 1024 * 1024
    subscribe_batch: int = 10
    """Topics in one subscribe request."""
    instrument_interval: float = 3600.0
    speed: float | str | None = None
    """Of a replay: 1 is the recorded pace, `10x` ten times it, `max` as fast as the sinks take it; None: 1 with a
    screen, else max."""
    sim_seed: int = 7
    sim_rate: float = 1.0
    sim_faults: tuple[str, ...] = ()


class RingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[ring]`."""

    capacity: int | None = None
    """Events per sink; None: what each sink asks for."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of wld.toml."""

    source: SourceConfig = field(default_factory=SourceConfig)
    ring: RingConfig = field(default_factory=RingConfig)
    sinks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Each sink's table as it stands, without `enabled`."""
    enabled: tuple[str, ...] = ()
    data_dir: str = "data/history"
    duration: float | None = None
    """Seconds; None: until a signal."""
    drain_timeout: float = 10.0
    status_interval: float = 60.0
    log_level: str = "info"
    log_format: str = "text"
    log_file: str | None = None


_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*$")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


def parse_duration(text: str) -> float:
    """`30s`, `5m`, `1.5h`, `2d` or plain seconds, to seconds. Raises: ValueError."""
    match = _DURATION.match(text)
    if not match:
        raise ValueError(f'expected a duration such as 30s, 5m or 1h, got "{text}"')
    return float(match[1]) * _UNIT_S[match[2]]


def parse_speed(value: float | str) -> float:
    """`1`, `2.5`, `10x`, or `max` (infinity). Raises: ValueError."""
    if value == "max":
        return math.inf
    try:
        speed = float(value.removesuffix("x") if isinstance(value, str) else value)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise ValueError(f"expected a number above 0 such as 1 or 10x, or max, got {value!r}")
    return speed


def read_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises: ConfigError naming the file."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def convert(table: Mapping[str, Any], config_type: type[T], where: str) -> T:
    """A table to its Struct. Raises: ConfigError naming the dotted key and what is accepted."""
    fields = {f.encode_name for f in msgspec.structs.fields(config_type)}
    for key in table:
        if key not in fields:
            raise ConfigError(f"{where}.{key}: unknown key{_suggest(key, fields)}")
    try:
        return msgspec.convert(dict(table), config_type)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at ")
        path = at.strip("`").removeprefix("$")
        value: Any = table
        for part in re.findall(r"[^.\[\]]+", path):
            if isinstance(value, Mapping):
                value = value.get(part)
        got = f", got {value!r}" if path else ""
        raise ConfigError(f"{where}{path}: {message[0].lower()}{message[1:]}{got}") from None


def _suggest(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; accepted: {', '.join(sorted(known))}"


def set_dotted(tables: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a dotted key, making tables on the way. Raises: ConfigError where a table is a value."""
    *path, last = key.split(".")
    for i, part in enumerate(path):
        tables = tables.setdefault(part, {})
        if not isinstance(tables, dict):
            raise ConfigError(f"{'.'.join(path[: i + 1])}: is a value, not a table")
    tables[last] = value


def parse_set(text: str) -> tuple[str, Any]:
    """`KEY=VALUE` of `--set`: the value as TOML where it is TOML, else as a string. Raises: ConfigError."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: expected KEY=VALUE, such as sinks.recorder.rotate_minutes=30")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def build(tables: Mapping[str, Any], where: str) -> Config:
    """Check merged tables and make the Config. `where` names the file (or `command line`) in errors.

    Raises:
        ConfigError: an unknown key, a wrong type, or a value out of range, naming the dotted key.
    """
    tables = dict(tables)
    sinks = tables.pop("sinks", {})
    if not isinstance(sinks, Mapping):
        raise ConfigError(f"{where}: sinks: expected a table")
    enabled = list(tables.pop("enabled", ()))
    plain: dict[str, dict[str, Any]] = {}
    for name, table in sinks.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where}: sinks.{name}: expected a table")
        rest = dict(table)
        on = rest.pop("enabled", False)
        if not isinstance(on, bool):
            raise ConfigError(f"{where}: sinks.{name}.enabled: expected true or false, got {on!r}")
        if on and "sinks_override" not in tables and name not in enabled:
            enabled.append(name)
        plain[name] = rest
    override = tables.pop("sinks_override", None)
    if override is not None:
        enabled = list(override)
    sections: dict[str, Any] = {}
    for name, kind in (("source", SourceConfig), ("ring", RingConfig)):
        table = tables.pop(name, {})
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where}: {name}: expected a table")
        sections[name] = convert(_lists(table), kind, f"{where}: {name}")
    known = {f.name for f in msgspec.structs.fields(Config)} - {"source", "ring", "sinks", "enabled"}
    for key in tables:
        if key not in known:
            raise ConfigError(f"{where}: {key}: unknown key{_suggest(key, known | {'source', 'ring', 'sinks'})}")
    if isinstance(tables.get("duration"), str):
        try:
            tables["duration"] = parse_duration(tables["duration"])
        except ValueError as error:
            raise ConfigError(f"{where}: duration: {error}") from None
    base = convert(tables, Config, where)
    config = msgspec.structs.replace(base, sinks=plain, enabled=tuple(dict.fromkeys(enabled)), **sections)
    _check(config, where)
    return config


def _lists(table: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(table)
    for key in ("symbols", "topics", "sim_faults"):
        if isinstance(out.get(key), str):
            out[key] = [part.strip() for part in out[key].split(",") if part.strip()]
    return out


def _check(config: Config, where: str) -> None:
    source = config.source

    def refuse(key: str, accepted: str, got: Any) -> None:
        raise ConfigError(f"{where}: {key}: expected {accepted}, got {got!r}")

    if source.symbols is not None:
        if not source.symbols:
            refuse("source.symbols", "at least one symbol, or all", "")
        for symbol in source.symbols:
            if symbol != "all" and not re.fullmatch(r"[A-Z0-9][A-Z0-9-]{0,39}", symbol):
                refuse("source.symbols", "upper-case symbols such as WLDUSDT, or all", symbol)
        if "all" in source.symbols and len(source.symbols) > 1:
            refuse("source.symbols", "all alone, or symbols without it", ",".join(source.symbols))
    for topic in source.topics:
        if topic not in TOPICS:
            refuse("source.topics", f"any of {', '.join(TOPICS)}", topic)
    if not source.topics:
        refuse("source.topics", f"any of {', '.join(TOPICS)}", "")
    if source.depth not in DEPTHS:
        refuse("source.depth", f"one of {', '.join(map(str, DEPTHS))}", source.depth)
    if source.transport != "trio-websocket":
        refuse("source.transport", "trio-websocket", source.transport)
    for key in (
        "ping_interval", "pong_timeout", "silence_timeout", "first_data_timeout", "connect_timeout",
        "backoff_initial", "backoff_max", "instrument_interval", "sim_rate", "max_message_bytes", "subscribe_batch",
    ):  # fmt: skip
        if getattr(source, key) <= 0:
            refuse(f"source.{key}", "a number above 0", getattr(source, key))
    if source.speed is not None:
        try:
            parse_speed(source.speed)
        except ValueError as error:
            raise ConfigError(f"{where}: source.speed: {error}") from None
    if config.ring.capacity is not None and config.ring.capacity < 1:
        refuse("ring.capacity", "a number of events above 0", config.ring.capacity)
    for key in ("drain_timeout", "status_interval"):
        if getattr(config, key) <= 0:
            refuse(key, "seconds above 0", getattr(config, key))
    if config.duration is not None and config.duration <= 0:
        refuse("duration", "a duration above 0", config.duration)
    if config.log_level not in ("debug", "info", "warning", "error"):
        refuse("log_level", "one of debug, info, warning, error", config.log_level)
    if config.log_format not in ("text", "json"):
        refuse("log_format", "text or json", config.log_format)
