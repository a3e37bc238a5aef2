"""Who read which columns: ClickHouse's own log of queries, and the audit rows of what the platform opens.

What belongs here: reading both, by day, without query text or value. What does not: what is unusual (``ml.access``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Protocol

#: Audit rows that tell of personal data opened, by the beginning of their action.
OPENING: Final = {
    "pii.": "vault",
    "dead_letter.": "dead letters",
    "privacy.": "requests",
    "access.": "requests",
    "erasure.": "requests",
}

# The embedded server has one user of the engine; whom it let in, and the program, stand in the mark that it sets on
# each query (services/embedded/warehouse/request.py). A server's own log has both in columns of their own.
_LOG: Final = """
    WITH
        Settings['send_logs_source_regexp'] AS mark,
        user = 'default' AND match(mark, '^[0-9a-f]{32}/[^/]+/[^/]*/') AS embedded,
        splitByChar('/', mark) AS parts,
        splitByChar('/', splitByChar(' ', http_user_agent)[1])[1] AS agent
    SELECT
        toDate(event_time, 'UTC') AS day,
        if(embedded, parts[2], user) AS principal,
        multiIf(embedded, parts[3], agent != '', agent, client_name) AS purpose,
        arrayJoin(arrayDistinct(arrayMap(
            one -> arrayStringConcat(arraySlice(splitByChar('.', one), 1, 2), '.'), personal))) AS table_name,
        count() AS reads,
        sum(read_rows) AS rows,
        arraySort(groupUniqArrayArray(
            arrayFilter(one -> startsWith(one, concat(table_name, '.')), personal))) AS columns
    FROM (
        SELECT *, arrayIntersect(columns, {columns:Array(String)}) AS personal FROM system.query_log
        WHERE type = 'QueryFinish' AND query_kind IN ('Select', 'Insert', 'Create') AND event_date >= {since:Date}
    )
    WHERE notEmpty(personal)
    GROUP BY day, principal, purpose, table_name
    ORDER BY day, principal, table_name, purpose
"""
_AUDIT: Final = """
    SELECT toDate(at, 'UTC') AS day, actor AS principal, action AS purpose, subject AS table_name, count() AS reads,
        sum(greatest(1, JSONExtractUInt(details, 'entries'))) AS rows
    FROM ops.audit
    WHERE at >= toDateTime({since:Date}, 'UTC') AND arrayExists(one -> startsWith(action, one), {actions:Array(String)})
    GROUP BY day, principal, purpose, table_name
    ORDER BY day, principal, table_name, purpose
"""


class Tables(Protocol):
    """What is needed of the warehouse."""

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the result as one dict a row."""


@dataclass(frozen=True, slots=True)
class Access:
    """What one principal read of one table in a day, by one program; ``rows`` are all that the queries read."""

    day: date
    principal: str
    store: str
    table: str
    purpose: str
    reads: int
    rows: int
    columns: tuple[str, ...] = ()


def logged(warehouse: Tables, columns: Sequence[str], *, since: date) -> list[Access]:
    """Return the reads of these columns (``database.table.column``) since a day, by the log of queries.

    Raises :class:`WarehouseError` where the server keeps no such log.
    """
    rows = warehouse.query_rows(_LOG, {"columns": list(columns), "since": since})
    return [
        Access(
            row["day"],
            str(row["principal"]),
            "warehouse",
            str(row["table_name"]),
            str(row["purpose"]),
            int(row["reads"]),
            int(row["rows"]),
            tuple(str(one) for one in row["columns"]),
        )
        for row in rows
    ]


def opened(warehouse: Tables, *, since: date) -> list[Access]:
    """Return what people and components opened of the vault, dead letters and requests since a day."""
    rows = warehouse.query_rows(_AUDIT, {"since": since, "actions": list(OPENING)})
    return [
        Access(
            row["day"],
            str(row["principal"]),
            next(store for start, store in OPENING.items() if str(row["purpose"]).startswith(start)),
            str(row["table_name"]),
            str(row["purpose"]),
            int(row["reads"]),
            int(row["rows"]),
        )
        for row in rows
    ]
