"""Repairs: proposed with what was found, carried out after a person approved them, and only where it is still so.

What belongs here: the decision's payload, and the writes. What does not: the book of decisions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from assets.erased import guard as erased_persons
from assets.reconcile.engine import Report, describe
from assets.reconcile.source import Table, source_snapshot
from assets.reconcile.warehouse import WarehouseTable
from ml.decisions import CheckRead, Decision, decision_id
from ml.reconcile import clickhouse
from ml.reconcile.classify import Key, classify
from resources.decisions import DecisionConflict, DecisionStore, StoredDecision
from resources.errors import SourceError
from resources.postgres import PostgresResource
from resources.settings import get_settings
from resources.warehouse import Warehouse

KIND: Final = "data_repair"
ACTOR: Final = "quality/source_reconciliation"
#: Where copies are: repaired by another copy.
COPIES: Final = "raw.source_current"
#: Rows of one decision: a person reads it.
MOST: Final = 1000
VALID = timedelta(days=7)


def propose(warehouse: Warehouse, source: str, report: Report, *, run_id: str) -> StoredDecision:
    """Record a repair of what ``report`` found, for a person to approve or refuse; nothing is changed."""
    now = datetime.now(UTC)
    rows = [one.as_record() for one in report.real[:MOST]]
    decision = Decision(
        decision_id=decision_id(now, KIND, source, report.source, report.warehouse, run_id),
        kind=KIND,
        subject=report.warehouse,
        made_at=now,
        valid_from=now,
        valid_to=now + VALID,
        inputs=(),
        checks=(
            CheckRead(
                ACTOR, "agrees", False, evaluated_at=now, run_id=run_id, detail=f"{len(report.real)} rows differ"
            ),
        ),
        action={"source": source, "table": report.source, "warehouse_table": report.warehouse, "rows": rows},
        expected=(),
        guardrails=({"name": "rows", "limit": MOST, "bit": len(report.real) > MOST},),
        undo=None,
        run_id=run_id,
    )
    words = f"{len(report.real)} rows of {report.warehouse} differ from {source}/{report.source}"
    return DecisionStore(warehouse).record(decision.as_record(), allowed=True, reasons=[words], actor=ACTOR)


def apply(store: DecisionStore, warehouse: Warehouse, identity: UUID | str, *, actor: str) -> StoredDecision:
    """Carry an approved repair out: rows that still differ take the source's values, or go where it has none.

    Raises :class:`DecisionConflict` where the decision is no repair, not approved, or not valid now. Applying it again
    changes nothing.
    """
    mode = get_settings().actuation.get(KIND, "dry-run")
    decision = store.assert_applicable(identity, actuation=mode)
    if decision.kind != KIND:
        raise DecisionConflict(f"decision {decision.decision_id} is a {decision.kind}, not a {KIND}")
    action = decision.action
    source = get_settings().sources.get(action["source"])
    if source is None or source.compare.get(action["table"]) != action["warehouse_table"]:
        raise SourceError(f"source {action['source']} is not configured to be compared with {decision.subject}")
    if action["warehouse_table"] == COPIES:
        from assets.sources import copy_table

        # What differs is a copy, so it is made anew: under the decision's name, hence once.
        copied = copy_table(warehouse, action["source"], source, action["table"], run_id=str(decision.decision_id))
        details = {"copied": copied.rows, "rows": len(action["rows"])}
        return store.applied(decision.decision_id, actor=actor, details=details)
    resource = PostgresResource(url=source.url.get_secret_value())
    table, _ = describe(resource, warehouse, action["table"], action["warehouse_table"])
    keys: list[Key] = [int(row["key"]) if table.numbered else str(row["key"]) for row in action["rows"]]
    repaired = _repair(resource, warehouse, table, keys)
    return store.applied(decision.decision_id, actor=actor, details={"repaired": repaired, "rows": len(keys)})


def _without_erased(warehouse: Warehouse, documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the source's rows without those of persons who were erased here: a repair brings nobody back."""
    guard = erased_persons(warehouse, get_settings())
    if not guard or not documents:
        return list(documents)
    import pyarrow as pa

    theirs = guard.mentions([pa.array([json.dumps(one, default=str) for one in documents], pa.string())])
    return [one for one, held in zip(documents, theirs.tolist(), strict=True) if not held]


def _repair(resource: PostgresResource, warehouse: Warehouse, table: Table, keys: Sequence[Key]) -> int:
    """Return how many of the rows still differed, and now do not."""
    held = WarehouseTable(table, warehouse)
    rows = held.rows(keys)
    with source_snapshot(resource, table, connections=1) as snapshot:
        now = snapshot.rows(keys)
        wrong = [key for key in keys if classify(key, now[key][1] if key in now else None, rows.get(key, []))]
        texts = snapshot.documents([key for key in wrong if key in now])
    texts = _without_erased(warehouse, texts)
    if not wrong:
        return 0
    name = ".".join(clickhouse.quoted(part) for part in table.warehouse.split(".", 1))
    kind = "Int64" if table.numbered else "String"
    form = clickhouse.quoted(table.key[0].name) if table.numbered else clickhouse.key_text(table.key)
    # Deleted, then inserted: between the two a row is missing, which the next comparison would find.
    warehouse.command(
        f"ALTER TABLE {name} DELETE WHERE {form} IN {{keys:Array({kind})}} SETTINGS mutations_sync = 1",
        {"keys": list(wrong)},
        idempotent=True,
    )
    if texts:
        warehouse.insert_rows(table.warehouse, texts)
    return len(wrong)
