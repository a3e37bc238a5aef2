"""Suites from the dbt project: what its models promise, as expectations that the report evaluates.

What belongs here: dbt's YAML to suite files in ``assets/quality/contracts``, one a model. What does not: reading suites
(``catalogue``) and evaluating them (``pushdown``). ``python -m assets.quality.contracts`` writes the files again.

A person may edit them: a check with ``edited: true`` is kept as it is, and a check that ``off`` names is left out, when
the files are written again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

FOLDER = Path(__file__).parent / "contracts"
MODELS = Path(__file__).resolve().parents[2] / "dbt_project" / "models"
#: Layers that others read; what lies between is dbt's own matter.
LAYERS = ("staging", "marts")

_HEAD = (
    "# Generated from dbt_project/models by `python -m assets.quality.contracts`. To change a check, edit it here and\n"
    "# set `edited: true` on it; to leave one out, name it in `off`. Both are kept when this is written again.\n"
)
_REF = re.compile(r"ref\(\s*'([^']+)'\s*\)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
Expectations = list[dict[str, Any]]


class ContractError(ValueError):
    """A model whose contract cannot become a suite; the text names the model and the place."""


def suites_of(models: Path = MODELS) -> dict[str, dict[str, Any]]:
    """Return {file name: suite} of every described model of :data:`LAYERS` that promises anything."""
    described: list[tuple[str, Mapping[str, Any]]] = []
    for path in sorted(models.glob("*/*.yml")):
        if path.parent.name in LAYERS:
            content = yaml.safe_load(path.read_text()) or {}
            described += [(path.parent.name, model) for model in content.get("models", [])]
    homes = {path.stem: path.parent.name for path in models.glob("*/*.sql")}
    found = {}
    for layer, model in described:
        suite = _suite(layer, model, homes, view=_is_view(models, layer, model["name"]))
        if suite["checks"]:
            found[f"{layer}_{model['name']}.yml"] = suite
    return found


def _is_view(models: Path, layer: str, name: str) -> bool:
    path = models / layer / f"{name}.sql"
    return layer == "staging" and path.exists() and "materialized=" not in path.read_text()


def _suite(layer: str, model: Mapping[str, Any], homes: Mapping[str, str], *, view: bool) -> dict[str, Any]:
    name = str(model["name"])
    columns = list(model.get("columns", []))
    checks: dict[tuple[str, str], Expectations] = {}
    for column in columns:
        if kind := column.get("data_type"):
            one = {"type": "expect_column_values_to_be_of_type", "kwargs": {"column": column["name"], "type_": kind}}
            checks.setdefault(("types", "WARN"), []).append(one)
    if columns:
        enforced = bool(model.get("config", {}).get("contract", {}).get("enforced"))
        wanted = {"column_set": [column["name"] for column in columns], "exact_match": enforced}
        checks["columns", "ERROR"] = [{"type": "expect_table_columns_to_match_set", "kwargs": wanted}]
    tests: list[tuple[str | None, Any]] = [(None, test) for test in model.get("data_tests", [])]
    tests += [(str(column["name"]), test) for column in columns for test in column.get("data_tests", [])]
    for column_name, test in tests:
        for kind, severity, expectation in _expectations(name, column_name, test, homes):
            checks.setdefault((kind, severity), []).append(expectation)
    suite: dict[str, Any] = {"asset": f"{layer}/{name}", "table": f"{layer}.{name}"}
    if description := " ".join(str(model.get("description", "")).split()):
        suite["description"] = description
    if view and any(column["name"] == "appended_at" for column in columns):
        # A view parses what it reads, and is read whole by dbt's own tests in each build.
        suite |= {"on_report": True, "where": "appended_at >= now() - INTERVAL 7 DAY"}
    by_severity: dict[str, Expectations] = {}
    for (_, severity), expectations in sorted(checks.items(), key=lambda item: _KINDS.index(item[0][0])):
        by_severity.setdefault(severity, []).extend(expectations)
    # One check a severity: each check is an event in every run, and the pages show expectations one by one.
    suite["checks"] = [
        {"name": name, "severity": severity, "description": words, "expectations": by_severity[severity]}
        for severity, name, words in (
            ("ERROR", "contract", "What dbt's contract promises holds: columns, keys, values, references."),
            ("WARN", "contract_hints", "What dbt only warns of holds, and types are those of the contract."),
        )
        if severity in by_severity
    ]
    return suite


_KINDS = ("columns", "types", "nulls", "unique", "values", "ranges", "references", "empty")


def _expectations(
    model: str, column: str | None, test: Any, homes: Mapping[str, str]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (check, severity, expectation) of one dbt test; a test that has no counterpart stays dbt's alone."""
    kind, body = (test, {}) if isinstance(test, str) else next(iter(test.items()))
    body = body or {}
    # dbt takes arguments beside the test's name or, since 1.10, under `arguments`.
    arguments = {**{k: v for k, v in body.items() if k not in _RESERVED}, **body.get("arguments", {})}
    config = {**{k: body[k] for k in ("where", "severity") if k in body}, **body.get("config", {})}
    severity = "WARN" if str(config.get("severity", "error")).lower() == "warn" else "ERROR"
    build = _TESTS.get(kind.rsplit(".", 1)[-1])
    if build is None:
        return
    where = str(config.get("where", ""))
    for check, expectation in build(model, column, arguments, homes):
        yield check, severity, _limited(expectation, where) if where else expectation


