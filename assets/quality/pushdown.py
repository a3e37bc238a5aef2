"""Expectations as aggregates: one query a table, so that no row of a big table leaves the warehouse.

What belongs here: the SQL of each expectation and its execution. What does not: whether what was seen is good
(``ml.quality``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ml.quality import SCHEMA_WISE, Check, CheckOutcome, Expectation, Observed, Suite, judge_check
from resources.errors import WarehouseError, WarehouseUnavailable

_SAMPLE = 5


class Tables(Protocol):
    """What the pushdown needs of the warehouse."""

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the result as one dict a row."""


@dataclass(slots=True)
class _Query:
    """The select list of one query and its bound parameters; names begin with the expectation's number."""

    select: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    def bind(self, value: Any) -> str:
        """Bind a literal, never write it into the text, and return its placeholder."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        if isinstance(value, list):
            return f"{{{name}:Array(String)}}"
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return f"{{{name}:Float64}}"
        return f"{{{name}:String}}"


def evaluate(
    tables: Tables, suites: Sequence[Suite], *, chosen: Callable[[Suite, Check], bool] | None = None
) -> list[CheckOutcome]:
    """Evaluate suites with one query a table (and one for all their columns), in the order that they come.

    ``chosen`` says of each check whether to evaluate it; a table without one is not read. Whatever cannot be evaluated
    (no such table or column, a query that the warehouse refuses) counts as failed, with the reason; only
    :class:`WarehouseUnavailable` is raised.
    """
    columns = _columns(tables, suites)
    outcomes = []
    for suite in suites:
        checks = [check for check in suite.checks if chosen is None or chosen(suite, check)]
        wanted = [expectation for check in checks for expectation in check.expectations]
        seen = _observe(tables, suite, wanted, columns.get(suite.table, {}))
        outcomes += [judge_check(suite, check, seen) for check in checks]
    return outcomes


def _columns(tables: Tables, suites: Sequence[Suite]) -> dict[str, dict[str, str]]:
    """Return the columns and their types of every table, {table: {column: type}}; a missing table is absent."""
    sql = """
        SELECT concat(database, '.', table) AS full_name, groupArray((name, type)) AS columns
        FROM (SELECT database, table, name, type FROM system.columns
              WHERE concat(database, '.', table) IN {tables:Array(String)} ORDER BY position)
        GROUP BY database, table
    """
    rows = tables.query_rows(sql, {"tables": sorted({suite.table for suite in suites})})
    return {row["full_name"]: {str(name): str(kind) for name, kind in row["columns"]} for row in rows}


def _observe(
    tables: Tables, suite: Suite, wanted: Sequence[Expectation], columns: Mapping[str, str]
) -> dict[int, Observed]:
    if not columns:
        return {id(expectation): Observed(error=f"table {suite.table} does not exist") for expectation in wanted}
    seen: dict[int, Observed] = {}
    askable: list[Expectation] = []
    for expectation in wanted:
        missing = [name for name in expectation.columns if name not in columns]
        if missing:
            seen[id(expectation)] = Observed(error=f"column {', '.join(missing)} is missing")
        elif expectation.type in SCHEMA_WISE:
            of_type = expectation.type == "expect_column_values_to_be_of_type"
            value = columns[expectation.kwargs["column"]] if of_type else list(columns)
            seen[id(expectation)] = Observed(value=value)
        else:
            askable.append(expectation)
    try:
        seen |= _ask(tables, suite, askable, columns)
    except WarehouseUnavailable:
        raise
    except WarehouseError:
        # One expectation's query is refused: ask one by one, so that only that one fails.
        for expectation in askable:
            try:
                seen |= _ask(tables, suite, [expectation], columns)
            except WarehouseUnavailable:
                raise
            except WarehouseError as error:
                seen[id(expectation)] = Observed(error=f"the warehouse refuses its query: {_said(error)}")
    return seen


def _said(error: WarehouseError) -> str:
    """Return what the warehouse said, without where it is: it goes on a page that others read."""
    return re.sub(r"\s*\(?(?:for url )?https?://[^\s)]*\)?", "", str(error))[:300]


def _ask(
    tables: Tables, suite: Suite, expectations: Sequence[Expectation], columns: Mapping[str, str]
) -> dict[int, Observed]:
    if not expectations:
        return {}
    query = _Query(select=["count() AS n"])
    for number, expectation in enumerate(expectations):
        unexpected, missing, sample = _aggregates(expectation, suite, columns, query)
        query.select += [f"{unexpected} AS u{number}", f"{missing} AS m{number}", f"{sample} AS s{number}"]
    sql = f"SELECT {', '.join(query.select)} FROM {source(suite)}"  # noqa: S608 (names are quoted, values bound)
    row = tables.query_rows(sql, query.parameters)[0]
    return {
        id(expectation): Observed(
            elements=int(row["n"]),
            missing=int(row[f"m{number}"]),
            unexpected=int(row[f"u{number}"] or 0),
            sample=tuple(str(value) for value in row[f"s{number}"]),
            value=int(row["n"]),
        )
        for number, expectation in enumerate(expectations)
    }


def source(suite: Suite) -> str:
    """Return what follows FROM: the table, read once per row, and the rows that the suite looks at."""
    database, table = suite.table.split(".", 1)
    text = f"{quoted(database)}.{quoted(table)}" + (" FINAL" if suite.final else "")
    return f"{text} WHERE {suite.where}" if suite.where else text


def batch(suite: Suite, columns: Mapping[str, str]) -> str:
    """Return the rows that a suite looks at as a subquery; named columns, for ``*`` leaves materialized ones out."""
    return f"(SELECT {', '.join(quoted(name) for name in columns)} FROM {source(suite)})"  # noqa: S608 (quoted)


def quoted(name: str) -> str:
    """Return an identifier, quoted."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _aggregates(
    expectation: Expectation, suite: Suite, columns: Mapping[str, str], query: _Query
) -> tuple[str, str, str]:
    """Return SQL for the unexpected rows, those left out for a null, and a sample of the unexpected."""
    if expectation.type == "expect_table_row_count_to_be_between":
        return "0", "0", "emptyArrayString()"
    if expectation.type == "unexpected_rows_expectation":
        rows = expectation.kwargs["unexpected_rows_query"].strip().rstrip(";").replace("{batch}", batch(suite, columns))
        return (
            f"(SELECT count() FROM ({rows}))",  # noqa: S608 (the suite is part of the program)
            "0",
            f"(SELECT groupArray({_SAMPLE})(toString(tuple(*))) FROM ({rows} LIMIT {_SAMPLE}))",  # noqa: S608
        )
    if expectation.type in {"expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique"}:
        return _duplicates(expectation, batch(suite, columns))
    names = [quoted(name) for name in expectation.columns]
    missing = " OR ".join(f"isNull({name})" for name in names)
    shown = f"toString({names[0]})" if len(names) == 1 else f"toString(tuple({', '.join(names)}))"
    if expectation.type == "expect_column_values_to_not_be_null":
        # What a null looks like says nothing; where it is would need a key, which the mart's own tests know.
        return f"countIf({missing})", f"countIf({missing})", "emptyArrayString()"
    broken = " OR ".join(f"ifNull({condition}, false)" for condition in _conditions(expectation, columns, query))
    sample = f"groupUniqArrayIf({_SAMPLE})(ifNull({shown}, ''), {broken})"
    return f"countIf({broken})", f"countIf({missing})", sample


