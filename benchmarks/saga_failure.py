"""Failure model on loan applications: AUC on strict prefixes and calibration, beside the baselines of the same run.

``python benchmarks/saga_failure.py [--data PATH] [--quick] [--audit]``: trains on ``saga_bpic2012`` under ISTHMUS_DATA
and scores PATH, a folder of the same form; without it, trains on the set's earlier part and scores its later part.
``--audit`` adds the tests for leakage (``_saga_audit``), on these and on a day of shop traffic.
The noise floor beside each calibration error is what our probabilities would show if they held exactly.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._saga_audit import audit, audit_shop
from benchmarks._saga_table import saga_table
from examples.datasets import open_folder
from ml.sagas.estimators import Name
from ml.sagas.evaluation import calibration_error, calibration_floor
from ml.sagas.features import feature_set
from ml.sagas.spec import SagaEvent
from ml.sagas.stream import in_process, labels_of, saga_events, vocabulary
from ml.sagas.training import Trained, censoring_weights, ended_before, train
from ml.sagas.types import LOAN_APPLICATION
from resources.settings import get_settings

ARMS: tuple[Name, ...] = ("constant", "logistic", "plain", "boosting", "challenger")
KEYS = {
    "challenger": "",
    "logistic": "baseline_logistic_",
    "boosting": "baseline_boosting_",
    "plain": "baseline_plain_",
    "constant": "baseline_constant_",
}


def read(folder: Path) -> list[SagaEvent]:
    """Return a folder's events of loan applications, in order."""
    table = saga_table(open_folder(folder))
    keep = [name == LOAN_APPLICATION.name for name in table["saga_type"].to_pylist()]
    return saga_events(table.filter(keep))


def ece_interval(trained: Trained, p: np.ndarray[Any, Any], count: int) -> tuple[float, float]:
    """Return the calibration error's 95 % interval over sagas."""
    ids, of = np.unique(trained.later.saga_ids.astype(str), return_inverse=True)
    rows = [np.flatnonzero(of == saga) for saga in range(len(ids))]
    random, y, found = np.random.default_rng(1), trained.y, []
    for _ in range(count):
        chosen = np.concatenate([rows[saga] for saga in random.integers(0, len(ids), len(ids))])
        found.append(calibration_error(y[chosen], p[chosen]))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def report(trained: Trained, *, quick: bool) -> dict[str, float]:
    """Print and return what each arm is worth on one outcome, and how much of our calibration error is the draw."""
    line: dict[str, float] = {}
    outcome, ours = trained.outcome.name, trained.arms["challenger"].p
    for arm in reversed(ARMS):
        scored, key = trained.arms[arm], f"{KEYS[arm]}{{}}_{outcome}"
        line[key.format("auc")] = round(scored.auc.value, 4)
        line[key.format("auc") + "_low"] = round(scored.auc.low, 4)
        line[key.format("auc") + "_high"] = round(scored.auc.high, 4)
        line[key.format("ece")] = round(scored.ece.value, 4)
        name = "ours" if arm == "challenger" else arm
        span = f"{scored.auc.low:.3f} to {scored.auc.high:.3f}"
        print(f"{outcome:<10} {name:<12} {scored.auc.value:6.3f} {span:>16} {scored.ece.value:18.3f}", flush=True)
    low, high = ece_interval(trained, ours, 15 if quick else 300)
    line[f"ece_{outcome}_low"], line[f"ece_{outcome}_high"] = round(low, 4), round(high, 4)
    floor = calibration_floor(ours, trained.later.saga_ids, count=50 if quick else 300)
    mean, most = float(floor.mean()), float(np.percentile(floor, 95))
    line[f"ece_floor_{outcome}"], line[f"ece_floor_{outcome}_high"] = round(mean, 4), round(most, 4)
    print(
        f"{outcome:<10} calibration error of ours {low:.3f} to {high:.3f} over draws of sagas; "
        f"exact probabilities would show {mean:.3f}, and below {most:.3f} in 95 of 100 draws",
        flush=True,
    )
    return line


def main() -> None:
    """Run, print the table, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="folder of the form of saga_bpic2012 to score")
    parser.add_argument("--seeds", type=int, default=1, help="draws of the training's own randomness; mean of them")
    parser.add_argument("--quick", action="store_true", help="fewer draws and rows: ends within a minute")
    parser.add_argument("--audit", action="store_true", help="add the tests for leakage")
    options = parser.parse_args()
    began = time.perf_counter()
    kind = LOAN_APPLICATION
    home = get_settings().data / "saga_bpic2012"
    events = read(home)
    if options.data:
        fresh = read(options.data)
        own_ids, seen = {event.saga_id for event in events}, {event.saga_id for event in fresh}
        features = feature_set(vocabulary(events))
        early = in_process(kind, features, events, labelled=True)
        later = in_process(kind, features, [e for e in fresh if e.saga_id not in own_ids], labelled=True)
        split = int(later.start_us.min())
        weight = np.ones(len(early))
        print(f"trained on {home}, scored on {options.data}; {len(own_ids & seen)} sagas in both are not scored")
    else:
        labels = labels_of(kind, events)
        starts = np.sort(labels.start_us[labels.label != ""])
        split = int(starts[int(0.7 * len(starts))])
        # What occurs is learned from the earlier part only.
        features = feature_set(vocabulary(event for event in events if event.us < split))
        every = in_process(kind, features, events, labelled=True)
        early, later = ended_before(every, split), every.where(every.start_us >= split)
        weight = censoring_weights(early, every, split)
        print(f"trained on the earlier part of {home}, scored on its later 30 % of labelled sagas, by start")
    sagas = len(set(early.saga_ids)), len(set(later.saga_ids))
    print(f"{sagas[0]} sagas and {len(early)} prefixes to learn from; {sagas[1]} and {len(later)} to score\n")

    draws = 40 if options.quick else 1000
    line: dict[str, Any] = {"benchmark": "saga_failure", "quick": options.quick}
    print(f"{'outcome':<10} {'arm':<12} {'AUC':>6} {'95 % interval':>16} {'calibration error':>18}")
    for outcome in kind.outcomes:
        trained = train(
            kind, outcome, features, early, later,
            split_us=split, weight=weight, arms=ARMS, draws=draws,
            most_rows=15_000 if options.quick else 60_000,
        )  # fmt: skip
        line |= report(trained, quick=options.quick)
        if options.audit:
            line |= audit(kind, trained, early, weight)
    if options.audit:
        line |= audit_shop()
    line |= {"sagas_trained": sagas[0], "sagas_scored": sagas[1], "seconds": round(time.perf_counter() - began, 1)}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