_RESERVED = {"name", "arguments", "config", "where", "severity", "description", "meta", "tags", "column_name"}


def _limited(expectation: dict[str, Any], where: str) -> dict[str, Any]:
    """Return an expectation about the rows that ``where`` holds for, as rows that should not be there."""
    kwargs, kind = expectation["kwargs"], expectation["type"]
    if kind == "unexpected_rows_expectation":
        query = str(kwargs["unexpected_rows_query"]).replace("{batch}", f"(SELECT * FROM {{batch}} WHERE {where})")  # noqa: S608
        return {**expectation, "kwargs": {**kwargs, "unexpected_rows_query": query}}
    if kind == "expect_column_values_to_be_in_set":
        column, values = kwargs["column"], ", ".join(_literal(value) for value in kwargs["value_set"])
        broken = f"toString({column}) NOT IN ({values})"
    elif kind == "expect_column_values_to_not_be_null":
        broken = f"{kwargs['column']} IS NULL"
    elif kind == "expect_column_values_to_be_between":
        column = kwargs["column"]
        broken = " OR ".join(
            f"{column} {sign} {kwargs[key]}" for sign, key in (("<", "min_value"), (">", "max_value")) if key in kwargs
        )
    else:
        columns = ", ".join(kwargs.get("column_list") or [kwargs["column"]])
        return _rows(
            f"SELECT {columns}, count() AS times FROM {{batch}} WHERE {where} GROUP BY {columns} HAVING times > 1",  # noqa: S608
            f"where {where}, one row a combination of {columns}",
        )
    column = kwargs["column"]
    return _rows(f"SELECT {column} FROM {{batch}} WHERE ({where}) AND ({broken})", f"{column} where {where}")  # noqa: S608


def _rows(query: str, because: str) -> dict[str, Any]:
    kwargs = {"description": because[:1].upper() + because[1:], "unexpected_rows_query": query}
    return {"type": "unexpected_rows_expectation", "kwargs": kwargs, "because": because}


def _literal(value: Any) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


Found = Iterator[tuple[str, dict[str, Any]]]


def _named(model: str, column: str | None) -> str:
    if column is None or not _NAME.fullmatch(column):
        raise ContractError(f"{model}: a test of a column names {column!r}, which is none")
    return column


