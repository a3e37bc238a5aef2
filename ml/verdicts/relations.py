"""How the columns of one row go together: combinations that occur, functions of each other, orders, straight lines.

What belongs here: rules over a single row, learned from good ones. What does not: form (``columns``), rows that follow
each other (``chain``). Every rule is kept only where Good and Turing, or a held-back part, say that a good row hardly
ever breaks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations, permutations

import numpy as np
import pandas as pd

from ml.monitors.tails import TwoTails, two_tails
from ml.verdicts.columns import UNKNOWN, UNSEEN, Coded, closed
from ml.verdicts.types import Floats, Ints, Mask

_SAMPLE = 60_000
_GROUP = 300
#: Rows of an entity from which on its rows are a history, and changes of a state in it that say when it may change.
_LONG, _CHANGES = 50, 30


def mixed(columns: list[Ints]) -> Ints:
    """Return one number for each combination of codes (a 64-bit hash)."""
    found = np.full(len(columns[0]), 1_469_598_103_934_665_603, np.uint64)
    with np.errstate(over="ignore"):
        for codes in columns:
            found = (found ^ codes.astype(np.uint64)) * np.uint64(1_099_511_628_211)
            found ^= found >> np.uint64(29)
    return found.view(np.int64)


def marks(coded: Coded) -> dict[str, Ints]:
    """Return everything about a row that takes few values: categories, and which columns are null."""
    found = dict(coded.codes)
    for name, null in coded.nulls.items():
        if name not in coded.codes:
            found[f"{name} is null"] = null.astype(np.int64)
    return found


@dataclass(frozen=True, slots=True)
class Combinations:
    """Sets of columns with the combinations of their values that occur; ``whole`` is the widest set that is closed."""

    whole: tuple[str, ...]
    known: Ints
    pairs: Mapping[tuple[str, str], Ints]

    def broken(self, coded: Coded) -> dict[str, Mask]:
        """Return, for the whole row and for each column, which rows have a combination that never occurs."""
        values = marks(coded)
        found: dict[str, Mask] = {}
        # A value that is unknown by itself is its column's matter.
        strange = {name: codes == UNKNOWN for name, codes in coded.codes.items()}
        none = np.zeros(len(coded), np.bool_)
        if self.whole:
            known_each = ~np.logical_or.reduce([strange.get(name, none) for name in self.whole])
            found["row"] = known_each & ~np.isin(mixed([values[name] for name in self.whole]), self.known)
        for (a, b), known in self.pairs.items():
            bad = ~np.isin(mixed([values[a], values[b]]), known) & ~strange.get(a, none) & ~strange.get(b, none)
            if bad.any():
                for name in (a.removesuffix(" is null"), b.removesuffix(" is null")):
                    found[name] = found.get(name, np.zeros(len(bad), np.bool_)) | bad
        return found


def learn_combinations(coded: Coded, entity: str) -> Combinations:
    """Return the combinations of good rows; columns that make them too many are left to pairs.

    A state that hardly ever changed is left out: that one disk of three wore out does not say which disks may.
    """
    sticky = _sticky(coded, entity)
    every = {name: codes for name, codes in marks(coded).items() if name not in sticky}
    values = {name: codes for name, codes in every.items() if codes.min() != codes.max()}
    constant = [name for name in every if name not in values]
    names = sorted(values, key=lambda name: len(np.unique(values[name])))
    pairs = {}
    for a, b in combinations(names, 2):
        both = mixed([values[a], values[b]])
        if closed(both):
            pairs[a, b] = np.unique(both)
    whole = list(names)
    while whole and not closed(mixed([values[name] for name in whole])):
        singles = {}
        for name in whole:
            rest = [values[other] for other in whole if other != name]
            counts = np.unique(mixed(rest), return_counts=True)[1] if rest else np.array([2])
            singles[name] = int((counts == 1).sum())
        whole.remove(min(whole, key=lambda name: singles[name]))
    kept = (*constant, *whole)
    return Combinations(
        kept, np.unique(mixed([every[name] for name in kept])) if kept else np.empty(0, np.int64), pairs
    )


def _sticky(coded: Coded, entity: str) -> set[str]:
    """Return the categories that change within an entity, but so seldom that hardly anything is known of when."""
    order = np.lexsort((coded.time, pd.factorize(pd.Series(coded.texts[entity], dtype="object"))[0]))
    same = coded.texts[entity][order][1:] == coded.texts[entity][order][:-1]
    if same.mean() < 1 - 1 / _LONG:
        return set()
    found = set()
    for name, codes in coded.codes.items():
        changes = int((same & (codes[order][1:] != codes[order][:-1])).sum())
        if 0 < changes < _CHANGES:
            found.add(name)
    return found


@dataclass(frozen=True, slots=True)
class Functions:
    """Texts that are functions of each other, as good rows showed: ``maps[a, b]`` gives b's value for a's.

    ``contains`` has (a, b, mark) where a always holds b's text, followed by ``mark``.
    """

    maps: Mapping[tuple[str, str], pd.Series]
    contains: tuple[tuple[str, str, str], ...]

    def broken(self, coded: Coded) -> dict[str, Mask]:
        """Return, for each column, which rows have a value that another column contradicts."""
        found: dict[str, Mask] = {}
        for a, b in self.maps:
            implied = self.implied(coded, a, b)
            bad = pd.notna(implied) & pd.notna(coded.texts[b]) & (implied != coded.texts[b])
            if bad.any():
                found[b] = found.get(b, np.zeros(len(bad), np.bool_)) | bad
        for a, b, mark in self.contains:
            there = ~(coded.nulls[a] | coded.nulls[b])
            bad = np.zeros(len(there), np.bool_)
            bad[there] = ~_contains(coded.texts[a][there], coded.texts[b][there], mark)
            if bad.any():
                found[a] = found.get(a, np.zeros(len(bad), np.bool_)) | bad
        return found

    def implied(self, coded: Coded, a: str, b: str) -> np.ndarray:
        """Return b's value as a's says, None where it says nothing."""
        return pd.Series(coded.texts[a], dtype="object").map(self.maps[a, b]).to_numpy(object)

    def votes(self, coded: Coded, name: str) -> np.ndarray:
        """Return the value of ``name`` that two or more other columns agree on, None where no two do."""
        implied = [self.implied(coded, a, b) for a, b in self.maps if b == name]
        agreed = np.full(len(coded), None, object)
        for first, second in combinations(implied, 2):
            same = pd.notna(first) & (first == second)
            agreed[same] = first[same]
        return agreed


def _contains(holders: np.ndarray, parts: np.ndarray, mark: str = "") -> Mask:
    if not len(holders):
        return np.ones(0, np.bool_)
    found: Mask = np.strings.find(holders.astype(np.str_), np.strings.add(parts.astype(np.str_), mark)) >= 0
    return found


def learn_functions(coded: Coded) -> Functions:
    """Return which text columns determine or contain each other."""
    names = [name for name, texts in coded.texts.items() if name not in coded.codes and (~coded.nulls[name]).any()]
    maps, contains = {}, []
    for a, b in permutations(names, 2):
        there = ~(coded.nulls[a] | coded.nulls[b])
        if there.sum() < _GROUP:
            continue
        frame = pd.DataFrame({"a": coded.texts[a][there], "b": coded.texts[b][there]})
        rows = frame.iloc[:: -(-len(frame) // _SAMPLE)]
        if _contains(rows["a"].to_numpy(object), rows["b"].to_numpy(object)).all():
            holder, part = str(rows["a"].iloc[0]), str(rows["b"].iloc[0])
            after = holder[holder.find(part) + len(part) :][:1]
            # What comes after it keeps a number from being taken for the beginning of a longer one.
            marked = _contains(rows["a"].to_numpy(object), rows["b"].to_numpy(object), after).all()
            contains.append((a, b, after if marked else ""))
        # Only values that came back can show that they always go with the same one.
        if frame["a"].nunique() < 0.5 * len(frame):
            distinct = frame.drop_duplicates()
            if not distinct["a"].duplicated().any():
                maps[a, b] = distinct.set_index("a")["b"]
    return Functions(maps, tuple(contains))


@dataclass(frozen=True, slots=True)
class Numbers:
    """Pairs of numbers in an order, and straight lines: (y, x, by) with {code: (slope, intercept, tolerance)}."""

    orders: tuple[tuple[str, str], ...]
    lines: Mapping[tuple[str, str, str], Mapping[int, tuple[float, float, float]]]

    def broken(self, coded: Coded) -> dict[str, Mask]:
        """Return, for each column, which rows break one of its orders or lines."""
        found: dict[str, Mask] = {}

        def note(names: tuple[str, ...], bad: Mask) -> None:
            if bad.any():
                for name in names:
                    found[name] = found.get(name, np.zeros(len(bad), np.bool_)) | bad

        with np.errstate(invalid="ignore"):
            for a, b in self.orders:
                note((a, b), coded.numbers[a] > coded.numbers[b] * (1 + 1e-9) + 1e-9)
            for (y, x, by), lines in self.lines.items():
                codes = coded.codes[by] if by else np.zeros(len(coded), np.int64)
                for code, (slope, intercept, tolerance) in lines.items():
                    off = np.abs(coded.numbers[y] - slope * coded.numbers[x] - intercept) > tolerance
                    note((y, x), off & (codes == code))
        return found


def learn_numbers(coded: Coded, skip: set[str]) -> Numbers:
    """Return the orders and straight lines among the number columns of good rows, those of ``skip`` left out."""
    names = [
        name
        for name, values in coded.numbers.items()
        if not name.endswith("#") and name not in skip and np.isfinite(values).sum() >= _GROUP
    ]
    orders, lines = [], {}
    groups = ["", *(name for name, codes in coded.codes.items() if 1 < len(np.unique(codes)) <= 16)]
    for a, b in permutations(names, 2):
        x, y = coded.numbers[a], coded.numbers[b]
        there = np.isfinite(x) & np.isfinite(y)
        if there.sum() < 10 * _GROUP:
            continue
        x, y = x[there], y[there]
        if (x <= y).all() and x.max() > y.min() and (x < y).any():
            orders.append((a, b))
        if x.std() == 0 or y.std() == 0:
            continue
        for by in groups:
            codes = coded.codes[by][there] if by else np.zeros(len(x), np.int64)
            found = {int(code): _line(x[codes == code], y[codes == code]) for code in np.unique(codes)}
            fitted = {code: line for code, line in found.items() if line is not None}
            if fitted and len(fitted) == len(found):
                lines[b, a, by] = fitted
                break
    return Numbers(tuple(orders), lines)


def _line(x: Floats, y: Floats) -> tuple[float, float, float] | None:
    """Return slope, intercept and tolerance where y is a straight line of x but for rounding, else None."""
    if len(x) < 100 or x.std() == 0 or y.std() == 0:
        return None
    slope = float(((x - x.mean()) * (y - y.mean())).mean() / x.var())
    intercept = float(y.mean() - slope * x.mean())
    off = float(np.abs(y - slope * x - intercept).max())
    return (slope, intercept, 3 * off + 1e-9) if off < 0.01 * y.std() else None


@dataclass(frozen=True, slots=True)
class Ranges:
    """Tails of each number column, within groups that tell its values apart best."""

    by: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, Mapping[int, TwoTails]]
    pooled: Mapping[str, TwoTails]

    def p(self, coded: Coded, name: str) -> Floats:
        """Return how likely a good row is as far out as each row in ``name``; 1 where it is null."""
        values, p = coded.numbers[name], np.ones(len(coded))
        keys = mixed([coded.codes[by] for by in self.by[name]]) if self.by[name] else np.zeros(len(coded), np.int64)
        for key in np.unique(keys):
            mine = keys == key
            p[mine] = self.groups[name].get(int(key), self.pooled[name]).p(values[mine])
        return p


def learn_ranges(coded: Coded, skip: set[str]) -> Ranges:
    """Return the tails of number columns whose values are not few, those of ``skip`` left out."""
    by, pooled = {}, {}
    groups: dict[str, dict[int, TwoTails]] = {}
    for name, values in coded.numbers.items():
        there = np.isfinite(values)
        if name in coded.codes or name in skip or there.sum() < _GROUP or name.endswith("#"):
            continue
        by[name] = _tell_apart(coded, values, there)
        pooled[name] = two_tails(values[there])
        groups[name] = {}
        if by[name]:
            keys = mixed([coded.codes[column] for column in by[name]])
            for key, count in zip(*np.unique(keys[there], return_counts=True), strict=True):
                if count >= _GROUP:
                    groups[name][int(key)] = two_tails(values[there & (keys == key)])
    return Ranges(by, groups, pooled)


def _tell_apart(coded: Coded, values: Floats, there: Mask) -> tuple[str, ...]:
    """Return the one or two categories within which the values vary least."""
    rows = np.flatnonzero(there)
    rows = rows[:: -(-len(rows) // _SAMPLE)]
    y = np.arcsinh(values[rows] / max(1e-12, float(np.median(np.abs(values[rows])))))
    total = float(y.var())
    if total == 0:
        return ()
    chosen: tuple[str, ...] = ()
    left = total
    for _ in range(2):
        best = min(
            ((_within(y, mixed([coded.codes[n][rows] for n in (*chosen, name)])), name) for name in coded.codes),
            default=(left, ""),
        )
        if left - best[0] < 0.02 * total:
            break
        left, chosen = best[0], (*chosen, best[1])
    return chosen


def _within(y: Floats, keys: Ints) -> float:
    codes = pd.factorize(keys)[0]
    counts = np.bincount(codes)
    if len(counts) > 200:
        return np.inf
    means = np.bincount(codes, y) / counts
    return float(((y - means[codes]) ** 2).mean())


@dataclass(slots=True)
class Content:
    """Whether rows that are equal in all but key and arrival never occur twice."""

    names: tuple[str, ...] = field(default_factory=tuple)

    def again(self, frame: pd.DataFrame) -> Mask:
        """Return which rows repeat an earlier one's content."""
        if not self.names:
            return np.zeros(len(frame), np.bool_)
        return frame.duplicated(list(self.names)).to_numpy()


