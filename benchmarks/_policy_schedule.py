"""A schedule of faults that is given to ``saga_policy.py``, in whatever words and scales.

What belongs here: reading ``faults.parquet``. What does not: durations, and worlds (``_policy_worlds``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks._times import in_seconds
from examples.shop.world.faults import Fault, Kind, kind_of

Floats = NDArray[np.float64]
COLUMNS = {"participant", "kind", "start", "end", "severity"}
GAP = 600.0
"""A schedule's calm longer than this is cut to it: nothing happens in it that tells policies apart."""
_LEAD = 120.0
_SLOWS = (Kind.SLOW, Kind.DELAY)
_MOST_FACTOR = 20.0
"""A factor of slowness above this is not one: a percentage, or milliseconds."""
_WORDS = {"low": 0.25, "minor": 0.25, "medium": 0.5, "moderate": 0.5, "high": 0.75, "major": 0.75}
_FULL = 1.0


def schedule(file: Path, plan: tuple[str, ...]) -> tuple[Fault, ...]:
    """Return the faults, from the first one on, long calms cut short; what cannot be used is named and left out.

    Severities become what :class:`Fault` reads: a factor where it slows down, else a share of calls. A share may be
    given as one, in percent, or from 1 to 5 or 10; slowness as a factor, a share of the way to tenfold, or in percent
    of it. Words as "high" are quarters; where a severity is missing, a fault is whole.
    """
    if not file.is_file():
        raise SystemExit(f"{file} is not there: --data takes a folder with latency.parquet and faults.parquet.")
    rows = pd.read_parquet(file)
    if missing := COLUMNS - set(rows.columns):
        raise SystemExit(f"{file} lacks {', '.join(sorted(missing))}.")
    known = {_plain(name): name for name in plan}
    kept, kinds, names = [], [], []
    for place, (participant, word) in enumerate(zip(rows.participant.astype(str), rows.kind.astype(str), strict=True)):
        name = known.get(_plain(participant))
        try:
            kind = kind_of(word)
        except ValueError as error:
            print(f"left out: {error}")
            continue
        if name is None:
            print(f"left out: a fault of {participant}, which has no durations")
            continue
        kept.append(place)
        kinds.append(kind)
        names.append(name)
    rows = rows.iloc[kept]
    if rows.empty:
        return ()
    begins, ends = in_seconds(rows["start"]), in_seconds(rows["end"])
    severities = _severities(rows["severity"], kinds)
    faults = [
        Fault(*one)
        for one in zip(names, kinds, begins.tolist(), ends.tolist(), severities.tolist(), strict=True)
        if np.isfinite(one[2]) and np.isfinite(one[3]) and one[3] > one[2] and one[4] > 0.0
    ]
    if len(faults) < len(kept):
        print(f"left out: {len(kept) - len(faults)} faults without a length or without a severity")
    return _closer(sorted(faults, key=lambda fault: fault.start))


def is_slow(regime: str) -> bool:
    """Return whether a regime's name means that its durations are those of a brown-out."""
    try:
        return kind_of(regime) is Kind.SLOW
    except ValueError:
        return False


def _severities(column: pd.Series, kinds: list[Kind]) -> Floats:
    words = column.astype(str).str.strip().str.lower()
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, words.map(_WORDS).fillna(_FULL).to_numpy(dtype=np.float64))
    of = np.array([kind.value for kind in kinds])
    for kind in set(kinds):
        own = of == kind.value
        numbers[own] = (_factors if kind in _SLOWS else _shares)(numbers[own])
    return numbers


def _shares(numbers: Floats) -> Floats:
    """Return shares of calls; whole numbers above 1 are on a scale to 5, 10 or 100."""
    if (numbers == np.round(numbers)).all() or numbers.max() > 10.0:
        most = float(numbers.max())
        numbers = numbers / next((top for top in (1.0, 5.0, 10.0, 100.0) if most <= top), most)
    return np.clip(numbers, 0.0, 1.0)


def _factors(numbers: Floats) -> Floats:
    """Return factors of slowness, or shares of the way to tenfold."""
    most = float(numbers.max())
    if most <= _MOST_FACTOR:
        return numbers
    return np.where(numbers <= 1.0, numbers, numbers / max(most, 100.0))


def _plain(name: str) -> str:
    return name.strip().lower()


def _closer(faults: list[Fault]) -> tuple[Fault, ...]:
    if not faults:
        return ()
    shift, latest, moved = faults[0].start - _LEAD, faults[0].start, []
    for fault in faults:
        shift += max(0.0, fault.start - latest - GAP)
        moved.append(Fault(fault.participant, fault.kind, fault.start - shift, fault.end - shift, fault.severity))
        latest = max(latest, fault.end)
    return tuple(moved)
