"""Faults put into a stream of good tables, with the truth about every row kept beside.

What belongs here: where and when incidents happen, and the batches that come out. What does not: the edits themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmarks.faults.edits import COPY, HIDDEN, LATE, NUMBERS, ORIGIN, TEXTS, VARIES, apply, reshape
from benchmarks.faults.spec import Edit, FaultClass, FaultsError
from benchmarks.faults.stream import LAYOUT
from ml.verdicts.columns import micros
from ml.verdicts.types import Ints, Mask

HOUR_US = 3_600_000_000
#: Fewest rows of an incident, where so many qualify.
LEAST = 3
_TRIES = 40


@dataclass(frozen=True, slots=True)
class Incident:
    """One fault that was injected: rows of ``table`` in the hours ``hours``; ``touched`` are hours of arrival."""

    fault: FaultClass
    table: str
    hour: int
    touched: tuple[int, ...]
    rows: int
    column: str


@dataclass(slots=True)
class Batch:
    """An hour of a table as it came in; ``origin`` are the clean rows, ``copy`` and ``late`` the truth beside."""

    table: str
    hour: int
    frame: pd.DataFrame
    origin: Ints
    copy: Mask
    late: Mask
    touched: Mask
    incidents: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Changes:
    removed: Mask
    added: list[pd.DataFrame] = field(default_factory=list)
    schemas: dict[int, list[tuple[Edit, str, int]]] = field(default_factory=dict)
    by_hour: dict[int, list[int]] = field(default_factory=dict)


class Faulty:
    """A stream of good tables with incidents in it, each in hours of its own."""

    def __init__(self, clean: dict[str, pd.DataFrame], classes: Sequence[FaultClass], *, seed: int) -> None:
        self.clean = clean
        self.incidents: list[Incident] = []
        self._random = np.random.default_rng([seed, 11])
        self._hour = {name: micros(frame[LAYOUT.arrival]) // HOUR_US for name, frame in clean.items()}
        self._changes = {name: _Changes(np.zeros(len(frame), np.bool_)) for name, frame in clean.items()}
        first = min(int(hours.min()) for hours in self._hour.values())
        last = max(int(hours.max()) for hours in self._hour.values())
        # The last hour holds only what was still on its way.
        self.hours = range(first, last)
        self._place(classes)

    def _place(self, classes: Sequence[FaultClass]) -> None:
        """Give each incident hours of its own, with a quiet hour after; what does not fit is an error."""
        wanted = [fault for fault in classes for _ in range(fault.incidents)]
        free = list(self.hours[1:-2])
        need = sum(fault.hours + 1 for fault in wanted)
        if need > len(free):
            raise FaultsError(
                f"{len(wanted)} incidents need {need} hours, the stream has {len(free)}: fewer incidents or more --days"
            )
        order = self._random.permutation(len(wanted))
        # What is left of quiet hours is dealt out between the incidents.
        slack = np.sort(self._random.integers(0, len(free) - need + 1, len(wanted)))
        at = 0
        for place, number in enumerate(order.tolist()):
            self._inject(wanted[number], free[0] + at + int(slack[place]))
            at += wanted[number].hours + 1

    def _inject(self, fault: FaultClass, hour: int) -> None:
        names = [name for name in self.clean if fault.table in ("", name, name.rsplit(".", 1)[-1])]
        if not names:
            raise FaultsError(f"{fault.name}: no table {fault.table!r}; the stream has {', '.join(self.clean)}")
        for column in (edit.column for edit in fault.edits if edit.column):
            if not any(column in self.clean[name].columns for name in names):
                known = sorted({str(one) for name in names for one in self.clean[name].columns})
                raise FaultsError(
                    f"{fault.name}: no column {column!r} in {', '.join(names)}; there are {', '.join(known)}"
                )
        for _ in range(_TRIES):
            table = str(self._random.choice(names))
            if self._try(fault, table, hour):
                return
        raise FaultsError(f"{fault.name}: in no table does a row qualify for it and change by it")

    def _try(self, fault: FaultClass, table: str, hour: int) -> bool:
        frame, hours, changes = self.clean[table], self._hour[table], self._changes[table]
        places = np.flatnonzero((hours >= hour) & (hours < hour + fault.hours) & ~changes.removed)
        for column, values in fault.where.items():
            if column not in frame.columns:
                return False
            places = places[frame[column].iloc[places].isin(values).to_numpy()]
        if not len(places):
            return False
        window = frame.iloc[places]
        columns = [self._column(edit, window) for edit in fault.edits]
        if any(column is None for column in columns):
            return False
        number = len(self.incidents)
        touched = set(range(hour, hour + fault.hours))
        rows = 0
        edits = [(edit, column or "") for edit, column in zip(fault.edits, columns, strict=True)]
        if any(edit.kind != "schema" for edit, _ in edits):
            found = self._edit_rows(fault, edits, table, places, window)
            if found is None:
                return False
            rows, arrivals = found
            touched |= arrivals
        for edit, column in edits:
            if edit.kind == "schema":
                for one in range(hour, hour + fault.hours):
                    changes.schemas.setdefault(one, []).append((edit, column, int(self._random.integers(1 << 31))))
                rows = max(rows, len(places))
        for one in touched:
            changes.by_hour.setdefault(one, []).append(number)
        named = ", ".join(dict.fromkeys(column for column in columns if column))
        self.incidents.append(Incident(fault, table, hour, tuple(sorted(touched)), rows, named))
        return True

    def _column(self, edit: Edit, window: pd.DataFrame) -> str | None:
        """Return the column of an edit, drawn where it is not named; empty where it needs none, None for no such."""
        if edit.kind in ("row", "time") or (edit.kind, edit.verb) == ("schema", "add"):
            return ""
        if edit.column:
            return edit.column if edit.column in window.columns and window[edit.column].notna().any() else None
        fit = []
        for name in window.columns:
            if name in (LAYOUT.time, LAYOUT.arrival):
                continue
            numeric, there = pd.api.types.is_numeric_dtype(window[name]), window[name].dropna()
            if not len(there) or (edit.verb in NUMBERS and not numeric) or (edit.verb in TEXTS and numeric):
                continue
            if edit.verb in VARIES and there.nunique() < 2:
                continue
            fit.append(str(name))
        return str(self._random.choice(fit)) if fit else None

    def _edit_rows(
        self, fault: FaultClass, edits: list[tuple[Edit, str]], table: str, places: Ints, window: pd.DataFrame
    ) -> tuple[int, set[int]] | None:
        """Edit the chosen rows; return how many and the hours in which they now come, None where nothing changed."""
        fits = np.ones(len(places), np.bool_)
        for edit, column in edits:
            if edit.kind == "column":
                fits &= window[column].notna().to_numpy()
        if not fits.any():
            return None
        count = min(int(fits.sum()), max(LEAST, round(fault.rate * int(fits.sum()))))
        if any(edit.verb == "cut" for edit, _ in edits):
            chosen = np.flatnonzero(fits)[-count:]
        else:
            chosen = np.sort(self._random.choice(np.flatnonzero(fits), count, replace=False))
        before = window.iloc[chosen].copy()
        before[ORIGIN], before[COPY], before[LATE] = places[chosen], False, False
        rows = before
        for edit, column in edits:
            if edit.kind != "schema":
                if not len(rows):
                    break
                rows = apply(edit, rows, window, column, self._random)
        if any(edit.verb == "duplicate" for edit, _ in edits):
            # Of equal rows the first to come is the one that stands, whichever it was.
            rows = rows.sort_values(LAYOUT.arrival, kind="stable")
            rows[COPY] = rows[ORIGIN].duplicated()
        kept = rows[~rows[COPY]]
        same = np.zeros(len(places), np.bool_)
        if len(kept) == len(before) and len(rows) == len(before):
            unchanged = ~differs(kept, before, [name for name in before.columns if name not in HIDDEN])
            same[chosen[unchanged]] = True
            rows = rows[~unchanged]
            chosen = chosen[~unchanged]
        if not len(chosen):
            return None
        changes = self._changes[table]
        changes.removed[places[chosen]] = True
        if len(rows):
            changes.added.append(rows)
        return len(chosen), set((micros(rows[LAYOUT.arrival]) // HOUR_US).tolist())

    def batches(self) -> Iterator[Batch]:
        """Yield what comes in, hour by hour, table by table."""
        ready = {}
        for name, changes in self._changes.items():
            added = [(rows, micros(rows[LAYOUT.arrival]) // HOUR_US) for rows in changes.added]
            ready[name] = added
        for hour in self.hours:
            for name in self.clean:
                yield self._batch(name, hour, ready[name])

    def _batch(self, name: str, hour: int, added: list[tuple[pd.DataFrame, Ints]]) -> Batch:
        changes, hours = self._changes[name], self._hour[name]
        low, high = np.searchsorted(hours, [hour, hour + 1])
        places = low + np.flatnonzero(~changes.removed[low:high])
        frame = self.clean[name].iloc[places]
        origin = places
        flags = {COPY: np.zeros(len(places), np.bool_), LATE: np.zeros(len(places), np.bool_)}
        more = [rows[when == hour] for rows, when in added if (when == hour).any()]
        touched = np.zeros(len(places), np.bool_)
        if more:
            extra = pd.concat(more)
            origin = np.concatenate([origin, extra[ORIGIN].to_numpy(np.int64)])
            flags = {key: np.concatenate([flags[key], extra[key].to_numpy(np.bool_)]) for key in flags}
            touched = np.concatenate([touched, np.ones(len(extra), np.bool_)])
            frame = pd.concat([frame, extra.drop(columns=list(HIDDEN))], ignore_index=True)
            order = np.argsort(micros(frame[LAYOUT.arrival]), kind="stable")
            frame, origin, touched = frame.iloc[order], origin[order], touched[order]
            flags = {key: values[order] for key, values in flags.items()}
        frame = frame.reset_index(drop=True)
        for edit, column, seed in changes.schemas.get(hour, []):
            if edit.verb == "add" or column in frame.columns:
                frame = reshape(edit, frame, column, np.random.default_rng(seed))
        return Batch(name, hour, frame, origin, flags[COPY], flags[LATE], touched, changes.by_hour.get(hour, []))


def differs(rows: pd.DataFrame, clean: pd.DataFrame, names: Sequence[str]) -> Mask:
    """Return which rows differ in any of the columns ``names`` from the clean rows at the same place."""
    found = np.zeros(len(rows), np.bool_)
    for name in names:
        if name not in rows.columns:
            found |= clean[name].notna().to_numpy()
            continue
        a, b = rows[name], clean[name]
        null_a, null_b = a.isna().to_numpy(), b.isna().to_numpy()
        if pd.api.types.is_datetime64_any_dtype(b):
            same = micros(a) == micros(b)
        elif pd.api.types.is_numeric_dtype(b):
            if pd.api.types.is_numeric_dtype(a):
                x = a.to_numpy(np.float64, na_value=np.nan)
            else:  # a number that came as text is not the number
                x = np.array([v if isinstance(v, (int, float)) else np.nan for v in a], np.float64)
            y = b.to_numpy(np.float64, na_value=np.nan)
            same = np.abs(x - y) <= 1e-9 * np.maximum(1.0, np.abs(y))
        else:
            same = a.to_numpy(object) == b.to_numpy(object)
        found |= ~((same & ~null_a & ~null_b) | (null_a & null_b))
    return found
