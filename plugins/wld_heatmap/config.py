"""Owns `[sinks.heatmap]`: every parameter of the model, its unit, and where its default comes from."""

from __future__ import annotations

from msgspec import Struct

from wld import ConfigError


class HeatmapConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[sinks.heatmap]`. "Measured" means: by `benchmarks/heat_worlds.py`, table in docs/explanation-heatmap.md."""

    # Leverage: who might be holding what.

    tier_leverages: tuple[float, ...] = (3.0, 5.0, 8.0, 10.0, 15.0, 20.0, 25.0, 35.0, 50.0, 75.0, 100.0)
    """Leverages that entries are spread over; those above the instrument's maximum are dropped."""
    tier_weights: tuple[float, ...] = (0.10, 0.14, 0.09, 0.18, 0.10, 0.12, 0.10, 0.06, 0.07, 0.025, 0.015)
    """Share of opened volume per leverage, before dropping; normalised. A bell with its peak at 10x to 25x, as the
    published estimates for this venue, thin above 50x; open tools assume 5x to 100x with most at 10x and 20x."""
    fallback_max_leverage: float = 50.0
    """Until the venue has told: an assumption, shown as such."""
    fallback_maintenance_margin: float = 0.01
    """Until the venue has told: a fraction; an assumption, shown as such."""
    formula: str = "mark"
    """`mark`: maintenance margin on the value at mark price, E(1 - 1/L)/(1 - MMR) for a long (the venue's help page
    since 2026-05-27, by its balance); `entry`: on the value at entry, E(1 - 1/L + MMR) (its older page)."""

    # Where a trigger lies around the formula's price.

    bin_width: float = 0.0005
    """Width of a price bin, a fraction (log); at least the instrument's tick. 5 bp: below the venue's mark noise."""
    narrow_smear: float = 0.10
    """Standard deviation of the narrow part, times 1/leverage: averaged entries, rounded leverage."""
    wide_smear: float = 0.35
    """Standard deviation of the wide part, times 1/leverage: cross margin, margin added later."""
    wide_share: float = 0.4
    """The wide part's share (chi). A guess about how many use cross margin. Measured: flat between 0 and 0.8."""

    # What opens and what closes.

    maker_share: float = 0.0
    """Kappa: how far the maker of a trade counts as opening the opposite position. 0: takers only, so that buys alone
    put heat below the mark only. Measured: it does not raise the score."""
    open_fraction: bool = False
    """Whether w, the share of volume that opens, is taken from open interest by the identity
    opens = volume + change of open interest of one side; else 0.5. Measured: it does not raise the score."""
    open_interest_window: float = 60.0
    """Seconds over which w is measured, at least; it ends with the first change of open interest after that."""
    remove_forced_flow: bool = True
    """A liquidation's own trade opens nothing: it leaves the flow before anything else."""
    close_share: float = 0.5
    """How much of the flow that does not open closes the other side, over all bins in proportion; the rest is traffic
    between those who hold nothing. 0: only age takes positions off. Measured: half is best over all worlds, by little."""

    # Memory.

    half_life_hours: tuple[tuple[float, float], ...] = ((5.0, 48.0), (10.0, 24.0), (25.0, 12.0), (1e9, 4.0))
    """(leverage up to, hours): positions get closed; the higher the leverage the sooner."""
    range_fraction: float = 0.40
    """How far from the mark price the ledger reaches, either way: covers 3x."""
    sweep: bool = True
    """Whether zones that the mark price reached are emptied. The main lever; off only for the ablation."""

    # Real liquidations.

    learn: bool = True
    """Whether leverage weights follow real liquidations (exposure-corrected expectation maximisation: what was
    liquidated of a leverage over what the mark price met of it). Measured: it raises lift and D2 in both worlds."""
    learn_prior_events: float = 20.0
    """Weight of the prior, in median liquidations."""
    learn_interval: float = 3600.0
    """Seconds between two updates of the weights; slow, so that zones do not jump."""
    learn_memory: float = 0.98
    """How much of the evidence is kept each `learn_interval`."""
    boost: bool = True
    """Whether a real liquidation lifts the displayed heat just ahead of it for a while; raw heat is kept apart."""
    boost_reach: float = 0.005
    """Reach of the boost in the direction of travel, a fraction of price."""
    boost_half_life: float = 90.0
    """Seconds."""
    boost_cap: float = 3.0
    """Heat is multiplied by at most this."""

    # Time and memory of the picture.

    column_seconds: int = 10
    """Width of a column; each is immutable once closed."""
    fine_hours: float = 3.0
    """So long columns of that width are kept; then one a minute."""
    history_hours: float = 24.0
    """So long columns of a minute are kept."""

    # Files: none unless named.

    history: str | None = None
    """A tape, or a folder of tapes, to start from."""
    state: str | None = None
    """A file that keeps the ledger over a restart; written only when named."""
    state_interval: float = 60.0
    """Seconds between two writes of it."""


def check(config: HeatmapConfig) -> HeatmapConfig:
    """The same config. Raises: ConfigError naming the key and what is accepted."""

    def refuse(key: str, accepted: str) -> None:
        raise ConfigError(f"sinks.heatmap.{key}: expected {accepted}, got {getattr(config, key)!r}")

    if not config.tier_leverages or min(config.tier_leverages) <= 1:
        refuse("tier_leverages", "leverages above 1")
    if list(config.tier_leverages) != sorted(set(config.tier_leverages)):
        refuse("tier_leverages", "rising leverages")
    if len(config.tier_weights) != len(config.tier_leverages):
        refuse("tier_weights", f"{len(config.tier_leverages)} numbers, one for each of tier_leverages")
    if min(config.tier_weights) < 0 or sum(config.tier_weights) <= 0:
        refuse("tier_weights", "numbers of 0 or more, not all 0")
    if config.formula not in ("mark", "entry"):
        refuse("formula", "mark or entry")
    for key in ("wide_share", "maker_share", "close_share", "learn_memory"):
        if not 0 <= getattr(config, key) <= 1:
            refuse(key, "a fraction from 0 to 1")
    if not 0.00005 <= config.bin_width <= 0.01:
        refuse("bin_width", "a fraction from 0.00005 to 0.01")
    if not 0.05 <= config.range_fraction <= 0.6:
        refuse("range_fraction", "a fraction from 0.05 to 0.6")
    if not 0 < config.fallback_maintenance_margin < 0.5:
        refuse("fallback_maintenance_margin", "a fraction above 0 and below 0.5")
    if config.fallback_max_leverage <= 1:
        refuse("fallback_max_leverage", "a leverage above 1")
    if config.boost_cap < 1:
        refuse("boost_cap", "a factor of at least 1")
    for key in (
        "narrow_smear", "wide_smear", "open_interest_window", "learn_prior_events", "learn_interval", "boost_reach",
        "boost_half_life", "fine_hours", "history_hours", "state_interval",
    ):  # fmt: skip
        if getattr(config, key) <= 0:
            refuse(key, "a number above 0")
    if config.column_seconds < 1 or 60 % config.column_seconds:
        refuse("column_seconds", "whole seconds that divide 60")
    if not config.half_life_hours or any(hours <= 0 for _, hours in config.half_life_hours):
        refuse("half_life_hours", "pairs of leverage and hours above 0")
    return config