def _conditions(expectation: Expectation, columns: Mapping[str, str], query: _Query) -> Iterator[str]:
    """Yield SQL conditions; a row that fulfils one of them breaks the expectation."""
    kwargs = expectation.kwargs
    name = quoted(expectation.columns[0])
    if expectation.type == "expect_column_values_to_be_in_set":
        yield f"toString({name}) NOT IN {query.bind([str(value) for value in kwargs['value_set']])}"
    elif expectation.type == "expect_column_values_to_match_regex":
        yield f"NOT match(toString({name}), {query.bind(kwargs['regex'])})"
    elif expectation.type == "expect_column_pair_values_a_to_be_greater_than_b":
        yield f"{name} {'<' if kwargs.get('or_equal') else '<='} {quoted(expectation.columns[1])}"
    elif expectation.type == "expect_column_values_to_be_between":
        for sign, key in (("<", "min_value"), (">", "max_value")):
            if (limit := kwargs.get(key)) is not None:
                bound = query.bind(limit)
                if "Date" in columns[expectation.columns[0]]:
                    bound = f"parseDateTime64BestEffort({bound}, 6, 'UTC')"
                strict = "=" if kwargs.get(f"strict_{key[:3]}") else ""
                yield f"{name} {sign}{strict} {bound}"
        if "Float" in columns[expectation.columns[0]]:
            yield f"isNaN({name})"  # NaN compares false with everything, so no bound would catch it


def _duplicates(expectation: Expectation, rows: str) -> tuple[str, str, str]:
    """Return the aggregates of a uniqueness: every row of a key that is there more than once is unexpected."""
    names = [quoted(name) for name in expectation.columns]
    keys, nulls = ", ".join(names), " OR ".join(f"isNull({name})" for name in names)
    groups = (
        f"SELECT count() AS rows_of_key, toString(tuple({keys})) AS shown FROM {rows} "  # noqa: S608 (names are quoted)
        f"WHERE NOT ({nulls}) GROUP BY {keys} HAVING rows_of_key > 1"
    )
    return (
        f"(SELECT sum(rows_of_key) FROM ({groups}))",  # noqa: S608
        f"countIf({nulls})",
        f"(SELECT groupArray({_SAMPLE})(shown) FROM ({groups} LIMIT {_SAMPLE}))",  # noqa: S608
    )
