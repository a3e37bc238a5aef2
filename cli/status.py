"""``isthmus status``: what runs, how far events have come, the newest decisions.

What belongs here: reading and printing. What does not: checks of the installation (``cli.doctor``).
"""

from __future__ import annotations

import json
from urllib.request import urlopen

from rich.markup import escape
from rich.table import Table

from cli.console import console
from cli.decision import coloured
from cli.stack import all_services, listens
from resources.settings import Settings, get_settings

_COUNTS = """
SELECT
    (SELECT sum(rows) FROM raw.landings FINAL) AS landed,
    (SELECT count() FROM raw.quarantine) AS quarantined,
    (SELECT count() FROM raw.landings FINAL
     WHERE (landing_id, landed_at) NOT IN (SELECT landing_id, landed_at FROM ops.built_landings)) AS pending,
    (SELECT max(landed_at) FROM raw.landings) AS last_landing,
    (SELECT max(built_at) FROM ops.built_landings) AS last_build
"""


def print_status() -> None:
    """Print the state of services, landing and decisions."""
    settings = get_settings()
    services = Table("service", "state", "address", title="Services")
    up = {}
    for service in all_services(settings):
        up[service.name] = service.serves(service.port)
        state = "[green]serves[/]" if up[service.name] else "[dim]not running[/]"
        if not up[service.name] and listens(service.port):
            state = "[yellow]the port answers, but not as expected[/]"
        services.add_row(service.name, state, service.address)
    console.print(services)
    if up["router"]:
        console.print(f"Events by HTTP: POST http://127.0.0.1:{settings.router_port}/v1/events")
    if up["advice"]:
        _print_advice(settings)
    if not up["warehouse"]:
        console.print("[dim]Start everything by `isthmus up`, or try `isthmus demo`.[/]")
        return
    _print_landing(settings, broker=up["broker"])
    _print_decisions()


def _print_advice(settings: Settings) -> None:
    with urlopen(f"http://127.0.0.1:{settings.orchestrator_port}/ready", timeout=5) as reply:
        stands = json.load(reply)
    known = f"{len(stands['policies'])} policies, {len(stands['champions'])} models"
    problems = "; ".join(f"{name}: {problem}" for name, problem in stands["problems"].items())
    console.print(f"Saga advice: {known}" + (f"; [yellow]{escape(problems)}[/]" if problems else ""))


def _print_landing(settings: Settings, *, broker: bool) -> None:
    from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS
    from resources.kafka import KafkaResource
    from resources.warehouse import WarehouseResource

    (counts,) = WarehouseResource().query_rows(_COUNTS)
    table = Table(title="Events", show_header=False)
    if broker:
        kafka = KafkaResource()
        marks = kafka.watermarks_of(kafka.topics([*DOMAIN_TOPICS, DEAD_LETTER]).values())
        on_bus = sum(high - low for (topic, _), (low, high) in marks.items() if topic != DEAD_LETTER)
        refused = sum(high - low for (topic, _), (low, high) in marks.items() if topic == DEAD_LETTER)
        table.add_row("on the domain topics", f"{on_bus:,}")
        table.add_row("in dead letters", f"{refused:,}")
    table.add_row("landed", f"{counts['landed']:,}")
    table.add_row("quarantined in the warehouse", f"{counts['quarantined']:,}")
    table.add_row("landings that BI has yet to take in", f"{counts['pending']:,}")
    for name, title in (("last_landing", "last landing (UTC)"), ("last_build", "last BI build (UTC)")):
        value = counts[name]
        table.add_row(title, f"{value:%Y-%m-%d %H:%M:%S}" if value and value.year > 1970 else "none yet")
    console.print(table)


def _print_decisions() -> None:
    from resources.decisions import DecisionStore
    from resources.warehouse import WarehouseResource

    table = Table("id", "kind", "subject", "made at (UTC)", "status", title="Newest decisions")
    for decision in DecisionStore(WarehouseResource()).list(limit=5):
        made = f"{decision.made_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            str(decision.decision_id)[:13], decision.kind, escape(decision.subject), made, coloured(decision.status)
        )
    console.print(table if table.row_count else "[dim]No decision yet.[/]")
