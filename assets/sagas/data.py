"""What the failure models read from the warehouse: saga types, vocabulary, endings, prefixes with their features.

What belongs here: queries over staging. What does not: what a feature means (``ml.sagas``), training, writing.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING

from resources.registry import ModelVersion
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ml.sagas.features import FeatureSet, Vocabulary
    from ml.sagas.stream import Prefixes
    from ml.sagas.types import SagaType

STAGING = "staging.stg_saga_events"
#: Sagas that a training run reads, drawn evenly from the newest: more teach little and cost minutes.
MOST_SAGAS = 6_000
NEWEST_SAGAS = 40_000


def saga_types(warehouse: Warehouse) -> list[str]:
    """Return the saga types that have steps."""
    rows = warehouse.query_rows(
        f"SELECT DISTINCT toString(saga_type) AS name FROM {STAGING} WHERE step != '' ORDER BY name"  # noqa: S608
    )
    return [row["name"] for row in rows if row["name"]]


def data_version(warehouse: Warehouse, saga_type: str) -> str:
    """Return a digest of what staging holds of a type: equal contents give equal digests."""
    row = warehouse.query_rows(
        f"SELECT count() AS n, max(appended_at) AS newest, sum(cityHash64(source, event_id)) AS mix FROM {STAGING}"  # noqa: S608
        " WHERE saga_type = {type:String}",
        {"type": saga_type},
    )[0]
    return hashlib.sha256(f"{row['n']}|{row['newest']}|{row['mix']}".encode()).hexdigest()[:16]


def vocabulary(warehouse: Warehouse, saga_type: str, *, least: int = 20, workers: int = 200) -> Vocabulary:
    """Return what occurs at least ``least`` times among a type's step events, and its most frequent workers."""
    from ml.sagas.features import Vocabulary

    def kept(columns: str, limit: str = "") -> list[dict[str, str]]:
        return warehouse.query_rows(
            f"SELECT {columns} FROM {STAGING} WHERE saga_type = {{type:String}} AND step != ''"  # noqa: S608
            f" GROUP BY ALL HAVING count() >= {least} {limit}",
            {"type": saga_type},
        )

    activities = kept("toString(step) AS step, toString(status) AS status")
    participants = kept("toString(participant) AS name")
    known = kept("ifNull(toString(worker), '') AS name", f"AND name != '' ORDER BY count() DESC, name LIMIT {workers}")
    return Vocabulary(
        tuple(sorted((row["step"], row["status"]) for row in activities)),
        tuple(sorted(row["name"] for row in participants)),
        tuple(sorted(row["name"] for row in known)),
    )


def features_of(kind: SagaType, known: Vocabulary) -> FeatureSet:
    """Return the features of a saga type."""
    from ml.sagas.features import feature_set, recent_load

    return feature_set(known, recent=recent_load(known) if kind.load == "participants" else ())


def endings(warehouse: Warehouse, saga_type: str) -> dict[str, tuple[str, int]]:
    """Return each ended saga's first ending: ``completed`` or the reason of its abort, and its time (µs)."""
    rows = warehouse.query_arrow(
        "SELECT saga_id, argMin(if(event_type = 'isthmus.saga.completed', 'completed', ifNull(toString(reason), '')),"  # noqa: S608
        f" event_time) AS ending, toUnixTimestamp64Micro(min(event_time)) AS us FROM {STAGING}"
        " WHERE saga_type = {type:String} AND event_type IN ('isthmus.saga.completed', 'isthmus.saga.aborted')"
        " GROUP BY saga_id",
        {"type": saga_type},
    ).to_pydict()
    return {saga: (ending, us) for saga, ending, us in zip(rows["saga_id"], rows["ending"], rows["us"], strict=True)}


def newest(saga_type: str, *, most: int = MOST_SAGAS) -> str:
    """Return the condition on ``saga_id`` for an even draw from the newest sagas of a type, by their first event."""
    from ml.sagas.spec import literal

    return (
        "saga_id IN (SELECT saga_id FROM ("  # noqa: S608
        f"SELECT saga_id FROM {STAGING} WHERE saga_type = {literal(saga_type)}"
        f" GROUP BY saga_id ORDER BY min(event_time) DESC LIMIT {NEWEST_SAGAS}"
        f") ORDER BY cityHash64(saga_id) LIMIT {most})"
    )


def running(saga_type: str, *, most: int = MOST_SAGAS) -> str:
    """Return the condition on ``saga_id`` for the sagas of a type that have not ended, the newest of them."""
    from ml.sagas.spec import literal

    return (
        f"saga_id IN (SELECT saga_id FROM {STAGING} WHERE saga_type = {literal(saga_type)} GROUP BY saga_id"  # noqa: S608
        " HAVING countIf(event_type IN ('isthmus.saga.completed', 'isthmus.saga.aborted')) = 0"
        f" ORDER BY min(event_time) DESC LIMIT {most})"
    )


def table_of(saga_type: str) -> str:
    """Return the name of the table that keeps a type's features; distinct for distinct types."""
    plain = re.sub(r"\W", "_", saga_type)
    mark = "" if plain == saga_type else "_" + hashlib.sha256(saga_type.encode()).hexdigest()[:8]
    return f"ml.saga_features_{plain}{mark}"


