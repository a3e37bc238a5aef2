"""Rows for the benchmark of drift: one prefix a saga with the model's own features, and changes made to them.

What belongs here: reading, a plain model's predictions, and the changes. What does not: the arms and figures.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._saga_table import saga_table
from examples.datasets import open_folder
from examples.shop import traffic
from examples.source import Source
from ml.drift.monitor import Rows
from ml.drift.rows import one_a_saga
from ml.drift.twosample import is_text
from ml.sagas.features import feature_set, recent_load
from ml.sagas.stream import in_process, saga_events, vocabulary
from ml.sagas.types import SagaType, saga_type

#: Columns at most, those with the most distinct values: a permutation costs by column.
MOST_COLUMNS = 16
#: Share of the sagas, by start, that the model learns from, and that it is judged on.
LEARNED, JUDGED = 0.35, 0.35
CHANGES = ("mean", "spread", "mix", "prior", "concept")


def shop_rows(seed: int, *, days: float, per_day: float) -> Rows:
    """Return the rows of the shop's traffic: failure is a technical abort."""
    end = datetime(2026, 3, 1, tzinfo=UTC)
    source = traffic(seed=seed, days=days, orders_per_day=per_day, end=end)
    return _rows(source, saga_type("order"), "technical", seed)


def folder_rows(folder: Path, seed: int) -> Rows:
    """Return the rows of a folder of the form of ``saga_bpic2012``: failure is a cancelled application."""
    return _rows(open_folder(folder), saga_type("loan_application"), "cancelled", seed)


def _rows(source: Source, kind: SagaType, outcome: str, seed: int) -> Rows:
    table = saga_table(source)
    events = saga_events(table.filter([name == kind.name for name in table["saga_type"].to_pylist()]))
    known = vocabulary(events[: int(len(events) * LEARNED)])
    features = feature_set(known, recent=recent_load(known) if kind.load == "participants" else ())
    prefixes = in_process(kind, features, events, labelled=True)
    prefixes = prefixes.where(one_a_saga(prefixes.saga_ids, prefixes.position, seed=seed))
    prefixes = prefixes.where(np.argsort(prefixes.start_us, kind="stable").astype(np.int64))
    y = (prefixes.label == outcome).astype(np.float64)
    p = _predicted(prefixes.x, y)
    columns: dict[str, Any] = {}
    for name, values, text in zip(features.names, prefixes.x.T, [f.is_text for f in features.features], strict=True):
        columns[name] = np.array([str(int(value)) for value in np.nan_to_num(values, nan=-1)]) if text else values
    usable = [name for name, values in columns.items() if len(np.unique(values)) > 1]
    texts = [name for name in usable if is_text(columns[name])][:3]
    numbers = sorted((name for name in usable if name not in texts), key=lambda name: -len(np.unique(columns[name])))
    chosen = [*numbers[: MOST_COLUMNS - len(texts)], *texts]
    return Rows({name: columns[name] for name in chosen}, p, y, prefixes.start_us)


def _predicted(x: Any, y: Any) -> Any:
    """Return a logistic regression's probabilities, learned from the first rows alone."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learned = int(len(y) * LEARNED)
    filled = np.nan_to_num(x, nan=-1.0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
    model.fit(filled[:learned], y[:learned])
    return model.predict_proba(filled)[:, 1]


def shuffled(rows: Rows, seed: int) -> Rows:
    """Return the same rows dealt out over the same starts: nothing changes with time any more."""
    order = np.random.default_rng(seed).permutation(len(rows.p))
    return replace(rows.where(order), start_us=rows.start_us)


def changed(rows: Rows, late: Any, what: str, seed: int) -> Rows:
    """Return the rows with a known change where ``late``: half a standard deviation, half as wide again, a fifth to
    another category, failures twice as frequent, or (features untouched) outcomes that the model no longer knows."""
    random = np.random.default_rng(seed)
    columns, p, y = dict(rows.columns), rows.p, rows.y.copy()
    numbers = [name for name in columns if not is_text(columns[name])]
    name = max(numbers, key=lambda one: len(np.unique(columns[one][~np.isnan(columns[one])])))
    values = columns[name].astype(np.float64)
    if what == "mean":
        columns[name] = np.where(late, values + 0.5 * np.nanstd(values), values)
    elif what == "spread":
        columns[name] = np.where(late, np.nanmedian(values) + 1.5 * (values - np.nanmedian(values)), values)
    elif what == "mix":
        texts = [one for one in columns if is_text(columns[one])]
        if texts:
            names, counts = np.unique(columns[texts[0]], return_counts=True)
            moved = late & (random.random(len(p)) < 0.2)
            columns[texts[0]] = np.where(moved, names[np.argmin(counts)], columns[texts[0]])
        else:  # a column of few values does as well
            few = min(numbers, key=lambda one: len(np.unique(columns[one])))
            columns[few] = np.where(late & (random.random(len(p)) < 0.2), np.nanmax(columns[few]), columns[few])
    elif what == "prior":
        keep = ~late | (y > 0.5) | (random.random(len(p)) < 0.5)
        return Rows(columns, p, y, rows.start_us).where(keep)
    elif what == "concept":
        odds = np.log(np.clip(p, 1e-3, 1 - 1e-3) / np.clip(1 - p, 1e-3, 1))
        y = np.where(late, random.random(len(p)) < 1 / (1 + np.exp(-(0.8 + 0.5 * odds))), y).astype(np.float64)
    return Rows(columns, p, y, rows.start_us)
