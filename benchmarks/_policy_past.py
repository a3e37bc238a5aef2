"""What Isthmus has learned of durations before a world of ``saga_policy.py`` begins.

What belongs here: the attempts of a calm time, and time-outs learned from them as the asset ``ml/step_timeouts`` does.
What does not: the method (``ml.timeouts``), and faults: none is known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from threadpoolctl import threadpool_limits

from assets.sagas.timeouts import FEWEST, TARGET, TEACHES, TOLERATED
from benchmarks._policy_arms import Static
from benchmarks._policy_worlds import Material, Shape, world
from examples.shop.world.policy import Coming
from examples.shop.world.run import run
from ml.timeouts.holdout import false_share
from ml.timeouts.learning import History, Learned, learn

_SEED = 900
_ORDERS = 2_000


@dataclass
class _Recorder(Static):
    """The defaults, and what became of each attempt."""

    begun: dict[tuple[int, int], float] = field(default_factory=dict)
    rows: list[tuple[float, str, float]] = field(default_factory=list)

    def sent(self, coming: Coming, now: float) -> int:
        """Note when."""
        self.begun[coming.saga, coming.step] = now
        return 0

    def ended(self, coming: Coming, ticket: int, now: float, outcome: str) -> Iterable[int]:
        """Note how long it took; an attempt that timed out has not ended, one that failed says nothing."""
        began = self.begun.pop((coming.saga, coming.step))
        if outcome in ("ok", "declined", "timed_out"):
            took = np.inf if outcome == "timed_out" else (now - began) * 1000
            self.rows.append((began, coming.participant, took))
        return ()


def learned(material: Material, shape: Shape) -> Learned | None:
    """Return what a calm time of the developers' part teaches; None where the asset would not write it."""
    calm = world(material, _SEED, shape, past=True)
    few = replace(calm, faults=(), later_durations={}, horizon=_ORDERS / calm.rate)
    recorder = _Recorder()
    run(few, recorder, _SEED)
    rows = sorted(recorder.rows, key=lambda row: row[0])
    if len(rows) < FEWEST:
        return None
    split = int(len(rows) * TEACHES)
    # A process of the pool has one core.
    with threadpool_limits(1):
        found = learn([_history(rows[:split])], target=TARGET)
    share, _ = false_share(found, _history(rows[split:]), target=TARGET)
    return found if share <= TOLERATED * TARGET else None


def _history(rows: list[tuple[float, str, float]]) -> History:
    start, names, ms = (list(column) for column in zip(*rows, strict=True))
    return History(names, names, np.array(start), np.array(ms))
