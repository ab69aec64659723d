from __future__ import annotations

from pathlib import Path

import pytest

import wld
from wld.config import Setting, load
from wld.engine import run_workers, take_shard
from wld.errors import ConfigError
from wld.events import AggressorSide, Trade
from wld.shards import parse_shard, shard_folder, shard_symbols

SYMBOLS = tuple(f"S{i}USDT" for i in range(500))


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_every_symbol_is_in_exactly_one_part(n: int, is_listed: bool) -> None:
    parts = [shard_symbols(SYMBOLS, (i, n), is_listed=is_listed) for i in range(1, n + 1)]
    assert sorted(symbol for part in parts for symbol in part) == sorted(SYMBOLS)
    assert min(map(len, parts)) > 500 / n / 2


def test_named_symbols_go_round_and_are_even() -> None:
    assert [shard_symbols(("A", "B", "C", "D", "E"), (i, 2), is_listed=False) for i in (1, 2)] == [
        ("A", "C", "E"), ("B", "D"),
    ]  # fmt: skip


def test_a_new_listing_moves_no_other_symbol() -> None:
    before = shard_symbols(SYMBOLS, (2, 3), is_listed=True)
    after = shard_symbols(("AAANEW", *SYMBOLS), (2, 3), is_listed=True)
    assert set(after) - {"AAANEW"} == set(before)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", "1/65", "１/2"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(ValueError, match="expected I/N"):
        parse_shard(text)
    with pytest.raises(ConfigError, match=r"source\.shard: expected I/N"):
        load(None, [Setting("source.shard", text, "")])


def test_a_part_has_its_symbols_and_its_folder() -> None:
    config = load(None, [Setting("source.symbols", "A,B,C", ""), Setting("data_dir", "d", "")])
    part = take_shard(config, (2, 2))
    assert (part.source.symbols, part.data_dir) == (("B",), str(Path("d") / "shard-2-of-2"))
    assert take_shard(load(None, [Setting("source.symbols", "all", "")]), (2, 2)).source.symbols == ("all",)
    with pytest.raises(ConfigError, match="part 4 of 4 of 3 symbols is empty"):
        take_shard(config, (4, 4))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source.symbols": "A,B"}, r"at most the number of symbols \(2\), got 3"),
        ({"source.name": "-"}, "recorded input"),
        ({}, r"at most the number of symbols \(1\), got 3"),
    ],
)
def test_workers_that_make_no_sense_are_refused_in_one_line(settings: dict[str, str], words: str) -> None:
    chosen = [Setting(key, value, "") for key, value in settings.items()]
    config = load(None, [*chosen, Setting("workers", 3, "--workers")], ["recorder"])
    with pytest.raises(ConfigError, match=words) as error:
        run_workers(config, [])
    assert str(error.value).startswith("--workers: workers: ")


@pytest.mark.parametrize("value", [0, -1, 65])
def test_a_wrong_number_of_workers_is_named(value: int) -> None:
    with pytest.raises(ConfigError, match="workers: expected a number from 1 to 64"):
        load(None, [Setting("workers", value, "")])


def trade(symbol: str, i: int) -> Trade:
    return Trade(symbol, i + 1, 1, AggressorSide.BUY, f"{i}", event_time=i * 10**6, receive_time=10**18 + i * 10**6)


def test_a_folder_with_shards_is_one_tape_in_order_of_receive_time(tmp_path: Path) -> None:
    mine = {1: [trade("AUSDT", i) for i in range(0, 90, 4)], 2: [trade("BUSDT", i) for i in range(1, 90, 2)]}
    for i, events in mine.items():
        with wld.TapeWriter(tmp_path / shard_folder((i, 2)), source="test") as writer:
            for event in events:
                writer.append([event])
    tape = wld.open_tape(tmp_path)
    assert list(tape) == sorted([*mine[1], *mine[2]], key=lambda e: e.receive_time)
    assert len(tape.trades()) == len(mine[1]) + len(mine[2])
    assert set(tape.summary().by_symbol) == {"AUSDT", "BUSDT"}
    assert list(wld.open_tape(tmp_path, symbols=["BUSDT"])) == mine[2]
