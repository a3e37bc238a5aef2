"""Evidence in the other columns of a row: dependencies that hold nearly everywhere, and not here.

What belongs here: for each ordered pair of columns, how well others' rows of the same determinant tell the value; for
each cell, what its best determinants say. Dependencies are approximate and leave the row itself out. What does not:
labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.cells.table import Column, Floats, Ints, Table

Features = dict[str, Floats]
_PRIOR = 1.0
"""Rows that a value's share in its whole column counts for within a group."""
_MOST_COLUMNS = 40
"""Determinants that are looked at, the ones with most rows in groups first."""


@dataclass(frozen=True)
class Dependency:
    """What column ``of`` tells of another: ``strength`` of it (0 none, 1 always), and per row what it says.

    ``margin`` is the log odds of the best other value against the row's own, ``support`` the share of the group's other
    rows with that best other value, ``own`` the share with the row's own value, ``size`` the group's other rows.
    """

    of: int
    strength: float
    margin: Floats
    support: Floats
    own: Floats
    size: Floats


def dependency(of: Column, on: Column, index: int, weights: Floats | None = None) -> Dependency:
    """Return what ``of`` tells of ``on``; ``weights`` (n,) says how much each row's vote counts."""
    n = of.rows
    width = np.int64(len(on.values))
    _, first, back = np.unique(of.codes * width + on.codes, return_index=True, return_inverse=True)
    votes = np.ones(n) if weights is None else weights
    together = np.bincount(back, votes)
    left, right = of.codes[first], on.codes[first]
    group = np.bincount(of.codes, votes, minlength=len(of.values))
    # Best and second value of each group, by votes.
    order = np.lexsort((-together, left))
    starts = np.flatnonzero(np.r_[True, left[order][1:] != left[order][:-1]])
    best, second = np.full(len(of.values), -1), np.full(len(of.values), -1)
    best[left[order][starts]] = order[starts]
    follow = starts + 1
    follow = follow[(follow < len(order)) & ~np.isin(follow, starts)]
    second[left[order][follow]] = order[follow]
    mine = together[back] - votes
    size = group[of.codes] - votes
    is_best = best[of.codes] == back
    other = np.where(is_best, second[of.codes], best[of.codes])
    alternative = np.where(other >= 0, together[other], 0.0)
    prior = np.bincount(on.codes, votes, minlength=len(on.values)) / votes.sum()
    own_prior = prior[on.codes]
    other_prior = np.where(other >= 0, prior[right[other]], 0.5 / n)
    own = (np.maximum(mine, 0) + _PRIOR * own_prior) / (size + _PRIOR)
    support = (alternative + _PRIOR * other_prior) / (size + _PRIOR)
    margin = np.clip(np.log(support + 1e-9) - np.log(own + 1e-9), -8, 8)
    grouped = size >= 0.75
    margin = np.where(grouped, margin, 0.0)
    strength = 0.0
    if grouped.any():
        right_share = float(np.average((mine >= alternative)[grouped] & (mine > 0)[grouped]))
        base = float(prior.max())
        covered = float(grouped.mean())
        strength = max(0.0, (right_share - base) / max(1 - base, 1e-3)) * min(1.0, covered * 4)
        if base > 0.999:
            strength = 0.0
    return Dependency(index, strength, margin, np.where(grouped, support, 0.0), np.where(grouped, own, 0.0), size)


def determinants(table: Table) -> list[int]:
    """Return the columns by which rows fall into groups of several rows, at most ``_MOST_COLUMNS``."""
    grouped = []
    for index, column in enumerate(table.columns):
        share = column.counts[column.counts > 1].sum() / column.rows
        if len(column.values) > 1 and share > 0.1:
            grouped.append((share * np.log(len(column.values)), index))
    return [index for _, index in sorted(grouped, reverse=True)[:_MOST_COLUMNS]]


def context_features(table: Table) -> tuple[list[Features], list[list[Dependency]]]:
    """Return evidence per column, (n,) each, and the dependencies of each column, strongest first (at most 3)."""
    n, width = table.shape
    using = determinants(table)
    kept: list[list[Dependency]] = []
    found: list[Features] = []
    blamed = np.zeros((n, width))
    violated = np.zeros((n, width))
    weight = np.zeros(width)
    for target in range(width):
        on = table.columns[target]
        all_of = [dependency(table.columns[of], on, of) for of in using if of != target] if len(on.values) > 1 else []
        all_of = sorted((one for one in all_of if one.strength > 0.02), key=lambda one: -one.strength)
        features = _aggregate(all_of, n)
        for one in all_of:
            if one.strength > 0.3:
                broken = one.strength * (one.margin > 0.5)
                blamed[:, one.of] += broken
                weight[one.of] += one.strength
                violated[:, target] += broken
        found.append(features)
        kept.append(all_of[:3])
    for target, features in enumerate(found):
        features["blamed"] = blamed[:, target] / max(weight[target], 1e-9)
        rest = np.delete(violated, target, axis=1)
        features["row_violations"] = (rest > 0).mean(axis=1) if width > 1 else np.zeros(n)
    return found, kept


