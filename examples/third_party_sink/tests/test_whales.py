import json

from wld_whales import wld_sink

from wld.testing import make_book_snapshot, make_trade, run_sink


def test_only_big_trades_are_written(tmp_path):
    events = [
        make_trade(price="2", size="499.99999999"),
        make_book_snapshot(),
        make_trade(price="2", size="500", trade_id="big"),
        make_trade(price="30000", size="1", trade_id="bigger"),
    ]
    run = run_sink(wld_sink(), events, {"minimum": 1000}, data_dir=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "whales.jsonl").read_text().splitlines()]
    assert [line["trade_id"] for line in lines] == ["big", "bigger"]
    assert run.status == {"found": 2}


def test_a_second_run_adds_to_the_file(tmp_path):
    for _ in range(2):
        run_sink(wld_sink(), [make_trade(size="1000")], data_dir=tmp_path)
    assert len((tmp_path / "whales.jsonl").read_text().splitlines()) == 2
