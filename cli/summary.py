"""The demo's last page: what came in, what became of it, and what was decided.

What belongs here: reading what the platform wrote down, and laying it out. What does not: computing anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cli.console import console
from cli.decision import coloured

_TABLES = """
SELECT database, count() AS tables, sum(total_rows) AS rows
FROM system.tables
WHERE database IN ('raw', 'staging', 'intermediate', 'marts', 'ml', 'quality', 'ops') AND total_rows IS NOT NULL
GROUP BY database
ORDER BY indexOf(['raw', 'staging', 'intermediate', 'marts', 'ml', 'quality', 'ops'], database)
"""
_LANDED = "SELECT sum(rows) AS landed, count() AS ranges FROM raw.landings FINAL"
_SAGAS = """
SELECT saga_type, count() AS sagas, countIf(status = 'completed') AS completed,
    countIf(abort_reason = 'technical') AS failed, countIf(abort_reason = 'business') AS declined
FROM marts.fct_sagas GROUP BY saga_type ORDER BY sagas DESC
"""


def print_summary(sent: Mapping[str, int], run_id: str, *, seconds: float) -> None:
    """Print what came of the run ``run_id`` and of the events that were ``sent``."""
    from dagster import DagsterInstance

    from resources.warehouse import WarehouseResource

    warehouse = WarehouseResource()
    with DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
        failed = run is not None and run.is_failure
        console.rule("[bold]What came of it")
        _print_events(warehouse, sent)
        if not failed:
            _print_tables(warehouse)
        _print_model(instance, run_id)
        _print_quality(instance, run_id)
        _print_decisions(warehouse, run_id)
        if failed:
            _print_failures(instance, run_id)
    console.print(f"[dim]{seconds:.0f} seconds in all.[/]")


def _print_events(warehouse: Any, sent: Mapping[str, int]) -> None:
    (counts,) = warehouse.query_rows(_LANDED)
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_row("sent to the bus", f"{sent['sent']:,}", f"[dim]{sent['sagas']:,} sagas of the shop[/]")
    table.add_row("refused by the router", f"{sent['refused']:,}", "[dim]whole, in isthmus.dead-letter[/]")
    table.add_row("landed, now and before", f"{counts['landed']:,}", f"[dim]in {counts['ranges']:,} ranges[/]")
    console.print(Panel(table, title="Events", title_align="left"))


def _print_tables(warehouse: Any) -> None:
    grid = Table.grid(padding=(0, 4))
    tables = Table("database", "tables", "rows", box=None)
    for row in warehouse.query_rows(_TABLES):
        tables.add_row(row["database"], str(row["tables"]), f"{row['rows']:,}")
    sagas = Table("saga type", "all", "done", "failed", "declined", box=None)
    for row in warehouse.query_rows(_SAGAS):
        counts = (row[name] for name in ("sagas", "completed", "failed", "declined"))
        sagas.add_row(escape(row["saga_type"]), *(f"{count:,}" for count in counts))
    grid.add_row(tables, sagas)
    console.print(Panel(grid, title="Tables", title_align="left"))


def _materializations(instance: Any, run_id: str) -> dict[str, Mapping[str, Any]]:
    """Return the metadata of what the run materialized, by asset key."""
    from dagster import DagsterEventType

    found = {}
    for entry in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION):
        materialization = entry.asset_materialization
        found[materialization.asset_key.to_user_string()] = materialization.metadata
    return found


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata's values as plain ones, without what only a browser can show."""
    from dagster import MarkdownMetadataValue

    values = {
        name: getattr(value, "value", None)
        for name, value in metadata.items()
        if not isinstance(value, MarkdownMetadataValue)
    }
    return {name: value for name, value in values.items() if isinstance(value, str | int | float | bool)}


def _print_model(instance: Any, run_id: str) -> None:
    metadata = _materializations(instance, run_id).get("ml/saga_model")
    console.print(Panel(_model(metadata) if metadata else "[red]not trained[/]", title="Model", title_align="left"))


def _model(metadata: Mapping[str, Any]) -> Table:
    """Lay out ``saga and outcome: figure`` entries, each saga's outcome under a heading of its own."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    heading = ""
    for name, value in _plain(metadata).items():
        model, _, figure = name.partition(": ")
        if name.startswith("dagster/") or figure == "run":
            continue
        if figure and model != heading:
            table.add_row(f"[bold]{escape(model)}[/]", "")
            heading = model
        shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        table.add_row(escape(f"  {figure}" if figure else model), escape(shown))
    return table


def _print_quality(instance: Any, run_id: str) -> None:
    from dagster import DagsterEventType

    entries = instance.all_logs(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations = [entry.dagster_event.asset_check_evaluation_data for entry in entries]
    broken = [evaluation for evaluation in evaluations if not evaluation.passed]
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_row("checks passed", f"[green]{len(evaluations) - len(broken)}[/] of {len(evaluations)}")
    for evaluation in broken[:10]:
        place = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
        table.add_row(
            f"[yellow]{evaluation.severity.value.lower()}[/]", escape(place), escape(evaluation.description or "")
        )
    console.print(Panel(table, title="Quality", title_align="left"))


def _print_decisions(warehouse: Any, run_id: str) -> None:
    from resources.decisions import DecisionStore

    decisions = [one for one in DecisionStore(warehouse).list(limit=50) if one.run_id == run_id]
    table = Table("decision", "on", "", "why", box=None)
    for decision in decisions:
        why = "; ".join(decision.reasons) or "every check that it rests on passed"
        table.add_row(
            f"{decision.kind} {str(decision.decision_id)[:13]}", decision.subject, coloured(decision.status), why
        )
    console.print(Panel(table if decisions else "none", title="Decision", title_align="left"))


def _print_failures(instance: Any, run_id: str) -> None:
    from dagster import DagsterEventType

    for entry in instance.all_logs(run_id, of_type=DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        error = event.step_failure_data.error
        cause = (error.cause or error) if error else None
        text = cause.message.strip() if cause else "no message"
        console.print(f"[red]✗ {escape(event.step_key.replace('__', '/'))}[/] {escape(text[:2000])}", highlight=False)