def _aggregate(all_of: list[Dependency], n: int) -> Features:
    """Return what the two strongest determinants that know a row say, and all together."""
    found: Features = {}
    taken = np.zeros(n, dtype=np.int64)
    for place in ("first", "second"):
        for name in ("strength", "margin", "support", "own", "size"):
            found[f"{place}_{name}"] = np.zeros(n)
    total, mass = np.zeros(n), np.zeros(n)
    against, votes = np.zeros(n), np.zeros(n)
    for one in all_of:
        knows = one.size >= 0.75
        for rank, place in enumerate(("first", "second")):
            here = knows & (taken == rank)
            found[f"{place}_strength"][here] = one.strength
            found[f"{place}_margin"][here] = one.margin[here]
            found[f"{place}_support"][here] = one.support[here]
            found[f"{place}_own"][here] = one.own[here]
            found[f"{place}_size"][here] = np.log1p(one.size[here])
            if rank == 0:
                first = here
        taken += knows
        total += np.where(knows, one.strength * one.margin, 0.0)
        mass += np.where(knows, one.strength, 0.0)
        if one.strength > 0.5:
            against += knows & (one.margin > 0.5)
            votes += knows
        del first
    found["mean_margin"] = total / np.maximum(mass, 1e-9)
    found["against"] = against / np.maximum(votes, 1)
    found["determined"] = np.log1p(votes)
    strongest = all_of[0] if all_of else None
    found["column_strength"] = np.full(n, strongest.strength if strongest else 0.0)
    broken = float((strongest.margin > 0.5).mean()) if strongest else 0.0
    found["column_broken"] = np.full(n, broken)
    return found


def foreign_features(table: Table) -> list[Features]:
    """Return, per column and distinct value, whether the value, or one of its words, is at home in another column."""
    homes: dict[str, dict[int, float]] = {}
    for index, column in enumerate(table.columns):
        for value, count in zip(column.values, column.counts, strict=True):
            if value.strip() and count > 1 and not value.isdigit():
                homes.setdefault(value.lower(), {})[index] = count / column.rows
    found: list[Features] = []
    for index, column in enumerate(table.columns):
        own = column.counts / column.rows
        elsewhere = np.array([_elsewhere(homes, value, index) for value in column.values])
        words = np.array(
            [
                max((_elsewhere(homes, w, index) for w in tokens if len(w) > 1), default=0.0)
                if len(tokens) > 1
                else 0.0
                for tokens in column.tokens
            ]
        )
        has_word = words > 0
        usual = float(column.counts[has_word].sum() / column.rows)
        found.append(
            {
                "foreign": np.where(elsewhere > 0, np.log((elsewhere + 1e-4) / (own + 1e-4)), -9.0),
                "foreign_word": np.where(has_word, np.log(words + 1e-4), -9.0),
                "foreign_word_rare": np.where(has_word, 1 - usual, 0.0),
            }
        )
    return found


def _elsewhere(homes: dict[str, dict[int, float]], value: str, own: int) -> float:
    return max((share for column, share in homes.get(value.lower(), {}).items() if column != own), default=0.0)


def part_features(table: Table) -> list[Features]:
    """Return, per column and row, whether a value does not hold another's text, as it does in most rows."""
    n, width = table.shape
    broken = np.zeros((n, width))
    rows = np.linspace(0, n - 1, min(n, 200)).astype(np.int64)
    texts = [np.array(column.values, dtype=object) for column in table.columns]
    for small in range(width):
        for large in range(width):
            if small == large or len(texts[small]) < 2 or len(texts[large]) < 2:
                continue
            if _held(table, small, large, rows).mean() > 0.6:
                held = _held(table, small, large, np.arange(n))
                usual = float(held.mean())
                if usual > 0.7:
                    broken[:, large] = np.maximum(broken[:, large], usual * ~held)
                    broken[:, small] = np.maximum(broken[:, small], usual * ~held)
    return [{"part_broken": broken[:, index]} for index in range(width)]


def _held(table: Table, small: int, large: int, rows: Ints) -> NDArray[np.bool_]:
    """Return in which rows the text of ``small`` (two characters or more) is in that of ``large``."""
    left, right = table.columns[small], table.columns[large]
    width = np.int64(len(right.values))
    pairs, back = np.unique(left.codes[rows] * width + right.codes[rows], return_inverse=True)
    answers = np.array(
        [
            len(left.values[pair // width]) > 1 and left.values[pair // width] in right.values[pair % width]
            for pair in pairs
        ],
        dtype=bool,
    )
    return np.asarray(answers[back])
