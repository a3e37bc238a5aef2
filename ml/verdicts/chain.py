"""How the rows of one entity follow each other: which states, at which distances, with which steps of their numbers.

What belongs here: rules over two rows that are neighbours in an entity's time, and whom to blame. What does not: rules
within a row (``relations``).

A broken pair accuses two rows and acquits neither; a row of the middle is held back where all its pairs are broken. A
pair whose counter or clock says that rows are missing in between accuses none: what is there is good, and the hole is
the table's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ml.drift.discovery import q_values
from ml.monitors.tails import TwoTails, two_tails
from ml.verdicts.columns import Coded, closed, ordinal
from ml.verdicts.habits import OFTEN
from ml.verdicts.relations import marks, mixed
from ml.verdicts.types import Floats, Ints, Layout, Mask

_PAIRS = 300
#: Discovery rate of improbable distances in a batch.
RATE = 0.002
_UNITS = {"ms": 1e3, "s": 1e6}
#: Chance of a run of equal values from which on it is none by chance.
_RUN = 1e-7


@dataclass(frozen=True, slots=True)
class Pairs:
    """Neighbours: row positions ``a`` before ``b``, the hash of their states, and the gap between them in µs."""

    a: Ints
    b: Ints
    state_a: Ints
    state_b: Ints
    state: Ints
    gap: Ints


@dataclass(frozen=True, slots=True)
class Seen:
    """What a batch's chains showed; masks are over rows. ``missing`` counts holes, ``broken`` pairs by kind."""

    held: Mask
    reasons: Mapping[str, Mask]
    counts: Mapping[str, int]
    looked: int
    paired: Mask


