"""``isthmus quality``: cells of a table that are probably wrong, and a steward's answers about a few rows.

What belongs here: options, asking, printing. What does not: reading, finding and keeping (``assets.quality.cells``).

Rows are shown to the person who labels them, and kept nowhere.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.console import console, explained, who

if TYPE_CHECKING:
    from assets.quality.cells import Assessment

app = typer.Typer(
    help="Cells that are probably wrong, found by learning, and the steward's page.", no_args_is_help=True
)
_SHOWN = 60
TableArgument = Annotated[str, typer.Argument(metavar="DATABASE.TABLE", help="A table of the warehouse.")]


@app.command("score")
def score(
    table: TableArgument, rows: Annotated[int, typer.Option(min=1, help="Rows looked at, at most.")] = 20_000
) -> None:
    """Find the cells of a table that are probably wrong, and keep the findings in `quality.cell_findings`."""
    from assets.quality.cells import assess, keep
    from resources.warehouse import WarehouseResource

    with explained():
        warehouse = WarehouseResource()
        found = assess(warehouse, table, rows=rows)
        keep(warehouse, found, run_id=f"cli-{uuid.uuid4()}")
    _print(found)


@app.command("label")
def label(
    table: TableArgument,
    count: Annotated[int, typer.Option("--rows", min=1, max=200, help="Rows to ask about.")] = 20,
) -> None:
    """Ask which cells of a few telling rows are wrong; then score the table anew. Ctrl-C keeps what was answered."""
    from assets.quality.cells import answer, assess, keep
    from resources.warehouse import WarehouseResource

    with explained():
        warehouse = WarehouseResource()
        found = assess(warehouse, table)
        left = count
        while left > 0:
            from assets.quality.cells import labels

            asked, wrong = labels(warehouse, found.sample)
            chosen = found.detector.ask(asked, wrong, min(5, left))
            if not len(chosen):
                console.print("Every row is labelled.")
                break
            for row in chosen.tolist():
                said = _ask(found, row)
                if said is None:
                    left = 0
                    break
                answer(warehouse, found.sample, {row: said}, actor=who())
                left -= 1
        found = assess(warehouse, table)
        keep(warehouse, found, run_id=f"cli-{uuid.uuid4()}")
    _print(found)


@app.command("steward")
def steward(
    port: Annotated[int | None, typer.Option(help="Port on loopback; default: ISTHMUS_STEWARD_PORT.")] = None,
) -> None:
    """Serve the steward's page on loopback until Ctrl-C: rows to label, held rows to release or keep."""
    import uvicorn

    from assets.quality.cell_scan import scanned
    from cli.steward import application
    from resources.settings import get_settings
    from resources.warehouse import WarehouseResource
    from services.doors import listen

    settings = get_settings()
    tokens = settings.steward_secrets()
    with explained():
        try:
            listener = listen("127.0.0.1", settings.steward_port if port is None else port)
        except OSError as error:
            console.print(f"[red]The page cannot listen: {error.strerror}. Say another --port.[/]")
            raise typer.Exit(1) from error
        app_ = application(WarehouseResource(), tokens, tuple(one.table for one in scanned()))
        # The whole address on a line of its own: a terminal makes a link of it, however wide it is.
        typer.echo(f"ready http://127.0.0.1:{listener.getsockname()[1]}/?token={next(iter(tokens.values()))}")
        config = uvicorn.Config(app_, log_config=None, access_log=False, server_header=False)
        with listener:
            uvicorn.Server(config).run([listener])


def _ask(found: Assessment, row: int) -> list[str] | None:
    """Show a row and return the columns that the person calls wrong, None to stop."""
    columns = found.sample.columns
    shown = Table("", "column", "value", "suspected", title=f"Row {row + 1} of {found.sample.table}")
    for at, column in enumerate(columns):
        shown.add_row(
            str(at + 1),
            escape(column),
            escape(found.sample.cells[column][row][:_SHOWN]) or "[dim]empty[/]",
            f"{found.p[row, at]:.0%}",
        )
    console.print(shown)
    while True:
        try:
            words = typer.prompt("Numbers of wrong columns (Enter: none, q: stop)", default="", show_default=False)
        except typer.Abort:
            return None
        if words.strip().lower() == "q":
            return None
        numbers = words.replace(",", " ").split()
        if all(number.isdigit() and 1 <= int(number) <= len(columns) for number in numbers):
            return [columns[int(number) - 1] for number in numbers]
        console.print(f"Numbers from 1 to {len(columns)}, apart by spaces.")


def _print(found: Assessment) -> None:
    said = found.p >= found.threshold
    shown = Table(
        "column", "probably wrong", "of rows", title=f"{found.sample.table}, {len(found.labelled)} rows labelled"
    )
    for at, column in enumerate(found.sample.columns):
        if said[:, at].any():
            shown.add_row(escape(column), f"{int(said[:, at].sum()):,}", f"{len(said):,}")
    console.print(shown if shown.row_count else "[green]No cell is probably wrong.[/]")
