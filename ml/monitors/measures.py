"""What is measured of a table in an hour: rows, the longest silence, nulls and the spread of each column.

What belongs here: measures and their reference bins, from arrays. What does not: the SQL that gets the same in the
warehouse (``assets.quality.monitors``), what is usual (``baseline``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.monitors.types import BINS, VALUES, Measures, Reference


def reference(frame: pd.DataFrame, skip: tuple[str, ...] = ()) -> dict[str, Reference]:
    """Return the bins of each column of good rows; texts of many values have none."""
    found = {}
    for name in frame.columns:
        values = frame[name].dropna()
        if name in skip or not len(values) or pd.api.types.is_datetime64_any_dtype(values):
            continue
        if pd.api.types.is_numeric_dtype(values):
            edges = np.unique(np.quantile(values.to_numpy(np.float64), np.linspace(0, 1, BINS + 1)[1:-1]))
            found[str(name)] = Reference(edges=tuple(edges.tolist()))
        else:
            often = values.astype(str).value_counts()
            if len(often) <= VALUES:
                found[str(name)] = Reference(values=tuple(sorted(often.index)))
    return found


def measure(
    frame: pd.DataFrame, by: Mapping[str, Reference], arrival_us: NDArray[np.int64], bounds_us: tuple[int, int]
) -> Measures:
    """Return the measures of rows that came between ``bounds_us``; a column that is missing counts as null."""
    moments = np.concatenate([[bounds_us[0]], np.sort(arrival_us), [bounds_us[1]]])
    nulls, counts = {}, {}
    for name, one in by.items():
        if name not in frame.columns:
            nulls[name], counts[name] = len(frame), (0,) * (len(one.edges or one.values) + 1)
            continue
        values = frame[name]
        nulls[name] = int(values.isna().sum())
        if one.values:
            codes = pd.Index(one.values).get_indexer(pd.Index(values.dropna().astype(str)))
            found = np.bincount(np.where(codes < 0, len(one.values), codes), minlength=len(one.values) + 1)
        else:
            numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
            numbers = numbers[np.isfinite(numbers)]
            found = np.bincount(np.searchsorted(one.edges, numbers, side="left"), minlength=len(one.edges) + 1)
        counts[name] = tuple(found.tolist())
    return Measures(len(frame), float(np.diff(moments).max()) / 1e6, nulls, counts)
