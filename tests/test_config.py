"""Configuration: what is accepted, what beats what, and that every mistake is one line that says what to do."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from wld import cli
from wld.config import Config, RingConfig, ScreenConfig, Setting, SourceConfig, convert, load, parse_duration
from wld.errors import ConfigError

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """The program inside this process, in an empty folder: status and standard error."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("WLD_"):
            monkeypatch.delenv(name)
    handlers = logging.getLogger().handlers[:]
    levels = {logger: logger.level for logger in (logging.getLogger(), logging.getLogger("wld"))}

    def main(*arguments: str, **environment: str) -> tuple[int, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["wld", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        status = end.value.code
        assert isinstance(status, int)
        return status, capsys.readouterr().err

    yield main
    for handler in set(logging.getLogger().handlers) - set(handlers):
        handler.close()
    logging.getLogger().handlers[:] = handlers
    for logger, level in levels.items():
        logger.setLevel(level)


WRONG = [
    ([], "no sink enabled; name one with --sinks; installed: ", "recorder"),
    (["--sinks", ""], "no sink enabled", "recorder"),
    (["--sinks", "recoder"], "sink recoder: not installed", 'did you mean "recorder"?'),
    (["--source", "nowhere"], "source.name: expected bybit, sim, an existing path", "nowhere"),
    (["--source", "ws://"], "source.name: expected a URL such as ws://127.0.0.1:8765/", "'ws://'"),
    (["--source", "ws://host:99999/x"], "source.name: expected a URL such as", "99999"),
    (["--source", "wss://host:port/x"], "source.name: expected a URL such as", "port"),
    (["--symbols", "wldusdt"], "--symbols: source.symbols: expected upper-case symbols", "'wldusdt'"),
    (["--symbols", "all,WLDUSDT"], "--symbols: source.symbols: expected all alone", "all,WLDUSDT"),
    (["--symbols", ","], "--symbols: source.symbols: expected at least one symbol", ""),
    (["--duration", "soon"], "--duration: duration: expected a duration such as 30s", '"soon"'),
    (["--duration", "0"], "--duration: duration: expected a duration above 0", "0"),
    (["--duration", "-5s"], "--duration: duration: expected a duration", "-5s"),
    (["--data-dir", " "], "--data-dir: data_dir: expected a folder", ""),
    (["--set", "source.depht=50"], "--set: source.depht: unknown key", 'did you mean "depth"?'),
    (["--set", "source.depth=51"], "--set: source.depth: expected one of 1, 50, 200, 500, 1000", "got 51"),
    (["--set", "source.depth=deep"], "--set: source.depth: expected an integer", "'deep'"),
    (["--set", "source.topics=trades"], "source.topics: expected any of orderbook, publicTrade", "'trades'"),
    (["--set", "source.topics="], "source.topics: expected any of orderbook, publicTrade", ""),
    (["--set", "source.ping_interval=nan"], "source.ping_interval: expected a number above 0", "nan"),
    (["--set", "source.silence_timeout=inf"], "source.silence_timeout: expected a number above 0", "inf"),
    (["--set", "source.testnet=1"], "source.testnet: expected true or false", "got 1"),
    (["--set", "source.transport=carrier-pigeon"], "source.transport: expected", "'carrier-pigeon'"),
    (["--set", "source.rest_url=ftp://x"], "source.rest_url: expected an http:// or https:// URL", "'ftp://x'"),
    (["--set", "source.backoff_max=0.1"], "source.backoff_max: expected at least source.backoff_initial (0.5)", "0.1"),
    (["--set", "source.max_message_bytes=65536"], "source.max_message_bytes: expected at least 262144", "65536"),
    (["--set", "source=5"], "--set: source: expected a table", "got 5"),
    (["--set", "source.depth.x=5", "--set", "source.depth=5"], "source.depth", ""),
    (["--set", "data_dir.x=5"], "--set: data_dir: expected a text", ""),
    (["--set", "sinks=5"], "--set: sinks: expected a table", "got 5"),
    (["--set", "sinks.recorder=5"], "sinks.recorder: expected a table", "got 5"),
    (["--set", "nonsense"], "--set nonsense: expected KEY=VALUE", ""),
    (["--set", "=5"], "--set =5: expected KEY=VALUE", ""),
    (["--set", "colour=5"], "--set: colour: unknown key; accepted: data_dir, drain_timeout, duration", ""),
    (["--set", "log_levl=info"], "--set: log_levl: unknown key", 'did you mean "log_level"?'),
    (["--set", "enabled=true"], "--set: enabled: unknown key; enable a sink with [sinks.NAME] enabled = true", ""),
    (["--set", "sinks.recorder.rotate=5"], "--set: sinks.recorder.rotate: unknown key", "rotate_minutes"),
    (["--set", "sinks.recorder.rotate_minutes=often"], "--set: sinks.recorder.rotate_minutes: expected", "'often'"),
    (["--set", "sinks.recorder.enabled=yes"], "--set: sinks.recorder.enabled: expected true or false", "'yes'"),
    (["--set", "sinks.recoder.x=1"], "--set: sinks.recoder: no installed sink has this name", '"recorder"?'),
    (["--set", "ring.capacity=0"], "--set: ring.capacity: expected a number of events above 0", "got 0"),
    (["--set", "ring.capacity=many"], "--set: ring.capacity: expected an integer", "'many'"),
    (["--set", "drain_timeout=0"], "--set: drain_timeout: expected seconds above 0", "got 0"),
    (["--set", "status_interval=-1"], "--set: status_interval: expected seconds above 0", "got -1"),
    (["--log-level", "loud"], "--log-level: log_level: expected one of debug, info, warning, error", "'loud'"),
    (["--log-format", "xml"], "--log-format: log_format: expected one of text, json", "'xml'"),
    (["--log-file", "no/such/folder/x"], "log_file: no/such/folder/x: cannot be opened", "No such file"),
    (["--config", "none.toml"], "none.toml: cannot be read: No such file", ""),
    (["--source", "sim", "--set", "source.sim_faults=dorp"], "faults: unknown fault 'dorp'", "accepted: drop, stall"),
    (["--source", "sim", "--symbols", "-"], "source.symbols: expected upper-case symbols", "'-'"),
    (["sim", "--symbols", "wld"], "symbols: 'wld' is not a symbol", "upper-case letters"),
    (["sim", "--faults", "drop@x"], "faults: 'drop@x': expected seconds after @", ""),
    (["sim", "--rate", "0"], "rate: expected a number above 0", ""),
    (["sim", "--port", "99999"], "--port", "65535"),
    (["--nonsense"], "--nonsense", "wld --help"),
    (["--symbol", "X", "--sinks", "recorder"], "--symbol", "--symbols"),
    (["nonsense"], "nonsense", "wld --help"),
    (["inspct", "x"], "inspct", "inspect"),
]


@pytest.mark.parametrize(("arguments", "named", "also"), WRONG, ids=[" ".join(row[0]) or "nothing" for row in WRONG])
def test_a_wrong_value_is_one_line_and_status_2(
    arguments: list[str], named: str, also: str, run: Run, tmp_path: Path
) -> None:
    if arguments and arguments[0] not in ("sim", "nonsense", "inspct") and "--sinks" not in arguments:
        arguments = ["--sinks", "recorder", *arguments]
    status, errors = run(*arguments)
    assert named in errors
    assert also in errors
    assert status == 2
    assert errors.startswith("wld: ")
    assert len(errors.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_value_ends_the_real_process_with_status_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wld", "--sinks", "recorder"],
        cwd=tmp_path,
        env={**os.environ, "WLD_SYMBOLS": "wldusdt"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "wld: WLD_SYMBOLS: source.symbols: expected upper-case symbols such as WLDUSDT, or all, got 'wldusdt'\n"
    )


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("WLD_SINKS", "recoder", 'did you mean "recorder"?'),
        ("WLD_CONFIG", "none.toml", "none.toml: cannot be read"),
        ("WLD_SOURCE", "nowhere", "source.name"),
        ("WLD_SYMBOLS", "x", "WLD_SYMBOLS: source.symbols"),
        ("WLD_DURATION", "soon", "WLD_DURATION: duration"),
        ("WLD_LOG_LEVEL", "loud", "WLD_LOG_LEVEL: log_level"),
        ("WLD_LOG_FORMAT", "xml", "WLD_LOG_FORMAT: log_format"),
        ("WLD_LOG_FILE", "no/such/x", "log_file"),
        ("WLD_SET", "source.depth=50;source.depht=1", "WLD_SET: source.depht"),
    ],
)
def test_an_error_from_the_environment_names_its_variable(variable: str, value: str, named: str, run: Run) -> None:
    arguments = [] if variable == "WLD_SINKS" else ["--sinks", "recorder"]
    status, errors = run(*arguments, **{variable: value})
    assert status == 2
    assert named in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[source]\nsilence_timeout = 'x'", "wld.toml: source.silence_timeout: expected a number, got 'x'"),
        ("[source]\nsymbols = [1]", "wld.toml: source.symbols: expected a list of texts, got [1]"),
        ("[sinks.recorder]\nrotate = 5", "wld.toml: sinks.recorder.rotate: unknown key"),
        ("[source\n", "wld.toml: not valid TOML: "),
        ("\xff", "wld.toml: not valid TOML: "),
        ("[sink.recorder]\nenabled = true", 'wld.toml: sink: unknown key; did you mean "sinks"?'),
        ("drain_timeout = '5s'", "wld.toml: drain_timeout: expected a number, got '5s'"),
    ],
)
def test_an_error_in_the_file_names_file_and_key(text: str, named: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "wld.toml").write_bytes(text.encode("latin-1"))
    status, errors = run("--sinks", "recorder")
    assert (status, len(errors.strip().splitlines())) == (2, 1)
    assert named in errors


