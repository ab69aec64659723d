"""The table of faults: what each run of a row found, and the page that the tests write and compare."""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec import Struct

from wld.exchange.accounting import Balance

PAGE = Path(__file__).parents[2] / "docs" / "reference-faults.md"
WRITE = "WLD_WRITE_FAULTS"
HEAD = """# What each fault costs

Written by the tests themselves (`tests/faults`; `WLD_WRITE_FAULTS=1 pytest tests/faults -m 'slow or not slow'`), which fail when
a row no longer says what they see. Every row ran against the simulated exchange over real sockets, most through a fault
proxy, with the times of a live run shortened; the slow half are real processes. *Sent* is what the exchange handed to a
connection, a trade or liquidation each for itself; of that, *recorded* is on the tape, *in a Gap* is not, and a Gap of its
topic stands exactly in its place, or, told late, its times do. *Lost* is what is in neither. The figures are those of one run; the other columns are
compared.

| fault | what happened | on the tape | the user is told | sent | recorded (backfilled) | in a Gap | lost |
|---|---|---|---|---:|---:|---:|---:|
"""


class Row(Struct, frozen=True):
    """One fault, as a run saw it."""

    name: str
    happened: str
    tape: str
    told: tuple[str, ...]
    balance: Balance

    def markdown(self) -> str:
        """The row of the table."""
        told = "<br>".join(f"`{t}`" for t in self.told) or "nothing: it needs no one"
        b = self.balance
        recorded = f"{b.recorded} ({b.backfilled})" if b.backfilled else str(b.recorded)
        return f"| {self.name} | {self.happened} | {self.tape} | {told} | {b.sent} | {recorded} | {b.in_gap} | {len(b.lost)} |"


def told(text: str) -> str:
    """A log line without what differs from run to run."""
    text = re.sub(r"^\d{4}-\d\d-\d\dT\S+ (?:ERROR|WARNING|INFO) ", "", text)
    text = re.sub(r"wss?://\S*?(?=[:;,]? |$)", "wss://…", text)
    text = re.sub(r"\S*/(?:[\w.-]+/)*market_data\S*", "market_data_….bin", text)
    text = re.sub(r"/tmp/\S+|/proc/\S+", "FOLDER", text)
    text = re.sub(r"[+-]?\d+(?:[.,]\d+)*", "N", text)
    text = re.sub(r"(Connection reset by peer)(; (\[Errno N\] )?Connection reset by peer)+", r"\1", text)
    return " ".join(text.split()).replace("|", "/")[:160]


def check(row: Row) -> None:
    """Compare a row with the page, or put it there when asked to."""
    page = PAGE.read_text() if PAGE.exists() else HEAD
    rows = {
        line.split(" | ")[0]: line
        for line in page.splitlines()
        if line.startswith("| ") and not line.startswith("| fault")
    }
    key, line = f"| {row.name}", row.markdown()
    if os.environ.get(WRITE):
        rows[key] = line
        PAGE.write_text(HEAD + "\n".join(rows.values()) + "\n")
        return
    assert key in rows, f"{PAGE.name}: no row {row.name!r}; run with {WRITE}=1"
    assert _stable(rows[key]) == _stable(line), f"{PAGE.name}: run with {WRITE}=1 where the new row is right: {line}"


def _stable(line: str) -> list[str]:
    # Which of the two a closed peer shows as hangs on what was on its way.
    line = line.replace("(no close frame, TLS cut off)", "(no close frame)")
    line = re.sub(r"the connection broke \([^)]*\)+", "the connection was closed (no close frame)", line)
    # A symbol that is mute is asked for by whichever of its topics is found silent first.
    line = re.sub(r"`(?:orderbook\.N|tickers)(\.\w+: silent)", r"`orderbook.N\1", line)
    # Whether a topic tells its part of a common silence by itself hangs on which line brings it first.
    if line.startswith("| two lines: both mute, shortly |"):
        line = re.sub(r"`silence` of (?:allLiquidation|publicTrade|tickers), ", "", line)
    # Of which topic it is told first, and in which of three ways, hangs on what comes back first.
    if line.startswith("| no data, but pongs |"):
        line = re.sub(r"`[\w.]+: (?:silent for|acknowledged, but|was no longer)[^`]*`", "`asked`", line)
    return [part.strip() for part in line.split(" | ")[:4]]
