"""The world of the compensation benchmark keeps its own rules, and recorded compensations are scored from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks._compensation_world import TRIP, World
from benchmarks.compensation import Score, best_static, follow, logged, oracle, recorded
from ml.compensation.rules import default_plan, violations

WORLD = World(1, sagas=60, days=1)


def test_equal_draws_give_equal_costs_and_the_oracle_costs_less() -> None:
    scores = {name: Score() for name in ("reverse", "again", "oracle")}
    for saga in WORLD.sagas:
        for name in ("reverse", "again"):
            scores[name].add(WORLD, saga, default_plan(saga.ruling()))
        scores["oracle"].add(WORLD, saga, oracle(WORLD, saga))
    assert scores["reverse"].cost == scores["again"].cost
    assert np.mean(scores["oracle"].cost) < np.mean(scores["reverse"].cost)
    assert not any(score.violations for score in scores.values())


def test_a_dear_way_while_the_cheap_one_is_open_is_counted() -> None:
    saga = next(one for one in WORLD.sagas if one.left[0] > 100 and len(one.done) == 2)
    score = Score()
    score.add(WORLD, saga, (("charge", "refund"), ("stock", "release")))
    assert score.violations == 2, "by the declaration and by the world's own clock"


def test_a_static_order_keeps_the_rules() -> None:
    static = best_static(WORLD, WORLD.sagas * 6, np.random.default_rng(0))
    assert not any(violations(TRIP, saga.situation(), follow(saga.ruling(), static)) for saga in WORLD.sagas)


def rows() -> list[dict[str, Any]]:
    return [
        {
            "saga": past.saga, "at": past.at, "done_order": past.ruling.done.index(one.step), "undo_order": place,
            "step": one.step, "way": one.way, "cost": one.cost, "open_ways": list(past.ruling.ways[one.step]),
            "condition": past.conditions[one.step], "propensity": past.propensity,
        }
        for past in logged(WORLD, WORLD.sagas, np.random.default_rng(0))
        for place, one in enumerate(past.undone)
    ]  # fmt: skip


def test_recorded_compensations_are_scored_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "past.parquet"
    pq.write_table(pa.Table.from_pylist(rows()), path)
    found = recorded(path)
    assert (found["sagas"], found["propensities"], found["inadmissible"]) == (60, "logged", 0)
    assert "60 compensations" in capsys.readouterr().out
    pq.write_table(pa.Table.from_pylist(rows()).drop_columns(["way", "cost"]), path)
    with pytest.raises(ValueError, match="lacks the columns cost, way"):
        recorded(path)
    pq.write_table(pa.Table.from_pylist([{**rows()[0], "undo_order": place} for place in range(2)]), path)
    with pytest.raises(ValueError, match="undoes a step twice"):
        recorded(path)
