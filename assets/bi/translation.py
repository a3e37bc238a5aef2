"""From dbt's manifest to assets: the one translator, and the graph as JSON that ``assets.bi.assets`` loads from.

What belongs here: everything that needs dagster-dbt to describe assets. What does not: running dbt
(``assets.bi.assets``). ``python -m assets.bi.translation DIGEST`` parses the project and writes the prepared graph.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings

from assets.bi.project import dbt_executable, prepared_folder

RAW_EVENTS = dg.AssetKey(["raw", "events"])


class BiTranslator(DagsterDbtTranslator):  # type: ignore[misc]  # dagster-dbt is not typed here
    """Keys as ``staging/stg_saga_events``; all tables that landing writes are the one asset ``raw/events``."""

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any = None) -> dg.AssetSpec:
        """Return the asset of a dbt node: its group, owner, kinds and key in this platform's terms."""
        spec: dg.AssetSpec = super().get_asset_spec(manifest, unique_id, project)
        node = self.get_resource_props(manifest, unique_id)
        if node["resource_type"] == "source":
            return spec.replace_attributes(key=RAW_EVENTS) if node["source_name"] == "raw" else spec
        kind = "view" if node["config"]["materialized"] == "view" else "table"
        return spec.replace_attributes(
            key=dg.AssetKey([node["schema"], node["name"]]),
            group_name="bi",
            owners=["team:data" if node["schema"] == "marts" else "team:platform"],
            kinds={"dbt", "clickhouse", kind},
        )


def describe(manifest: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """Return the project's models as assets and its tests as checks, in plain values.

    An asset: ``key``, ``deps`` (lists of parts), ``name``, ``unique_id``, ``relation`` (database, table), ``file``,
    ``materialized``, ``parents`` (``key``, ``relation``, ``columns`` of each table that it reads), ``description``,
    ``owners``, ``kinds``, ``code_version``, ``columns`` (``name``, ``type``, ``description``). A check: ``key`` (its
    asset's), ``name``, ``unique_id``, ``description``, ``deps``, ``blocking``.
    """
    translator = BiTranslator()
    models = {uid: node for uid, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    assets, checks = [], []
    for unique_id, node in sorted(models.items()):
        spec = translator.get_asset_spec(manifest, unique_id)
        assets.append(
            {
                "key": spec.key.path,
                "deps": sorted(list(dep.asset_key.path) for dep in spec.deps),
                "name": node["name"],
                "unique_id": unique_id,
                "relation": [node["schema"], node["alias"]],
                "materialized": node["config"]["materialized"],
                "file": node["original_file_path"],
                "parents": [_parent(translator, manifest, parent) for parent in manifest["parent_map"][unique_id]],
                "description": node["description"],
                "owners": list(spec.owners),
                "kinds": sorted(spec.kinds),
                "code_version": spec.code_version,
                "columns": [
                    {
                        "name": column["name"],
                        "type": column.get("data_type") or "?",
                        "description": column["description"],
                    }
                    for column in node["columns"].values()
                ],
            }
        )
        for test_id in sorted(manifest["child_map"][unique_id]):
            if not test_id.startswith("test."):
                continue
            check = translator.get_asset_check_spec(spec, manifest, test_id, None)
            if check is not None:
                checks.append(
                    {
                        "key": check.asset_key.path,
                        "name": check.name,
                        "unique_id": test_id,
                        "description": manifest["nodes"][test_id].get("description") or check.description or "",
                        "deps": sorted(list(dep.asset_key.path) for dep in check.additional_deps),
                        "blocking": check.blocking,
                    }
                )
    return {"digest": digest, "assets": assets, "checks": checks}


def _parent(translator: BiTranslator, manifest: Mapping[str, Any], unique_id: str) -> dict[str, Any]:
    node = translator.get_resource_props(manifest, unique_id)
    return {
        "key": translator.get_asset_spec(manifest, unique_id).key.path,
        "relation": [node["schema"], node.get("identifier") or node["alias"]],
        "columns": list(node["columns"]),
    }


def prepare(digest: str) -> None:
    """Parse the project and write the prepared graph, whole or not at all; dbt's words go to standard output."""
    folder = prepared_folder()
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"DBT_TARGET_PATH": str(folder), "DBT_LOG_PATH": str(folder)}
    subprocess.run([dbt_executable(), "parse", "--quiet"], env={**os.environ, **paths}, check=True)
    graph = describe(json.loads((folder / "manifest.json").read_bytes()), digest)
    draft = folder / f".assets-{os.getpid()}.json"
    draft.write_text(json.dumps(graph))
    Path(draft).rename(folder / "assets.json")


if __name__ == "__main__":
    prepare(sys.argv[1])