@dataclass(frozen=True, slots=True)
class Chain:
    """The grammar of an entity's rows. ``steps[column][state]`` is the least and greatest difference of a number."""

    layout: Layout
    states: tuple[str, ...]
    known: Ints
    first: Ints
    last: Ints
    steps: Mapping[str, Mapping[int, tuple[float, float]]]
    constant_gaps: Mapping[int, tuple[float, float]]
    gaps: Mapping[int, TwoTails]
    spans: Mapping[str, Mapping[int, float]]
    runs: Mapping[str, tuple[int, Floats]] = field(default_factory=dict)
    jumps: Mapping[str, Mapping[int, TwoTails]] = field(default_factory=dict)

    def look(self, coded: Coded, doubtful: Mask, before: int = 0) -> Seen:
        """Judge all neighbours among the rows of ``coded``; ``doubtful`` rows neither accuse nor acquit others.

        Pairs within the first ``before`` rows, which were judged earlier, are not counted again.
        """
        pairs = pair_up(coded, self.layout, self.states)
        broken, hole = self._structure(coded, pairs)
        unsure = doubtful[pairs.a] | doubtful[pairs.b]
        broken, hole = broken & ~unsure, hole & ~unsure
        spans = self._spans(coded, pairs) & ~broken & ~hole & ~unsure
        held = _blamed(len(coded), pairs, broken, unsure, self.first, self.last)
        span_rows = np.zeros(len(coded), np.bool_)
        span_rows[pairs.b[spans]] = True
        runs = {name: self._run(coded, pairs, name, *limits) for name, limits in self.runs.items()}
        paired = np.zeros(len(coded), np.bool_)
        fits = ~broken & ~unsure & ~hole
        paired[pairs.a[fits]] = paired[pairs.b[fits]] = True
        jumps = {name: self._jump(coded, pairs, unsure, name) for name in self.jumps}
        reasons = {
            "order": held,
            "span": span_rows,
            **{f"frozen:{name}": rows for name, rows in runs.items()},
            **{f"jump:{name}": rows for name, rows in jumps.items()},
        }
        new = (pairs.a >= before) | (pairs.b >= before)
        counts = {name: int((bad & new).sum()) for name, bad in (("order", broken), ("missing", hole), ("span", spans))}
        return Seen(held, reasons, counts, len(pairs.a), paired)

    def _structure(self, coded: Coded, pairs: Pairs) -> tuple[Mask, Mask]:
        """Return which pairs cannot be neighbours, and which have a hole between them."""
        broken = ~np.isin(pairs.state, self.known)
        hole = np.zeros(len(pairs.a), np.bool_)
        counter = ordinal(self.layout)
        for name, bounds in self.steps.items():
            difference = coded.numbers[name][pairs.b] - coded.numbers[name][pairs.a]
            low, high = _by_state(pairs.state, bounds)
            with np.errstate(invalid="ignore"):
                slack = 1e-9 * np.maximum(1.0, np.abs(difference))
                off = (difference < low - slack) | (difference > high + slack)
                if name == counter:
                    hole |= difference > high + slack
            broken |= off
        if counter in self.steps:
            # An unknown pair has no step of its own: the counter's is the same for all.
            usual = set(self.steps[counter].values())
            if len(usual) == 1:
                step = next(iter(usual))[1]
                difference = coded.numbers[counter][pairs.b] - coded.numbers[counter][pairs.a]
                with np.errstate(invalid="ignore"):
                    hole |= difference > step
        low, high = _by_state(pairs.state, self.constant_gaps)
        with np.errstate(invalid="ignore", divide="ignore"):
            off = (pairs.gap < low) | (pairs.gap > high)
            middle = (low + high) / 2
            times = np.round(pairs.gap / middle)
            hole |= off & (low > 1e6) & (times >= 2) & (np.abs(pairs.gap / middle - times) * middle <= (high - low + 2))
        broken |= off
        p = np.ones(len(pairs.a))
        for state in np.unique(pairs.state):
            if (tails := self.gaps.get(int(state))) is not None:
                mine = pairs.state == state
                p[mine] = tails.p(pairs.gap[mine].astype(np.float64))
        broken |= q_values(p) <= RATE
        return broken & ~hole, hole

    def _spans(self, coded: Coded, pairs: Pairs) -> Mask:
        """Return the pairs whose second row reports another time than the one between them."""
        off = np.zeros(len(pairs.a), np.bool_)
        for name, units in self.spans.items():
            unit = pd.Series(pairs.state).map(units).to_numpy(np.float64)
            with np.errstate(invalid="ignore"):
                off |= np.abs(coded.numbers[name][pairs.b] * unit - pairs.gap) > np.maximum(3.0, 0.002 * unit)
        return off

    def _jump(self, coded: Coded, pairs: Pairs, unsure: Mask, name: str) -> Mask:
        """Return the rows that a number leaps to and from."""
        difference, p = coded.numbers[name][pairs.b] - coded.numbers[name][pairs.a], np.ones(len(pairs.a))
        for state, tails in self.jumps[name].items():
            mine = pairs.state == state
            p[mine] = tails.p(difference[mine])
        none = np.empty(0, np.int64)
        return _blamed(len(coded), pairs, q_values(p) <= RATE, unsure, none, none)

    @property
    def columns(self) -> set[str]:
        """Return the columns that a row's neighbours are judged by."""
        numbers = {*self.steps, *self.spans, *self.runs, *self.jumps} - {ordinal(self.layout)}
        return (
            {name.removesuffix(" is null") for name in self.states} | numbers | {self.layout.entity, self.layout.name}
        )

    @property
    def counters(self) -> set[str]:
        """Return the numbers that never fall in long chains: their level says nothing."""
        return {name for name in self.jumps if any(high == np.inf for _, high in self.steps.get(name, {}).values())}

    def _run(self, coded: Coded, pairs: Pairs, name: str, most: int, idle: Floats) -> Mask:
        """Return the rows of runs of equal values that are longer than ``most``, each run's first row apart.

        ``idle`` values are left out: what is idle is so for hours.
        """
        values = coded.numbers[name]
        same = (values[pairs.a] == values[pairs.b]) & ~np.isin(values[pairs.a], idle)
        # A run goes on while pairs are equal and share a row.
        starts = ~same | np.concatenate([[True], pairs.a[1:] != pairs.b[:-1]])
        run = np.cumsum(starts)
        length = np.bincount(run, weights=same, minlength=run[-1] + 1 if len(run) else 1)
        held = np.zeros(len(coded), np.bool_)
        if len(run):
            held[pairs.b[same & (length[run] >= most)]] = True
        return held


def pair_up(coded: Coded, layout: Layout, states: tuple[str, ...]) -> Pairs:
    """Return the neighbours in each entity's time; among equal times the shorter key, then its text, decides."""
    entity = pd.factorize(pd.Series(coded.texts[layout.entity], dtype="object"))[0]
    keys = pd.Series(coded.texts[layout.name], dtype="object").fillna("").astype(str)
    rank = pd.factorize(keys, sort=True)[0]
    order = np.lexsort((rank, keys.str.len().to_numpy(), coded.time, entity))
    a, b = order[:-1], order[1:]
    same = (entity[a] == entity[b]) & (entity[a] >= 0)
    a, b = a[same], b[same]
    values = marks(coded)
    state = mixed([values[name] for name in states]) if states else np.zeros(len(coded), np.int64)
    return Pairs(a, b, state[a], state[b], mixed([state[a], state[b]]), coded.time[b] - coded.time[a])


