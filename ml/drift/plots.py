"""Plots of a drift report: the evidence over time, and the columns that speak loudest.

What belongs here: figures. What does not: where they are kept. Drawn without a display.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ml.drift.monitor import Drift

_SHOWN = 8


def evidence_figure(drift: Drift, *, title: str) -> Any:
    """Return a matplotlib figure: log10 of the evidence after each block, together and of the strongest columns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    times = (drift.starts + drift.block_us).astype("datetime64[us]")
    ten = np.log(10)
    for name, _ in drift.blamed[:_SHOWN]:
        axes.plot(times, drift.watched.by_column[:, drift.watched.columns.index(name)] / ten, lw=0.9, label=name)
    axes.plot(times, drift.watched.together / ten, color="#1f6feb", lw=2, label="together")
    axes.axhline(-np.log10(drift.rate), color="#d1242f", lw=1, ls="--", label="alarm")
    axes.set(ylabel="evidence, log10", title=title)
    axes.title.set_fontsize(10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, ncols=2, loc="upper left")
    figure.autofmt_xdate()
    return figure
