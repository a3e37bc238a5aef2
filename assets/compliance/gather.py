"""What the compliance report tells, read from the warehouse: counts, names and states, no value of a person.

What belongs here: reading. What does not: the page (``page``), the verdict over all (``verdict``).

Messages of checks are left out: they may quote what broke them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from assets.compliance.limits import personal
from ml.decisions import Cause, cause_of
from resources.decisions.refusals import read_refusals
from resources.errors import WarehouseError, WarehouseUnavailable
from resources.warehouse import Warehouse

Rows = list[dict[str, Any]]
DAYS: Final = 90

_SQL: Final = {
    "checks": """
        SELECT asset_key, check_name, argMax(success, evaluated_at) AS held, argMax(severity, evaluated_at) AS severity,
            max(evaluated_at) AS at, countIf(NOT success) AS failures, count() AS evaluations
        FROM quality.results FINAL WHERE evaluated_at >= {since:DateTime64(3)}
        GROUP BY asset_key, check_name ORDER BY held, severity, asset_key, check_name""",
    "check_days": """
        SELECT toDate(evaluated_at) AS day, countIf(success) AS held,
            countIf(NOT success AND severity = 'WARN') AS warned,
            countIf(NOT success AND severity != 'WARN') AS failed
        FROM quality.results FINAL WHERE evaluated_at >= {since:DateTime64(3)} GROUP BY day ORDER BY day""",
    "monitors": """
        SELECT table_name, count() AS hours, countIf(state = 'learning') AS learning,
            countIf(state = 'alarm') AS alarmed, max(hour) AS newest
        FROM quality.monitor_hours FINAL WHERE hour >= {since:DateTime64(3)} GROUP BY table_name ORDER BY table_name""",
    "reconciliations": """
        SELECT source, table_name, warehouse_table, max(reconciled_at) AS at,
            argMax(rows_source, reconciled_at) AS there, argMax(rows_warehouse, reconciled_at) AS here,
            argMax(differences, reconciled_at) AS differ, argMax(in_flight, reconciled_at) AS in_flight
        FROM quality.reconciliations FINAL WHERE reconciled_at >= {since:DateTime64(3)}
        GROUP BY source, table_name, warehouse_table ORDER BY source, table_name""",
    "retention": """
        SELECT * FROM ops.retention FINAL
        WHERE run_id = (SELECT argMax(run_id, checked_at) FROM ops.retention) ORDER BY kind, store""",
    "requests": """
        SELECT r.request_id AS request_id, r.kind AS kind, r.state AS state, r.filed_at AS filed_at, r.due_at AS due_at,
            r.updated_at AS updated_at, p.stores AS stores, p.erased AS erased, p.kept AS kept,
            p.remaining AS remaining, p.waiting AS waiting
        FROM (SELECT * FROM ops.privacy_requests FINAL) AS r
        LEFT JOIN (
            SELECT request_id, count() AS stores, sum(erased) AS erased, sum(kept) AS kept, sum(remaining) AS remaining,
                countIf(state = 'waiting') AS waiting
            FROM ops.erasure_proofs FINAL GROUP BY request_id) AS p ON p.request_id = r.request_id
        ORDER BY filed_at DESC LIMIT 200""",
    "access": """
        SELECT principal, store, table_name, purpose, sum(reads) AS reads, sum(rows) AS rows, max(day) AS last,
            arrayDistinct(arrayFlatten(groupArray(unusual))) AS unusual
        FROM ops.access_audit FINAL WHERE day >= toDate({since:DateTime64(3)})
        GROUP BY principal, store, table_name, purpose ORDER BY notEmpty(unusual) DESC, rows DESC LIMIT 200""",
    "access_days": """
        SELECT day, sum(reads) AS reads FROM ops.access_audit FINAL WHERE day >= toDate({since:DateTime64(3)})
        GROUP BY day ORDER BY day""",
    "records": "SELECT made_at, digest, gaps, document FROM ops.processing_records ORDER BY made_at DESC LIMIT 1",
}  # fmt: skip


@dataclass(slots=True)
class Facts:
    """All that the report tells; ``unread`` names what could not be read, with the class of the error."""

    at: datetime
    since: datetime
    inventory: Rows = field(default_factory=list)
    refusals: Rows = field(default_factory=list)
    refusal_days: Rows = field(default_factory=list)
    record: Mapping[str, Any] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    resting: Rows = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    tables: dict[str, Rows] = field(default_factory=dict)

    def rows(self, name: str) -> Rows:
        """Return the rows of one part."""
        return self.tables.get(name, [])


def gather(warehouse: Warehouse, now: datetime) -> Facts:
    """Return what there is; a part that cannot be read is named, and the others are told all the same."""
    since = now - timedelta(days=DAYS)
    facts = Facts(now, since)

    def read(name: str, ask: Callable[[], Rows]) -> Rows:
        try:
            return ask()
        except WarehouseUnavailable:
            raise
        except WarehouseError as error:
            facts.unread.append(f"{name} ({type(error).__name__})")
            return []

    for name, sql in _SQL.items():
        facts.tables[name] = read(name, lambda sql=sql: warehouse.query_rows(sql, {"since": since}))  # type: ignore[misc]
    facts.inventory = read("inventory", lambda: [dict(row) for row in personal(warehouse).rows])
    _refusals(facts, warehouse, read)
    for row in facts.rows("records"):
        facts.record = {**json.loads(row["document"]), "made_at": row["made_at"], "digest": row["digest"]}
        facts.gaps = list(row["gaps"])
    return facts


def _refusals(facts: Facts, warehouse: Warehouse, read: Callable[[str, Callable[[], Rows]], Rows]) -> None:
    """Sort the refusals by check, and by day and kind."""
    by_cause: dict[tuple[str, Cause], dict[str, Any]] = {}
    by_day: dict[tuple[Any, str], int] = {}

    def ask() -> Rows:
        for one in read_refusals(warehouse, since=facts.since):
            causes = {cause_of(reason) for reason in one.reasons} or {Cause("", "", "by a person")}
            by_day[one.at.date(), one.kind] = by_day.get((one.at.date(), one.kind), 0) + 1
            for cause in causes:
                entry = by_cause.setdefault((one.kind, cause), {"count": 0, "last": one.at, "subjects": set()})
                entry["count"] += 1
                entry["last"] = max(entry["last"], one.at)
                entry["subjects"].add(one.subject)
        return []

    read("refusals", ask)
    facts.refusals = [
        {"kind": kind, "asset": cause.asset, "check": cause.check, "how": cause.how, **entry}
        for (kind, cause), entry in sorted(by_cause.items(), key=lambda item: -item[1]["count"])
    ]
    facts.refusal_days = [{"day": day, "kind": kind, "count": count} for (day, kind), count in sorted(by_day.items())]
