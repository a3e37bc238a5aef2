"""A batch's columns brought to those that were learned: renamed ones found again, new ones set aside, lost ones told.

What belongs here: names and types of columns. What does not: values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.verdicts.columns import Coded, Column, _encode_numbers, _encode_texts

#: Share of good values from which on a column of an unknown name may be the one that is missing.
_LIKE = 0.99


@dataclass(frozen=True, slots=True)
class Alignment:
    """``renamed`` maps the new name to the learned one; ``retyped`` are columns of numbers that came as text."""

    frame: pd.DataFrame
    renamed: Mapping[str, str]
    added: tuple[str, ...]
    lost: tuple[str, ...]
    retyped: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """Return what changed, a sentence each."""
        return [
            *(f"column {new} is {old} renamed" for new, old in self.renamed.items()),
            *(f"column {name} is new" for name in self.added),
            *(f"column {name} is missing" for name in self.lost),
            *(f"column {name} has another type" for name in self.retyped),
        ]


def align(frame: pd.DataFrame, columns: Mapping[str, Column], times: tuple[str, ...]) -> Alignment:
    """Return ``frame`` with exactly the learned columns and ``times``; a lost column is all null."""
    wanted = [*columns, *times]
    lost = [name for name in wanted if name not in frame.columns]
    extra = [str(name) for name in frame.columns if name not in wanted]
    likely = {old: [new for new in extra if _like(frame[new], columns.get(old))] for old in lost if len(frame)}
    renamed = {
        found[0]: old
        for old, found in likely.items()
        if len(found) == 1 and sum(found[0] in others for others in likely.values()) == 1
    }
    aligned = frame.rename(columns=dict(renamed))
    for name in lost:
        if name not in aligned.columns:
            empty = np.datetime64("NaT", "us") if name in times else None
            aligned[name] = pd.Series(
                [empty] * len(frame), index=aligned.index, dtype="datetime64[us]" if name in times else "object"
            )
    retyped = tuple(name for name, column in columns.items() if name not in lost and not _typed(frame[name], column))
    return Alignment(
        aligned[wanted],
        renamed,
        tuple(name for name in extra if name not in renamed),
        tuple(name for name in lost if name not in renamed.values()),
        retyped,
    )


def _typed(values: pd.Series, column: Column) -> bool:
    """Return whether the column has its learned type, whatever single values are."""
    numeric = pd.api.types.is_numeric_dtype(values)
    if column.kind == "number":
        # A batch of text where every value is text is another type; single texts among numbers are wrong values.
        return (
            numeric or bool(values.isna().all()) or not values.dropna().map(lambda value: isinstance(value, str)).all()
        )
    return not numeric or bool(values.isna().all())


def _like(values: pd.Series, column: Column | None) -> bool:
    """Return whether ``values`` could be the learned column's."""
    if column is None:
        return pd.api.types.is_datetime64_any_dtype(values)
    if pd.api.types.is_datetime64_any_dtype(values) or (column.kind == "number") != pd.api.types.is_numeric_dtype(
        values
    ):
        return False
    null = values.isna().to_numpy()
    if null.all() or (null.any() and not column.nullable):
        return False
    coded = Coded(pd.DataFrame(index=values.index))
    (_encode_numbers if column.kind == "number" else _encode_texts)(coded, column, values)
    return bool((~coded.wrong[column.name][~null]).mean() >= _LIKE)
