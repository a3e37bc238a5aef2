"""Metadata of the BI assets' materializations: rows, and which columns a column is made of.

What belongs here: small facts about a table that was just built. What does not: the build (``assets.bi.assets``)
and how lineage is read from SQL (``assets.bi.lineage``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from assets.bi.lineage import column_lineage
from resources.warehouse import WarehouseResource


def row_count(warehouse: WarehouseResource, asset: Mapping[str, Any]) -> dict[str, int]:
    """Return the rows of a table as metadata, from the engine's own count; nothing for a view."""
    if asset["materialized"] == "view":
        return {}
    database, table = asset["relation"]
    rows = warehouse.query_rows(
        "SELECT total_rows FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": database, "table": table},
    )
    return {"dagster/row_count": int(rows[0]["total_rows"])} if rows else {}


class Lineage:
    """Column lineage of the models, read from their compiled SQL once and then from a file.

    A project has one lineage as long as its files are the same, and reading it takes seconds: the file's name holds the
    project's digest.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, dict[str, list[tuple[list[str], str]]]] = {}
        self._grew = False
        if file.exists():
            self._known = json.loads(file.read_bytes())

    def of(self, asset: Mapping[str, Any], target: Path) -> dg.TableColumnLineage:
        """Return the lineage of a model whose compiled SQL lies under ``target``; empty where it cannot be read."""
        name = asset["name"]
        if name not in self._known:
            self._known[name] = self._read(asset, target)
            self._grew = True
        return dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(asset_key=dg.AssetKey(key), column_name=origin) for key, origin in origins]
                for column, origins in self._known[name].items()
            }
        )

    def _read(self, asset: Mapping[str, Any], target: Path) -> dict[str, list[tuple[list[str], str]]]:
        compiled = target / "compiled" / "isthmus" / asset["file"]
        if not compiled.exists():
            return {}
        parents = {tuple(parent["relation"]): parent["columns"] for parent in asset["parents"]}
        found = column_lineage(compiled.read_text(), [column["name"] for column in asset["columns"]], parents)
        keys = {tuple(parent["relation"]): parent["key"] for parent in asset["parents"]}
        return {column: [(keys[relation], name) for relation, name in origins] for column, origins in found.items()}

    def save(self) -> None:
        """Keep what was read, for the next run."""
        if self._grew:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft = self._file.with_suffix(".draft")
            draft.write_text(json.dumps(self._known))
            draft.rename(self._file)
