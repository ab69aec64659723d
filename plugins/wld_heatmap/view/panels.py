"""Owns the panels beside the pane: zones, real liquidations, what the model is worth. Pure: lines of text out."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from wld import PositionSide
from wld.terminal import Line, Role, View, numbers
from wld_heatmap.view.marks import mark_spans
from wld_heatmap.view.selection import Selection
from wld_heatmap.view.timeline import SECOND


class Panels:
    """Lines of the selected symbol for the panels `zones`, `liquidations` and `model`."""

    LIQUIDATIONS, ZONES, MODEL = "LIQUIDATIONS (real, USDT)", "ZONES (estimate, USDT)", "HEAT MODEL"
    """Their titles."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def zone_lines(self, view: View, width: int, height: int) -> Sequence[Line]:
        """The zones panel."""
        heatmap = self._selection.ready_map(view)
        if heatmap is None:
            return ["waiting for a mark price"]
        tick = heatmap.model.rules.tick
        lines: list[Line] = []
        named = sorted(self._selection.named_zones(view), key=lambda item: -item[1].price)
        for name, zone in named:
            role = Role.LONG if zone.side is PositionSide.LONG else Role.SHORT
            lines.append(
                (
                    (f"{name} ", role),
                    (f"{numbers.percent(zone.distance, 1):>6} ", Role.TEXT),
                    (f"{numbers.price(zone.price, tick)} ", Role.TEXT),
                    (f"{numbers.amount(zone.notional):>5}", Role.STRONG),
                    (f" {zone.tiers}", Role.FAINT),
                )
            )
        if not lines:
            lines.append("none yet")
        for share, (longs, shorts) in zip((2, 5), self._selection.within(heatmap, view, (0.02, 0.05)), strict=True):
            lines.append(
                (
                    (f"within {share}%  ", Role.FAINT),
                    (f"L {numbers.amount(longs)}", Role.LONG),
                    (f"  S {numbers.amount(shorts)}", Role.SHORT),
                )
            )
        return lines

    def zone_brief(self, view: View, width: int) -> Sequence[Line]:
        """The strongest of each side."""
        spans: list[tuple[str, Role]] = [("zone ", Role.FAINT)]
        for name, zone in self._selection.named_zones(view):
            if name in ("S1", "L1"):
                role = Role.LONG if zone.side is PositionSide.LONG else Role.SHORT
                text = f"{name} {numbers.percent(zone.distance, 1)} {numbers.amount(zone.notional)}  "
                spans.append((text, role))
        return [spans if len(spans) > 1 else (("zone ", Role.FAINT), ("none yet", Role.FAINT))]

    def liquidation_lines(self, view: View, width: int, height: int) -> Sequence[Line]:
        """Real liquidations: sums by side, and the latest with the heat that stood there before."""
        heatmap = self._selection.map_of(view)
        if heatmap is None:
            return []
        tick = heatmap.model.rules.tick
        lines: list[Line] = []
        known = heatmap.model.first_time
        for name, hours in (("1h", 1), ("24h", 24)):
            longs, shorts, n_long, n_short, hits, judged = self._selection.marks_of(heatmap).since(
                view.now - hours * 3600 * SECOND
            )
            star = "" if known is not None and view.now - known >= hours * 3600 * SECOND else "*"
            hit = f" hit {100 * hits / judged:.0f}%" if judged and width >= 40 else ""
            lines.append(
                (
                    (f"{name + star:<5}", Role.FAINT),
                    (f"L {numbers.amount(longs)} ({n_long})", Role.LONG),
                    (f" S {numbers.amount(shorts)} ({n_short})", Role.SHORT),
                    (hit, Role.TEXT),
                )
            )
        for mark in self._selection.marks_of(heatmap).marks[-5:][::-1]:
            lines.append(((f"{numbers.clock(mark.time)} ", Role.FAINT), *mark_spans(mark, tick)))
        return lines

    def liquidation_brief(self, view: View, width: int) -> Sequence[Line]:
        """The last hour."""
        heatmap = self._selection.map_of(view)
        if heatmap is None:
            return []
        longs, shorts, n_long, n_short, hits, judged = self._selection.marks_of(heatmap).since(view.now - 3600 * SECOND)
        return [
            (
                ("liq  1h ", Role.FAINT),
                (f"L {numbers.amount(longs)} ({n_long})", Role.LONG),
                (f" S {numbers.amount(shorts)} ({n_short})", Role.SHORT),
                (f" hit {100 * hits / judged:.0f}%" if judged and width >= 42 else "", Role.TEXT),
            )
        ]

    def model_lines(self, view: View, width: int, height: int) -> Sequence[Line]:
        """What the model is worth, and what it does not know."""
        heatmap = self._selection.map_of(view)
        if heatmap is None:
            return []
        health = heatmap.health
        is_proven = health.verdict == "validated"
        need = "" if health.verdict != "unproven" else ", needs 10 h" if health.events >= 30 else ", needs 30 in 10 h"
        lines: list[Line] = [
            (
                (health.verdict, Role.LONG if is_proven else Role.WARN),
                (f" {health.events} in {health.hours} h", Role.TEXT),
                (need, Role.FAINT),
            )
        ]
        if health.lift is not None:
            span = f" [{health.lift_low:.1f}..{health.lift_high:.1f}]" if health.lift_low and health.lift_high else ""
            placebo = f" placebo {health.placebo:.1f}x" if health.placebo is not None else ""
            lines.append(f"lift@10 {health.lift:.1f}x{span}{placebo}")
        if health.bits is not None:
            lines.append(f"bits/event {health.bits:+.2f} over distance-only")
        if health.coverage_long is not None and health.coverage_short is not None:
            lines.append(f"knows L {100 * health.coverage_long:.0f}%  S {100 * health.coverage_short:.0f}% of OI")
        weighted = [(weight, leverage) for leverage, weight, _ in health.tiers]
        if weighted:
            top = sorted(sorted(weighted, reverse=True)[:4], key=lambda item: item[1])
            text = " ".join(f"{leverage:g}x {100 * weight:.0f}%" for weight, leverage in top)
            lines.append((("tiers ", Role.FAINT), (text, Role.TEXT)))
        lines.append(((health.margin, Role.FAINT),))
        if health.is_w_measured:
            lines.append(f"open fraction {health.w:.2f}")
        lines += [((part, Role.FAINT),) for note in health.notes for part in wrap(note, width)]
        return lines

    def model_brief(self, view: View, width: int) -> Sequence[Line]:
        """The verdict in one line."""
        heatmap = self._selection.map_of(view)
        if heatmap is None:
            return []
        health = heatmap.health
        lift = "" if health.lift is None else f" lift {health.lift:.1f}x"
        known = "" if health.coverage_long is None else f" knows {100 * health.coverage_long:.0f}% of OI"
        role = Role.LONG if health.verdict == "validated" else Role.WARN
        return [(("heat ", Role.FAINT), (health.verdict, role), (f"{lift} n={health.events}{known}", Role.TEXT))]
