"""What good batches of a column have in common: how round its values are, how often one comes back, how far they reach.

What belongs here: habits of columns over a batch, and sequences without holes. What does not: single values
(``columns``), relations within a row (``relations``) and between neighbours (``chain``).

A value that is in itself fine gives itself away by company: three times in an hour beyond all that was ever seen, a
whole second where times have microseconds, one reading in forty rows of a column that never repeats itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.verdicts.columns import Coded
from ml.verdicts.types import Floats, Ints, Layout, Mask

#: Fewest values that a habit is read from.
_LEAST = 1_000
#: Share of good rows up to which a roundness is out of the ordinary, and up to which one row is enough.
_RARE, _NEVER = 0.01, 1e-5
#: Share of a column's values from which on one is its idle value: that it comes back says nothing.
OFTEN = 0.005
#: Chance in a batch that a value comes back so often where it is not wrong.
_CHANCE = 1e-6
#: Names of steps of roundness of a time, in µs.
_STEPS = (1_000_000, 60_000_000, 3_600_000_000)
_PLACES = 6


@dataclass(frozen=True, slots=True)
class Sequence:
    """Texts of one ``prefix`` and a number, which leave none out."""

    prefix: str
    column: str

    def holes(self, texts: np.ndarray, before: np.ndarray) -> int:
        """Return how many numbers are left out up to a row of the batch; ``before`` are texts that came earlier."""
        new, old = self.numbers(texts), self.numbers(before)
        if not len(new) or not len(old):
            return 0
        every = np.unique(np.concatenate([new, old]))
        every = every[every >= old.min()]
        gaps = np.diff(every) - 1
        # A number far away from all others is wrong itself.
        near = gaps <= 10 * len(new) + 100
        return int(gaps[near & np.isin(every[1:], new)].sum())

    def numbers(self, texts: np.ndarray) -> Ints:
        """Return the numbers of the texts that have the prefix, each once."""
        found = pd.Series(pd.unique(texts), dtype="object").dropna().astype(str).str.extract(_NUMBERED)
        mine = found[0] == self.prefix
        return np.unique(found.loc[mine, 1].to_numpy(np.int64)) if mine.any() else np.empty(0, np.int64)


_NUMBERED = r"^(.*?)(\d{1,15})$"


@dataclass(frozen=True, slots=True)
class Habits:
    """``reach`` has the extremes of number columns; ``grain`` the step (µs of a time, else decimals) that is rare, and
    whether one row is enough; ``most`` how often a value may come back in a batch; ``idle`` those that may anyhow.
    """

    reach: Mapping[str, tuple[float, float]]
    grain: Mapping[str, tuple[int, bool]]
    most: Mapping[str, int]
    idle: Mapping[str, np.ndarray]
    sequences: tuple[Sequence, ...]

    def odd(self, coded: Coded) -> dict[str, tuple[Mask, int, bool]]:
        """Return, for each check, the rows out of the ordinary, how many it looked at, and whether it holds them."""
        found: dict[str, tuple[Mask, int, bool]] = {}
        with np.errstate(invalid="ignore"):
            for name, (low, high) in self.reach.items():
                values = coded.numbers[name]
                found[f"record:{name}"] = ((values < low) | (values > high), int(np.isfinite(values).sum()), False)
        for name, (step, never) in self.grain.items():
            round_, there = _rounded(coded.numbers.get(name, coded.time), step)
            found[f"grain:{name}"] = (round_, int(there.sum()), never)
        for name, most in self.most.items():
            again, looked = self._again(coded, name, most)
            found[f"repeat:{name}"] = (again, looked, True)
        return found

    def _again(self, coded: Coded, name: str, most: int) -> tuple[Mask, int]:
        codes, values = pd.factorize(_values(coded, name))
        there = codes >= 0
        counts = np.bincount(codes[there], minlength=len(values))
        many = (counts > most) & ~pd.Index(values).isin(self.idle[name])
        again = np.zeros(len(codes), np.bool_)
        again[there] = many[codes[there]]
        return again, int(there.sum())


def _values(coded: Coded, name: str) -> np.ndarray:
    return coded.numbers[name] if name in coded.numbers else coded.texts[name]


def _rounded(values: Floats | Ints, step: int) -> tuple[Mask, Mask]:
    """Return which values are whole multiples of a time's ``step`` (µs), or need no more than ``step`` decimals."""
    if values.dtype == np.int64:
        there: Mask = values > np.iinfo(np.int64).min
        return there & (values % step == 0), there
    there = np.isfinite(values)
    scaled = np.where(there, values, 0.5) * 10.0**step
    return there & (np.abs(scaled - np.round(scaled)) <= 1e-9 * np.maximum(1.0, np.abs(scaled))), there


def learn_habits(coded: Coded, layout: Layout, skip: set[str], batch_us: int) -> Habits:
    """Return the habits of good rows that came in batches of ``batch_us``; number columns of ``skip`` have no reach."""
    batch = coded.arrival // batch_us
    batches = max(2, len(np.unique(batch)))
    reach, grain, most, idle = {}, {}, {}, {}
    for name, values in coded.numbers.items():
        there = np.isfinite(values)
        if name.endswith("#") or name in coded.codes or there.sum() < _LEAST:
            continue
        if name not in skip:
            reach[name] = (float(values[there].min()), float(values[there].max()))
        if (step := _rare(values[there], tuple(range(_PLACES)))) is not None:
            grain[name] = step
    if (step := _rare(coded.time, _STEPS)) is not None:
        grain[layout.time] = step
    for name in (*coded.numbers, *coded.texts):
        if name in coded.codes or name.endswith("#"):
            continue
        codes, values = pd.factorize(_values(coded, name))
        there = codes >= 0
        if there.sum() < _LEAST:
            continue
        counts = np.bincount(codes[there])
        often = counts >= OFTEN * there.sum()
        rare = there & ~often[codes]
        if rare.sum() < 0.5 * there.sum():
            continue
        together = pd.Series(batch[rare] * np.int64(len(values)) + codes[rare]).value_counts(sort=False)
        # The longest of so many batches, and what an exponential tail through it makes of a rarer one.
        times = -np.log(_CHANCE) / np.log(batches)
        most[name] = max(3, int(np.ceil(float(together.max()) * max(1.5, times))))
        idle[name] = np.asarray(values[often])
    sequences = [found for name in dict.fromkeys((layout.entity, layout.name)) if (found := _sequence(coded, name))]
    return Habits(reach, grain, most, idle, tuple(sequences))


def _rare(values: Floats | Ints, steps: tuple[int, ...]) -> tuple[int, bool] | None:
    """Return the finest of ``steps`` (ascending roundness of times, descending of decimals) that few values have."""
    order = steps if values.dtype == np.int64 else tuple(reversed(steps))
    for step in order:
        share = float(_rounded(values, step)[0].mean())
        if share <= _RARE:
            return step, share <= _NEVER
    return None


def _sequence(coded: Coded, name: str) -> Sequence | None:
    """Return the sequence of a column's texts where it leaves hardly a number out."""
    distinct = pd.Series(pd.unique(coded.texts[name]), dtype="object").dropna().astype(str)
    found = distinct.str.extract(_NUMBERED).dropna()
    if len(found) < _LEAST or len(found) < 0.99 * len(distinct):
        return None
    prefix = str(found[0].value_counts().index[0])
    numbers = found.loc[found[0] == prefix, 1].to_numpy(np.int64)
    if len(numbers) < 0.99 * len(found) or numbers.max() - numbers.min() + 1 > 1.001 * len(numbers):
        return None
    return Sequence(prefix, name)
