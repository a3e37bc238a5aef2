"""Arrow columns to what a part of a source needs: microseconds, plain lists, running counts in groups.

What belongs here: conversions that sources share, vectorised. What does not: what a data set's columns mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from examples.source import Ints

T = TypeVar("T")


def microseconds(column: pa.ChunkedArray) -> Ints:
    """Return a timestamp column as microseconds since the epoch; a naive one is taken as UTC."""
    timestamps = column.cast(pa.timestamp("us", tz="UTC"), safe=False)
    return np.asarray(timestamps.cast(pa.int64()).to_numpy(), dtype=np.int64)


def codes(column: pa.ChunkedArray) -> Ints:
    """Return a number for each row, equal where the values are equal."""
    encoded = pc.dictionary_encode(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    return np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def grouped(*columns: Ints) -> Ints:
    """Return one number for each row, equal where the rows are equal in all ``columns``."""
    joint = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        _, dense = np.unique(column, return_inverse=True)
        joint = joint * (int(dense.max(initial=0)) + 1) + dense
    return joint


def running_count(groups: Ints, counted: NDArray[np.bool_] | None = None) -> Ints:
    """Return for each row how many rows of its group up to and with itself are ``counted`` (all, if None).

    ``groups`` is a number per row, rows in time order within a group; the result has its length.
    """
    order = np.argsort(groups, kind="stable")
    weights = np.ones(len(groups), np.int64) if counted is None else counted.astype(np.int64)
    total = np.cumsum(weights[order])
    sorted_groups = groups[order]
    first = np.r_[True, sorted_groups[1:] != sorted_groups[:-1]] if len(groups) else np.empty(0, bool)
    before = np.maximum.accumulate(np.where(first, total - weights[order], 0))
    result = np.empty(len(groups), np.int64)
    result[order] = total - before
    return result


def last_of(groups: Ints) -> Ints:
    """Return the position of each group's last row, one per group, in the groups' order."""
    if not len(groups):
        return np.empty(0, np.int64)
    order = np.argsort(groups, kind="stable")
    sorted_groups = groups[order]
    return np.asarray(order[np.r_[sorted_groups[1:] != sorted_groups[:-1], True]], dtype=np.int64)


def first_of(groups: Ints) -> Ints:
    """Return the position of each group's first row, one per group, in the groups' order."""
    return np.unique(groups, return_index=True)[1].astype(np.int64)


def texts(column: pa.ChunkedArray) -> list[str | None]:
    """Return a column as Python strings; equal values share one object, so a long column stays small."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    values: list[Any] = encoded.dictionary.cast(pa.large_string()).to_pylist()
    return [values[code] if code >= 0 else None for code in encoded.indices.fill_null(-1).to_pylist()]


def names(column: pa.ChunkedArray) -> list[str]:
    """Return a column as Python strings; null is empty, which no schema accepts: the router says what is wrong."""
    return [value or "" for value in texts(column)]


def mapped(column: pa.ChunkedArray, mapping: dict[str, str], default: str) -> list[str]:
    """Return a text column with each value replaced by ``mapping``, or by ``default`` where it holds none."""
    return [default if value is None else mapping.get(value, default) for value in texts(column)]


def pick(values: Sequence[T], rows: Ints) -> list[T]:
    """Return the ``values`` at ``rows``."""
    return [values[row] for row in rows.tolist()]
