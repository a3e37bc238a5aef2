"""Replay without a broker: the plan of what is sent when, and the options' limits."""

from __future__ import annotations

import numpy as np
import pytest

from examples.replay import FURTHEST, Plan, plan, replay
from examples.source import Source
from tests.unit.examples.test_source import part


@pytest.fixture(scope="module")
def source() -> Source:
    count = 5_000
    subjects = [f"saga-{number % 37}" for number in range(count)]
    return Source("made", [part([number * 1_000_000 for number in range(count)], subjects=subjects)])


def keys_in_order(source: Source, todo: Plan) -> bool:
    last: dict[str, int] = {}
    for row in todo.rows.tolist():
        subject = source.parts[0].subjects[row]
        if row < last.get(subject, -1):
            return False
        last[subject] = row
    return True


def test_without_faults_everything_goes_once_in_time_order(source: Source) -> None:
    todo = plan(source)
    assert todo.rows.tolist() == list(range(len(source)))
    assert (todo.duplicates, todo.late) == (0, 0)
    assert keys_in_order(source, todo)


def test_duplicates_are_copies_after_the_first(source: Source) -> None:
    todo = plan(source, seed=1, duplicates=0.1)
    assert len(todo.rows) == len(source) + todo.duplicates
    assert todo.duplicates == pytest.approx(0.1 * len(source), rel=0.15)
    firsts = np.unique(todo.rows, return_index=True)[1]
    assert np.all(np.diff(firsts) > 0), "the first copies keep the time order"


def test_late_events_move_back_and_no_further_than_told(source: Source) -> None:
    todo = plan(source, seed=1, late=0.05)
    assert sorted(todo.rows.tolist()) == list(range(len(source)))
    place = np.empty(len(source), np.int64)
    place[todo.rows] = np.arange(len(source))
    assert todo.late == pytest.approx(0.05 * len(source), rel=0.2)
    assert np.max(place - np.arange(len(source))) <= FURTHEST
    assert not keys_in_order(source, todo)


def test_the_seed_decides(source: Source) -> None:
    first, again, other = (plan(source, seed=seed, duplicates=0.1, late=0.1) for seed in (1, 1, 2))
    assert first.rows.tolist() == again.rows.tolist() != other.rows.tolist()


def test_the_due_time_never_falls(source: Source) -> None:
    todo = plan(source, seed=1, duplicates=0.2, late=0.2)
    assert np.all(np.diff(todo.due) >= 0)


def test_a_limit_takes_the_first_events(source: Source) -> None:
    todo = plan(source, limit=100, duplicates=0.5)
    assert set(todo.rows.tolist()) == set(range(100))
    assert len(plan(source, limit=10**9).rows) == len(source)


@pytest.mark.parametrize("options", [{"duplicates": 1.0}, {"late": -0.1}, {"speed": 0.0}])
def test_shares_and_speed_have_their_range(source: Source, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not"):
        replay(source, bootstrap="127.0.0.1:1", **options)  # type: ignore[arg-type]
