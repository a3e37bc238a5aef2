"""A model's drift in one call: which columns differ, what the evidence over time is, and whether it is an alarm.

What belongs here: how tests, blocks and martingales fit together. What does not: where rows come from (``assets``).

Three stretches of time: what the model learned from (the reference), what it was judged on (blocks that show how much
one block differs from another by itself), and what came since (watched). The alarm rests on the evidence over time
alone; the tests of columns explain it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.drift.blocks import Scores, calibration_scores, column_scores, without_pattern
from ml.drift.discovery import q_values
from ml.drift.sequential import Watched, watch
from ml.drift.twosample import Compared, compare

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOUR_US = 3_600_000_000
#: Blocks that are tried, shortest first: a block holds enough sagas to have a level and a spread.
LENGTHS = (HOUR_US, 6 * HOUR_US, 24 * HOUR_US, 7 * 24 * HOUR_US)
LEAST_ROWS, LEAST_BLOCKS = 20, 10
#: Shares of the false-alarm rate: the features together, the prediction, its calibration.
SHARES = {"features": 0.5, "prediction": 0.25, "calibration": 0.25}
PREDICTION, CALIBRATION = "prediction", "calibration"
#: Rows of a side that the tests of columns read, at most.
_MOST = 2_000


class TooFewBlocks(ValueError):
    """There is too little to know how one block differs from another."""


@dataclass(frozen=True)
class Rows:
    """One row a saga: its features, predicted probability, label (NaN while unknown) and start (µs)."""

    columns: dict[str, NDArray[Any]]
    p: Floats
    y: Floats
    start_us: Ints

    def where(self, chosen: NDArray[Any]) -> Rows:
        """Return the rows that ``chosen`` (a mask or positions) names."""
        return Rows(
            {name: values[chosen] for name, values in self.columns.items()},
            self.p[chosen],
            self.y[chosen],
            self.start_us[chosen],
        )


@dataclass(frozen=True)
class Drift:
    """What the monitor found. ``alarm_us`` is the end of the block that raised the alarm, None without one."""

    block_us: int
    judged: int
    starts: Ints
    watched: Watched
    rate: float
    alarm_us: int | None
    columns: tuple[Compared, ...] = ()
    q: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def evidence(self) -> float:
        """Return the highest evidence so far, as an e-value: the alarm is at 1/rate."""
        return float(np.exp(min(700.0, self.watched.together.max()))) if len(self.watched.together) else 1.0

    @property
    def blamed(self) -> list[tuple[str, float]]:
        """Return the columns by their evidence at the alarm (now, without one), the strongest first."""
        if not len(self.watched.by_column):
            return []
        at = self.watched.alarm(self.rate)
        last = self.watched.by_column[-1 if at is None else at]
        order = np.argsort(-last, kind="stable")
        return [(self.watched.columns[place], float(np.exp(min(700.0, last[place])))) for place in order]


def monitor(
    rows: Rows,
    learned_until_us: int,
    judged_until_us: int,
    now_us: int,
    *,
    rate: float = 0.05,
    patience_us: int = 24 * HOUR_US,
    seed: int = 0,
) -> Drift:
    """Return a model's drift at ``now_us``; only blocks that have ended count.

    ``rate`` is the chance of any false alarm over the whole watch. ``patience_us`` is how long a label is waited for.
    Raises :class:`TooFewBlocks` where the reference is empty or what the model was judged on has too few blocks.
    """
    order = np.argsort(rows.start_us, kind="stable")
    rows = rows.where(order[rows.start_us[order] < now_us])
    reference, later = rows.where(rows.start_us < learned_until_us), rows.where(rows.start_us >= learned_until_us)
    length = block_length(later.start_us, learned_until_us, judged_until_us)
    if not len(reference.p):
        raise TooFewBlocks("no saga is older than what the model was judged on")
    block = (later.start_us - learned_until_us) // length
    blocks = int((now_us - learned_until_us) // length)  # the last, unfinished one is left out
    inside = block < blocks
    later, block = later.where(inside), block[inside]
    starts = learned_until_us + np.arange(blocks) * length
    judged = int(np.count_nonzero(starts + length <= judged_until_us))
    scores = _scores(reference, later, block, starts, length)
    scores = scores.beside(_calibration(later, block, blocks, now_us, patience_us))
    names = tuple(dict.fromkeys(scores.column))
    features = [name for name in names if name not in (PREDICTION, CALIBRATION)]
    shares = [SHARES.get(name, SHARES["features"] / max(1, len(features))) for name in names]
    watched = watch(
        scores.values,
        scores.column,
        before=judged,
        weights=shares,
        one_sided=[name.endswith(": mix") for name in scores.names],
        seed=seed,
    )
    at = watched.alarm(rate)
    return Drift(
        block_us=length,
        judged=judged,
        starts=starts[judged:],
        watched=watched,
        rate=rate,
        alarm_us=None if at is None else int(starts[judged + at]) + length,
        **_explained(reference, later, block, starts, length, judged, seed),
    )


def block_length(start_us: Ints, learned_until_us: int, judged_until_us: int) -> int:
    """Return the shortest length at which the usual block has :data:`LEAST_ROWS` sagas.

    Raises :class:`TooFewBlocks` where fewer than :data:`LEAST_BLOCKS` such fit into what the model was judged on.
    """
    judged = start_us[start_us < judged_until_us]
    for length in LENGTHS:
        blocks = (judged_until_us - learned_until_us) // length
        if blocks < LEAST_BLOCKS:
            break
        size = np.bincount((judged - learned_until_us) // length, minlength=blocks)[:blocks]
        if np.median(size) >= LEAST_ROWS:
            return length
    raise TooFewBlocks(
        f"{len(judged)} sagas in {(judged_until_us - learned_until_us) / HOUR_US:.1f} h do not make "
        f"{LEAST_BLOCKS} blocks of {LEAST_ROWS}"
    )


def _scores(reference: Rows, later: Rows, block: Ints, starts: Ints, length: int) -> Scores:
    """Return the scores of features and prediction, less the daily pattern that the reference shows.

    The pattern comes from the reference alone: learned from blocks that are then compared, it would make those look
    calmer than the ones that follow.
    """
    learned_until = int(starts[0]) if len(starts) else 0
    earlier = -((learned_until - int(reference.start_us[0])) // -length)  # blocks of the reference, rounded up
    every = np.concatenate([(reference.start_us - learned_until) // length, block]) + earlier
    own, ours = {**reference.columns, PREDICTION: reference.p}, {**later.columns, PREDICTION: later.p}
    both = {name: np.concatenate([own[name], ours[name]]) for name in own}
    scores = column_scores(own, both, every, blocks=earlier + len(starts))
    clock = _clock(learned_until + np.arange(-earlier, len(starts)) * length, length)
    flat = without_pattern(scores, clock, np.arange(len(clock)) < earlier)
    return Scores(flat.values[earlier:], flat.names, flat.column)


def _calibration(later: Rows, block: Ints, blocks: int, now_us: int, patience_us: int) -> Scores:
    """Return the scores of calibration; a block counts once none of its labels, nor of those before, may still come."""
    waiting = np.isnan(later.y) & (later.start_us > now_us - patience_us)
    first = int(block[waiting].min()) if waiting.any() else blocks
    labels = np.where(block < first, later.y, np.nan)
    return calibration_scores(later.p, labels, block, blocks=blocks, name=CALIBRATION)


def _clock(starts: Ints, length: int) -> list[int]:
    """Return each block's place in the day; all alike where blocks are days."""
    return [0] * len(starts) if length >= 24 * HOUR_US else (starts // length % (24 * HOUR_US // length)).tolist()


def _explained(  # noqa: PLR0917
    reference: Rows, later: Rows, block: Ints, starts: Ints, length: int, judged: int, seed: int
) -> dict[str, Any]:
    """Return the tests of the columns: what was judged against the newest day, whole blocks exchanged."""
    fresh = later.start_us >= max(starts[-1] + length - 24 * HOUR_US, starts[judged] if judged < len(starts) else 0)
    old = np.flatnonzero(block < judged)
    new = np.flatnonzero(fresh & (block >= judged))
    if not len(old) or not len(new):
        return {}
    random = np.random.default_rng(seed)
    old, new = (
        np.sort(random.choice(side, min(len(side), _MOST), replace=False)) if len(side) > _MOST else side
        for side in (old, new)
    )
    columns = {**later.columns, PREDICTION: later.p}
    tests = compare(
        {name: values[old] for name, values in columns.items()},
        {name: values[new] for name, values in columns.items()},
        units=(block[old].tolist(), block[new].tolist()),
        draws=999,
        seed=seed,
    )
    return {"columns": tuple(tests), "q": q_values(np.array([test.p for test in tests]))}
