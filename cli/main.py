"""``isthmus``: the command's entry point and its small commands; longer ones have a module of their own.

What belongs here: options and one call each. What does not: work; it is in the rooms that the commands call.
"""

from __future__ import annotations

import logging
import time
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli import decision, dlq, landing, privacy, quality, routes, schema
from cli.console import console, explained

app = typer.Typer(
    name="isthmus",
    help="Microservices, warehouse and machine learning as one asset graph.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # a local may hold a password
)
# Its client logs what it raises as well; a command prints the error once, as a sentence.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)

warehouse_app = typer.Typer(help="Look into the warehouse.", no_args_is_help=True)
app.add_typer(warehouse_app, name="warehouse")
app.add_typer(decision.app, name="decision")
app.add_typer(landing.app, name="landing")
app.add_typer(dlq.app, name="dlq")
app.add_typer(privacy.app, name="privacy")
app.add_typer(quality.app, name="quality")
app.add_typer(routes.app, name="routes")
app.add_typer(schema.app, name="schema")


@app.command()
def demo(
    serve: Annotated[bool, typer.Option("--serve", help="Leave everything running afterwards, with its UIs.")] = False,
    sagas: Annotated[int | None, typer.Option(help="Orders in the day of traffic; default: the shop's own.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the day; default: a new day each time.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget earlier demos: start from an empty home.")] = False,
) -> None:
    """Play a day of shop traffic through the whole platform, and tell what came of it."""
    from cli.demo import run_demo

    with explained():
        run_demo(serve=serve, sagas=sagas, seed=seed if seed is not None else int(time.time()), fresh=fresh)


@app.command()
def up() -> None:
    """Start everything (warehouse, broker, router, Dagster, MLflow, documents) until Ctrl-C."""
    from cli.up import run_up

    with explained():
        run_up()


@app.command()
def down() -> None:
    """Stop what an earlier `up` or `demo` left behind (after a kill -9, say)."""
    from cli.up import run_down

    with explained():
        run_down()


@app.command()
def replay(
    source: Annotated[str, typer.Argument(help="`shop`, or the folder of a data set.")],
    speed: Annotated[float | None, typer.Option(help="Times real time; default: as fast as it goes.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many events.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of generator and faults; default: a new one.")] = None,
    duplicates: Annotated[float, typer.Option(help="Share of events that are sent twice, 0 to 1.")] = 0.0,
    late: Annotated[float, typer.Option(help="Share of events that come late, 0 to 1.")] = 0.0,
) -> None:
    """Send the events of a source to the bus, in time order, key order kept."""
    from cli.replay import run_replay

    with explained():
        chosen = seed if seed is not None else int(time.time())
        report = run_replay(source, speed=speed, limit=limit, seed=chosen, duplicates=duplicates, late=late)
    table = Table("sent", "distinct", "sagas", "duplicates", "late", "malformed", "refused", "seconds", title="Replay")
    counts = (report.sent, report.distinct, report.sagas, report.duplicates, report.late, report.malformed)
    table.add_row(*(f"{count:,}" for count in (*counts, report.rejected)), f"{report.seconds:.1f}")
    console.print(table)


@app.command()
def status() -> None:
    """Show what runs, how far events have come, and the newest decisions."""
    from cli.status import print_status

    with explained():
        print_status()


@app.command()
def doctor() -> None:
    """Check versions, ports, services and configuration, and say what to do."""
    from cli.doctor import examine

    with explained():
        if not examine():
            raise typer.Exit(1)


@warehouse_app.command("sql")
def sql(
    query: Annotated[str, typer.Argument(help="One statement; use `-` to read it from standard input.")],
    limit: Annotated[int, typer.Option(help="Rows to print, at most.")] = 50,
    output: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
) -> None:
    """Run a read-only query and print its rows."""
    import sys

    from resources.warehouse import WarehouseResource

    text = sys.stdin.read() if query == "-" else query
    with explained():
        # Settings of the query itself: a person's look cannot change anything, whatever the user's rights.
        result = WarehouseResource().query_arrow(text, settings={"readonly": 2, "max_execution_time": 60})
        rows = result.slice(0, limit)
    if output == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(rows, sys.stdout.buffer)
        return
    if output == "json":
        import orjson

        for row in rows.to_pylist():
            typer.echo(orjson.dumps(row, default=str).decode())
        return
    table = Table(*result.column_names)
    for row in rows.to_pylist():
        table.add_row(*("[dim]null[/]" if value is None else escape(str(value)) for value in row.values()))
    console.print(table)
    if result.num_rows > limit:
        console.print(f"[dim]{result.num_rows - limit:,} rows more; --limit shows them.[/]")


if __name__ == "__main__":
    app()
