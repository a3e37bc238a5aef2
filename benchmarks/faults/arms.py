"""Who judges the stream: ours, rules alone, and nobody.

What belongs here: each arm's verdicts and alarms for an hour of all tables. What does not: truth and scoring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.faults.inject import HOUR_US, Batch
from benchmarks.faults.stream import LAYOUT
from ml.monitors import baseline
from ml.monitors.measures import measure, reference
from ml.monitors.rounds import alarms, leading
from ml.monitors.types import Reference
from ml.verdicts import rulebook
from ml.verdicts.columns import Column, encode, learn_column, micros
from ml.verdicts.schema import align
from ml.verdicts.types import COLLAPSED, QUARANTINED, SERVED, Judged, Mask
from ml.verdicts.watch import p_values

Tables = Mapping[str, pd.DataFrame]
_HELD = "__held"


@dataclass(slots=True)
class Round:
    """An arm's word on one hour: verdicts by table, alarms as ``table/check``, and how many checks there are.

    ``broken`` are all checks that alarmed, of which those of one table in one hour are one alarm.
    """

    judged: dict[str, Judged]
    alarms: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    checks: set[str] = field(default_factory=set)


class Arm(Protocol):
    """Judges hour after hour, in order."""

    def round(self, batches: Sequence[Batch]) -> Round:
        """Return verdicts and alarms for one hour of every table."""


class Nothing:
    """Serves every row as it came."""

    def round(self, batches: Sequence[Batch]) -> Round:
        """Return that all is well."""
        return Round({batch.table: _served(batch.frame) for batch in batches})


def _served(frame: pd.DataFrame) -> Judged:
    return Judged(frame, np.full(len(frame), SERVED, np.int8), np.zeros(len(frame), np.bool_))


class Ours:
    """Rulebooks for rows, monitors for hours, one rate of false alarms over all of them."""

    memory = 50

    def __init__(self, good: Tables) -> None:
        self.books = rulebook.pooled({name: rulebook.learn(frame, LAYOUT) for name, frame in good.items()})
        self._references: dict[str, dict[str, Reference]] = {}
        self._baselines: dict[str, baseline.Baseline] = {}
        for name, frame in good.items():
            skip = (*LAYOUT.key[-1:], LAYOUT.time, LAYOUT.arrival)
            self._references[name] = reference(frame, skip)
            arrival = micros(frame[LAYOUT.arrival])
            hours = arrival // HOUR_US
            every = list(range(int(hours[0]) + 1, int(hours[-1])))
            bounds = np.searchsorted(hours, [*every, every[-1] + 1])
            history = [
                measure(
                    frame.iloc[low:high],
                    self._references[name],
                    arrival[low:high],
                    (hour * HOUR_US, (hour + 1) * HOUR_US),
                )
                for hour, low, high in zip(every, bounds[:-1], bounds[1:], strict=True)
            ]
            self._baselines[name] = baseline.learn(every, history)
        self._came: dict[str, list[pd.DataFrame]] = {
            name: [frame.iloc[-20_000:].assign(**{_HELD: False})] for name, frame in good.items()
        }

    def round(self, batches: Sequence[Batch]) -> Round:
        """Judge the rows, then all checks and monitors together; what is alarmed is looked at harder."""
        p: dict[str, float] = {}
        judged, hard = {}, set()
        for batch in batches:
            book = self.books[batch.table]
            one = judged[batch.table] = book.judge(batch.frame, *self._context(batch))
            hard |= {f"{batch.table}/{check}" for check in one.hard}
            p |= {f"{batch.table}/{check}": value for check, value in p_values(book, one).items()}
            bounds = (batch.hour * HOUR_US, (batch.hour + 1) * HOUR_US)
            measures = measure(batch.frame, self._references[batch.table], micros(batch.frame[LAYOUT.arrival]), bounds)
            for check, value in self._baselines[batch.table].p(batch.hour, measures).items():
                p[f"{batch.table}/{check}"] = value
        found = alarms(p) | hard
        for batch in batches:
            suspects = {check.split("/", 1)[1] for check in found if check.startswith(f"{batch.table}/")}
            rulebook.look_harder(judged[batch.table], suspects)
            self._remember(batch.table, judged[batch.table])
        return Round(judged, leading(found, p), found, set(p) | {f"{batch.table}/schema" for batch in batches})

    def _context(self, batch: Batch) -> tuple[pd.DataFrame, Mask]:
        """Return what came in the hours before, further back for late rows' entities, and what of it was held back."""
        recent = self._came[batch.table]
        parts = recent[-2:]
        if {LAYOUT.time, LAYOUT.arrival, LAYOUT.entity} <= set(batch.frame.columns):
            old = micros(batch.frame[LAYOUT.arrival]) - micros(batch.frame[LAYOUT.time]) > HOUR_US
            if old.any():
                entities = set(batch.frame[LAYOUT.entity][old])
                parts = [*(one[one[LAYOUT.entity].isin(entities)] for one in recent[:-2]), *parts]
        context = pd.concat(parts, ignore_index=True)
        return context, context[_HELD].to_numpy(np.bool_)

    def _remember(self, table: str, judged: Judged) -> None:
        came = judged.frame.assign(**{_HELD: judged.verdict == QUARANTINED})
        self._came[table] = [*self._came[table], came[judged.verdict != COLLAPSED]][-self.memory :]


