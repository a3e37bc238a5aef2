"""``isthmus decision``: list, show, approve and refuse what the platform proposes.

What belongs here: printing and asking. What does not: a decision's life (``resources.decisions``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cli.console import console, explained, who

if TYPE_CHECKING:
    from resources.decisions import DecisionStore
    from resources.decisions.outcomes import Outcome

app = typer.Typer(help="What the platform decided, and what became of it.", no_args_is_help=True)

_COLOURS = {"published": "green", "approved": "green", "applied": "green", "refused": "red", "expired": "dim"}


def _store() -> DecisionStore:
    from resources.decisions import DecisionStore
    from resources.kafka import KafkaResource
    from resources.settings import get_settings
    from resources.warehouse import WarehouseResource

    return DecisionStore(WarehouseResource(attempts=1), bus=KafkaResource(), approvers=tuple(get_settings().approvers))


def coloured(status: str) -> str:
    """Return a decision's status in its colour."""
    return f"[{_COLOURS.get(status, 'yellow')}]{status}[/]"


@app.command("list")
def list_decisions(
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as saga_policy.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only this subject, such as a saga type.")] = None,
    limit: Annotated[int, typer.Option(help="So many, newest first.")] = 20,
) -> None:
    """List decisions, newest first."""
    with explained():
        decisions = _store().list(kind=kind, subject=subject, limit=limit)
    table = Table("id", "kind", "subject", "made at (UTC)", "status", "why")
    for decision in decisions:
        made, why = f"{decision.made_at:%Y-%m-%d %H:%M:%S}", "; ".join(decision.reasons)
        table.add_row(
            str(decision.decision_id), decision.kind, decision.subject, made, coloured(decision.status), escape(why)
        )
    console.print(table if decisions else "No decision yet.")


@app.command()
def show(decision_id: Annotated[str, typer.Argument(help="The id, or its first eight characters or more.")]) -> None:
    """Show one decision: its evidence, what it would change, and its life so far."""
    with explained():
        from resources.decisions.outcomes import read_outcomes

        store = _store()
        decision = store.show(decision_id)
        outcomes = read_outcomes(store.warehouse, decision.decision_id)
    head = Table.grid(padding=(0, 2))
    valid = f"{decision.valid_from:%Y-%m-%d %H:%M} to {decision.valid_to:%Y-%m-%d %H:%M} UTC"
    facts = {"subject": decision.subject, "status": coloured(decision.status), "valid": valid, "run": decision.run_id}
    for name, value in {**facts, "trace": decision.trace_id}.items():
        head.add_row(f"[bold]{name}[/]", value)
    console.print(Panel(head, title=f"{decision.kind} {decision.decision_id}"))
    sections: dict[str, Any] = {"model": decision.model, "inputs": decision.inputs, "action": decision.action}
    sections |= {"expected": decision.expected, "guardrails": decision.guardrails, "undo": decision.undo}
    for name, value in sections.items():
        console.print(f"[bold]{name}[/]")
        console.print_json(json.dumps(value, default=str))
    console.print(_checks(decision.checks))
    life = Table("at (UTC)", "event", "who", "why", title="Life")
    for event in decision.events:
        life.add_row(f"{event.at:%Y-%m-%d %H:%M:%S}", coloured(event.event), event.actor, escape(event.reason))
    console.print(life)
    if outcomes:
        console.print(_outcomes(outcomes))


def _outcomes(outcomes: list[Outcome]) -> Table:
    """Return what came of a decision as a table; the interval is of the difference."""
    table = Table("metric", "actual", "without it", "difference (95%)", "expected", "method", title="What came of it")
    for one in outcomes:
        span = f"{one.difference:+.4g} ({one.low:+.4g} to {one.high:+.4g})"
        table.add_row(
            one.metric, f"{one.actual:.4g}", f"{one.counterfactual:.4g}", span, f"{one.expected:+.4g}", one.method
        )
    details = outcomes[0].details
    table.caption = f"{details.get('mode', '')}. Assumed: {'; '.join(details.get('assumptions', []))}."
    return table


