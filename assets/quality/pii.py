"""The scan for personal data: every column of the warehouse, its inventory, and the check that nothing is undeclared.

What belongs here: the Dagster asset: read samples, compute, write, check. What does not: finding (``ml.pii``) and
declaring (``pii_declarations``).

Nothing that the scan says, writes or raises holds a value: columns, entities, counts and shares only.
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.permanent import no_retry_of_permanent
from assets.quality.catalogue import suites
from assets.quality.over_suites import over_suites
from assets.quality.pii_declarations import declarations
from assets.resting import decides
from ml.decisions import CheckRead, decision_id
from ml.pii.inventory import Entry, Seen, judged, proposal
from resources.decisions.store import DecisionStore
from resources.errors import WarehouseError, WarehouseUnavailable
from resources.warehouse import Warehouse, WarehouseResource

if TYPE_CHECKING:
    from ml.pii.columns import Prose

INVENTORY = dg.AssetKey(["quality", "pii_inventory"])
TABLE = "quality.pii_inventory"
CHECK = "declared"
#: Databases that are scanned; those of the engine hold nothing of ours.
DATABASES = ("raw", "staging", "intermediate", "marts", "ml", "quality", "ops")
#: The vault holds ciphertext, the inventory is ours: neither says anything about a person.
LEFT_OUT = ("ops.pii_vault", "quality.pii_inventory")
MOST_ROWS, MOST_PAYLOADS, MOST_PROSE = 20_000, 2_000, 300

_TEXT = r"^(LowCardinality\()?(Nullable\()?(String|FixedString\(\d+\))\)*$"
_COLUMNS = """
    SELECT database, table, groupArray(name) AS names FROM (
        SELECT c.database AS database, c.table AS table, c.name AS name, c.position AS position
        FROM system.columns AS c INNER JOIN system.tables AS t ON t.database = c.database AND t.name = c.table
        WHERE c.database IN {databases:Array(String)} AND match(c.type, {text:String}) AND t.engine NOT IN ('View',
        'Null') AND NOT endsWith(c.table, '_redacted') ORDER BY position)
    WHERE concat(database, '.', table) NOT IN {left_out:Array(String)}
    GROUP BY database, table ORDER BY database, table
"""


@dg.multi_asset(
    name="pii_inventory",
    specs=[
        over_suites(
            INVENTORY,
            kinds={"python", "clickhouse"},
            description="Personal data that each column of the warehouse was found to hold, and what is declared.",
            suites=suites(),
            metadata=decides("schema_change", rests_on=[dg.AssetCheckKey(INVENTORY, CHECK)]),
        )
    ],
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset=INVENTORY,
            blocking=True,
            description="No column holds personal data that nobody has declared.",
            metadata={"severity": "ERROR"},
        )
    ],
    hooks={no_retry_of_permanent},
)
def pii_inventory(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Scan a sample of every text column; write the inventory; propose a change for what nobody declared."""
    scanned_at = datetime.now(UTC)
    prose = _prose()
    if prose is None:
        context.log.warning("free text is read for forms only: for names and addresses install the extra `pii`")
    entries: list[Entry] = []
    unread: list[str] = []
    for database, table, names in text_columns(warehouse):
        try:
            seen = scan_table(warehouse, database, table, names, prose)
        except WarehouseUnavailable:
            raise
        except WarehouseError as error:
            # Its text may quote a value of the table: the class says enough for a person to look.
            unread.append(f"{database}.{table} ({type(error).__name__})")
            continue
        entries += [entry for one in seen for entry in judged(one, declarations())]
    warehouse.insert_rows(TABLE, inventory_rows(entries, context.run_id, scanned_at), token=f"pii/{context.run_id}")
    undeclared = [entry for entry in entries if entry.undeclared]
    proposed = propose(warehouse, undeclared, context.run_id, scanned_at)
    found = [entry for entry in entries if entry.entity]
    yield dg.MaterializeResult(
        asset_key=INVENTORY,
        metadata={
            "columns": len({entry.column for entry in entries}),
            "columns with personal data": len({entry.column for entry in found}),
            "undeclared": [_line(entry) for entry in undeclared],
            "free text": "read by the model" if prose else "forms only: the extra `pii` is not installed",
            "not read": unread,
            "inventory": dg.MetadataValue.md(_markdown(found)),
            "proposed": dg.MetadataValue.json(proposed),
        },
    )
    yield dg.AssetCheckResult(
        asset_key=INVENTORY,
        check_name=CHECK,
        passed=not undeclared and not unread,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_verdict(undeclared, unread),
        metadata={"undeclared": [_line(entry) for entry in undeclared], "proposed": dg.MetadataValue.json(proposed)},
    )


def _prose() -> "Prose | None":
    from ml.pii import engine

    return engine.FreeText() if engine.installed() else None


def text_columns(warehouse: Warehouse) -> list[tuple[str, str, list[str]]]:
    """Return the tables with their text columns: database, table, names."""
    rows = warehouse.query_rows(_COLUMNS, {"databases": list(DATABASES), "text": _TEXT, "left_out": list(LEFT_OUT)})
    return [(str(row["database"]), str(row["table"]), [str(name) for name in row["names"]]) for row in rows]


