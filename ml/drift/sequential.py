"""Looking at every block of time without ever raising the false-alarm rate: conformal martingales.

What belongs here: scores of blocks in time order to evidence against "nothing changed", valid at every look. What does
not: the scores themselves (``blocks``).

While blocks are exchangeable, the rank of a new block's score among all before it (ties broken at random) is uniform
and independent of the ranks before. Betting against that makes a martingale, whose chance of ever reaching 1/α is at
most α (Ville 1939), however often one looks. After Vovk et al. 2021, "Retrain or not retrain: conformal test
martingales for change-point detection"; the bets are tracked by a fixed share (Herbster and Warmuth 1998). Scores
share α by weights, so nothing is assumed of how they hang together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Share of the wealth that is dealt out anew over the bets at each block: a change may come late.
SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Watched:
    """Evidence after each watched block, as logarithms: ``by_column`` (blocks, columns), ``together`` (blocks)."""

    columns: tuple[str, ...]
    by_column: Floats
    together: Floats

    def alarm(self, rate: float) -> int | None:
        """Return the first block at which the evidence reached 1/``rate``; None where it never did."""
        reached = np.flatnonzero(self.together >= -np.log(rate))
        return int(reached[0]) if len(reached) else None


def watch(
    scores: Floats,
    column: Sequence[str],
    *,
    before: int,
    weights: Sequence[float] | None = None,
    one_sided: Sequence[bool] | None = None,
    seed: int = 0,
) -> Watched:
    """Return the evidence over the blocks from ``before`` on, by column and together.

    ``scores`` is (blocks, scores), ``column`` names each score's; a missing score (NaN) is passed over. ``weights`` are
    the columns' shares of the false-alarm rate, by order of appearance; equal where None. ``one_sided`` scores can only
    be too high. The same scores and seed give the same evidence, also when blocks are added.
    """
    names = tuple(dict.fromkeys(column))
    share = np.full(len(names), 1 / max(1, len(names))) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(share) != len(names) or share.sum() > 1 + 1e-9:
        raise ValueError("there is one weight a column, and they sum to at most 1")
    sides = np.zeros(scores.shape[1], dtype=bool) if one_sided is None else np.asarray(one_sided, dtype=bool)
    wealth = _wealth(_ranks(scores, before, np.random.default_rng(seed)), sides)
    by_column = np.empty((len(wealth), len(names)))
    for at, name in enumerate(names):
        own = wealth[:, [place for place, of in enumerate(column) if of == name]]
        by_column[:, at] = own.max(axis=1) - np.log(own.shape[1])
    together = (by_column + np.log(share)).max(axis=1) if names else np.zeros(len(wealth))
    return Watched(names, by_column, together)


def _ranks(scores: Floats, before: int, random: np.random.Generator) -> Floats:
    """Return of each block from ``before`` on the share of blocks up to it that score higher: uniform by chance."""
    found = np.full((max(0, len(scores) - before), scores.shape[1]), np.nan)
    theta = random.random(found.shape)
    for at in range(len(found)):
        past, own = scores[: before + at], scores[before + at]
        higher, ties = (past > own).sum(axis=0), (past == own).sum(axis=0)
        found[at] = (higher + theta[at] * (ties + 1)) / ((~np.isnan(past)).sum(axis=0) + 1)
    found[np.isnan(scores[before:])] = np.nan
    return found


def _bets(u: Floats, one_sided: NDArray[np.bool_]) -> Floats:
    """Return (scores, bets) what each bet pays on a rank; each is a density on (0, 1).

    The bets: none, scores run high, lean high, run low, lean low, run to both ends.
    """
    u = np.clip(u, 1e-12, 1 - 1e-12)
    lean = 1.8 * (0.5 - u)
    paid = np.column_stack(
        [np.ones(len(u)), _powers(u), 1 + lean, _powers(1 - u), 1 - lean, _powers(2 * np.minimum(u, 1 - u))]
    )
    paid[one_sided, 3:] = 1.0
    return paid


def _powers(u: Floats) -> Floats:
    """Return ∫₀¹ κu^(κ-1) dκ: all powers at once, so that none has to be chosen."""
    log = np.log(u)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = (1 - u + u * log) / (u * log * log)
    return np.where(u > 1 - 1e-4, 0.5 + (1 - u) / 6, whole)  # near 1 the formula cancels


def _wealth(u: Floats, one_sided: NDArray[np.bool_]) -> Floats:
    """Return (blocks, scores) the logarithm of the wealth after each rank; a missing one leaves it as it is."""
    bets = _bets(np.full(u.shape[1], 0.5), one_sided).shape[1]
    weights = np.full((u.shape[1], bets), 1 / bets)
    total, found = np.zeros(u.shape[1]), np.zeros(u.shape)
    for at, rank in enumerate(u):
        known = ~np.isnan(rank)
        paid = weights[known] * _bets(rank[known], one_sided[known])
        gained = paid.sum(axis=1, keepdims=True)
        total[known] += np.log(gained[:, 0])
        weights[known] = (1 - SHARE) * paid / gained + SHARE / bets
        found[at] = total
    return found
