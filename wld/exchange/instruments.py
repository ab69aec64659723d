"""Owns what the simulated exchange lists: contract specifications, margin tiers, and their REST rows.

Does not own prices: a specification carries only the price at which a market starts. The numbers are
plausible, not copies of the venue's; a client reads them from here as it would read the venue's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from wld.errors import ConfigError

_LAUNCH_MS = 1_690_000_000_000
_TIER_STEPS = 20
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class MarginTier:
    """One risk tier: position values up to `limit` (whole USDT) at up to `max_leverage`.

    `maintenance_ppm` is the maintenance margin rate in 1e-6; `deduction` is the venue's mmDeduction in 1e-2
    USDT, which makes the maintenance margin continuous across tiers.
    """

    limit: int
    max_leverage: int
    maintenance_ppm: int
    deduction: int


@dataclass(frozen=True, slots=True)
class SymbolSpec:
    """One linear perpetual as the venue would list it.

    Prices travel inside the exchange as whole ticks, sizes as whole lots. A tick is `tick_units` of the last
    printed decimal of a price (BTCUSDT: 10 units of 0.01), a lot `lot_units` of the last printed decimal of a
    size.

    Attributes:
        start_price: ticks.
        order_lots: median size of a taker order, in lots.
        activity: order flow relative to WLDUSDT.
        volatility: standard deviation of the price over one second, in 1e-6 of the price.
        funding_hours: hours between two fundings.
    """

    symbol: str
    price_decimals: int
    tick_units: int
    size_decimals: int
    lot_units: int
    start_price: int
    order_lots: int
    max_leverage: int = 50
    activity: float = 1.0
    volatility: int = 250
    funding_hours: int = 8

    def price_text(self, ticks: int) -> str:
        """The price as the venue prints it: fixed decimals, trailing zeros kept."""
        return decimal_text(ticks * self.tick_units, self.price_decimals)

    def size_text(self, lots: int) -> str:
        """The size as the venue prints it: fixed decimals."""
        return decimal_text(lots * self.lot_units, self.size_decimals)

    def value_text(self, ticks_lots: int, decimals: int) -> str:
        """A sum of price x size, given in ticks x lots, in USDT; exact up to where its decimals are cut off."""
        units = ticks_lots * self.tick_units * self.lot_units
        shift = self.price_decimals + self.size_decimals - decimals
        return decimal_text(units // 10**shift if shift >= 0 else units * 10**-shift, decimals)

    @property
    def gap(self) -> int:
        """Usual distance between neighbouring levels, in ticks: 1 where the tick is coarse."""
        return max(1, self.start_price // 80_000)

    @property
    def base(self) -> str:
        """The base coin, without the quote coin and without a multiplier such as 1000."""
        coin = self.symbol.removesuffix("USDT").removesuffix("PERP")
        return coin.lstrip("0123456789") or coin

    @property
    def tiers(self) -> tuple[MarginTier, ...]:
        """Risk tiers, lowest first; the maintenance rate of a tier is half of its initial margin rate."""
        step = _tier_limit(self)
        rows: list[MarginTier] = []
        deduction = 0
        previous_ppm = 0
        for n in range(_TIER_STEPS):
            leverage = max(1, self.max_leverage * (_TIER_STEPS - n) // _TIER_STEPS)
            ppm = _PPM // (2 * leverage)
            if rows and leverage == rows[-1].max_leverage:
                continue
            if rows:
                deduction += rows[-1].limit * (ppm - previous_ppm) * 100 // _PPM
            rows.append(MarginTier(step * (n + 1), leverage, ppm, deduction))
            previous_ppm = ppm
        return tuple(rows)

    def instrument_row(self) -> dict[str, Any]:
        """The contract as an entry of `/v5/market/instruments-info`."""
        lot = self.size_text(1)
        return {
            "symbol": self.symbol,
            "contractType": "LinearPerpetual",
            "status": "Trading",
            "baseCoin": self.base,
            "quoteCoin": "USDT",
            "launchTime": str(_LAUNCH_MS),
            "deliveryTime": "0",
            "deliveryFeeRate": "",
            "priceScale": str(self.price_decimals),
            "leverageFilter": {
                "minLeverage": "1",
                "maxLeverage": f"{self.max_leverage}.00",
                "leverageStep": "0.01",
            },
            "priceFilter": {
                "minPrice": self.price_text(1),
                "maxPrice": self.price_text(self.start_price * 20),
                "tickSize": self.price_text(1),
            },
            "lotSizeFilter": {
                "maxOrderQty": self.size_text(self.order_lots * 10_000),
                "minOrderQty": lot,
                "qtyStep": lot,
                "postOnlyMaxOrderQty": self.size_text(self.order_lots * 10_000),
                "maxMktOrderQty": self.size_text(self.order_lots * 2_000),
                "minNotionalValue": "5",
            },
            "unifiedMarginTrade": True,
            "fundingInterval": self.funding_hours * 60,
            "settleCoin": "USDT",
            "copyTrading": "both",
            "upperFundingRate": "0.01",
            "lowerFundingRate": "-0.01",
            "isPreListing": False,
            "preListingInfo": None,
            "riskParameters": {"priceLimitRatioX": "0.05", "priceLimitRatioY": "0.1"},
            "displayName": "",
            "symbolType": "",
        }

    def risk_rows(self) -> list[dict[str, Any]]:
        """The tiers as entries of `/v5/market/risk-limit`."""
        return [
            {
                "id": n,
                "symbol": self.symbol,
                "riskLimitValue": str(tier.limit),
                "maintenanceMargin": _rate_text(tier.maintenance_ppm),
                "initialMargin": _rate_text(_PPM // tier.max_leverage),
                "isLowestRisk": int(n == 1),
                "maxLeverage": f"{tier.max_leverage}.00",
                "mmDeduction": decimal_text(tier.deduction, 2) if tier.deduction else "",
            }
            for n, tier in enumerate(self.tiers, 1)
        ]


def decimal_text(units: int, decimals: int) -> str:
    """An integer count of 10**-decimals as a decimal string with exactly that many decimals."""
    if not decimals:
        return str(units)
    sign = "-" if units < 0 else ""
    whole, fraction = divmod(abs(units), 10**decimals)
    return f"{sign}{whole}.{fraction:0{decimals}d}"


def _rate_text(ppm: int) -> str:
    return decimal_text(ppm, 6).rstrip("0").rstrip(".")


def _tier_limit(spec: SymbolSpec) -> int:
    """Ceiling of the first tier in whole USDT: two hundred median orders, rounded to 10,000."""
    units = spec.start_price * spec.tick_units * spec.order_lots * spec.lot_units * 200
    return max(10_000, round(units / _scale(spec) / 10_000) * 10_000)


def _scale(spec: SymbolSpec) -> int:
    """Ticks x lots, in their printed units, per USDT."""
    scale: int = 10 ** (spec.price_decimals + spec.size_decimals)
    return scale


# symbol, price decimals, tick units, size decimals, lot units, start ticks, median order in lots, leverage, …
_KNOWN = (
    SymbolSpec("WLDUSDT", 4, 1, 1, 1, 8_214, 4_000, 75, 1.0, 380),
    SymbolSpec("BTCUSDT", 2, 10, 3, 1, 867_564, 15, 100, 3.0, 70),
    SymbolSpec("ETHUSDT", 2, 1, 2, 1, 298_412, 60, 100, 3.0, 90),
    SymbolSpec("XRPUSDT", 4, 1, 1, 1, 21_530, 3_000, 75, 1.6, 160),
    SymbolSpec("SOLUSDT", 3, 10, 1, 1, 13_864, 40, 100, 2.0, 150),
    SymbolSpec("DOGEUSDT", 5, 1, 0, 1, 15_230, 2_500, 75, 1.2, 200),
    SymbolSpec("OPUSDT", 5, 10, 1, 1, 4_417, 5_000, 50, 0.5, 280),
    SymbolSpec("ALGOUSDT", 5, 1, 1, 1, 17_842, 8_000, 50, 0.5, 220),
    SymbolSpec("1000PEPEUSDT", 7, 1, 0, 100, 61_432, 900, 75, 1.5, 260),
)
KNOWN: dict[str, SymbolSpec] = {spec.symbol: spec for spec in _KNOWN}
"""Specifications written by hand; `spec_for` makes up any other."""


def spec_for(symbol: str) -> SymbolSpec:
    """The specification of a symbol: the known one, else one made up from the letters of its name, always the
    same.

    Raises:
        ConfigError: the name is not upper-case ASCII letters, digits and dashes, or is longer than 30.
    """
    if symbol in KNOWN:
        return KNOWN[symbol]
    plain = symbol.replace("-", "")
    if not (plain.isascii() and plain.isalnum() and plain.upper() == plain and len(symbol) <= 30):
        raise ConfigError(
            f"symbols: {symbol!r} is not a symbol: expected upper-case letters, digits and dashes, 30 at most"
        )
    digest = hashlib.blake2b(symbol.encode(), digest_size=8).digest()
    price_decimals = 2 + digest[0] % 4
    size_decimals = digest[1] % 3
    return SymbolSpec(
        symbol,
        price_decimals,
        1,
        size_decimals,
        1,
        4_000 + int.from_bytes(digest[2:4], "big") % 40_000,
        (40, 300, 2_500)[size_decimals] + digest[4] % 40,
        (25, 50, 75)[digest[5] % 3],
        0.15 + digest[6] / 512,
        150 + digest[7],
    )