def _by_state(state: Ints, bounds: Mapping[int, tuple[float, float]]) -> tuple[Floats, Floats]:
    keys = pd.Series(state)
    sides = (keys.map({key: value[side] for key, value in bounds.items()}) for side in (0, 1))
    low, high = (np.asarray(side, np.float64) for side in sides)
    return low, high


def _blamed(  # noqa: PLR0917
    rows: int, pairs: Pairs, broken: Mask, unsure: Mask, first: Ints, last: Ints
) -> Mask:
    """Return the rows that no pair acquits; a row that may begin or end a chain is not accused by one pair alone."""
    good, bad = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    for side in (pairs.a, pairs.b):
        np.add.at(good, side[~broken & ~unsure], 1)
        np.add.at(bad, side[broken], 1)
    excused = np.zeros(rows, np.bool_)
    has_before, has_after = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    has_before[pairs.b], has_after[pairs.a] = True, True
    begins = np.isin(pairs.state_a, first) & ~has_before[pairs.a]
    ends = np.isin(pairs.state_b, last) & ~has_after[pairs.b]
    excused[pairs.a[begins]] = True
    excused[pairs.b[ends]] = True
    held: Mask = (bad > 0) & (good == 0) & ~excused
    # What comes after an end, or before a beginning, is out of place.
    ended = broken & np.isin(pairs.state_a, last) & ~np.isin(pairs.state_b, last)
    alone = ended & ~has_after[pairs.b]
    held[pairs.b[alone & (good[pairs.b] == 0)]] = True
    return held


def learn_chain(coded: Coded, layout: Layout) -> Chain | None:
    """Return the grammar of good rows, None where entities have hardly any neighbours."""
    values = marks(coded)
    states = [name for name, codes in values.items() if 1 < len(np.unique(codes)) <= 64]
    pairs = pair_up(coded, layout, tuple(states))
    if len(pairs.a) < 2 * _PAIRS or len(pairs.a) < 0.2 * len(coded):
        return None
    while states and not closed(pairs.state):
        singles = {}
        for name in states:
            rest = tuple(other for other in states if other != name)
            singles[name] = int((np.unique(pair_states(values, rest, pairs), return_counts=True)[1] == 1).sum())
        states.remove(min(states, key=lambda name: singles[name]))
        pairs = _restated(values, tuple(states), pairs)
    codes, keys = pd.factorize(pairs.state)
    counts = np.bincount(codes)
    often = {int(keys[place]) for place in np.flatnonzero(counts >= _PAIRS)}
    frame = pd.DataFrame({"state": pairs.state, "gap": pairs.gap})
    extremes = frame.groupby("state")["gap"].agg(["min", "max"])
    constant = {
        int(state): (float(low) - 2, float(high) + 2)
        for state, low, high in extremes.itertuples()
        if int(state) in often and high - low <= 1_000
    }
    gaps = {
        state: two_tails(pairs.gap[pairs.state == state].astype(np.float64)) for state in often if state not in constant
    }
    has_before, has_after = np.zeros(len(coded), np.bool_), np.zeros(len(coded), np.bool_)
    has_before[pairs.b], has_after[pairs.a] = True, True
    return Chain(
        layout,
        tuple(states),
        np.unique(pairs.state),
        _usual(pairs.state_a, ~has_before[pairs.a]),
        _usual(pairs.state_b, ~has_after[pairs.b]),
        _steps(coded, pairs, often),
        constant,
        gaps,
        _span_units(coded, pairs, often),
        _longest_runs(coded, pairs),
        _jumps(coded, pairs, often),
    )


def pair_states(values: Mapping[str, Ints], states: tuple[str, ...], pairs: Pairs) -> Ints:
    """Return the hash of both states of each pair, by ``states`` alone."""
    if not states:
        return np.zeros(len(pairs.a), np.int64)
    state = mixed([values[name] for name in states])
    return mixed([state[pairs.a], state[pairs.b]])


