"""Owns what is shown of the run itself: the feed, the recorder beside it, the screen; as rows."""

from __future__ import annotations

import shutil
from contextlib import suppress

from wld import SinkContext
from wld.terminal import View, numbers
from wld_telemetry.feed import Feed
from wld_telemetry.state import OLD_NS, Row

_TOPICS = (("trades", "publicTrade"), ("books", "orderbook"), ("tickers", "tickers"), ("liqs", "allLiquidation"))


class _Rates:
    """Messages a second by topic, over the last seconds."""

    def __init__(self) -> None:
        self._marks: list[tuple[int, dict[str, int]]] = []

    def of(self, now: int, counts: dict[str, int]) -> dict[str, float]:
        """Rates over the last ten seconds, to the second."""
        if not self._marks or now - self._marks[-1][0] >= 1_000_000_000:
            self._marks.append((now, dict(counts)))
            del self._marks[:-11]
        then, before = self._marks[0]
        seconds = (now - then) / 1e9
        return {topic: (n - before.get(topic, 0)) / seconds if seconds > 0 else 0.0 for topic, n in counts.items()}


class Running:
    """Rows about the run for the groups `feed`, `recorder` and `self`."""

    def __init__(self, context: SinkContext, feed: Feed) -> None:
        self._context = context
        self._feed = feed
        self._rates = _Rates()

    def rates(self, view: View) -> dict[str, float]:
        """Messages a second by topic."""
        return self._rates.of(view.now, view.facts.counts)

    def dropped(self) -> int:
        """Events that any sink lost."""
        return sum(sink.dropped for sink in self._context.statistics().sinks)

    def feed(self, view: View) -> list[Row]:
        """Gaps and drops, rates and ages by topic, lag."""
        facts = view.facts
        rates = self.rates(view)
        seen = facts.of(view.symbol).seen
        parts = {}
        for label, topic in _TOPICS:
            time = seen.get(topic)
            rate = rates[topic]
            age = "--" if time is None else numbers.age(view.now - time)
            parts[label] = f"{rate:.{0 if rate >= 9.95 else 1}f}/s {age}"
        # Liquidations may rightly be quiet for hours; the others not.
        quiet = [seen.get(topic) for _, topic in _TOPICS[:3]]
        oldest = None if None in quiet else max(view.now - time for time in quiet if time is not None)
        is_old = oldest is None or oldest > OLD_NS
        rows = [
            Row("trades", f"{parts['trades']}  books {parts['books']}", None, is_old),
            Row("tickers", f"{parts['tickers']}  liqs {parts['liqs']}", None, is_old),
        ]
        lag = facts.lag_ms()
        drops = self.dropped()
        state = self._feed.states.get(view.symbol)
        reasons = " ".join(f"{name} {n}" for name, n in sorted(state.gaps.items())) if state else ""
        tone = "warn" if facts.gaps or drops else ""
        rows.insert(0, Row("gaps", f"{facts.gaps}  dropped {drops} {reasons}".strip(), None, False, tone))
        rows.append(Row("lag", "--" if lag is None else f"{lag:.0f} ms from the venue's push"))
        return rows

    def recorder(self, view: View) -> list[Row]:
        """What the recorder beside it says of itself; empty where there is none."""
        figures = self._context.reports().get("recorder")
        if not figures:
            return []
        rows = []
        error = figures.get("error")
        rows.append(Row("state", f"REFUSED: {error}" if error else "OK", None, False, "warn" if error else ""))
        written = figures.get("bytes")
        if written is not None:
            rows.append(Row("written", f"{numbers.amount(float(written))}B, {figures.get('segments', 0)} sealed"))
        rows.append(Row("waiting", f"{figures.get('waiting', 0)} events"))
        with suppress(OSError):
            free = shutil.disk_usage(self._context.data_dir if self._context.data_dir.exists() else ".").free
            rows.append(Row("disk", f"{numbers.amount(float(free))}B free", None, False, "warn" if free < 1e9 else ""))
        return rows

    @staticmethod
    def screen(view: View) -> list[Row]:
        """What the screen costs."""
        figures = view.self_figures
        if not figures:
            return []
        return [
            Row("frames", f"{figures['fps']:.0f}/s max  {numbers.amount(float(figures['frame_bytes']))}B median"),
            Row("dropped", f"{figures['dropped']} of {figures['frames'] + figures['dropped']}"),
            Row("process", f"{figures['cpu'] * 100:.0f}% cpu  {numbers.amount(float(figures['rss']))}B"),
            Row("lag", f"{figures['lag_ms']:.1f} ms event loop, worst of 1 s"),
        ]
