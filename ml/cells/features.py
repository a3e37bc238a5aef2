"""All evidence of a table's cells as one matrix a column, comparable between columns and tables.

What belongs here: assembly, and the second look, which knows what the first one thought of the cell's row, value and
source. What does not: models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ml.cells.context import Dependency, context_features, dependency, foreign_features, part_features
from ml.cells.spelling import spelling_features
from ml.cells.table import Floats, Table
from ml.cells.values import value_features

_SOURCES = 8
"""Columns by whose values the first look is averaged at most."""


@dataclass(frozen=True)
class Evidence:
    """``matrix`` (rows x columns of the table, features) float32, column after column; ``names`` (features,)."""

    table: Table
    names: tuple[str, ...]
    matrix: np.ndarray
    dependencies: list[list[Dependency]]

    @cached_property
    def cells(self) -> tuple[int, int]:
        """Return rows and columns of the table."""
        return self.table.shape


def evidence(table: Table) -> Evidence:
    """Return the evidence for every cell of a table."""
    n, width = table.shape
    context, dependencies = context_features(table)
    foreign, parts = foreign_features(table), part_features(table)
    blocks = []
    names: tuple[str, ...] = ()
    for index, column in enumerate(table.columns):
        by_value = value_features(column) | spelling_features(column) | foreign[index]
        by_row = context[index] | parts[index]
        names = (*by_value, *by_row, "table_rows", "table_columns")
        block = np.empty((n, len(names)), dtype=np.float32)
        for place, values in enumerate(by_value.values()):
            block[:, place] = values[column.codes]
        for place, values in enumerate(by_row.values(), len(by_value)):
            block[:, place] = values
        block[:, -2], block[:, -1] = np.log(n), np.log(width)
        blocks.append(block)
    return Evidence(table, names, np.concatenate(blocks), dependencies)


SECOND = (
    "p",
    "p_row",
    "p_row_max",
    "p_column",
    "p_value",
    "p_source",
    "p_source_low",
    "vote_margin",
    "vote_support",
    "vote_own",
)
"""What the second look adds."""


def second_look(found: Evidence, first: Floats) -> np.ndarray:
    """Return (cells, len(SECOND)): what the first look's probabilities (n, columns) say of a cell's surroundings."""
    table = found.table
    n, width = table.shape
    logit = np.log(np.clip(first, 1e-4, 1 - 1e-4) / np.clip(1 - first, 1e-4, 1))
    sources = [c for c in table.columns if 1 < len(c.values) <= max(n // 4, 2)]
    sources = sorted(sources, key=lambda c: len(c.values))[:_SOURCES]
    out = np.zeros((width, n, len(SECOND)), dtype=np.float32)
    total, most = first.sum(axis=1), np.sort(first, axis=1)
    for index, column in enumerate(table.columns):
        p = first[:, index]
        rest_max = most[:, -1] if width == 1 else np.where(p >= most[:, -1], most[:, -2], most[:, -1])
        high, low = np.full(n, -1.0), np.full(n, 1.0)
        for source in sources:
            if source is column:
                continue
            sums, sizes = np.bincount(source.codes, p), source.counts
            mean = (sums[source.codes] - p + 5 * p.mean()) / (sizes[source.codes] - 1 + 5) - p.mean()
            high, low = np.maximum(high, mean), np.minimum(low, mean)
        by_value = np.bincount(column.codes, p)[column.codes] / column.counts[column.codes]
        out[index, :, :7] = np.stack(
            [logit[:, index], (total - p) / max(width - 1, 1), rest_max, np.full(n, p.mean()), by_value, high, low],
            axis=1,
        )
        if found.dependencies[index]:
            strongest = found.dependencies[index][0]
            vote = dependency(table.columns[strongest.of], column, strongest.of, np.clip(1 - p, 0.02, 1))
            out[index, :, 7:] = np.stack([vote.margin, vote.support, vote.own], axis=1)
    return out.reshape(width * n, -1)