def _restated(values: Mapping[str, Ints], states: tuple[str, ...], pairs: Pairs) -> Pairs:
    rows = len(next(iter(values.values())))
    state = mixed([values[name] for name in states]) if states else np.zeros(rows, np.int64)
    both = mixed([state[pairs.a], state[pairs.b]])
    return Pairs(pairs.a, pairs.b, state[pairs.a], state[pairs.b], both, pairs.gap)


def _usual(states: Ints, ends: Mask) -> Ints:
    """Return the states that begin (or end) more than a few chains."""
    found, counts = np.unique(states[ends], return_counts=True)
    often: Ints = found[counts >= max(2, 0.001 * ends.sum())]
    return often


def _steps(coded: Coded, pairs: Pairs, often: set[int]) -> dict[str, dict[int, tuple[float, float]]]:
    """Return differences that are always the same, and numbers that never fall."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for name, values in coded.numbers.items():
        difference = values[pairs.b] - values[pairs.a]
        there = np.isfinite(difference)
        if there.sum() < _PAIRS:
            continue
        frame = pd.DataFrame({"state": pairs.state[there], "difference": difference[there]})
        bounds = frame.groupby("state")["difference"].agg(["min", "max", "size"])
        for state, low, high, size in bounds.itertuples():
            if size < _PAIRS or int(state) not in often:
                continue
            if high - low <= 1e-9 * max(1.0, abs(high)):
                found.setdefault(name, {})[int(state)] = (float(low), float(high))
            elif low >= 0 and size >= 3 * _PAIRS:
                found.setdefault(name, {})[int(state)] = (0.0, np.inf)
    return found


def _span_units(coded: Coded, pairs: Pairs, often: set[int]) -> dict[str, dict[int, float]]:
    """Return which number of the second row is the time between the two, and in which unit."""
    found: dict[str, dict[int, float]] = {}
    for name, values in coded.numbers.items():
        after = values[pairs.b]
        there = np.isfinite(after) & (pairs.gap > 0)
        for unit in _UNITS.values():
            off = there & (np.abs(after * unit - pairs.gap) > np.maximum(3.0, 0.002 * unit))
            frame = pd.DataFrame({"state": pairs.state[there], "off": off[there]})
            for state, wrong, size in frame.groupby("state")["off"].agg(["sum", "size"]).itertuples():
                if size >= _PAIRS and wrong == 0 and int(state) in often:
                    found.setdefault(name, {})[int(state)] = unit
    return found


def _longest_runs(coded: Coded, pairs: Pairs) -> dict[str, tuple[int, Floats]]:
    """Return, for numbers of long chains, how many equal neighbours in a row are not by chance, and idle values."""
    entities = len(coded) - len(pairs.a)
    if entities <= 0 or len(coded) / entities < 50:
        return {}
    found = {}
    for name, values in coded.numbers.items():
        if name in coded.codes or name.endswith("#"):
            continue
        there = np.isfinite(values[pairs.a]) & np.isfinite(values[pairs.b])
        if there.sum() < _PAIRS:
            continue
        often, times = np.unique(values[np.isfinite(values)], return_counts=True)
        idle = often[(times >= OFTEN * times.sum()) | (times == times.max())]
        same = there & (values[pairs.a] == values[pairs.b]) & ~np.isin(values[pairs.a], idle)
        share = float((same.sum() + 1) / (there.sum() + 2))
        starts = ~same | np.concatenate([[True], pairs.a[1:] != pairs.b[:-1]])
        longest = int(np.bincount(np.cumsum(starts), weights=same).max())
        if share < 0.5:
            # Twice the longest of so many is rarer than once in as many again.
            found[name] = (max(int(np.ceil(np.log(_RUN) / np.log(share))), 2 * longest + 1), idle)
    return found


def _jumps(coded: Coded, pairs: Pairs, often: set[int]) -> dict[str, dict[int, TwoTails]]:
    """Return the tails of the differences of numbers in long chains."""
    entities = len(coded) - len(pairs.a)
    if entities <= 0 or len(coded) / entities < 50:
        return {}
    found: dict[str, dict[int, TwoTails]] = {}
    for name, values in coded.numbers.items():
        if name in coded.codes or name.endswith("#"):
            continue
        difference = values[pairs.b] - values[pairs.a]
        for state in often:
            mine = difference[(pairs.state == state) & np.isfinite(difference)]
            if len(mine) >= _PAIRS:
                found.setdefault(name, {})[state] = two_tails(mine)
    return found