def learn_content(frame: pd.DataFrame, names: list[str]) -> Content:
    """Return the rule of unique content, empty where good rows repeat one more often than :data:`UNSEEN`."""
    return Content(tuple(names) if frame.duplicated(names).mean() <= UNSEEN else ())


@dataclass(frozen=True, slots=True)
class Presence:
    """Where a column is mostly filled: by the values of one category, or (no category) everywhere or nowhere."""

    by: str
    filled: Ints
    anywhere: bool

    def expected(self, coded: Coded) -> Mask:
        """Return the rows in which the column should not be null."""
        if not self.by:
            return np.full(len(coded), self.anywhere)
        return np.isin(coded.codes[self.by], self.filled)


def learn_presence(coded: Coded) -> dict[str, Presence]:
    """Return, for each column, the category that tells best where it is filled."""
    found = {}
    for name, null in coded.nulls.items():
        best, chosen = float(min(null.mean(), 1 - null.mean())), Presence("", np.empty(0, np.int64), null.mean() < 0.5)
        for by, codes in coded.codes.items():
            if by == name or best == 0:
                continue
            counts = np.bincount(codes)
            share = np.bincount(codes, null) / np.maximum(1, counts)
            wrong = float((np.minimum(share, 1 - share) * counts).sum() / len(codes))
            if wrong < best:
                best, chosen = wrong, Presence(by, np.flatnonzero((share < 0.5) & (counts > 0)), False)
        found[name] = chosen
    return found
