"""Worlds to score the heat model on, and the table of docs/explanation-heatmap.md.

    python benchmarks/heat_worlds.py            # 14 h of each world, every baseline, every ablation: ten minutes of CPU
    python benchmarks/heat_worlds.py --quick    # two worlds, no ablations

Two markets whose positions are really opened, held and liquidated. `exchange`: wld's own simulated exchange, isolated
margin at whole leverages. `cross`: made here and nowhere else: accounts in cross margin with a wallet and other
positions, any leverage, averaging down, added margin, stops, partial liquidations, margin on entry value with a
liquidation fee. Its positions do not follow the model's formulae; the model is told only what a venue tells.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from math import exp, log
from typing import Any

import numpy as np
from wld_heatmap.config import HeatmapConfig
from wld_heatmap.history import HeatMap
from wld_heatmap.judgement import Report, judge
from wld_heatmap.step import Step

import wld
from wld import AggressorSide, Instrument, Liquidation, MarginTier, PositionSide, Ticker, Trade, parse_fixed
from wld.exchange.instruments import spec_for
from wld.exchange.market import Market

SECOND = 1_000_000_000
T0 = 1_699_999_200 * SECOND
SYMBOL = "WLDUSDT"


def e8(value: float) -> int:
    """To 1e-8 units."""
    return round(value * wld.SCALE)


# The simulated exchange, driven at speed.


def exchange_world(hours: float, seed: int, symbol: str = SYMBOL, rate: float = 1.0) -> Iterator[wld.Event]:
    """Trades, tickers and liquidations of `wld.exchange.Market`, as its clients would be told them."""
    spec = spec_for(symbol)
    yield Instrument(
        symbol, tick_size=parse_fixed(spec.price_text(1)), lot_size=parse_fixed(spec.size_text(1)),
        max_leverage=spec.max_leverage * wld.SCALE, receive_time=T0,
        margin_tiers=tuple(
            MarginTier(
                tier.limit * wld.SCALE, tier.maintenance_ppm * 100, wld.SCALE // tier.max_leverage,
                tier.max_leverage * wld.SCALE, tier.deduction * wld.SCALE // 100,
            )
            for tier in spec.tiers
        ),
    )  # fmt: skip
    start = T0 // 1_000_000
    market = Market([spec], seed, start, rate)
    market.wanted = {f"{topic}.{symbol}" for topic in ("publicTrade", "tickers", "allLiquidation")}
    mark = interest = None
    for at in range(start, start + int(hours * 3_600_000), 1_000):
        for topic, body in market.advance(at + 1_000):
            received = body["ts"] * 1_000_000 + 20_000_000
            if topic.startswith("publicTrade"):
                for row in body["data"]:
                    yield Trade(
                        symbol, parse_fixed(row["p"]), parse_fixed(row["v"]), AggressorSide(row["S"].lower()),
                        row["i"], sequence=row["seq"], is_block_trade=row["BT"], event_time=row["T"] * 1_000_000,
                        receive_time=received,
                    )  # fmt: skip
            elif topic.startswith("tickers"):
                changed = body["data"]
                if "markPrice" in changed or "singleOpenInterest" in changed:
                    mark = parse_fixed(changed["markPrice"]) if "markPrice" in changed else mark
                    if "singleOpenInterest" in changed:
                        interest = parse_fixed(changed["singleOpenInterest"])
                    yield Ticker(symbol, mark_price=mark, single_open_interest=interest, receive_time=received)
            else:
                for row in body["data"]:
                    side = PositionSide.LONG if row["S"] == "Buy" else PositionSide.SHORT
                    yield Liquidation(
                        symbol, side, parse_fixed(row["v"]), parse_fixed(row["p"]), row["T"] * 1_000_000,
                        receive_time=received,
                    )  # fmt: skip


# A market with other rules.

_RATES = ((200_000.0, 0.012, 60.0), (1_000_000.0, 0.02, 40.0), (10_000_000.0, 0.035, 20.0))
"""Ceiling of position value (USDT), maintenance margin on entry value, most leverage."""
_FEE = 0.0006


class CrossWorld:
    """Accounts in cross margin around one perpetual; see the module."""

    def __init__(
        self, seed: int, *, arrivals: float = 0.35, typical: float = 11.0, volatility: float = 0.00028,
        noise: float = 0.55,
    ) -> None:  # fmt: skip
        self.luck = random.Random(f"cross/{seed}")
        self.numbers = np.random.default_rng(seed)
        self.arrivals = arrivals
        self.typical = typical
        self.volatility = volatility
        self.noise = noise
        self.log_price = self.slow = 0.0
        self.mark = 2.5
        self.mood_until = 0
        self.factor, self.drift = 1.0, 0.0
        self.push = 0.0
        count = 60_000
        self.side, self.size, self.entry = np.zeros(count), np.zeros(count), np.zeros(count)
        self.wallet, self.other, self.beta = np.zeros(count), np.zeros(count), np.zeros(count)
        self.stop, self.take, self.leave = np.zeros(count), np.zeros(count), np.zeros(count)
        self.willing = np.zeros(count, np.int64)
        self.alive: dict[int, None] = {}
        self.free = list(range(count - 1, -1, -1))

    @property
    def price(self) -> float:
        """Last traded."""
        return 2.5 * exp(self.log_price)

    def events(self, hours: float) -> Iterator[wld.Event]:
        """Everything a client would be told."""
        yield Instrument(
            SYMBOL, tick_size=10_000, lot_size=10_000_000, max_leverage=60 * wld.SCALE, receive_time=T0,
            margin_tiers=tuple(MarginTier(e8(c), e8(m), e8(1 / x), e8(x)) for c, m, x in _RATES),
        )  # fmt: skip
        for second in range(int(hours * 3600)):
            yield from self._second(second, T0 + second * SECOND)

    def _move(self, second: int) -> None:
        luck = self.luck
        if second >= self.mood_until:
            moods = ((0.6, 0.0), (1.0, 0.0), (1.0, 0.0), (1.8, 0.00003), (1.8, -0.00003))
            self.factor, self.drift = luck.choice(moods)
            self.mood_until = second + int(luck.expovariate(1 / 1500))
        shock = luck.gauss(0.0, self.volatility * self.factor) + self.drift
        if luck.random() < 0.0003:
            shock += luck.gauss(0.0, 0.006)
        self.log_price += shock + self.push - 0.000004 * self.log_price
        self.push *= 0.6
        self.mark += 0.35 * (self.price * (1 + luck.gauss(0, 0.00005)) - self.mark)

    def _print(self, now: int, is_buy: bool, size: float, pieces: int = 1) -> Iterator[wld.Event]:
        self.push += (1 if is_buy else -1) * 2e-5 * (size / 3_000) ** 0.5
        for _ in range(pieces):
            price = self.price * (1 + self.luck.gauss(0, 0.0001))
            side = AggressorSide.BUY if is_buy else AggressorSide.SELL
            yield Trade(
                SYMBOL, e8(price), max(1, e8(size / pieces)), side, "x", event_time=now, receive_time=now + 30_000_000
            )

    @staticmethod
    def _rate(value: Any) -> Any:
        low, middle, high = _RATES
        return np.where(value <= low[0], low[1], np.where(value <= middle[0], middle[1], high[1]))

    def _second(self, second: int, now: int) -> Iterator[wld.Event]:
        luck = self.luck
        self._move(second)
        # Traffic that holds nothing: makers and arbitrage among themselves.
        while luck.random() < self.noise:
            yield from self._print(now, luck.random() < 0.5, luck.lognormvariate(6.5, 1.1))
        self.slow += 0.001 * (self.log_price - self.slow)
        trend = 0.5 + 0.25 * float(np.tanh(40 * (self.log_price - self.slow)))
        if luck.random() < self.arrivals * self.factor and self.free:
            yield from self._open(now, luck.random() < trend, second)
        ids = np.array(list(self.alive), np.int64)
        if len(ids):
            yield from self._review(ids, now, second)
        longs = float(self.size[self.side > 0].sum()) if second % 5 == 0 else None
        if longs is not None:
            shorts = float(self.size[self.side < 0].sum())
            self.interest = 4_000_000.0 + max(longs, shorts)
        yield Ticker(
            SYMBOL, last_price=e8(self.price), mark_price=e8(self.mark), open_interest=2 * e8(self.interest),
            receive_time=now + 400_000_000,
        )  # fmt: skip

    def _open(self, now: int, is_long: bool, second: int) -> Iterator[wld.Event]:
        luck = self.luck
        leverage = min(55.0, max(1.2, luck.lognormvariate(log(self.typical), 0.75)))
        value = luck.lognormvariate(7.6, 1.3)
        who = self.free.pop()
        size = value / self.price
        self.side[who], self.size[who], self.entry[who] = (1 if is_long else -1), size, self.price
        self.wallet[who] = value / leverage
        self.other[who] = 0.0
        # Two in five hold something else whose value moves with the market, or against it.
        self.beta[who] = luck.gauss(0.0, 0.6) * value if luck.random() < 0.4 else 0.0
        self.stop[who] = -luck.uniform(0.3, 0.9) * value / leverage if luck.random() < 0.35 else -np.inf
        self.take[who] = luck.uniform(0.2, 1.5) * value / leverage if luck.random() < 0.6 else np.inf
        self.leave[who] = second + luck.expovariate(1 / (3600 * max(1.0, 60 / leverage)))
        self.willing[who] = luck.choice((0, 0, 0, 1, 2))
        self.alive[who] = None
        yield from self._print(now, is_long, size, 2)

    def _review(self, ids: Any, now: int, second: int) -> Iterator[wld.Event]:
        value = self.size[ids] * self.entry[ids]
        gain = self.side[ids] * self.size[ids] * (self.mark - self.entry[ids])
        if second % 10 == 0:
            self.other[ids] += self.beta[ids] * self.numbers.normal(0.0, self.volatility * 3.2, len(ids))
        equity = self.wallet[ids] + gain + self.other[ids]
        need = value * (self._rate(value) + _FEE)
        broke = equity <= need
        tight = ~broke & (equity < 2.2 * need) & (self.willing[ids] > 0)
        done = ~broke & ((gain <= self.stop[ids]) | (gain >= self.take[ids]) | (second >= self.leave[ids]))
        for who in ids[tight & ~done].tolist():
            self.willing[who] -= 1
            if self.luck.random() < 0.5:
                self.wallet[who] *= 1.5
            else:
                more = 0.4 * self.size[who]
                self.entry[who] = (self.entry[who] * self.size[who] + more * self.price) / (self.size[who] + more)
                self.size[who] += more
                self.wallet[who] += 0.25 * more * self.price
                yield from self._print(now, self.side[who] > 0, more)
        for who in ids[done].tolist():
            yield from self._print(now, self.side[who] < 0, self.size[who])
            self._gone(who)
        for who in ids[broke].tolist():
            yield from self._liquidate(who, now)

    def _liquidate(self, who: int, now: int) -> Iterator[wld.Event]:
        side, size = self.side[who], self.size[who]
        funds = self.wallet[who] + self.other[who]
        bankruptcy = self.entry[who] - side * funds / size
        part = 0.5 * size if size * self.price > 5_000 else size
        is_long = bool(side > 0)
        yield from self._print(now, not is_long, part)
        yield Liquidation(
            SYMBOL, PositionSide.LONG if is_long else PositionSide.SHORT, max(1, e8(part)), max(1, e8(bankruptcy)),
            now, receive_time=now + 1_000_000 * self.luck.randrange(350, 950),
        )  # fmt: skip
        # What is closed takes its loss and a fee out of the wallet.
        self.wallet[who] += side * part * (self.mark - self.entry[who]) - _FEE * part * self.mark
        self.size[who] -= part
        if self.size[who] * self.price < 50 or self.wallet[who] + self.other[who] <= 0:
            self._gone(who)

    def _gone(self, who: int) -> None:
        del self.alive[who]
        self.free.append(who)
        self.size[who] = 0.0


def cross_world(hours: float, seed: int, **options: float) -> Iterator[wld.Event]:
    """Events of a `CrossWorld`, in order of receive time."""
    pending: list[wld.Event] = []
    second = None
    for event in CrossWorld(seed, **options).events(hours):
        if second is not None and event.receive_time // SECOND != second:
            yield from sorted(pending, key=lambda e: e.receive_time)
            pending = []
        second = event.receive_time // SECOND
        pending.append(event)
    yield from sorted(pending, key=lambda e: e.receive_time)


WORLDS: dict[str, Callable[..., Iterator[wld.Event]]] = {"exchange": exchange_world, "cross": cross_world}


# The table.

SETTINGS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no removal by the mark price": {"sweep": False},
    "a single tier, 25x": {"tier_leverages": (25.0,), "tier_weights": (1.0,)},
    "w from open interest": {"open_fraction": True},
    "learning off": {"learn": False},
    "forced flow not removed": {"remove_forced_flow": False},
    "all of the flow closes": {"close_share": 1.0},
    "none of the flow closes": {"close_share": 0.0},
    "kappa 0.25": {"maker_share": 0.25},
    "chi 0": {"wide_share": 0.0},
    "chi 0.8": {"wide_share": 0.8},
}


class _Caught(HeatMap):
    """Keeps the second-by-second sums of a world, so that each setting is scored without making it again."""

    def __init__(self, symbol: str) -> None:
        super().__init__(symbol, keep_columns=False)
        self.steps: list[Step] = []
        self.told: Instrument | None = None

    def _close(self, step: Step) -> None:
        if not step.is_empty:
            self.steps.append(step)

    def _age(self, time: int) -> None:
        pass

    def _take(self, event: Any) -> None:
        if isinstance(event, Instrument):
            self.told = event
        super()._take(event)


World = tuple[str, Instrument, list[Step]]


def catch(events: Iterator[wld.Event], symbol: str = SYMBOL) -> World:
    """The steps of a world."""
    caught = _Caught(symbol)
    caught.apply(events)
    caught.finish()
    assert caught.told is not None
    return symbol, caught.told, caught.steps


def score(world: World, setting: dict[str, Any], resamples: int = 1000) -> Report:
    """The report of one setting on a world: exactly what feeding its events would give."""
    symbol, instrument, steps = world
    heatmap = HeatMap(symbol, HeatmapConfig(**setting), keep_columns=False)
    heatmap.model.instrument(instrument)
    for step in steps:
        if heatmap.model.grid is None:
            first = step.mark[0] if step.mark else step.last_price
            if first is None:
                continue
            heatmap.model.bin_of(first)
        heatmap._age(step.start)
        heatmap._close(step)
    return judge(heatmap.sample(), resamples=resamples)


def _job(job: tuple[str, dict[str, Any], World, int]) -> tuple[str, Report]:
    name, setting, world, resamples = job
    return name, score(world, setting, resamples)


def _made(job: tuple[str, float, int, dict[str, Any]]) -> World:
    kind, hours, seed, options = job
    return catch(WORLDS[kind](hours, seed, **options), options.get("symbol", SYMBOL))


def _interval(interval: Any) -> str:
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def _tell(title: str, report: Report) -> None:
    print(f"\n### {title}\n", flush=True)
    print(
        f"{report.events:,} liquidations in {report.hours} hours, {report.buckets:,} buckets swept, "
        f"{100 * report.matched:.0f} % matched ({100 * report.snapped:.0f} % to the nearest): **{report.verdict}**.\n"
    )
    if not report.scores or report.placebo is None or report.over_placebo is None or report.boost is None:
        print(report.reason)
        return
    print("| | lift@10 | 95 % | AUC | D2 | heat less it: bits | heat less it: lift |")
    print("|---|---|---|---|---|---|---|")
    against = {c.name: c for c in report.comparisons}
    for s in report.scores:
        c = against.get(s.name)
        rest = f"{_interval(c.bits)} | {_interval(c.lift)}" if c else "|"
        print(
            f"| {s.name} | {s.lift.value:.2f} | {s.lift.low:.2f} to {s.lift.high:.2f} | {s.auc:.3f} | {s.d2:+.3f} | {rest} |"
        )
    print(
        f"\nPlacebo {report.placebo.value:.2f}, mirrored {report.mirrored:.2f}, lift over placebo "
        f"{report.over_placebo.value:.2f} [{report.over_placebo.low:.2f}, {report.over_placebo.high:.2f}]; boosted less "
        f"raw: bits {_interval(report.boost.bits)}, lift {_interval(report.boost.lift)}; calibration slope "
        f"{report.calibration_slope or 0:.2f}."
    )


def main() -> None:
    """Print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=14.0)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="no ablations, two worlds only")
    parser.add_argument("--tape", metavar="FOLDER", help="write the exchange world to a tape there, and nothing else")
    chosen = parser.parse_args()
    if chosen.tape:
        with wld.TapeWriter(chosen.tape, source="sim", clock="recorded") as writer:
            writer.append(exchange_world(chosen.hours, chosen.seed))
        return
    worlds: dict[str, tuple[str, float, int, dict[str, Any]]] = {
        "exchange": ("exchange", chosen.hours, chosen.seed, {}),
        "cross": ("cross", chosen.hours, chosen.seed, {}),
    }
    if not chosen.quick:
        worlds |= {
            "exchange, OPUSDT (50x)": ("exchange", chosen.hours, chosen.seed + 1, {"symbol": "OPUSDT"}),
            "cross, low leverage": ("cross", chosen.hours, chosen.seed + 1, {"typical": 6.0, "volatility": 0.0004}),
            "cross, high leverage": ("cross", chosen.hours, chosen.seed + 2, {"typical": 22.0, "arrivals": 0.25}),
            "cross, mostly noise": ("cross", chosen.hours, chosen.seed + 3, {"noise": 0.85}),
        }
    settings = {"as shipped": {}} if chosen.quick else SETTINGS
    with ProcessPoolExecutor(chosen.workers) as pool:
        made = dict(zip(worlds, pool.map(_made, worlds.values()), strict=True))
        rows: dict[str, dict[str, Report]] = {}
        for title, world in made.items():
            several = settings if title in ("exchange", "cross") else {"as shipped": {}}
            jobs = [(name, setting, world, chosen.resamples) for name, setting in several.items()]
            rows[title] = dict(pool.map(_job, jobs))
            _tell(title, rows[title]["as shipped"])
    if chosen.quick:
        return
    print("\n### Ablations\n")
    print("| | exchange: lift | D2 | bits against uniform | cross: lift | D2 | bits against uniform |")
    print("|---|---|---|---|---|---|---|")
    for name in settings:
        cells = []
        for title in ("exchange", "cross"):
            report = rows[title][name]
            s = report.score("model")
            cells += [f"{s.lift.value:.2f}", f"{s.d2:+.3f}", _interval(report.against("uniform").bits)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
