"""``isthmus routes``: the router's routing table, checked before the router sees it.

What belongs here: options and printing. What does not: what a table may say (``services.router.table``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.console import console, errors

if TYPE_CHECKING:
    from services.router.table import When

app = typer.Typer(help="The router's routing table.", no_args_is_help=True)


@app.command()
def check(file: Annotated[Path, typer.Argument(help="The table's file (YAML).", exists=True, dir_okay=False)]) -> None:
    """Check a routing table and show what it does; exit code 1 where the router would refuse it."""
    from services.router.table import BadTable, load

    try:
        table = load(file.read_text())
    except (BadTable, UnicodeDecodeError) as error:
        errors.print(f"[red]The router would refuse {escape(str(file))}:[/]")
        errors.print(escape(str(error)), highlight=False)
        raise typer.Exit(1) from None
    grid = Table("route", "events", "to", "copies", title="Routes, in order")
    for route in table.table.routes:
        share = f" ({route.sample:.0%} of them)" if route.sample < 1 else ""
        grid.add_row(route.name, _condition(route.when), route.to or "their own topic", ", ".join(route.copies) + share)
    console.print(grid)
    if table.table.enrich:
        grid = Table("enrichment", "events", "adds", title="Enrichment")
        for one in table.table.enrich:
            looked_up = [f"{name} by {lookup.source}" for name, lookup in one.lookup.items()]
            constants = [f"{name}={value}" for name, value in one.constants.items()]
            grid.add_row(one.name, _condition(one.when), ", ".join([*constants, *looked_up]))
        console.print(grid)


def _condition(when: When) -> str:
    given = when.model_dump(exclude_defaults=True)
    places = {**given.pop("attributes", {}), **{f"data.{path}": value for path, value in given.pop("data", {}).items()}}
    texts = (
        f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in {**given, **places}.items()
    )
    return escape("; ".join(texts)) or "all"
