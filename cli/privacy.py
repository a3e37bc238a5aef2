"""``isthmus privacy``: what is held of a person, and its erasure.

What belongs here: asking for the person, printing, confirming. What does not: searching, erasing, proofs
(``assets.compliance``).

A person's values come from standard input, a file or a prompt, never from the command's arguments, which every user of
the machine can read and every shell keeps. None is printed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.console import console, errors, explained, who

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assets.compliance.stores import Store
    from ml.privacy.subject import Subject

app = typer.Typer(help="Access to what is held of a person, and its erasure.", no_args_is_help=True)

From = Annotated[
    Path | None,
    typer.Option("--from", help="File with the person: `email: …` a line, or JSON; `-`: standard input; default: ask."),
]
Reference = Annotated[str, typer.Option(help="Number of the letter or ticket; no personal data.")]
Actor = Annotated[str, typer.Option(help="Who acts; default: you.")]


@app.command()
def access(
    output: Annotated[Path, typer.Argument(help="New file to write: .html for a page to read, else JSON.")],
    source: From = None,
    reference: Reference = "",
    actor: Actor = "",
) -> None:
    """Write everything that is held of a person to a file that only you can read."""
    from assets.compliance.access import collect, write
    from assets.compliance.requests import audit, file, ring, set_state
    from ml.privacy.matching import Matcher
    from resources.settings import get_settings
    from resources.warehouse import WarehouseResource

    subject = _subject(source)
    with explained():
        warehouse, keys = WarehouseResource(), ring(get_settings())
        request = file(warehouse, keys, subject, kind="access", actor=actor or who(), reference=reference)
        export = collect(_stores(), Matcher(subject, keys))
        write({"request": request.id, **export}, output)
        counts = {store: len(items) for store, items in export["stores"].items()}
        unread = ", ".join(export["not_read"])
        set_state(warehouse, request, "completed", detail=f"not read: {unread}" if unread else "", run_id="cli")
        audit(warehouse, actor or who(), "privacy.access_completed", request.id, {"stores": counts})
    table = Table("store", "entries", "", title=f"Request {request.id}")
    for store, count in counts.items():
        table.add_row(escape(store), f"{count:,}", escape(export["not_read"].get(store, "")))
    console.print(table)
    console.print(f"Written to {escape(str(output))} (mode 0600).")
    for store, why in export["not_read"].items():
        errors.print(f"[red]not read[/] {escape(store)}: {escape(why)}", highlight=False)
    if export["not_read"]:
        raise typer.Exit(1)


@app.command()
def erase(
    source: From = None,
    yes: Annotated[bool, typer.Option("--yes", help="File the request; else only show what would go.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; the default.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Carry it out here instead of in the next hourly run.")] = False,
    reference: Reference = "",
    actor: Actor = "",
) -> None:
    """Show what would be erased of a person; with --yes file the request, which `compliance/erasures` carries out."""
    from assets.compliance.processing import look, process
    from assets.compliance.requests import file, ring
    from ml.privacy.matching import Matcher
    from resources.settings import get_settings
    from resources.warehouse import WarehouseResource

    if yes and dry_run:
        raise typer.BadParameter("--yes files the request, --dry-run does not: give one of them")
    subject = _subject(source)
    with explained():
        warehouse, keys = WarehouseResource(), ring(get_settings())
        if not yes:
            _print_look(look(_stores(), Matcher(subject, keys)), _stores())
            console.print("Nothing was changed. [bold]--yes[/] files the request.")
            return
        request = file(warehouse, keys, subject, kind="erasure", actor=actor or who(), reference=reference)
        console.print(f"Request {request.id} is filed, due {request['due_at']:%Y-%m-%d}.")
        if now:
            process(warehouse, _stores(), keys, request, run_id="cli")
    if now:
        status(request.id)


@app.command()
def status(
    request_id: Annotated[str, typer.Argument(help="A request's number; without it the list.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Completed ones too.")] = False,
) -> None:
    """List requests, or show one with its proofs. Exits with 1 where a proof is not as it was signed."""
    from assets.compliance.requests import RequestError, proofs, requests, ring
    from resources.settings import get_settings
    from resources.warehouse import WarehouseResource

    forged = False
    with explained():
        warehouse = WarehouseResource(attempts=1)
        found = requests(warehouse, states=() if every or request_id else ("open", "waiting"))
        chosen = [one for one in found if not request_id or one.id == request_id]
        if request_id and not chosen:
            raise RequestError(f"there is no request {request_id}: `isthmus privacy status --all` lists them")
        for one in chosen:  # lines, not a table: a number that is cut short cannot be asked for
            about = f", {escape(one['reference'])}" if one["reference"] else ""
            console.print(
                f"[bold]{one.id}[/]  {one['kind']} [bold]{one['state']}[/]{about}\n"
                f"  filed {one['filed_at']:%Y-%m-%d %H:%M} UTC, due {one['due_at']:%Y-%m-%d}",
                highlight=False,
            )
            if one["detail"]:
                console.print(f"  waits for {escape(one['detail'])}", highlight=False)
        if not chosen:
            console.print("[green]No request is open.[/]")
        if request_id:
            rows = proofs(warehouse, ring(get_settings()), request_id)
            forged = not all(row["genuine"] for row in rows)
            proof = Table("store", "state", "found", "erased", "kept", "near", "remaining", "signed", title="Proof")
            for row in rows:
                counts = (f"{row[name]:,}" for name in ("found", "erased", "kept", "near", "remaining"))
                signed = "genuine" if row["genuine"] else "[red]ALTERED[/]"
                proof.add_row(row["store"], row["state"], *counts, signed)
            console.print(proof)
            for row in rows:
                if row["how"]:
                    console.print(f"[bold]{escape(row['store'])}[/]: {escape(row['how'])}")
    if forged:
        raise typer.Exit(1)


@app.command()
def withdraw(
    request_id: Annotated[str, typer.Argument(help="The request's number.")],
    reason: Annotated[str, typer.Option(prompt="Why", help="Why; kept with it, no personal data.")],
    actor: Actor = "",
) -> None:
    """Withdraw a request that is not completed. What was erased until then stays erased."""
    from assets.compliance.requests import RequestError, audit, requests, set_state
    from resources.warehouse import WarehouseResource

    with explained():
        warehouse = WarehouseResource()
        found = [one for one in requests(warehouse, states=("open", "waiting")) if one.id == request_id]
        if not found:
            raise RequestError(f"no open request has the number {request_id}")
        set_state(warehouse, found[0], "withdrawn", detail=reason, run_id="cli")
        audit(warehouse, actor or who(), "privacy.withdrawn", request_id, {"reason": reason})
    console.print("Withdrawn.")


def _stores() -> list[Store]:
    from assets.compliance.stores import stores
    from resources.kafka import KafkaResource
    from resources.settings import get_settings
    from resources.warehouse import WarehouseResource

    return stores(get_settings(), WarehouseResource(), KafkaResource(attempts=2))


def _subject(source: Path | None) -> Subject:
    """Return the person that standard input, a file or answers mean; ends the command with a message where nobody."""
    from ml.privacy.subject import KINDS, SubjectError, parse

    try:
        if source is not None and str(source) != "-":
            return parse(source.read_text())
        if source is not None or not sys.stdin.isatty():
            return parse(sys.stdin.read())
        lines = []
        console.print(f"One identifier a line, `kind: value`; kinds are {', '.join(KINDS)}. An empty line ends.")
        while line := typer.prompt("identifier", default="", show_default=False, hide_input=True):
            lines.append(line)
        return parse("\n".join(lines))
    except (SubjectError, OSError, UnicodeDecodeError) as error:
        text = str(error) if isinstance(error, SubjectError) else f"the person cannot be read ({type(error).__name__})"
        errors.print(f"[bold red]error[/] {escape(text)}", highlight=False)
        raise typer.Exit(1) from None


def _print_look(held: Mapping[str, object], stores: list[Store]) -> None:
    from assets.compliance.processing import Count

    table = Table("store", "would go", "kept by law", "near", "", title="What is held")
    for store in stores:
        found = held.get(store.name)
        if isinstance(found, Count):
            counts = (f"{count:,}" for count in (0 if store.foreign else found.found, found.kept, found.near))
            table.add_row(escape(store.name), *counts, escape(store.foreign))
        else:
            table.add_row(escape(store.name), "", "", "", escape(str(found or store.absent)))
    console.print(table)
    console.print("[dim]near: an identifier inside of a longer word; give that word too if it means the person.[/]")
