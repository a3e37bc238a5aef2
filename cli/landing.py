"""``isthmus landing``: gaps, which only a person may resolve.

What belongs here: printing and asking. What does not: finding gaps (``assets.landing``) and their record
(``resources.ledger``).
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.console import console, explained, who

app = typer.Typer(help="Offsets that could not be landed, and what a person says of them.", no_args_is_help=True)

GapId = Annotated[str, typer.Argument(help="The gap's id, as `isthmus landing gaps` prints it.")]
Actor = Annotated[str, typer.Option(help="Who says so; default: you.")]


@app.command()
def gaps(every: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False) -> None:
    """List what could not be landed."""
    from resources.ledger import Ledger
    from resources.warehouse import WarehouseResource

    with explained():
        found = Ledger(WarehouseResource(attempts=1)).gaps(*(() if every else ("open",)))
    table = Table("gap", "state", "what happened", "resolved by", "why")
    for gap in found:
        resolved = gap.actor if gap.state != "open" else ""
        table.add_row(escape(gap.gap_id), gap.state, escape(gap.detail), escape(resolved), escape(gap.reason))
    console.print(table if found else "[green]No gap: every offset landed, or is on its way.[/]")


@app.command()
def acknowledge(
    gap_id: GapId,
    reason: Annotated[str, typer.Option(prompt="Why", help="Why the gap may stay; kept with it.")],
    actor: Actor = "",
) -> None:
    """Accept that a gap stays; landing goes on without it."""
    from resources.ledger import Ledger
    from resources.warehouse import WarehouseResource

    with explained():
        gap = Ledger(WarehouseResource(attempts=1)).acknowledge(gap_id, actor=actor or who(), reason=reason)
    console.print(f"{escape(gap.gap_id)} is acknowledged; landing goes on.")


@app.command()
def retry(
    gap_id: GapId,
    reason: Annotated[str, typer.Option(prompt="Why", help="What has changed; kept with it.")],
    actor: Actor = "",
) -> None:
    """Have a range that could not be landed tried again."""
    from resources.ledger import Ledger
    from resources.warehouse import WarehouseResource

    with explained():
        gap = Ledger(WarehouseResource(attempts=1)).retry(gap_id, actor=actor or who(), reason=reason)
    console.print(f"{escape(gap.gap_id)} will be tried again.")
