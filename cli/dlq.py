"""``isthmus dlq``: dead letters, listed, shown and put back.

What belongs here: options, asking, printing. What does not: reading (``services.router.letters``), repairs and replay
(``services.router.letters.repair``, ``services.router.letters.replay``).

Nothing of a payload is printed without ``--payload``: dead letters hold personal data as it was sent.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cli.console import console, errors, explained, who

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resources.kafka import KafkaResource
    from services.router.letters import Choice, Letter, LetterId, Progress, Summary
    from services.router.letters.replay import Step

app = typer.Typer(help="Records that the router could not accept: look at them, put them back.", no_args_is_help=True)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_STATES = {"ready": "green", "refused": "red", "replayed": "yellow", "unreadable": "red"}
_SHOWN_STEPS = 50

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only of this reason; may be given again.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only of this event type; may be given again.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="Only of this CloudEvents source; again too.")]
Since = Annotated[str, typer.Option(help="Refused since: 30m, 2h, 7d ago, or a time such as 2026-11-24T08:00Z.")]
Until = Annotated[str, typer.Option(help="Refused before; as --since.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="partition/offset, as `isthmus dlq list` prints it.")]


@app.command("list")
def list_letters(
    reason: Reasons = None,
    type: Types = None,
    source: Sources = None,
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=0, help="So many, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Counts and letters as one JSON object.")] = False,
) -> None:
    """Count dead letters by reason, and list the newest."""
    from services.router.letters import look

    with explained(), _bar("reading dead letters") as progress:
        overview = look(_kafka(), _choice(reason, type, source, since, until), limit=limit, progress=progress)
    if as_json:
        letters = [{**asdict(letter), "id": str(letter.id), "at": _time(letter.at)} for letter in overview.newest]
        typer.echo(json.dumps({"counts": overview.counts, "letters": letters}))
        return
    if not overview.counts:
        console.print("[green]No dead letter.[/]")
        return
    _print_counts("Dead letters by reason", overview.counts)
    _print_letters(overview.newest, overview.counts.total())


@app.command()
def show(
    letter_id: IdArgument,
    payload: Annotated[
        bool, typer.Option("--payload", help="Print key, headers and value as sent: personal data; who did is kept.")
    ] = False,
) -> None:
    """Show one dead letter: why it was refused, where it came from, what form it has."""
    from services.router.letters import LetterId, fetch, parts, restored, summarised
    from services.router.letters.repair import outline

    with explained():
        kafka = _kafka()
        (letter,) = fetch(kafka, [LetterId.parse(letter_id)])
        whole = parts(kafka, letter)
        key, value, headers = restored(whole)
        if payload:
            _note_reading(letter)
    console.print(Panel(_facts(letter, summarised(whole[0]), len(value or b"")), title=f"dead letter {letter.id}"))
    table = Table("header", "value")
    for name, content in headers:
        plain = payload or name in ("traceparent", "content-type", "isthmus-replayed", "isthmus-replayed-by")
        table.add_row(escape(name), _text(content) if plain else _size(content))
    if headers:
        console.print(table)
    console.print("[bold]key[/]", _text(key) if payload else _size(key))
    if payload:
        console.print("[bold]value[/] as sent")
        typer.echo((value or b"").decode(errors="backslashreplace"))
        return
    console.print("[bold]value[/], its form alone; --payload prints it as sent, personal data included")
    form = outline(value)
    if isinstance(form, str):
        console.print(escape(form), highlight=False)
    else:
        console.print_json(json.dumps(form))


def _note_reading(letter: Letter) -> None:
    """Keep who is about to see what was sent; where that cannot be kept, nothing is shown."""
    from events.catalogue import DEAD_LETTER
    from resources.warehouse import WarehouseResource

    row = {"actor": who(), "action": "dead_letter.show", "subject": f"{DEAD_LETTER}/{letter.id}", "details": "{}"}
    WarehouseResource(attempts=1).insert_rows("ops.audit", [row])


@app.command()
def replay(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Which ones; or choose by the options.")
    ] = None,
    reason: Reasons = None,
    type: Types = None,
    source: Sources = None,
    since: Since = "",
    until: Until = "",
    file: Annotated[Path | None, typer.Option(help="Send this file's bytes as the value, of one ID.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value: /data/amount=3 (JSON pointer; again too).")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Take a field out: /data/iban (again too).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, send nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed before.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    actor: Annotated[str, typer.Option(help="Who replays; default: you.")] = "",
) -> None:
    """Put dead letters back on isthmus.ingress, repaired if need be; what would come straight back is not sent."""
    from resources.settings import get_settings
    from resources.warehouse import WarehouseResource
    from services.router.letters import LetterError, LetterId, chosen
    from services.router.letters.repair import Repair, edits
    from services.router.letters.replay import Replay
    from services.router.registry import schemas_of
    from services.router.table import BadTable, load

    with explained():
        choice = _choice(reason, type, source, since, until)
        if bool(ids) == (choice != _choice(None, None, None, "", "")):
            raise LetterError("say which: ids, or a choice by --reason, --type, --source, --since, --until, not both")
        if file is not None and len(ids or ()) != 1:
            raise LetterError("--file is the value of one dead letter: give one id")
        repair = Repair(file.read_bytes() if file else None, edits(set_ or ()), remove or ())
        kafka = _kafka()
        with _bar("reading dead letters") as progress:
            wanted = (
                [LetterId.parse(text) for text in ids]
                if ids
                else [summary.id for summary in chosen(kafka, choice, progress=progress)]
            )
        settings = get_settings()
        schemas = schemas_of(settings, lambda _topic: None)
        try:
            table = load(settings.router_table.read_text()) if settings.router_table else None
        except BadTable as error:
            raise LetterError(f"the routing table {settings.router_table} cannot be used: {error}") from None
        replayer = Replay(kafka, WarehouseResource(), actor or who(), repair, schemas=schemas, table=table)
        steps, counts, ready = _planned(replayer.plan(wanted, again=again))
        _print_plan(steps, counts)
        if dry_run or not ready:
            raise typer.Exit(0 if dry_run or not wanted else 1)
        if not yes:
            if not sys.stdin.isatty():
                raise LetterError("nobody is there to ask: --yes sends without asking")
            typer.confirm(f"Send {len(ready):,} to isthmus.ingress?", abort=True)
        result = replayer.send(ready)
    console.print(f"[green]{result.sent:,} sent[/] and acknowledged.")
    for letter_id, problem in list(result.failed.items())[:_SHOWN_STEPS]:
        errors.print(f"[red]not sent[/] {letter_id}: {escape(problem)}", highlight=False)
    if result.failed:
        errors.print(f"[dim]{len(result.failed):,} were not acknowledged; replay them when the broker serves.[/]")
        raise typer.Exit(1)


def _kafka() -> KafkaResource:
    """Return the bus, with less patience than a service has: a person is waiting."""
    from resources.kafka import KafkaResource

    return KafkaResource(attempts=1, timeout=5.0)


def _planned(plan: Iterator[Step]) -> tuple[list[Step], Counter[str], list[LetterId]]:
    """Return the first steps, the number of each state, and the ids to send: a plan may be long."""
    steps: list[Step] = []
    counts: Counter[str] = Counter()
    ready = []
    for step in plan:
        counts[step.state] += 1
        if len(steps) < _SHOWN_STEPS:
            steps.append(step)
        if step.state == "ready":
            ready.append(step.id)
    return steps, counts, ready


def _print_plan(steps: list[Step], counts: Counter[str]) -> None:
    if not steps:
        console.print("No such dead letter.")
        return
    table = Table("id", "reason", "", "what", title="Replay")
    for step in steps:
        table.add_row(str(step.id), step.reason, f"[{_STATES[step.state]}]{step.state}[/]", escape(step.note))
    console.print(table)
    if counts.total() > len(steps):
        console.print(f"[dim]and {counts.total() - len(steps):,} more[/]")
    said = {"ready": "to send", "refused": "would come straight back", "replayed": "done before (--again sends it)"}
    console.print(", ".join(f"{count:,} {said.get(state, state)}" for state, count in counts.items()))


def _print_counts(title: str, counts: Counter[str]) -> None:
    table = Table("reason", "count", title=title)
    for name, count in counts.most_common():
        table.add_row(escape(name), f"{count:,}")
    console.print(table)


def _print_letters(letters: list[Summary], total: int) -> None:
    table = Table("id", "at (UTC)", "reason", "type", "source", "read at", "bytes", "where")
    for letter in letters:
        where = letter.schema_path or letter.detail[:60]
        mark = f"{letter.reason} [dim](replay of {escape(letter.replay_of)})[/]" if letter.replay_of else letter.reason
        size = f"{letter.bytes:,}" + (f" × {letter.parts}" if letter.parts > 1 else "")
        row = (escape(letter.type), escape(letter.source), escape(letter.origin), size, escape(where))
        table.add_row(str(letter.id), _time(letter.at), mark, *row)
    console.print(table)
    if total > len(letters):
        console.print(f"[dim]{total - len(letters):,} more; --limit shows them.[/]")


def _facts(letter: Letter, summary: Summary, size: int) -> Table:
    marks = letter.marks
    grid = Table.grid(padding=(0, 2))
    facts = {
        "reason": letter.reason,
        "detail": summary.detail,
        "schema path": summary.schema_path,
        "instance path": marks.get("instance-path", ""),
        "event type": summary.type,
        "event source": summary.source,
        "read at": letter.origin,
        "refused at": marks.get("refused-at", ""),
        "replay of": letter.replay_of,
        "size": f"{size:,} bytes" + (f" in {summary.parts} dead letters" if summary.parts > 1 else ""),
    }
    for name, value in facts.items():
        if value:
            grid.add_row(f"[bold]{name}[/]", escape(value))
    return grid


def _choice(
    reason: list[str] | None, type: list[str] | None, source: list[str] | None, since: str, until: str
) -> Choice:
    from services.router.letters import Choice

    return Choice(
        tuple(reason or ()),
        tuple(type or ()),
        tuple(source or ()),
        _moment(since, "--since"),
        _moment(until, "--until"),
    )


def _moment(text: str, option: str) -> int | None:
    """Return ms since 1970 of a time, or of an age such as 2h; None for no text."""
    if not text:
        return None
    if age := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return int((time.time() - int(age[1]) * _UNITS[age[2]]) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        from services.router.letters import LetterError

        raise LetterError(f"{option} {text!r} is no time: write 30m, 2h, 7d or 2026-11-24T08:00Z") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}" if ms >= 0 else ""


def _text(content: bytes | None) -> str:
    return "[dim]none[/]" if content is None else escape(content.decode(errors="backslashreplace"))


def _size(content: bytes | None) -> str:
    return "[dim]none[/]" if content is None else f"[dim]{len(content):,} bytes[/]"


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    """Show a bar on standard error, so that standard output stays what was asked for."""
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
