"""Which columns of the tables above a column of a model is made of, read from the model's compiled SQL.

What belongs here: SQL text in, columns out. What does not: Dagster, dbt, a connection.
"""

from __future__ import annotations

from collections.abc import Mapping

Relation = tuple[str, str]
"""Database and table."""


def column_lineage(
    sql: str, columns: list[str], parents: Mapping[Relation, list[str]]
) -> dict[str, list[tuple[Relation, str]]]:
    """Return for each of ``columns`` the parents' columns that it is made of; columns of no known origin are left out.

    ``parents`` holds the columns of each table that ``sql`` reads. SQL that cannot be resolved gives an empty result:
    lineage is a help, never a reason for a build to fail.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    schema: dict[str, dict[str, dict[str, str]]] = {}
    for (database, table), names in parents.items():
        schema.setdefault(database, {})[table] = dict.fromkeys(names, "String")
    found: dict[str, list[tuple[Relation, str]]] = {}
    try:
        query = qualify(
            sqlglot.parse_one(sql, dialect="clickhouse"),
            schema=schema,  # type: ignore[arg-type]
            dialect="clickhouse",
            validate_qualify_columns=False,
            identify=False,
        )
        scope = build_scope(query)
        for column in columns:
            origins: set[tuple[Relation, str]] = set()
            for node in lineage(column, query, schema, dialect="clickhouse", scope=scope).walk():
                if not node.downstream and isinstance(node.source, exp.Table):
                    relation = (node.source.db, node.source.name)
                    name = node.name.rpartition(".")[2].strip('`"')
                    if name in parents.get(relation, ()):
                        origins.add((relation, name))
            if origins:
                found[column] = sorted(origins)
    except (SqlglotError, ValueError):
        return {}
    return found
