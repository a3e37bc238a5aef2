"""What a number should be, given the rest of its row: learned by boosted trees, judged by the tails of the residuals.

What belongs here: plausibility of numbers that no single rule ties down. What does not: exact ones (``relations``).
A residual accuses the row, not the column: it is as far out where what it was predicted from is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.monitors.tails import TwoTails, two_tails
from ml.verdicts.columns import Coded
from ml.verdicts.types import Floats

_LEAST, _SAMPLE, _BINS = 3_000, 24_000, 5
#: Share of the variance that must be explained for the rest of the row to say anything.
_EXPLAINED = 0.3


@dataclass(frozen=True, slots=True)
class _Model:
    columns: tuple[str, ...]
    categories: tuple[str, ...]
    trees: Any
    unit: float
    edges: Floats
    tails: tuple[TwoTails, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """Models by the number that they predict."""

    models: Mapping[str, _Model]

    def p(self, coded: Coded) -> dict[str, Floats]:
        """Return, for each number, how likely a good row is as far from what the others say; 1 where it is null."""
        found = {}
        for name, model in self.models.items():
            there = np.isfinite(coded.numbers[name])
            p = np.ones(len(coded))
            if there.any():
                guess = model.trees.predict(_features(coded, model.columns, model.categories)[there])
                residual = np.arcsinh(coded.numbers[name][there] / model.unit) - guess
                bins = np.searchsorted(model.edges, guess)
                values = np.ones(len(guess))
                for number, tails in enumerate(model.tails):
                    mine = bins == number
                    values[mine] = tails.p(residual[mine])
                p[there] = values
            found[name] = p
        return found


def _features(coded: Coded, columns: tuple[str, ...], categories: tuple[str, ...]) -> Floats:
    return np.column_stack(
        [
            *(coded.numbers[name] for name in columns),
            *(coded.codes[name].astype(np.float64) for name in categories),
        ]
    )


def learn_expected(coded: Coded, skip: set[str], *, seed: int = 0) -> Expected:
    """Return models of the numbers that the rest of their row explains, by good rows; those of ``skip`` are left out.

    The tails come from rows that the trees did not see.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    numbers = [
        name for name in coded.numbers if name not in coded.codes and not name.endswith("#") and name not in skip
    ]
    categories = tuple(name for name, codes in coded.codes.items() if 1 < len(np.unique(codes)) <= 32)
    random = np.random.default_rng(seed)
    models = {}
    for name in numbers:
        rows = np.flatnonzero(np.isfinite(coded.numbers[name]))
        if len(rows) < _LEAST:
            continue
        rows = np.sort(random.choice(rows, min(len(rows), 3 * _SAMPLE), replace=False))
        columns = tuple(other for other in numbers if other != name and np.isfinite(coded.numbers[other][rows]).any())
        if not columns and not categories:
            continue
        values = coded.numbers[name][rows]
        sizes = np.abs(values[values != 0])
        unit = float(np.quantile(sizes, 0.1)) if len(sizes) else 1.0
        y, x = np.arcsinh(values / unit), _features(coded, columns, categories)[rows]
        fit = np.zeros(len(rows), np.bool_)
        fit[random.choice(len(rows), min(_SAMPLE, len(rows) // 2), replace=False)] = True
        trees = HistGradientBoostingRegressor(max_iter=80, max_leaf_nodes=15, min_samples_leaf=40, random_state=seed)
        trees.fit(x[fit], y[fit])
        guess = trees.predict(x[~fit])
        residual = y[~fit] - guess
        if residual.var() > (1 - _EXPLAINED) * y[~fit].var():
            continue
        edges = np.unique(np.quantile(guess, np.linspace(0, 1, _BINS + 1)[1:-1]))
        bins = np.searchsorted(edges, guess)
        pooled = two_tails(residual)
        tails = tuple(
            two_tails(residual[bins == number]) if (bins == number).sum() >= 300 else pooled
            for number in range(len(edges) + 1)
        )
        models[name] = _Model(columns, categories, trees, unit, edges, tails)
    return Expected(models)
