"""Owns configuration: frozen Structs for wld.toml, and the merge of flags over environment over file over defaults.

Does not know any sink's own keys: a sink's table is checked against its `config_type` when it is loaded.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

from wld.errors import ConfigError
from wld.shards import MOST_WORKERS, parse_shard

T = TypeVar("T", bound=Struct)
Origin = Callable[[str], str]
"""Puts before a dotted key where its value came from."""

TOPICS = ("orderbook", "publicTrade", "tickers", "allLiquidation")
DEFAULT_SYMBOLS = ("WLDUSDT",)
"""Followed where no symbol is named and the source is live or simulated."""
SCREEN_THEMES = ("auto", "dark", "inferno", "cividis", "mono", "light")
SCREEN_COLORS = ("auto", "24", "256", "16", "none")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
DEPTHS = (1, 50, 200, 500, 1000)
SMALLEST_MESSAGE_LIMIT = 256 * 1024
TRANSPORTS = ("native", "trio-websocket")
LONGEST_WAIT_S = 1.0


class SourceConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[source]`."""

    name: str = "bybit"
    """`bybit`, `sim`, a path, a ws:// or wss:// URL, or `-`."""
    symbols: tuple[str, ...] | None = None
    """None: the default of the source (WLDUSDT live, all for recorded input); `all` alone: every listed one."""
    topics: tuple[str, ...] = TOPICS
    """What is followed of each symbol."""
    depth: int = 50
    """Levels a side of the order book that is followed: 1, 50, 200, 500 or 1000, as far as the venue offers them."""
    testnet: bool = False
    """Follow the venue's testnet."""
    rest_url: str | None = None
    """Base of the REST interface; unset: the venue's, or the host of a ws:// or wss:// source."""
    transport: str = "native"
    """`native`, or `trio-websocket`: slower, and the reference."""
    wait: float = 0.0
    """Seconds between two reads of the socket, in which messages may gather: less CPU, coarser receive times."""
    compression: bool = False
    """Offer permessage-deflate (native only)."""
    connections: Annotated[int, Meta(ge=1, le=8)] = 1
    """Independent connections that carry the same topics; more than one: a line may fail and nothing is lost."""
    connection_stagger: float = 2.0
    """Seconds between the first connections of the lines."""
    connection_max_age: float = 6 * 3600.0
    """Seconds after which a line is opened anew, one at a time and only while the others carry everything."""
    ca_file: str | None = None
    """PEM file of the authorities to trust instead of the system's, for private endpoints; TLS is always verified."""
    repair: bool = True
    """Fetch the trades that a Gap cost from REST, as far back as the venue's last 1,000 go."""
    audit: float = 60.0
    """Seconds between two comparisons of a symbol's trades with those that REST lists, with `repair`: what no line brought
    becomes a Gap, and is fetched. At least as many seconds as symbols are followed; sooner after
    a loss and after 400 trades, and at the end of a run, in two seconds at most; 0: never."""
    connection_hold: float = 10.0
    """Seconds that a line ahead waits for one behind before what is between becomes a Gap."""
    ping_interval: float = 20.0
    """Seconds between heartbeats, as the venue asks."""
    pong_timeout: float = 10.0
    """Seconds after a heartbeat in which anything must come, or the connection is given up."""
    silence_timeout: float = 30.0
    """Seconds without a book or ticker message before that topic is taken for dead."""
    first_data_timeout: float = 10.0
    """Seconds after an acknowledgement in which a topic's first snapshot must come, or it is asked for again."""
    connect_timeout: float = 10.0
    """Seconds for TCP, TLS and the WebSocket's handshake together."""
    backoff_initial: float = 0.5
    """Seconds before the first reconnect; doubled each time, and drawn between half and all of it."""
    backoff_max: float = 60.0
    """Seconds between reconnects at most."""
    max_message_bytes: int = 32 * 1024 * 1024
    """A longer message ends the connection; the longest that the venue sends are some 180 KB."""
    subscribe_batch: int = 10
    """Topics in one subscribe request."""
    instrument_interval: float = 3600.0
    """Seconds between readings of the instruments over REST."""
    speed: float | str | None = None
    """Of a replay: 1 is the recorded pace, `10x` ten times it, `max` as fast as the sinks take it; None: 1 with a
    screen, else max."""
    shard: str | None = None
    """`I/N`: only this part of the symbols, into a folder of its own."""
    sim_seed: int = 7
    """Of the simulated exchange: the same seed, the same luck."""
    sim_rate: float = 1.0
    """Of the simulated exchange: 1 is a normal day, 10 ten times the flow."""
    sim_faults: tuple[str, ...] = ()
    """Of the simulated exchange, such as drop@5; `wld sim --help` lists them."""


class RingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[ring]`."""

    capacity: int | None = None
    """Events per sink; None: what each sink asks for."""


class ScreenConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[screen]`: how sinks that draw are shown."""

    fps: float = 5.0
    """Frames a second at most, 1 to 10."""
    theme: str = "auto"
    """auto (dark, or light on a light terminal), dark, inferno, cividis (colour-blind), mono or light."""
    color: str | int = "auto"
    """auto, 24 (bits), 256, 16 or none."""
    ascii: bool | None = None
    """None: by the locale."""
    mouse: bool = False
    """The wheel zooms and a click inspects; off, the terminal's own selection works."""
    directory: str = "."
    """Where the `w` key writes."""
    hold: bool = True
    """Whether the picture of recorded input stays when the input has ended, until `q`."""


class SinkTable(Struct, frozen=True, forbid_unknown_fields=True):
    """What the engine takes in every sink's table."""

    enabled: bool = False
    """Run this sink; `--sinks` replaces the set."""
    isolate: bool = False
    """Run it in a process of its own, where nothing it does matters to the rest."""
    isolate_memory_mb: Annotated[int, Meta(ge=64)] | None = None
    """What that process may take; None: half of the host's memory."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of wld.toml."""

    source: SourceConfig = field(default_factory=SourceConfig)
    ring: RingConfig = field(default_factory=RingConfig)
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    sinks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Each sink's own table, without the keys that the engine takes in every one: those of `SinkTable`."""
    enabled: tuple[str, ...] = ()
    isolated: dict[str, int | None] = field(default_factory=dict)
    """Sinks that run in a process of their own, each with its limit of memory in MB or None."""
    data_dir: str = "data/history"
    """Where tapes are written and looked for."""
    duration: float | None = None
    """Seconds; None: until a signal."""
    workers: int = 1
    """Processes that share the symbols and nothing else."""
    drain_timeout: float = 10.0
    """Seconds that sinks have after a stop to take what was published."""
    status_interval: float = 60.0
    """Seconds between two status lines."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_format: str = "text"
    """text, or json: an object a line."""
    log_file: str | None = None
    """Log to this file only; unset: to standard error."""
    origins: dict[str, str] = field(default_factory=dict)
    """Where dotted keys came from, for errors; "" for the file."""

    def origin(self, key: str) -> str:
        """A dotted key behind the flag, variable or file that it came from."""
        return _origin(self.origins, key)


def sink_settings(config: Config, name: str, config_type: type[T]) -> T:
    """The table of one sink as its own Struct. Raises: ConfigError naming the key and what is accepted."""
    return convert(config.sinks.get(name, {}), config_type, f"sinks.{name}", config.origin)


_DURATION = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?\s*$")
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


def convert(table: Mapping[str, Any], config_type: type[T], where: str, origin: Origin = str) -> T:
    """A table to its Struct; `where` is its dotted name, `origin` puts before a key where it came from.

    Raises:
        ConfigError: an unknown key, or a value of another type: names the dotted key and what is accepted.
    """
    fields = {f.encode_name: f for f in msgspec.structs.fields(config_type)}
    dot = f"{where}." if where else ""
    for key in table:
        if key not in fields:
            raise ConfigError(f"{origin(f'{dot}{key}')}: unknown key{suggest(key, fields)}")
    try:
        return msgspec.convert(dict(table), config_type)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at ")
        path = at.strip("`").removeprefix("$").removeprefix(".")
        name = re.split(r"[.\[]", path)[0]
        if name not in fields:
            raise ConfigError(f"{origin(where)}: {message}") from None
        key = f"{dot}{name}"
        raise ConfigError(f"{origin(key)}: expected {accepted(fields[name].type)}, got {table.get(name)!r}") from None


def accepted(kind: Any) -> str:
    """What a key of this type takes, in words."""
    arguments = get_args(kind)
    if get_origin(kind) is Annotated:
        return accepted(arguments[0]) + _bounds(arguments[1:])
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(dict.fromkeys(accepted(a) for a in arguments if a is not type(None)))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if get_origin(kind) in (tuple, list, set, frozenset):
        if get_origin(arguments[0]) is Literal:
            return "a list of any of " + ", ".join(str(a) for a in get_args(arguments[0]))
        return "a list of " + {str: "texts", int: "integers", float: "numbers"}.get(arguments[0], "values")
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(str(member.value) for member in kind)
    words = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    return words.get(kind, "a table")


def _bounds(metas: tuple[Any, ...]) -> str:
    """The limits of a msgspec.Meta, in words."""
    words = (("gt", "above"), ("ge", "of at least"), ("lt", "below"), ("le", "of at most"))
    found = [
        f" {word} {getattr(meta, name)}"
        for meta in metas
        for name, word in words
        if getattr(meta, name, None) is not None
    ]
    return " and".join(found)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of an error about a wrong name: the nearest right one, in whatever case; empty where none is near."""
    names = {right.lower(): right for right in sorted(known)}
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=cutoff)
    return f'; did you mean "{names[close[0]]}"?' if close else ""