def wrong_for(kind: Any) -> Any:
    """A TOML value that no key of this type takes."""
    return [[0]] if "str" in str(kind) and "tuple" not in str(kind) else {"a": 1}


@pytest.mark.parametrize(
    ("prefix", "key", "kind"),
    [
        (prefix, f.encode_name, f.type)
        for prefix, struct in (
            ("source.", SourceConfig),
            ("ring.", RingConfig),
            ("screen.", ScreenConfig),
            ("", Config),
        )
        for f in msgspec.structs.fields(struct)
        if (prefix, f.encode_name)
        not in [("", n) for n in ("source", "ring", "screen", "sinks", "enabled", "isolated", "origins")]
    ],
)
def test_every_key_of_a_wrong_type_is_named_with_what_it_takes(prefix: str, key: str, kind: Any) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, [Setting(f"{prefix}{key}", wrong_for(kind), "--set")])
    text = str(error.value)
    assert text.startswith(f"--set: {prefix}{key}: expected ")
    assert "\n" not in text


def test_a_sinks_own_types_are_explained_in_words() -> None:
    class Own(Struct, frozen=True, forbid_unknown_fields=True):
        width: Annotated[int, Meta(ge=1, le=9)] = 1
        theme: Literal["dark", "light"] = "dark"
        name: str | None = None
        shares: tuple[float, ...] = ()

    def refusal(**table: Any) -> str:
        with pytest.raises(ConfigError) as error:
            convert(table, Own, "sinks.own", lambda key: f"wld.toml: {key}")
        return str(error.value)

    assert (
        refusal(width="wide")
        == "wld.toml: sinks.own.width: expected an integer of at least 1 and of at most 9, got 'wide'"
    )
    assert refusal(width=10).endswith("of at most 9, got 10")
    assert refusal(theme="blue") == "wld.toml: sinks.own.theme: expected one of dark, light, got 'blue'"
    assert refusal(name=5) == "wld.toml: sinks.own.name: expected a text, got 5"
    assert refusal(shares=["x"]) == "wld.toml: sinks.own.shares: expected a list of numbers, got ['x']"
    assert refusal(widht=5) == 'wld.toml: sinks.own.widht: unknown key; did you mean "width"?'