def _checks(checks: list[dict[str, Any]]) -> Table:
    """Return the checks that a decision rests on as a table, the failed ones first."""
    table = Table("asset", "check", "result", title="Rests on")
    for check in sorted(checks, key=lambda check: bool(check.get("passed"))):
        result = "[green]passed[/]" if check.get("passed") else "[red]failed[/]"
        table.add_row(str(check.get("asset")), str(check.get("check")), result)
    return table


@app.command()
def refused(
    days: Annotated[int, typer.Option(min=1, help="So many days back.")] = 30,
    kind: Annotated[str, typer.Option(help="Only this kind, such as saga_policy.")] = "",
) -> None:
    """Show which decisions were refused because of which check, and when."""
    from collections import Counter, defaultdict
    from datetime import UTC, datetime, timedelta

    from ml.decisions import Cause, cause_of

    with explained():
        from resources.decisions.refusals import read_refusals

        since = datetime.now(UTC) - timedelta(days=days)
        found = read_refusals(_store().warehouse, since=since, kind=kind)
    if not found:
        console.print(f"No decision was refused in {days} days.")
        return
    by_cause: dict[Cause, list[datetime]] = defaultdict(list)
    subjects: dict[Cause, set[str]] = defaultdict(set)
    for one in found:
        causes = {cause_of(reason) for reason in one.reasons} or {Cause("", "", "by a person")}
        for cause in causes:
            by_cause[cause].append(one.at)
            subjects[cause].add(f"{one.kind} {one.subject}")
    table = Table("asset", "check", "how", "refused", "last (UTC)", "decisions", title=f"Refused in {days} days")
    for cause, times in sorted(by_cause.items(), key=lambda item: -len(item[1])):
        named = escape(", ".join(sorted(subjects[cause])[:4]))
        last = f"{max(times):%Y-%m-%d %H:%M}"
        table.add_row(cause.asset or "-", cause.check or "-", cause.how, str(len(times)), last, named)
    console.print(table)
    by_day = Counter(f"{one.at:%Y-%m-%d}" for one in found)
    over_time = Table("day (UTC)", "refused", "")
    most = max(by_day.values())
    for day, count in sorted(by_day.items()):
        over_time.add_row(day, str(count), "█" * max(1, round(30 * count / most)))
    console.print(over_time)


@app.command()
def approve(
    decision_id: Annotated[str, typer.Argument(help="The id, or its first eight characters or more.")],
    note: Annotated[str, typer.Option(prompt="Why", help="Why it may go ahead; kept with the decision.")],
    actor: Annotated[str, typer.Option(help="Who approves; default: you.")] = "",
) -> None:
    """Approve a proposed decision."""
    with explained():
        decision = _store().approve(decision_id, actor=actor or who(), note=note)
    console.print(f"{decision.decision_id} is now {coloured(decision.status)}.")


@app.command()
def refuse(
    decision_id: Annotated[str, typer.Argument(help="The id, or its first eight characters or more.")],
    reason: Annotated[str, typer.Option(prompt="Why", help="Why not; kept with the decision.")],
    actor: Annotated[str, typer.Option(help="Who refuses; default: you.")] = "",
) -> None:
    """Refuse a decision; the last good one stays in force."""
    with explained():
        decision = _store().refuse(decision_id, actor=actor or who(), reason=reason)
    console.print(f"{decision.decision_id} is now {coloured(decision.status)}.")


@app.command()
def apply(
    decision_id: Annotated[str, typer.Argument(help="The id, or its first eight characters or more.")],
    actor: Annotated[str, typer.Option(help="Who carries it out; default: you.")] = "",
) -> None:
    """Carry an approved repair of data out; rows that agree by now are left alone."""
    with explained():
        from assets.reconcile.repair import apply as carry_out
        from resources.warehouse import WarehouseResource

        decision = carry_out(_store(), WarehouseResource(attempts=1), decision_id, actor=actor or who())
    done = next(event.details for event in decision.events if event.event == "applied")
    console.print(f"{decision.decision_id} is {coloured(decision.status)}: {done['repaired']} rows repaired.")