def scan_table(
    warehouse: Warehouse, database: str, table: str, names: Sequence[str], prose: "Prose | None"
) -> list[Seen]:
    """Return what a sample of the table's columns holds; of a column of JSON, what each path of it does."""
    import pyarrow as pa

    from assets.quality.pushdown import quoted
    from ml.pii.columns import inspect
    from ml.pii.fast import leaves

    selected = ", ".join(quoted(name) for name in names)
    source = f"{quoted(database)}.{quoted(table)}"
    total = int(warehouse.query_rows(f"SELECT count() AS n FROM {source}")[0]["n"])  # noqa: S608 (quoted)
    # Every k-th row, from all over the table.
    every = max(1, total // MOST_ROWS)
    where = f"WHERE rowNumberInAllBlocks() % {every} = 0" if every > 1 else ""
    sql = f"SELECT {selected} FROM {source} {where} LIMIT {MOST_ROWS}"  # noqa: S608 (quoted)
    sampled = warehouse.query_arrow(sql)
    seen: list[Seen] = []
    for name in names:
        full = f"{database}.{table}.{name}"
        values = sampled.column(name).cast("string").combine_chunks()
        if not holds_json(values):
            seen.append(inspect(full, values, prose, most=MOST_PROSE))
            continue
        for path, strings in leaves(values.drop_null()[:MOST_PAYLOADS].to_pylist()).items():
            seen.append(inspect(full + path, pa.array(strings, "string"), prose, most=MOST_PROSE))
    return seen


def holds_json(values: Any) -> bool:
    """Return whether nine in ten of the values that are not empty are JSON objects or arrays, by their first letter."""
    import pyarrow.compute as pc

    texts = values.drop_null()
    texts = texts.filter(pc.not_equal(texts, ""))
    return bool(len(texts)) and pc.mean(pc.match_substring_regex(texts, r"^\s*[\[{]").cast("float64")).as_py() > 0.9


def inventory_rows(entries: Sequence[Entry], run_id: str, scanned_at: datetime) -> list[dict[str, Any]]:
    """Return the rows of ``quality.pii_inventory``."""
    return [
        {
            "scanned_at": scanned_at,
            "run_id": run_id,
            "column": entry.column,
            "entity": entry.entity,
            "route": entry.route,
            "sampled": entry.sampled,
            "found": entry.found,
            "confidence": entry.confidence,
            "declared": entry.declaration is not None,
            "undeclared": entry.undeclared,
            "owner": entry.declaration.owner if entry.declaration else "",
            "lawful_basis": entry.declaration.lawful_basis if entry.declaration else "",
            "retention": entry.declaration.retention if entry.declaration else "",
            "action": (entry.declaration.action or "") if entry.declaration else "",
            "note": entry.note,
        }
        for entry in entries
    ]


def propose(warehouse: Warehouse, undeclared: Sequence[Entry], run_id: str, made_at: datetime) -> list[dict[str, Any]]:
    """Record one ``schema_change`` decision a column and day for a person to approve, and return the changes."""
    store = DecisionStore(warehouse)
    changes = []
    for entry in undeclared:
        change = proposal(entry)
        changes.append(change)
        day = made_at.replace(hour=0, minute=0, second=0, microsecond=0)
        identity = decision_id(day, "pii", entry.column, entry.entity)
        if warehouse.query_rows(
            "SELECT 1 AS known FROM ops.decisions WHERE decision_id = {id:UUID} LIMIT 1", {"id": str(identity)}
        ):
            continue
        store.record(
            {
                "decision_id": identity,
                "kind": "schema_change",
                "subject": entry.column,
                "made_at": made_at,
                "valid_from": made_at,
                "valid_to": made_at + timedelta(days=30),
                "inputs": [],
                "model": None,
                "checks": [
                    CheckRead(
                        INVENTORY.to_user_string(),
                        CHECK,
                        False,
                        evaluated_at=made_at,
                        run_id=run_id,
                        detail=_line(entry),
                    ).as_record()
                ],
                "action": change,
                "expected": [],
                "guardrails": [],
                "undo": None,
                "trace_id": "",
                "run_id": run_id,
            },
            allowed=True,
            reasons=[f"{entry.entity} in {entry.share:.1%} of {entry.sampled:,} values is not declared"],
        )
    return changes


def _line(entry: Entry) -> str:
    return f"{entry.column}: {entry.entity} in {entry.found:,} of {entry.sampled:,} values"


def _verdict(undeclared: Sequence[Entry], unread: Sequence[str]) -> str:
    parts = []
    if undeclared:
        parts.append(
            f"not declared: {'; '.join(_line(entry) for entry in undeclared)}. Declare it in assets/quality/pii.yml or "
            "by x-pii in the event's schema, or take it out; a schema_change is proposed for each"
        )
    if unread:
        parts.append(f"could not be read: {', '.join(unread)}")
    return ". ".join(parts)[:2000] or "every column with personal data is declared"


def _markdown(found: Sequence[Entry]) -> str:
    if not found:
        return "No personal data was found."
    rows = "\n".join(
        f"| {e.column} | {e.entity} | {e.share:.1%} | {e.confidence:.2f} | {e.sampled:,} | "
        f"{e.declaration.owner if e.declaration else '**nobody**' if e.undeclared else ''} |"
        for e in found
    )
    return f"| column | entity | share | confidence | sampled | owner |\n| --- | --- | --- | --- | --- | --- |\n{rows}"
