"""What a leak would show: tests of a trained failure model whose answer is known if nothing leaks.

What belongs here: the audit of ``saga_failure.py --audit``. What does not: scores, and the test that no prefix's
figures change with what comes after it (``tests/unit/ml/test_saga_features.py``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchmarks._saga_table import saga_table
from examples.shop import traffic
from ml.sagas.evaluation import auc_by_length
from ml.sagas.features import feature_set, recent_load
from ml.sagas.spec import Recent
from ml.sagas.stream import Prefixes, in_process, saga_events, vocabulary
from ml.sagas.training import Trained, censoring_weights, classes, ended_before, split_time, train
from ml.sagas.types import ORDER, SagaType

Floats = np.ndarray[Any, np.dtype[np.float64]]
_EVENING = datetime(2026, 3, 2, 20, tzinfo=UTC)
_ORDERS = 6_000
_DEALS = 8


def audit(kind: SagaType, trained: Trained, early: Prefixes, weight: Floats) -> dict[str, float]:
    """Print and return the AUC under each test.

    ``shuffled``: trained on labels that were dealt out anew over whole sagas, so that only a leak could tell: a half
    on the mean of ``_DEALS``. A single deal may be far from it, where one direction in the features tells much: a model
    of noise points along it, or against it.
    ``short``: on prefixes of 1 to 3 events: little is known so early. ``earlier``: without the last three strict
    prefixes of each saga, those nearest to its verdict. ``calm``: on prefixes without a failed attempt of their own
    (where sagas have such). ``strangers``: with the load figures of other rows, drawn at random: what rests on the time
    of an event falls away.
    """
    name, later = trained.outcome.name, trained.later
    y, p = trained.y, trained.arms["challenger"].p
    ids, of = np.unique(early.saga_ids.astype(str), return_inverse=True)
    label = np.empty(len(ids), dtype=object)
    label[of] = early.label
    deals = []
    for seed in range(_DEALS):
        blind = train(
            kind, trained.outcome, trained.model.features,
            replace(early, label=np.random.default_rng(seed).permutation(label)[of]), later,
            split_us=trained.split_us, weight=weight, arms=("challenger",), draws=2, folds=(0.6,), most_rows=8_000,
        )  # fmt: skip
        deals.append(blind.arms["challenger"].auc.value)
    found = {
        "shuffled": float(np.mean(deals)), "shuffled_low": min(deals), "shuffled_high": max(deals),
    }  # fmt: skip

    def on(rows: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
        return auc_by_length(y[rows], p[rows], later.position[rows])

    found["short"] = on(later.position <= 3)
    _, whose = np.unique(later.saga_ids.astype(str), return_inverse=True)
    longest = np.zeros(whose.max() + 1, dtype=np.int64)
    np.maximum.at(longest, whose, later.position)
    found["earlier"] = on(later.position <= longest[whose] - 3)
    features = trained.model.features
    if "failures" in features.names:
        found["calm"] = on(later.x[:, features.names.index("failures")] == 0)
    load = [place for place, feature in enumerate(features.features) if isinstance(feature.node, Recent)]
    if load:
        x, drawn = later.x.copy(), np.random.default_rng(0).permutation(len(later))
        x[:, load] = later.x[drawn][:, load]
        found["strangers"] = auc_by_length(classes(later, name), trained.model.score(x), later.position)
    late = int(np.sum(later.us >= later.known_us))
    listed = ", ".join(f"{test} {value:.3f}" for test, value in found.items())
    print(f"{name:<10} audit: {listed}; {late} prefixes end at or after their saga's last event", flush=True)
    return {f"audit_{test}_{name}": round(value, 4) for test, value in found.items()} | {f"audit_late_{name}": late}


def audit_shop() -> dict[str, float]:
    """Train on a seeded day of shop traffic as the asset does, and audit that model."""
    events = saga_events(saga_table(traffic(seed=1, days=1.0, end=_EVENING)))
    known = vocabulary(events)
    features = feature_set(known, recent=recent_load(known))
    every = in_process(ORDER, features, events, labelled=True)
    ids = np.unique(every.saga_ids.astype(str))
    chosen = np.random.default_rng(1).choice(ids, min(_ORDERS, len(ids)), replace=False)
    rows = every.where(np.isin(every.saga_ids.astype(str), chosen))
    split = split_time(rows)
    early, later = ended_before(rows, split), rows.where(rows.start_us >= split)
    weight = censoring_weights(early, rows, split)
    outcome = ORDER.outcomes[0]
    trained = train(
        ORDER, outcome, features, early, later, split_us=split, weight=weight, draws=200, folds=(0.6,), most_rows=15_000
    )
    print(f"\nshop, {len(chosen)} orders of a day (seed 1), the later 30 %")
    line: dict[str, float] = {}
    for name, scored in trained.arms.items():
        auc = scored.auc
        print(f"{outcome.name:<10} {name:<12} {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}) {scored.ece.value:.3f}")
        line[f"shop_auc_{name}"] = round(auc.value, 4)
    return line | {f"shop_{key}": value for key, value in audit(ORDER, trained, early, weight).items()}