@dataclass(frozen=True, slots=True)
class _Contract:
    columns: dict[str, Column]
    needed: Mapping[str, frozenset[str]]
    bounds: Mapping[str, tuple[float, float]]
    rows: tuple[float, float]
    lag: float


class Rules:
    """Expectations as a careful person would write them for each event type, their bounds widened by ``margin``.

    Not null (by type), in set, matches a pattern, decimals, between, unique, columns, row count, freshness.
    """

    def __init__(self, good: Tables, *, margin: float) -> None:
        self._contracts = {}
        for name, frame in good.items():
            names = [column for column in frame.columns if column not in (LAYOUT.time, LAYOUT.arrival)]
            columns = {column: learn_column(column, frame[column]) for column in names}
            needed = {
                str(kind): frozenset(column for column in names if mine[column].notna().all())
                for kind, mine in frame.groupby("event_type")
            }
            bounds = {}
            for column in names:
                if columns[column].kind == "number" and columns[column].vocabulary is None:
                    low, high = float(frame[column].min()), float(frame[column].max())
                    wide = margin * (high - low)
                    bounds[column] = (0.0 if low >= 0 and low - wide < 0 else low - wide, high + wide)
            per_hour = np.bincount(
                (micros(frame[LAYOUT.arrival]) // HOUR_US) - int(micros(frame[LAYOUT.arrival])[0] // HOUR_US)
            )[1:-1]
            lag = float((micros(frame[LAYOUT.arrival]) - micros(frame[LAYOUT.time])).max())
            rows = (per_hour.min() / (1 + margin), per_hour.max() * (1 + margin))
            self._contracts[name] = _Contract(columns, needed, bounds, rows, lag * (1 + margin))

    def round(self, batches: Sequence[Batch]) -> Round:
        """Hold back each row that breaks a rule; a rule that any row breaks is an alarm."""
        judged: dict[str, Judged] = {}
        found: set[str] = set()
        checks: set[str] = set()
        for batch in batches:
            judged[batch.table], broken = self._judge(batch)
            checks |= {f"{batch.table}/{check}" for check in broken}
            found |= {f"{batch.table}/{check}" for check, bad in broken.items() if bad}
        return Round(judged, leading(found, {}), found, checks)

    def _judge(self, batch: Batch) -> tuple[Judged, dict[str, bool]]:
        contract = self._contracts[batch.table]
        frame = batch.frame
        aligned = align(frame, contract.columns, (LAYOUT.time, LAYOUT.arrival))
        coded = encode(aligned.frame, contract.columns, LAYOUT)
        held = np.zeros(len(frame), np.bool_)
        broken: dict[str, bool] = {
            "schema": bool(aligned.words),
            "volume": not contract.rows[0] <= len(frame) <= contract.rows[1],
        }

        def note(check: str, bad: NDArray[np.bool_]) -> None:
            nonlocal held
            held |= bad
            broken[check] = bool(bad.any())

        for name in contract.columns:
            note(f"form:{name}", coded.wrong[name] | coded.normalised[name])
        for name, (low, high) in contract.bounds.items():
            with np.errstate(invalid="ignore"):
                note(f"between:{name}", (coded.numbers[name] < low) | (coded.numbers[name] > high))
        nulls: Mask = np.zeros(len(frame), np.bool_)
        types = aligned.frame["event_type"].to_numpy(object)
        for kind, needed in contract.needed.items():
            mine = types == kind
            for name in needed:
                nulls |= mine & coded.nulls[name]
        note("nulls", nulls)
        note("unique", aligned.frame.duplicated(list(LAYOUT.key)).to_numpy())
        lag = coded.arrival - coded.time
        note("freshness", (lag > contract.lag) | (lag < 0))
        # Renamed columns are not found again by a rule: every row of a changed schema that needs it is held back.
        if aligned.renamed or aligned.lost:
            gone = [*aligned.renamed.values(), *aligned.lost]
            held |= aligned.frame[[name for name in gone if name in aligned.frame]].notna().any(axis=1).to_numpy()
        return Judged(
            frame, np.where(held, QUARANTINED, SERVED).astype(np.int8), np.zeros(len(frame), np.bool_)
        ), broken
