"""What is usual for a table at an hour of the week, and how unusual an hour was.

What belongs here: seasonal baselines and p-values of one table's measures. What does not: how the p-values of all
tables are judged together (``rounds``).

Volume and silence are taken on a logarithmic scale less what the hour of the day and the day of the week bring; the
spread of a column is the distance of its counts from the usual ones, in units of what chance and the table's own unrest
make of it. p-values come from the tails of these figures over the history, extrapolated where it has no such hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.monitors.tails import UpperTail, upper_tail
from ml.monitors.types import Measures

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Fewest hours of history that anything is said on.
LEAST = 48
#: Rows of one hour of the day before that hour has a place of its own; a week has too few of each hour of the week.
_STRENGTH = 2.0
#: A figure that never moved may still move by a little of its noise.
_STEADY = 0.1
#: Chance of false alarms in the held-back hours, above which a monitor of a table is left out.
_CALM = 1e-3


class TooShort(ValueError):
    """There is too little history to say what is usual."""


@dataclass(frozen=True, slots=True)
class _Season:
    """A level by hour of the day and one by day of the week, shrunk towards none where hours are few."""

    level: float
    hour: Floats
    day: Floats

    def at(self, hours: Ints) -> Floats:
        return np.asarray(self.level + self.hour[hours % 24] + self.day[(hours // 24 + 3) % 7])


def _season(hours: Ints, values: Floats) -> _Season:
    level = float(np.median(values))
    hour, day = np.zeros(24), np.zeros(7)
    for _ in range(3):
        for effect, keys in ((hour, hours % 24), (day, (hours // 24 + 3) % 7)):
            other = day[(hours // 24 + 3) % 7] if effect is hour else hour[hours % 24]
            rest = values - level - other
            for key in range(len(effect)):
                mine = rest[keys == key]
                effect[key] = float(np.median(mine)) * len(mine) / (len(mine) + _STRENGTH) if len(mine) else 0.0
    return _Season(level, hour, day)


@dataclass(frozen=True, slots=True)
class _Level:
    """A figure with a season: unusual where it is far from it on either side (or above only).

    ``unrest`` is the variance beyond what counting brings, so that quiet hours and busy ones have one scale.
    """

    name: str
    season: _Season
    unrest: float
    above: UpperTail
    below: UpperTail | None

    def p(self, hours: Ints, values: Floats, rows: Floats) -> Floats:
        usual = self.season.at(hours)
        rest = (values - usual) / np.sqrt(_noise(self.name, usual, rows) + self.unrest)
        if self.below is None:
            return self.above.p(rest)
        return np.asarray(np.minimum(1.0, 2 * np.minimum(self.above.p(rest), self.below.p(-rest))))


@dataclass(frozen=True, slots=True)
class _Spread:
    """The usual shares of a column's bins, and the tail of the distance from them."""

    shares: Floats
    ordered: bool
    unrest: float
    tail: UpperTail

    def p(self, counts: Floats) -> Floats:
        return self.tail.p(_distance(counts, self.shares, self.ordered, self.unrest))


