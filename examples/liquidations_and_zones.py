# %% [markdown]
# # Real liquidations against projected zones, from a tape
#
# A notebook as a script: open it in an editor that knows `# %%` cells, or run it from the shell:
#
#     python examples/liquidations_and_zones.py data/history WLDUSDT chart.png
#
# Needs the extra `plot` (matplotlib).

# %%
import sys

import matplotlib.pyplot as plt
import numpy as np
from wld_heatmap import HeatMap

import wld

path, symbol, picture = sys.argv[1:4] if len(sys.argv) == 4 else ("data/history", "WLDUSDT", "chart.png")

# %% [markdown]
# ## One line to a tape, one more to numpy
# Prices and sizes are integers at 1e-8, times nanoseconds; `scale="float"` gives floats.

# %%
tape = wld.open_tape(path, symbols=[symbol])
trades = tape.trades(scale="float")
real = tape.liquidations(scale="float")
print(f"{len(trades):,} trades, {len(real):,} liquidations, {len(tape.gaps())} gaps")

# %% [markdown]
# ## The same model as on the screen
# It sees the events in their order, so nothing here looks ahead; each column is what it believed at that time.

# %%
heatmap = HeatMap(symbol)
for event in tape:
    heatmap.apply([event])
heatmap.finish()
columns = [column for column in heatmap.columns if column.mark_close is not None]
low = min(column.low_bin for column in columns)
high = max(column.low_bin + len(column.raw) for column in columns)
heat = np.zeros((high - low, len(columns)))
for i, column in enumerate(columns):
    at = column.low_bin - low
    heat[at : at + len(column.raw), i] = column.raw

# %% [markdown]
# ## How hot was it where positions really died?
# The share of swept bins that held less heat, in percent: 50 is what luck would give.

# %%
known = [mark for mark in heatmap.liquidations if mark.percentile is not None]
if known:
    print(f"median percentile of {len(known)} real liquidations: {np.median([mark.percentile for mark in known]):.0f}")
    print(f"in the hottest tenth: {np.mean([mark.is_hit for mark in known]):.0%} (luck: 10%)")
else:
    print("too little was swept so far to say how hot it was there")

# %%
seconds = np.array([(column.end - columns[0].start) / 1e9 for column in columns])
prices = np.array([heatmap.price_of(low + row) for row in range(high - low)]) / wld.SCALE
mark_price = np.array([column.mark_close or 0 for column in columns]) / wld.SCALE
figure, axes = plt.subplots(figsize=(12, 6), layout="constrained")
axes.pcolormesh(seconds, prices, np.log1p(heat), cmap="viridis", shading="nearest")
axes.plot(seconds, mark_price, color="white", linewidth=1.2, label="mark price")
for mark in heatmap.liquidations:
    color = "tab:green" if mark.position_side is wld.PositionSide.LONG else "tab:red"
    axes.scatter(
        (mark.time - columns[0].start) / 1e9, mark.trigger_price / wld.SCALE, color=color, edgecolor="white", linewidth=0.4,
        s=12 + 10 * np.log10(1 + mark.notional), alpha=1.0 if mark.is_hit else 0.4, zorder=3,
    )  # fmt: skip
reach = max(0.6 * np.ptp(mark_price), mark_price[-1] * 0.03)
axes.set_xlim(seconds[0], seconds[-1])
axes.set_ylim(mark_price.min() - reach, mark_price.max() + reach)
axes.set(title=f"{symbol}: projected liquidations (estimate) and real ones", xlabel="seconds", ylabel="price")
figure.savefig(picture, dpi=110)
print(f"wrote {picture}")
