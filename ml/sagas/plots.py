"""Plots of a trained model: ROC, precision and recall, reliability.

What belongs here: figures from predictions. What does not: where they are kept. Drawn without a display.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.sagas.evaluation import reliability

COLOURS = {"challenger": "#1f6feb", "boosting": "#d29922", "logistic": "#8957e5", "constant": "#8b949e"}
FILES = {"roc": "roc.png", "pr": "precision_recall.png", "reliability": "reliability.png"}


def figures(y: NDArray[np.int64], arms: dict[str, NDArray[np.float64]], *, title: str) -> dict[str, Any]:
    """Return a matplotlib figure for each file name, with every arm in it."""
    from matplotlib.figure import Figure
    from sklearn.metrics import precision_recall_curve, roc_curve

    made: dict[str, Any] = {}
    for kind, file in FILES.items():
        figure = Figure(figsize=(4.6, 3.8), layout="constrained")
        axes = figure.add_subplot()
        for name, p in arms.items():
            style: dict[str, Any] = {
                "color": COLOURS.get(name),
                "label": name,
                "lw": 2 if name == "challenger" else 1.2,
            }
            if kind == "roc":
                x, rate, _ = roc_curve(y, p)
                axes.plot(x, rate, **style)
            elif kind == "pr":
                precision, recall, _ = precision_recall_curve(y, p)
                axes.plot(recall[:-1], precision[:-1], **style)
            elif name != "constant":
                bins = reliability(y, p)
                axes.plot([b[0] for b in bins], [b[1] for b in bins], marker="o", ms=3, **style)
        if kind != "pr":
            axes.plot([0, 1], [0, 1], color="#d0d7de", lw=1, zorder=0)
        if kind == "reliability":
            top = min(1.0, 1.1 * max(max(b[:2]) for p in arms.values() for b in reliability(y, p)))
            axes.set(xlim=(0, top), ylim=(0, top))
        labels = {
            "roc": ("false positive rate", "true positive rate"),
            "pr": ("recall", "precision"),
            "reliability": ("predicted probability", "share of prefixes"),
        }[kind]
        axes.set(xlabel=labels[0], ylabel=labels[1], title=title)
        axes.title.set_fontsize(10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        made[file] = figure
    return made


def png(figure: Any) -> bytes:
    """Return a figure as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
