# %% [markdown]
# # Real liquidations against projected zones, from a tape
#
# A notebook as a script: open it in an editor that knows `# %%` cells, or run it from the shell:
#
#     python examples/liquidations_and_zones.py data/history WLDUSDT chart.png
#
# Needs the extra `plot` (matplotlib). A few minutes of tape make a picture, hours of it a judgement.

# %%
import sys
from collections import deque
from datetime import UTC, datetime
from itertools import islice

import matplotlib.pyplot as plt
import msgspec
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from wld_heatmap import HeatMap, HeatmapConfig

import wld

path, symbol, picture = sys.argv[1:4] if len(sys.argv) == 4 else ("data/history", "WLDUSDT", "chart.png")

# %% [markdown]
# ## One line to a tape, one more to numpy
# Prices and sizes are integers at 1e-8, times nanoseconds; `scale="float"` gives floats.

# %%
tape = wld.open_tape(path, symbols=[symbol])
trades = tape.trades(scale="float", columns=["receive_time", "price"])
print(f"{len(trades):,} trades, {len(tape.liquidations()):,} liquidations, {len(tape.gaps())} gaps")
seconds = int(np.ptp(trades["receive_time"])) / 1e9

# %% [markdown]
# ## The same model as on the screen
# It sees the events in their order, so nothing here looks ahead; each column is what it believed at that time.

# %%
width = next((w for w in (1, 5, 10, 30, 60, 300) if seconds / w < 700), 900)
config = msgspec.structs.replace(HeatmapConfig(), column_seconds=width, fine_hours=seconds / 3600 + 1)
heatmap, events = HeatMap(symbol, config), iter(tape)
heatmap.liquidations = deque()  # all of them; the screen keeps the latest
while some := list(islice(events, 2000)):
    heatmap.apply(some)
heatmap.finish()
columns = [column for column in heatmap.columns if column.mark_close is not None]
low = min(column.low_bin for column in columns)
high = max(column.low_bin + len(column.raw) for column in columns)
heat = np.zeros((high - low, len(columns)))
for i, column in enumerate(columns):
    at = column.low_bin - low
    heat[at : at + len(column.raw), i] = column.raw
marks = list(heatmap.liquidations)

# %% [markdown]
# ## How hot was it where positions really died?
# The share of swept bins that held less heat, in percent. Luck would spread them evenly: the dashed line.

# %%
judged = [mark for mark in marks if mark.percentile is not None]
if judged:
    print(f"median percentile of {len(judged)} real liquidations: {np.median([m.percentile for m in judged]):.0f}")
    print(f"in the hottest tenth: {np.mean([m.is_hit for m in judged]):.0%} (luck: 10%)")
else:
    print("too little was swept so far to say how hot it was there: record for an hour, or with source.sim_rate=20")

# %% [markdown]
# ## The picture

# %%
times = [datetime.fromtimestamp(column.start / 1e9, UTC) for column in columns]
prices = np.array([heatmap.price_of(low + row) for row in range(high - low)]) / wld.SCALE
mark_price = np.array([column.mark_close or 0 for column in columns]) / wld.SCALE
figure, (axes, side) = plt.subplots(1, 2, figsize=(13, 6), width_ratios=(5, 1), layout="constrained")
hot = heat[heat > 0]
colours = LogNorm(*np.quantile(hot, (0.3, 0.997))) if len(hot) else None
mesh = axes.pcolormesh(times, prices, np.ma.masked_equal(heat, 0), norm=colours, cmap="magma", shading="nearest")
axes.set_facecolor("black")
figure.colorbar(mesh, ax=axes, pad=0.01, label="USDT that would be liquidated, a bin (estimate)")
axes.plot(times, mark_price, color="white", linewidth=1.0, label="mark price")
for position, colour, name in (
    (wld.PositionSide.LONG, "#35d07f", "long liquidated"), (wld.PositionSide.SHORT, "#4db8ff", "short liquidated"),
):  # fmt: skip
    died = [mark for mark in marks if mark.position_side is position]
    axes.scatter(
        [datetime.fromtimestamp(mark.time / 1e9, UTC) for mark in died],
        [mark.trigger_price / wld.SCALE for mark in died],
        s=[3 + 6 * np.log10(1 + mark.notional) for mark in died],
        color=colour, edgecolor="black", linewidth=0.3, label=f"{name}: {len(died):,}", zorder=3,
    )  # fmt: skip
reach = max(0.4 * np.ptp(mark_price), mark_price[-1] * 0.02)
axes.set_xlim(times[0], times[-1])
axes.set_ylim(mark_price.min() - reach, mark_price.max() + reach)
axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator() or AutoDateLocator()))
axes.set(title=f"{symbol}: projected liquidations and real ones", xlabel="UTC", ylabel="price, USDT")
axes.legend(loc="upper left", framealpha=0.8)

side.set(title="how hot it was there", xlabel="percentile of heat", ylabel="share of real liquidations")
if judged:
    weights = np.full(len(judged), 1 / len(judged))
    side.hist([mark.percentile or 0 for mark in judged], bins=10, range=(0, 100), weights=weights, color="#b5367a")
    side.axhline(0.1, color="gray", linestyle="--", label="luck")
    side.legend(loc="upper left")
else:
    side.text(0.5, 0.5, "not judged yet", ha="center", transform=side.transAxes)
figure.savefig(picture, dpi=110)
print(f"wrote {picture}")
