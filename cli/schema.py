"""``isthmus schema``: the event schemas at a schema registry.

What belongs here: options and printing. What does not: publishing (``services.router.registry.publish``).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.console import console, explained

app = typer.Typer(help="The event schemas at a schema registry.", no_args_is_help=True)

_COLOURS = {"unchanged": "dim", "registered": "green", "would register": "yellow"}


@app.command()
def publish(
    check: Annotated[bool, typer.Option("--check", help="Register nothing; only tell what would come of it.")] = False,
    compatibility: Annotated[str, typer.Option(help="What a new subject is held to by the registry.")] = "BACKWARD",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """Register the catalogue's schemas at ISTHMUS_SCHEMA_REGISTRY_URL; again and again changes nothing.

    Exit code 2 where the registry does not take one of them.
    """
    from resources.settings import get_settings
    from services.router.registry.client import RegistryClient
    from services.router.registry.publish import FAILED
    from services.router.registry.publish import publish as publish_all

    with explained():
        client = RegistryClient.of(get_settings())
        done = list(publish_all(client, check_only=check, compatibility=compatibility))
        client.close()
    if as_json:
        console.out(json.dumps([asdict(one) for one in done]), highlight=False)
    else:
        table = Table("subject", "outcome", "id", "")
        for one in done:
            colour = _COLOURS.get(one.outcome, "red")
            shown = "" if one.id is None else str(one.id)
            table.add_row(escape(one.subject), f"[{colour}]{one.outcome}[/]", shown, escape(one.detail))
        console.print(table)
    if any(one.outcome in FAILED for one in done):
        raise typer.Exit(2)