def suggest(name: str, known: Iterable[str]) -> str:
    """As `nearest`, but all of them where none is near."""
    names = sorted(known)
    return nearest(name, names) or f"; accepted: {', '.join(names) or 'none'}"


def expect_one_of(where: str, value: object, names: Iterable[object]) -> None:
    """Raises: ConfigError unless the value, as a text, is one of the names."""
    known = [str(name) for name in names]
    if str(value) not in known:
        hint = nearest(str(value), known)
        raise ConfigError(f"{where}: expected one of {', '.join(known)}, got {value!r}{hint}")


class Setting(NamedTuple):
    """One value from outside the file: its dotted key, and the flag or variable it came from."""

    key: str
    value: Any
    origin: str


def parse_set(text: str, origin: str = "--set") -> Setting:
    """`KEY=VALUE` of `--set`: the value as TOML where it is TOML, else as a text. Raises: ConfigError."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", key.strip()):
        raise ConfigError(f"{origin} {text}: expected KEY=VALUE, such as sinks.recorder.rotate_minutes=30")
    try:
        return Setting(key.strip(), tomllib.loads(f"v = {value}")["v"], origin)
    except tomllib.TOMLDecodeError:
        return Setting(key.strip(), value.strip(), origin)


def load(file: Path | None, settings: Iterable[Setting] = (), sinks: Sequence[str] | None = None) -> Config:
    """The file's tables under the settings, of which later ones win; `sinks`, where given, replaces the set.

    Raises:
        ConfigError: names the file, flag or variable, the dotted key, and what is accepted.
    """
    tables = read_file(file) if file else {}
    origins = {"": str(file)} if file else {}
    for key, value, origin in settings:
        *path, last = key.split(".")
        table = tables
        for i, part in enumerate(path):
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{origin} {key}: {'.'.join(path[: i + 1])} is a value, not a table")
        table[last] = value
        origins[key] = origin
    return build(tables, origins, sinks)


def build(tables: Mapping[str, Any], origins: Mapping[str, str], sinks: Sequence[str] | None = None) -> Config:
    """Check merged tables and make the Config; `origins` says where a dotted key came from, "" all others.

    Raises:
        ConfigError: an unknown key, a wrong type, or a value out of range.
    """
    tables = dict(tables)
    origin = partial(_origin, origins)
    enabled: list[str] = []
    plain: dict[str, dict[str, Any]] = {}
    isolated: dict[str, int | None] = {}
    for name, table in _table(tables, "sinks", origin).items():
        own = dict(_table({f"sinks.{name}": table}, f"sinks.{name}", origin))
        common = {key: own.pop(key) for key in SinkTable.__struct_fields__ if key in own}
        settings = convert(common, SinkTable, f"sinks.{name}", origin)
        if settings.enabled:
            enabled.append(name)
        if settings.isolate:
            isolated[name] = settings.isolate_memory_mb
        plain[name] = own
    sections: dict[str, Any] = {}
    for name, kind in (("source", SourceConfig), ("ring", RingConfig), ("screen", ScreenConfig)):
        sections[name] = convert(_lists(_table(tables, name, origin)), kind, name, origin)
    if "enabled" in tables:
        raise ConfigError(f"{origin('enabled')}: unknown key; enable a sink with [sinks.NAME] enabled = true")
    known = {f.name for f in msgspec.structs.fields(Config)} - {"enabled", "isolated", "origins"}
    for key in tables:
        if key not in known:
            raise ConfigError(f"{origin(key)}: unknown key{suggest(key, known)}")
    if isinstance(tables.get("duration"), str):
        try:
            tables["duration"] = parse_duration(tables["duration"])
        except ValueError as error:
            raise ConfigError(f"{origin('duration')}: {error}") from None
    base = convert(tables, Config, "", origin)
    config = msgspec.structs.replace(
        base,
        sinks=plain,
        enabled=tuple(dict.fromkeys(enabled if sinks is None else sinks)),
        isolated=isolated,
        origins=dict(origins),
        **sections,
    )
    _check(config)
    return config


def _table(tables: dict[str, Any], name: str, origin: Origin) -> Mapping[str, Any]:
    table = tables.pop(name, {})
    if not isinstance(table, Mapping):
        raise ConfigError(f"{origin(name)}: expected a table, got {table!r}")
    return table


def _origin(origins: Mapping[str, str], key: str) -> str:
    """A dotted key behind the flag, variable or file that it came from."""
    below = next((origins[name] for name in origins if name.startswith(f"{key}.")), None)
    source = origins.get(key) or below or origins.get("", "")
    return f"{source}: {key}" if source else key


def _lists(table: Mapping[str, Any]) -> dict[str, Any]:
    """Lists written as one text with commas, each member once."""
    out = dict(table)
    for key in ("symbols", "topics", "sim_faults"):
        if isinstance(out.get(key), str):
            out[key] = [part.strip() for part in out[key].split(",") if part.strip()]
        if isinstance(out.get(key), list) and all(isinstance(part, str) for part in out[key]):
            out[key] = list(dict.fromkeys(out[key]))
    return out


def _check(config: Config) -> None:
    source = config.source

    def refuse(key: str, accepted: str, got: Any, known: Iterable[str] = ()) -> None:
        raise ConfigError(f"{config.origin(key)}: expected {accepted}, got {got!r}{nearest(str(got), known)}")

    def choose(key: str, value: object, names: Iterable[object]) -> None:
        expect_one_of(config.origin(key), value, names)

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
            refuse("source.topics", f"any of {', '.join(TOPICS)}", topic, TOPICS)
    if not source.topics:
        refuse("source.topics", f"any of {', '.join(TOPICS)}", "")
    choose("source.depth", source.depth, DEPTHS)
    choose("source.transport", source.transport, TRANSPORTS)
    if source.compression and source.transport != "native":
        refuse("source.compression", f"false, as the transport {source.transport} cannot", source.compression)
    if not 1 <= config.workers <= MOST_WORKERS:
        refuse("workers", f"a number from 1 to {MOST_WORKERS}", config.workers)
    if source.shard is not None:
        try:
            parse_shard(source.shard)
        except ValueError as error:
            raise ConfigError(f"{config.origin('source.shard')}: {error}") from None
    if not 0 <= source.wait <= LONGEST_WAIT_S:
        refuse("source.wait", f"seconds from 0 to {LONGEST_WAIT_S:g}", source.wait)
    for key in (
        "ping_interval", "connection_max_age", "connection_hold", "pong_timeout", "silence_timeout", "first_data_timeout", "connect_timeout",
        "backoff_initial", "backoff_max", "instrument_interval", "sim_rate", "max_message_bytes", "subscribe_batch",
    ):  # fmt: skip
        if not 0 < getattr(source, key) < math.inf:
            refuse(f"source.{key}", "a number above 0", getattr(source, key))
    if not 0 <= source.audit < math.inf:
        refuse("source.audit", "seconds, or 0 for never", source.audit)
    if source.speed is not None:
        try:
            parse_speed(source.speed)
        except ValueError as error:
            raise ConfigError(f"{config.origin('source.speed')}: {error}") from None
    if source.backoff_max < source.backoff_initial:
        refuse(
            "source.backoff_max", f"at least source.backoff_initial ({source.backoff_initial:g})", source.backoff_max
        )
    if source.sim_rate > 1000:
        refuse("source.sim_rate", "a number above 0 and at most 1000", source.sim_rate)
    if source.max_message_bytes < SMALLEST_MESSAGE_LIMIT:
        refuse(
            "source.max_message_bytes",
            f"at least {SMALLEST_MESSAGE_LIMIT} (a message of 1,024 trades takes 180 KB)",
            source.max_message_bytes,
        )
    if source.rest_url is not None and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", source.rest_url):
        refuse("source.rest_url", "an http:// or https:// URL", source.rest_url)
    choose("screen.theme", config.screen.theme, SCREEN_THEMES)
    choose("screen.color", config.screen.color, SCREEN_COLORS)
    if not 1 <= config.screen.fps <= 10:
        refuse("screen.fps", "1 to 10 frames a second", config.screen.fps)
    if not config.data_dir.strip():
        refuse("data_dir", "a folder", config.data_dir)
    if config.ring.capacity is not None and config.ring.capacity < 1:
        refuse("ring.capacity", "a number of events above 0", config.ring.capacity)
    for key in ("drain_timeout", "status_interval"):
        if not 0 < getattr(config, key) < math.inf:
            refuse(key, "seconds above 0", getattr(config, key))
    if config.duration is not None and not 0 < config.duration < math.inf:
        refuse("duration", "a duration above 0", config.duration)
    choose("log_level", config.log_level, LOG_LEVELS)
    choose("log_format", config.log_format, LOG_FORMATS)
