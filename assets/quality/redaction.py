"""Redacted copies of warehouse tables, by what is declared of their columns: what analysts read instead of the table.

What belongs here: the asset: which tables, reading, redacting, swapping. What does not: what takes a value's place
(``ml.pii.redaction``), the vault (``pii_vault``), declaring (``pii_declarations``).

``marts.x`` with a column that ``pii.yml`` declares with an action gets ``marts.x_redacted``, the same rows without
personal data, rebuilt whole at each run and swapped in at once. Nothing that the asset says holds a value.
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from assets.permanent import no_retry_of_permanent
from assets.quality.pii import INVENTORY
from assets.quality.pii_declarations import declarations
from assets.quality.pushdown import quoted
from ml.pii.inventory import Declaration
from resources.errors import WarehouseError
from resources.settings import get_settings
from resources.warehouse import Warehouse, WarehouseResource

REDACTED = dg.AssetKey(["quality", "redacted"])
TABLE = "quality.redactions"
SUFFIX = "_redacted"
#: Rows that are redacted at once, about.
BATCH = 200_000
#: Databases whose tables analysts read.
DATABASES = ("staging", "intermediate", "marts", "ml")
_COLUMNS = """
    SELECT c.database AS database, c.table AS table, c.name AS name, c.type AS type
    FROM system.columns AS c INNER JOIN system.tables AS t ON t.database = c.database AND t.name = c.table
    WHERE c.database IN {databases:Array(String)} AND t.engine NOT IN ('View', 'Null')
        AND NOT endsWith(c.table, {suffix:String})
    ORDER BY database, table, c.position
"""


@dg.asset(
    key=REDACTED,
    deps=[INVENTORY],
    group_name="quality",
    owners=["team:data"],
    kinds={"python", "clickhouse"},
    description="Copies of tables with declared personal data: each value dropped, masked, hashed or tokenised.",
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=25)),
    check_specs=[
        dg.AssetCheckSpec(
            "whole",
            asset=REDACTED,
            description="Every table with a declared action has its redacted copy, with as many rows.",
            metadata={"severity": "ERROR"},
        )
    ],
    hooks={no_retry_of_permanent},
)
def quality_redacted(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Make the redacted table of each table with a declared action."""
    made, failed = [], []
    for table, policy in policies(warehouse, declarations()).items():
        try:
            made.append(redact(warehouse, table, policy, run_id=context.run_id, now=datetime.now(UTC)))
        except (WarehouseError, ValueError) as error:
            failed.append(f"{table} ({type(error).__name__})")
    yield dg.MaterializeResult(
        asset_key=REDACTED,
        metadata={
            "tables": [row["target"] for row in made],
            "rows": sum(row["rows"] for row in made),
            "failed": failed,
        },
    )
    yield dg.AssetCheckResult(
        asset_key=REDACTED,
        check_name="whole",
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"could not be redacted: {', '.join(failed)}" if failed else f"{len(made)} tables",
    )


Policy = dict[str, tuple[Any, str]]


def policies(warehouse: Warehouse, declared: Sequence[Declaration]) -> dict[str, Policy]:
    """Return {table: {column: (action, entity)}} of the columns that are declared with an action."""
    acting = [one for one in declared if one.action and "$" not in one.column]
    found: dict[str, Policy] = {}
    for row in warehouse.query_rows(_COLUMNS, {"databases": list(DATABASES), "suffix": SUFFIX}):
        column = f"{row['database']}.{row['table']}.{row['name']}"
        rule = next((one for one in acting for entity in one.entities if one.covers(column, entity)), None)
        if rule is not None:
            found.setdefault(f"{row['database']}.{row['table']}", {})[str(row["name"])] = (
                rule.action,
                rule.entities[0],
            )
    return found


def redact(warehouse: Warehouse, table: str, policy: Policy, *, run_id: str, now: datetime) -> dict[str, Any]:
    """Write ``table`` with ``policy`` applied beside it, swap it in, and return the row that is kept of it.

    A column that is not text becomes text. Raises ValueError where the copy is not as long as its source was.
    """
    from assets.quality.pii_vault import Vault, redact_table
    from ml.pii.redaction import Keys

    settings = get_settings()
    keys = Keys(settings.pii_secret(), settings.pii_secrets_previous())
    vault = Vault(warehouse, keys)
    database, _, name = table.partition(".")
    source, target, draft = (
        f"{quoted(database)}.{quoted(one)}" for one in (name, f"{name}{SUFFIX}", f"{name}{SUFFIX}_new")
    )
    columns = warehouse.query_rows(
        "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String} "
        "ORDER BY position",
        {"database": database, "table": name},
    )
    kept = [one for one in columns if policy.get(str(one["name"]), ("", ""))[0] != "drop"]
    shape = ", ".join(
        f"{quoted(str(one['name']))} {'Nullable(String)' if one['name'] in policy else one['type']}" for one in kept
    )
    warehouse.command(f"DROP TABLE IF EXISTS {draft} SYNC", idempotent=True)
    warehouse.command(f"CREATE TABLE {draft} ({shape}) ENGINE = MergeTree ORDER BY tuple()")
    selected = ", ".join(quoted(str(one["name"])) for one in kept)
    rows = int(warehouse.query_rows(f"SELECT count() AS n FROM {source}")[0]["n"])  # noqa: S608 (quoted)
    hidden = {column: one for column, one in policy.items() if one[0] != "drop"}
    slices = max(1, -(-rows // BATCH))
    for place in range(slices):
        # By the rows' own content: each is in one slice, whatever order they are read in.
        part = warehouse.query_arrow(
            f"SELECT {selected} FROM {source} WHERE cityHash64(toString(tuple(*))) % {slices} = {place}"  # noqa: S608 (quoted)
        )
        warehouse.insert_arrow(f"{database}.{name}{SUFFIX}_new", redact_table(part, hidden, keys, vault))
    written = int(warehouse.query_rows(f"SELECT count() AS n FROM {draft}")[0]["n"])  # noqa: S608 (quoted)
    if written != rows:
        raise ValueError(
            f"{table} had {rows} rows and its copy has {written}: it changed meanwhile; the next run tries"
        )
    warehouse.command(f"CREATE TABLE IF NOT EXISTS {target} AS {draft}")
    warehouse.command(f"EXCHANGE TABLES {target} AND {draft}")
    warehouse.command(f"DROP TABLE IF EXISTS {draft} SYNC", idempotent=True)
    row = {
        "table_name": table,
        "target": f"{database}.{name}{SUFFIX}",
        "columns": [f"{column}={action}" for column, (action, _) in sorted(policy.items())],
        "rows": written,
        "run_id": run_id,
        "made_at": now,
    }
    warehouse.insert_rows(TABLE, [row], token=f"redacted/{run_id}/{table}")
    return row