def build_features(warehouse: Warehouse, kind: SagaType, features: FeatureSet, *, most: int = MOST_SAGAS) -> str:
    """Compute the features of every prefix of the newest sagas into the type's table, and return its name.

    The table is replaced as a whole; its comment is the definition, so that whoever reads it knows what it holds.
    """
    from ml.sagas.spec import literal
    from ml.sagas.sql import features_sql

    table = table_of(kind.name)
    kind_of = {True: "LowCardinality(String)", False: "Nullable(Float64)"}
    columns = ", ".join(
        f"f{place} {kind_of[feature.is_text]} COMMENT {literal(feature.name)}"
        for place, feature in enumerate(features.features)
    )
    definition = literal(json.dumps(features.as_dict()))
    query = features_sql(features, kind.name, table=STAGING, sagas=newest(kind.name, most=most))
    names = ", ".join(
        ["saga_id", "position", "us", "step", "status", *(f"f{n}" for n in range(len(features.features)))]
    )
    warehouse.command(
        f"CREATE OR REPLACE TABLE {table} (saga_id String COMMENT 'Saga', position UInt32 COMMENT 'Steps so far',"
        " us Int64 COMMENT 'Time of the last of them, microseconds', step LowCardinality(String) COMMENT 'Its step',"
        f" status LowCardinality(String) COMMENT 'Its status', {columns})"
        f" ENGINE = MergeTree ORDER BY (saga_id, position) COMMENT {definition}"
    )
    warehouse.command(f"INSERT INTO {table} ({names}) SELECT {names} FROM ({query})")  # noqa: S608
    return table


def read_features(warehouse: Warehouse, saga_type: str) -> FeatureSet | None:
    """Return the definition of a type's features table, None where there is no table."""
    from ml.sagas.features import FeatureSet

    database, name = table_of(saga_type).split(".")
    rows = warehouse.query_rows(
        "SELECT comment FROM system.tables WHERE database = {database:String} AND name = {name:String}",
        {"database": database, "name": name},
    )
    return FeatureSet.from_dict(json.loads(rows[0]["comment"])) if rows and rows[0]["comment"] else None


def built_prefixes(warehouse: Warehouse, kind: SagaType, features: FeatureSet) -> Prefixes:
    """Return the prefixes of a type's features table, with labels."""
    sql = f"SELECT * FROM {table_of(kind.name)} ORDER BY saga_id, position"  # noqa: S608
    return _prefixes(warehouse, sql, kind, features)


def prefixes(warehouse: Warehouse, kind: SagaType, features: FeatureSet, *, sagas: str) -> Prefixes:
    """Return the prefixes of the sagas that ``sagas`` chooses, with the features computed now."""
    from ml.sagas.sql import features_sql

    return _prefixes(warehouse, features_sql(features, kind.name, table=STAGING, sagas=sagas), kind, features)


def _prefixes(warehouse: Warehouse, sql: str, kind: SagaType, features: FeatureSet) -> Prefixes:
    from ml.sagas.stream import with_labels

    table = warehouse.query_arrow(sql)
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    return with_labels(kind, features, columns, endings(warehouse, kind.name))


def audit(warehouse: Warehouse, saga_type: str, features: FeatureSet) -> tuple[int, int, int]:
    """Return a features table's rows, the steps that have none, and the values that look past their row.

    A time since something, and the time at which something was first seen, tell of the future where they are below
    zero or beyond the saga's age.
    """
    table = table_of(saga_type)
    future = [
        f"countIf(f{place} < 0)" if feature.form == "elapsed" else f"countIf(us - f{place} * 1000000 < started - 1)"
        for place, feature in enumerate(features.features)
        if feature.form in ("elapsed", "after_start") and feature.node.where.kind == "step"
    ]
    row = warehouse.query_rows(
        f"""SELECT count() AS n, {" + ".join(future) or "0"} AS future,
            (SELECT count() FROM {STAGING} WHERE saga_type = {{type:String}} AND event_type = 'isthmus.saga.step'
             AND saga_id IN (SELECT saga_id FROM {table})) AS steps
        FROM (SELECT *, min(us) OVER (PARTITION BY saga_id) AS started FROM {table})""",  # noqa: S608
        {"type": saga_type},
    )[0]
    return int(row["n"]), abs(int(row["steps"]) - int(row["n"])), int(row["future"])


def write_predictions(  # noqa: PLR0917
    warehouse: Warehouse,
    kind: SagaType,
    outcome: str,
    rows: Prefixes,
    p: NDArray[np.float64],
    champion: ModelVersion,
    at: datetime,
) -> None:
    """Append the probabilities of ``rows`` to ``ml.saga_predictions``."""
    import pyarrow as pa

    if not len(rows):
        return
    n, us = len(rows), pa.timestamp("us", tz="UTC")
    table = pa.table(
        {
            "saga_type": [kind.name] * n,
            "saga_id": rows.saga_ids.tolist(),
            "position": pa.array(rows.position, pa.uint32()),
            "as_of": pa.array(rows.us, pa.int64()).cast(us),
            "outcome": [outcome] * n,
            "probability": p,
            "model_name": [champion.name] * n,
            "model_version": pa.array([champion.version] * n, pa.uint32()),
            "predicted_at": pa.array([at] * n, pa.timestamp("ms", tz="UTC")),
        }
    )
    warehouse.insert_arrow("ml.saga_predictions", table)