def _not_null(model: str, column: str | None, _: Mapping[str, Any], __: Mapping[str, str]) -> Found:
    yield "nulls", {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": _named(model, column)}}


def _unique(model: str, column: str | None, _: Mapping[str, Any], __: Mapping[str, str]) -> Found:
    yield "unique", {"type": "expect_column_values_to_be_unique", "kwargs": {"column": _named(model, column)}}


def _combination(model: str, _: str | None, arguments: Mapping[str, Any], __: Mapping[str, str]) -> Found:
    columns = list(arguments.get("columns") or arguments.get("combination_of_columns") or [])
    if not columns:
        raise ContractError(f"{model}: a test of a unique combination names no columns")
    yield "unique", {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": columns}}


def _accepted(model: str, column: str | None, arguments: Mapping[str, Any], _: Mapping[str, str]) -> Found:
    kwargs = {"column": _named(model, column), "value_set": list(arguments["values"])}
    yield "values", {"type": "expect_column_values_to_be_in_set", "kwargs": kwargs}


def _range(model: str, column: str | None, arguments: Mapping[str, Any], _: Mapping[str, str]) -> Found:
    kwargs: dict[str, Any] = {"column": _named(model, column)}
    for key in ("min_value", "max_value"):
        if arguments.get(key) is not None:
            kwargs[key] = arguments[key]
            if arguments.get("inclusive") is False:
                kwargs[f"strict_{key[:3]}"] = True
    yield "ranges", {"type": "expect_column_values_to_be_between", "kwargs": kwargs}


def _holds(model: str, column: str | None, arguments: Mapping[str, Any], _: Mapping[str, str]) -> Found:
    expression = " ".join(str(arguments["expression"]).split())
    said = f"{column} {expression}" if column else expression
    yield "ranges", _rows(f"SELECT * FROM {{batch}} WHERE NOT coalesce({said}, 0)", said)  # noqa: S608


def _related(model: str, column: str | None, arguments: Mapping[str, Any], homes: Mapping[str, str]) -> Found:
    found = _REF.search(str(arguments["to"]))
    if not found or found[1] not in homes:
        raise ContractError(f"{model}: {arguments['to']} is no model of the project")
    name, field, target = _named(model, column), arguments["field"], found[1]
    yield (
        "references",
        _rows(
            f"SELECT DISTINCT {name} FROM {{batch}} WHERE {name} IS NOT NULL "  # noqa: S608 (names of the project's own)
            f"AND {name} NOT IN (SELECT {field} FROM {homes[target]}.{target})",
            f"every {name} is in {target}",
        ),
    )


def _none_there(_: str, __: str | None, ___: Mapping[str, Any], ____: Mapping[str, str]) -> Found:
    yield "empty", {"type": "expect_table_row_count_to_be_between", "kwargs": {"max_value": 0}}


_TESTS: dict[str, Callable[[str, str | None, Mapping[str, Any], Mapping[str, str]], Found]] = {
    "not_null": _not_null,
    "unique": _unique,
    "unique_combination": _combination,
    "unique_combination_of_columns": _combination,
    "accepted_values": _accepted,
    "accepted_range": _range,
    "holds": _holds,
    "expression_is_true": _holds,
    "relationships": _related,
    "none_there": _none_there,
}


def merged(generated: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a generated suite with what a person changed in the file that was there."""
    if not before:
        return dict(generated)
    edited = {check["name"]: check for check in before.get("checks", []) if check.get("edited")}
    off = list(before.get("off", []))
    checks = [edited.pop(check["name"], check) for check in generated["checks"] if check["name"] not in off]
    suite = {**generated, "checks": [*checks, *edited.values()]}
    return {**suite, "off": off} if off else suite


def write(folder: Path = FOLDER, models: Path = MODELS) -> list[str]:
    """Write the suite files and return the names of those that changed; a model that is gone takes its file with it."""
    folder.mkdir(exist_ok=True)
    changed = []
    wanted = suites_of(models)
    for name, suite in wanted.items():
        path = folder / name
        before = path.read_text() if path.exists() else ""
        text = _HEAD + yaml.safe_dump(
            merged(suite, yaml.safe_load(before)), sort_keys=False, width=116, allow_unicode=True
        )
        if text != before:
            path.write_text(text)
            changed.append(name)
    for path in folder.glob("*.yml"):
        if path.name not in wanted:
            path.unlink()
            changed.append(path.name)
    return changed


if __name__ == "__main__":
    for one in write():
        sys.stdout.write(f"{one}\n")