PRECEDENCE = [
    ("WLD_SYMBOLS", "--symbols", 'source = {symbols = ["AUSDT"]}', "BUSDT", "CUSDT", lambda c: c.source.symbols),
    ("WLD_DATA_DIR", "--data-dir", 'data_dir = "a"', "b", "c", lambda c: c.data_dir),
    ("WLD_DURATION", "--duration", "duration = 1", "2s", "3s", lambda c: c.duration),
    ("WLD_SOURCE", "--source", 'source = {name = "bybit"}', "sim", "-", lambda c: c.source.name),
    ("WLD_LOG_LEVEL", "--log-level", 'log_level = "debug"', "warning", "error", lambda c: c.log_level),
    ("WLD_LOG_FORMAT", "--log-format", 'log_format = "text"', "json", "text", lambda c: c.log_format),
    ("WLD_LOG_FILE", "--log-file", 'log_file = "a"', "b", "c", lambda c: c.log_file),
    ("WLD_SINKS", "--sinks", "sinks.recorder.enabled = true", "b", "c", lambda c: c.enabled),
    (
        "WLD_SET",
        "--set",
        "status_interval = 1.0",
        "status_interval=2",
        "status_interval=3",
        lambda c: c.status_interval,
    ),
]


@pytest.mark.parametrize(
    ("variable", "flag", "file", "in_variable", "in_flag", "read"), PRECEDENCE, ids=[row[0] for row in PRECEDENCE]
)
def test_flags_beat_environment_beats_file_beats_defaults(
    variable: str,
    flag: str,
    file: str,
    in_variable: str,
    in_flag: str,
    read: Callable[[Config], Any],
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Config] = []
    monkeypatch.setattr("wld.engine.run", lambda config: seen.append(config) or 0)
    monkeypatch.setattr("wld.logs.set_up", lambda *_, **__: None)
    run()
    (tmp_path / "wld.toml").write_text(f"{file}\n")
    run()
    run(**{variable: in_variable})
    run(flag, in_flag, **{variable: in_variable})
    default, from_file, from_variable, from_flag = map(read, seen)
    assert from_file != default or variable in ("WLD_SOURCE", "WLD_LOG_FORMAT")
    assert from_variable not in (default, from_file)
    assert from_flag != from_variable
    assert read(Config()) == default


