"""Cells that are probably wrong, of the tables that are listed, found without rules.

What belongs here: the asset and its checks. What does not: reading and keeping (``cells``), finding (``ml.cells``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg

from assets.permanent import no_retry_of_permanent
from assets.quality import cells
from resources.errors import WarehouseError, WarehouseUnavailable
from resources.warehouse import Warehouse, WarehouseResource

CELLS = dg.AssetKey(["quality", "cells"])
#: Rows of a table that are looked at in the hourly run.
ROWS = 2_000
#: Share of a table's cells from which on the findings are worth a steward's look.
WORTH = 0.01


class ScannedError(ValueError):
    """A list of scanned tables that cannot be used; the text names the entry."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A table and the asset that makes it."""

    asset: str
    table: str

    @property
    def check(self) -> str:
        """Return the name of its check."""
        return f"cells_{self.asset.replace('/', '_')}"


@lru_cache
def scanned(path: Path = Path(__file__).parent / "cells.yml") -> tuple[Scanned, ...]:
    """Return the tables that are looked at. Raises :class:`ScannedError`."""
    import yaml  # type: ignore[import-untyped]

    try:
        found = tuple(Scanned(**entry) for entry in yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, TypeError) as error:
        raise ScannedError(f"{path.name}: a list of {{asset: NAME, table: DATABASE.TABLE}}: {error}") from error
    for one in found:
        if one.table.count(".") != 1:
            raise ScannedError(f"{path.name}: {one.table} is not database.table")
    return found


@dg.asset(
    key=CELLS,
    deps=[dg.AssetKey(one.asset.split("/")) for one in scanned()],
    group_name="quality",
    owners=["team:data"],
    kinds={"python", "clickhouse"},
    description="Cells of tables that are probably wrong, with what stewards said of rows; found without rules.",
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=25)),
    check_specs=[
        dg.AssetCheckSpec(
            one.check,
            asset=CELLS,
            description=f"Hardly a cell of {one.table} is probably wrong.",
            metadata={"severity": "WARN"},
        )
        for one in scanned()
    ],
    hooks={no_retry_of_permanent},
)
def quality_cells(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Look at a sample of each table; keep the findings, without a value."""
    looks = [look(warehouse, one, run_id=context.run_id) for one in scanned()]
    yield dg.MaterializeResult(
        asset_key=CELLS,
        metadata={
            "cells": sum(one.cells for one in looks),
            "probably wrong": sum(one.wrong for one in looks),
            "by column": dg.MetadataValue.md("\n".join(f"- {one.said}" for one in looks)),
        },
    )
    for one in looks:
        yield dg.AssetCheckResult(
            asset_key=CELLS,
            check_name=one.scanned.check,
            passed=not one.failed and one.wrong <= WORTH * one.cells,
            severity=dg.AssetCheckSeverity.WARN,
            description=one.said[:2000],
            metadata={"cells": one.cells, "probably_wrong": one.wrong, "labelled_rows": one.labelled},
        )


@dataclass(frozen=True, slots=True)
class Look:
    """What came of one table."""

    scanned: Scanned
    cells: int
    wrong: int
    labelled: int
    said: str
    failed: bool = False


def look(warehouse: Warehouse, one: Scanned, *, run_id: str) -> Look:
    """Score a table and keep its findings; a table that cannot be scored says why, without a value of it."""
    from ml.cells.table import BadTable

    try:
        found = cells.assess(warehouse, one.table, rows=ROWS)
    except WarehouseUnavailable:
        raise
    except (WarehouseError, BadTable) as error:
        # A table without rows has no wrong cell; anything else is worth a look.
        empty = isinstance(error, WarehouseError) and str(error).endswith("has no row")
        said = f"{one.table}: {'has no row' if empty else f'could not be looked at ({type(error).__name__})'}"
        return Look(one, 0, 0, 0, said, failed=not empty)
    kept = cells.keep(warehouse, found, run_id=f"{run_id}/{one.table}")
    by_column = Counter(found.sample.columns[at] for at in (found.p >= found.threshold).nonzero()[1].tolist())
    listed = ", ".join(f"{name} {count:,}" for name, count in by_column.most_common(8)) or "none"
    return Look(one, found.p.size, kept, len(found.labelled), f"{one.table}, {len(found.p):,} rows: {listed}")
