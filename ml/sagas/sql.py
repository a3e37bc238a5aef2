"""Features in the warehouse: one ClickHouse query that gives every prefix of every saga its figures.

What belongs here: putting the expressions of ``spec`` together. What does not: what they mean, and running the query
(``assets.sagas``). A prefix's row sees its own saga up to itself (window frames end at the current row) and of other
sagas what happened strictly before it (an ASOF join on earlier times).
"""

from __future__ import annotations

from ml.sagas.features import ENDED, FeatureSet
from ml.sagas.spec import Aggregate, Recent, literal

STAGING = "staging.stg_saga_events"
#: The order of a saga's events: by time; among equal times the start first, then as the producer numbered them.
ORDER = "us, multiIf(kind = 'started', 0, kind = 'step', 1, 2), length(event_id), event_id, source"


def events_sql(saga_type: str, *, table: str = STAGING, sagas: str = "") -> str:
    """Return the query for a type's events as the features see them; ``sagas`` is a condition on ``saga_id``."""
    condition = f" AND ({sagas})" if sagas else ""
    return f"""SELECT
    saga_id, event_id, source,
    replaceOne(toString(event_type), 'isthmus.saga.', '') AS kind,
    toUnixTimestamp64Micro(event_time) AS us,
    toString(step) AS step, toString(participant) AS participant, toString(status) AS status,
    toUInt32(attempt) AS attempt, ifNull(toString(worker), '') AS worker,
    duration_ms, load, amount, ifNull(toString(reason), '') AS reason
FROM {table}
WHERE saga_type = {literal(saga_type)}{condition}"""  # noqa: S608 (literals are escaped, the rest is ours)


def ordered_events_sql(saga_type: str, *, table: str = STAGING, sagas: str = "") -> str:
    """Return the query for a type's events in the order in which :func:`ml.sagas.state.prefixes` takes them."""
    return f"{events_sql(saga_type, table=table, sagas=sagas)}\nORDER BY {ORDER}"


def features_sql(
    features: FeatureSet, saga_type: str, *, table: str = STAGING, sagas: str = "", longest: int | None = None
) -> str:
    """Return the query for every prefix: ``saga_id``, ``position``, ``us``, ``step``, ``status``, then f0, f1, ….

    ``sagas`` limits whose prefixes are returned, not what the load figures see; ``longest`` limits their length.
    """
    aggregates = [node for node in features.nodes if isinstance(node, Aggregate)]
    recents = [node for node in features.nodes if isinstance(node, Recent)]
    column = {node: f"a{place}" for place, node in enumerate(aggregates)}
    condition = " AND kind IN ('started', 'step')"
    chosen = events_sql(saga_type, table=table, sagas=sagas)
    windows = "".join(f",\n        {node.window()} AS {column[node]}" for node in aggregates)
    joins, clock = "", ""
    if recents:
        clock, joins, values = _load(recents, events_sql(saga_type, table=table))
    else:
        values = {}
    figures = ",\n    ".join(
        f"{feature.sql(values[feature.node] if isinstance(feature.node, Recent) else column[feature.node])} AS f{place}"
        for place, feature in enumerate(features.features)
    )
    limit = f" AND place <= {longest}" if longest is not None else ""
    return f"""WITH
chosen AS (
    SELECT *, row_number() OVER (PARTITION BY saga_id ORDER BY {ORDER}) AS seq
    FROM ({chosen}{condition})
),
worked AS (
    SELECT *,
        concat(step, ':', status) AS activity,
        if(status IN ({", ".join(literal(status) for status in ENDED)}) AND begun_us > 0, us - begun_us, NULL) AS work_us
    FROM (
        SELECT *, maxIf(us, status = 'started') OVER (
            PARTITION BY saga_id, kind, step ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS begun_us
        FROM chosen
    )
),
figures AS (
    SELECT saga_id, seq, kind, us, step, status, 1 AS one,
        countIf(kind = 'step') OVER prefix AS place,
        minIf(us, kind = 'step') OVER prefix AS start_us{windows}
    FROM worked
    WINDOW
        prefix AS (PARTITION BY saga_id ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
        steps AS (PARTITION BY saga_id, kind ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
){clock}
SELECT
    saga_id, toUInt32(place) AS position, figures.us AS us, step, status,
    {figures.replace("(us -", "(figures.us -")}
FROM (SELECT * FROM figures WHERE kind = 'step'{limit}) AS figures{joins}
ORDER BY saga_id, position"""  # noqa: E501, S608


def _load(recents: list[Recent], events: str) -> tuple[str, str, dict[Recent, str]]:
    """Return the clock's definition, its joins, and the expression of each load figure.

    The clock holds running counts at each time. A window's count is the difference of two of its rows, so the cost
    does not grow with the window.
    """
    wheres = list(dict.fromkeys(node.where for node in recents))
    place = {where: f"c{number}" for number, where in enumerate(wheres)}
    counts = ", ".join(f"countIf({where.sql()}) AS {place[where]}" for where in wheres)
    running = ", ".join(f"sum({name}) OVER (ORDER BY us ROWS UNBOUNDED PRECEDING) AS {name}" for name in place.values())
    clock = f""",
clock AS (
    SELECT 1 AS one, us, {running}
    FROM (SELECT us, {counts} FROM ({events}) GROUP BY us)
)"""  # noqa: S608 (literals are escaped, the rest is ours)
    joins = "\nASOF LEFT JOIN clock AS upto ON figures.one = upto.one AND figures.us > upto.us"
    for seconds in sorted({node.seconds for node in recents}):
        joins += (
            f"\nASOF LEFT JOIN (SELECT *, us + {seconds * 1_000_000} AS left_us FROM clock) AS before_{seconds}"  # noqa: S608
            f" ON figures.one = before_{seconds}.one AND figures.us > before_{seconds}.left_us"
        )
    values = {
        node: f"(toInt64(upto.{place[node.where]}) - toInt64(before_{node.seconds}.{place[node.where]}))"
        for node in recents
    }
    return clock, joins, values
