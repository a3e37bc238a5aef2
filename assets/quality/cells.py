"""Learned validation of a warehouse table: read a sample, keep the findings; keep a steward's answers.

What belongs here: reading and writing. What does not: the finding itself (``ml.cells``) and asking (``cli.quality``).

Findings and labels name a row by a hash of its sorting key: no value of the table is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from assets.quality.cell_model import shipped
from assets.quality.pushdown import quoted
from resources.errors import WarehouseError
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ml.cells.detector import Detector

FINDINGS = "quality.cell_findings"
LABELS = "quality.cell_labels"
SAMPLE = 20_000
_NAME = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*")


@dataclass(frozen=True)
class Sample:
    """Rows of a table as text: ``cells`` per column, ``keys`` per row."""

    table: str
    columns: tuple[str, ...]
    keys: list[str]
    cells: dict[str, list[str]]


@dataclass(frozen=True)
class Assessment:
    """What was found: ``p`` (rows, columns), the threshold, the labelled rows that were known."""

    sample: Sample
    detector: Detector
    p: NDArray[np.float64]
    threshold: float
    labelled: NDArray[np.int64]


def read(warehouse: Warehouse, name: str, *, rows: int = SAMPLE) -> Sample:
    """Read at most ``rows`` rows of ``database.table``, the same ones each time while the table is the same.

    Raises:
        WarehouseError: no such table, no sorting key to name rows by, or no row.
    """
    if not _NAME.fullmatch(name):
        raise WarehouseError(f"{name!r} is no table: say database.table")
    database, _, table = name.partition(".")
    where = {"database": database, "table": table}
    described = warehouse.query_rows(
        "SELECT name, is_in_sorting_key AS sorts FROM system.columns"
        " WHERE database = {database:String} AND table = {table:String} ORDER BY position",
        where,
    )
    if not described:
        raise WarehouseError(f"there is no table {name}")
    keys = [str(column["name"]) for column in described if column["sorts"]]
    if not keys:
        raise WarehouseError(f"{name} has no sorting key, by which a finding could name its row")
    columns = tuple(str(column["name"]) for column in described)
    key = "hex(sipHash128(" + ", ".join(f"ifNull(toString({quoted(column)}), '')" for column in keys) + "))"
    texts = ", ".join(
        f"ifNull(toString({quoted(column)}), '') AS {quoted(f'c{at}')}" for at, column in enumerate(columns)
    )
    found = warehouse.query_arrow(
        f"SELECT {key} AS row_key, {texts} FROM {quoted(database)}.{quoted(table)}"  # noqa: S608 -- checked and quoted
        " ORDER BY row_key LIMIT {rows:UInt32}",
        {"rows": rows},
    )
    if not found.num_rows:
        raise WarehouseError(f"{name} has no row")
    cells = {column: [_text(v) for v in found.column(f"c{at}").to_pylist()] for at, column in enumerate(columns)}
    return Sample(name, columns, [_text(v) for v in found.column("row_key").to_pylist()], cells)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def labels(warehouse: Warehouse, sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the labelled rows of a sample, (k,), and which of their cells are wrong, (k, columns)."""
    import numpy as np

    known = warehouse.query_rows(
        f"SELECT row_key, wrong_columns FROM {LABELS} FINAL WHERE table_name = {{table:String}}",  # noqa: S608 -- a constant
        {"table": sample.table},
    )
    place = {key: row for row, key in enumerate(sample.keys)}
    here = [(place[row["row_key"]], set(row["wrong_columns"])) for row in known if row["row_key"] in place]
    wrong = np.array([[column in said for column in sample.columns] for _, said in here], dtype=bool)
    return np.array([row for row, _ in here], dtype=np.int64), wrong.reshape(len(here), len(sample.columns))


def assess(warehouse: Warehouse, name: str, *, rows: int = SAMPLE) -> Assessment:
    """Return each cell's probability to be wrong, with what stewards said so far."""
    import numpy as np

    from ml.cells.detector import Detector, threshold
    from ml.cells.table import table

    sample = read(warehouse, name, rows=rows)
    asked, wrong = labels(warehouse, sample)
    detector = Detector(table([(column, sample.cells[column]) for column in sample.columns]), shipped())
    p = detector.labelled(asked, wrong)
    rest = np.delete(p, asked, axis=0)
    return Assessment(sample, detector, p, threshold(rest) if rest.size else 0.5, asked)


def keep(warehouse: Warehouse, found: Assessment, *, run_id: str) -> int:
    """Write the cells at or above the threshold to ``quality.cell_findings``; return how many."""
    import numpy as np

    now = datetime.now(UTC)
    rows, columns = np.nonzero(found.p >= found.threshold)
    warehouse.insert_rows(
        FINDINGS,
        [
            {
                "found_at": now,
                "run_id": run_id,
                "table_name": found.sample.table,
                "row_key": found.sample.keys[row],
                "column_name": found.sample.columns[column],
                "probability": float(found.p[row, column]),
                "labelled_rows": len(found.labelled),
            }
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ],
        token=f"cells/{run_id}",
    )
    return len(rows)


def answer(warehouse: Warehouse, sample: Sample, answers: Mapping[int, Sequence[str]], *, actor: str) -> None:
    """Keep what a steward said: per row of the sample the columns that are wrong. Writes an audit row first.

    Raises:
        WarehouseError: a row or a column that the sample has not.
    """
    for row, wrong in answers.items():
        if not 0 <= row < len(sample.keys):
            raise WarehouseError(f"the sample has no row {row}")
        if strange := set(wrong) - set(sample.columns):
            raise WarehouseError(f"{sample.table} has no column {', '.join(sorted(strange))}")
    details = json.dumps({"rows": len(answers), "wrong_cells": sum(map(len, answers.values()))})
    warehouse.insert_rows(
        "ops.audit", [{"actor": actor, "action": "quality_cells_labelled", "subject": sample.table, "details": details}]
    )
    now = datetime.now(UTC)
    warehouse.insert_rows(
        LABELS,
        [
            {
                "table_name": sample.table,
                "row_key": sample.keys[row],
                "wrong_columns": list(wrong),
                "labelled_at": now,
                "actor": actor,
            }
            for row, wrong in answers.items()
        ],
    )