def test_another_file_by_flag_or_variable_is_read_instead(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[Config] = []
    monkeypatch.setattr("wld.engine.run", lambda config: seen.append(config) or 0)
    monkeypatch.setattr("wld.logs.set_up", lambda *_, **__: None)
    for name in ("wld", "one", "two"):
        (tmp_path / f"{name}.toml").write_text(f'data_dir = "{name}"\n')
    run()
    run(WLD_CONFIG="one.toml")
    run("--config", "two.toml")
    assert [config.data_dir for config in seen] == ["wld", "one", "two"]


def test_a_flag_replaces_the_set_of_sinks_and_keeps_their_tables() -> None:
    tables = [Setting("sinks.a.enabled", True, "wld.toml"), Setting("sinks.b.width", 5, "wld.toml")]
    assert load(None, tables).enabled == ("a",)
    chosen = load(None, tables, ["b", "b"])
    assert chosen.enabled == ("b",)
    assert chosen.sinks == {"a": {}, "b": {"width": 5}}


def test_symbols_are_a_list_or_a_text_with_commas_each_once() -> None:
    for value in ("AUSDT, BUSDT,AUSDT", ["AUSDT", "BUSDT", "AUSDT"]):
        assert load(None, [Setting("source.symbols", value, "")]).source.symbols == ("AUSDT", "BUSDT")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1.5h", 5400), ("2d", 172800), ("250ms", 0.25), ("7", 7)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1y", "1 2", "nan", "1e3", "１s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 30s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("transport", "carrier-pigeon", "one of native, trio-websocket"),
        ("wait", -1, "seconds from 0 to 1"),
        ("wait", 5, "seconds from 0 to 1"),
    ],
)
def test_a_wrong_transport_or_wait_names_the_key_and_what_is_accepted(key: str, value: object, accepted: str) -> None:
    with pytest.raises(ConfigError, match=rf"source\.{key}: expected {accepted}"):
        load(None, [Setting(f"source.{key}", value, "wld.toml")])


def test_compression_is_refused_for_a_transport_that_cannot() -> None:
    with pytest.raises(ConfigError, match=r"source\.compression"):
        load(None, [Setting("source.compression", True, ""), Setting("source.transport", "trio-websocket", "")])