def _distance(counts: Floats, shares: Floats, ordered: bool, unrest: float) -> Floats:
    """Return the distance of each row of ``counts`` (hours, bins) from ``shares``; NaN for an empty hour."""
    total = counts.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = counts / total[:, None] - shares
        raw = np.abs(np.cumsum(off, axis=1)).max(axis=1) if ordered else np.abs(off).sum(axis=1) / 2
        return np.asarray(raw / np.sqrt(0.25 / total + unrest))


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is usual for one table; ``left_out`` names monitors that its own history would have alarmed."""

    levels: Mapping[str, _Level]
    spreads: Mapping[str, _Spread]
    left_out: frozenset[str] = frozenset()

    def p(self, hour: int, measures: Measures) -> dict[str, float]:
        """Return the p-value of each monitor for an hour (hours since the epoch, UTC)."""
        hours = np.array([hour], np.int64)
        figures = _figures([measures])
        found = {
            name: float(level.p(hours, *figures[name])[0]) for name, level in self.levels.items() if name in figures
        }
        for name, spread in self.spreads.items():
            counts = measures.counts.get(name)
            if counts is not None and len(counts) == len(spread.shares):
                found[f"spread:{name}"] = float(spread.p(np.array([counts], np.float64))[0])
        return {name: p for name, p in found.items() if name not in self.left_out}


def _figures(history: Sequence[Measures]) -> dict[str, tuple[Floats, Floats]]:
    """Return each hour's seasonal figures with its rows: volume, silence, and null rates on a logit scale."""
    rows = np.array([one.rows for one in history], np.float64)
    found = {
        "volume": (np.log(rows + 0.5), rows),
        "silence": (np.log(np.array([one.silence for one in history]) + 1.0), rows),
    }
    for name in history[-1].nulls:
        nulls = np.array([one.nulls.get(name, 0) for one in history], np.float64)
        rest = np.maximum(rows - nulls, 0.0)
        found[f"nulls:{name}"] = (np.log((nulls + 0.5) / (rest + 0.5)), rows)
    return found


def _noise(name: str, usual: Floats, rows: Floats) -> Floats:
    """Return the variance that counting brings to a figure, where it is as usual.

    Rows that come in groups count as fewer, which is what the unrest is for.
    """
    if name == "volume":
        return np.asarray(np.exp(-usual))
    if name == "silence":
        return np.zeros(len(usual))
    rate = 1.0 / (1.0 + np.exp(-usual))
    return np.asarray(1.0 / (rows * rate + 0.5) + 1.0 / (rows * (1 - rate) + 0.5))


def learn(hours: Sequence[int], history: Sequence[Measures]) -> Baseline:
    """Learn what is usual from good hours (since the epoch, UTC, ascending). Raises :class:`TooShort`.

    The newest third is judged by what the rest says: monitors that would have raised alarms there are left out.
    """
    if len(history) < LEAST:
        raise TooShort(f"{len(history)} hours of history are too few to know what is usual: at least {LEAST}")
    at, cut = np.array(hours, np.int64), round(0.67 * len(history))
    first = _fit(at[:cut], history[:cut])
    later: dict[str, list[float]] = {}
    for hour, one in zip(hours[cut:], history[cut:], strict=True):
        for name, p in first.p(int(hour), one).items():
            later.setdefault(name, []).append(p)
    left_out = {name for name, p in later.items() if (np.array(p) < _CALM).sum() > 1 + 3 * _CALM * len(p)}
    whole = _fit(at, history)
    return Baseline(whole.levels, whole.spreads, frozenset(left_out))


def _fit(hours: Ints, history: Sequence[Measures]) -> Baseline:
    levels = {}
    for name, (values, rows) in _figures(history).items():
        season = _season(hours, values)
        off = values - season.at(hours)
        noise = _noise(name, season.at(hours), rows)
        unrest = max(1e-6, float(np.mean(off**2 - noise)))
        rest = off / np.sqrt(noise + unrest)
        below = None if name == "silence" else upper_tail(-rest, least_scale=_STEADY)
        levels[name] = _Level(name, season, unrest, upper_tail(rest, least_scale=_STEADY), below)
    spreads = {}
    for name, counts in history[-1].counts.items():
        table = np.array(
            [one.counts[name] for one in history if len(one.counts.get(name, ())) == len(counts)], np.float64
        )
        total = table.sum(axis=1)
        if (total > 0).sum() < LEAST or total.sum() == 0:
            continue
        shares = table.sum(axis=0) / total.sum()
        ordered = True
        there = table[total > 0]
        raw = _distance(there, shares, ordered, 0.0) * np.sqrt(0.25 / total[total > 0])
        unrest = max(0.0, float(np.mean(raw**2) - np.mean(0.25 / total[total > 0])))
        distance = _distance(there, shares, ordered, unrest)
        spreads[name] = _Spread(shares, ordered, unrest, upper_tail(distance, least_scale=0.1))
    return Baseline(levels, spreads)
