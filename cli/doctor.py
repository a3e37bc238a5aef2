"""``isthmus doctor``: is this installation sound, and if not, what to do.

What belongs here: one small check a function, each with its remedy. What does not: the platform's state
(``cli.status``).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from rich.markup import escape
from rich.table import Table

from cli.console import console
from cli.stack import Service, all_services, listens
from resources.settings import Settings, get_settings

NOT_RUNNING = "not running"


@dataclass(frozen=True)
class Finding:
    """What a check found: ``sound`` None where it is only worth knowing."""

    what: str
    sound: bool | None
    seen: str
    remedy: str = ""


def examine() -> bool:
    """Print every finding and return whether none needs mending."""
    findings = [finding for check in _CHECKS for finding in check(get_settings())]
    table = Table("", "what", "seen", "what to do", title="isthmus doctor")
    marks = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[dim]·[/]"}
    for finding in findings:
        remedy = "" if finding.sound else finding.remedy
        table.add_row(marks[finding.sound], finding.what, escape(finding.seen), escape(remedy))
    console.print(table)
    broken = sum(finding.sound is False for finding in findings)
    resting = sum(finding.seen == NOT_RUNNING for finding in findings)
    if broken:
        console.print(f"[red]{broken} to mend.[/]")
    elif resting:
        console.print(f"[green]Nothing to mend;[/] {resting} services do not run: start them by `isthmus up`.")
    else:
        console.print("[green]All is well.[/]")
    return not broken


def _python(_: Settings) -> Iterator[Finding]:
    seen = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", (3, 11) <= sys.version_info[:2] < (3, 14), seen, "Use Python 3.11 to 3.13.")


def _packages(_: Settings) -> Iterator[Finding]:
    # The ones whose versions the platform depends on closely; `uv sync` mends each.
    wanted = {"dagster": "1.13.", "dagster-dbt": "0.29.", "dbt-core": "1.11.", "dbt-clickhouse": "1.10.", "chdb": "4."}
    wanted |= {"mlflow": "3.", "great-expectations": "1.24.", "confluent-kafka": "2."}
    for name, series in wanted.items():
        try:
            seen = version(name)
        except PackageNotFoundError:
            seen = "missing"
        yield Finding(name, seen.startswith(series), seen, f"Run `uv sync`: {series}x is wanted.")


def _room(settings: Settings) -> Iterator[Finding]:
    home = settings.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free / 1e9
    yield Finding("disk", free > 2, f"{free:.0f} GB free at {home}", "Free some space, or set ISTHMUS_HOME elsewhere.")
    secrets = home / "secrets"
    if secrets.exists():
        closed = not secrets.stat().st_mode & 0o077
        yield Finding("secrets", closed, f"{secrets}", f"Close them to others: chmod -R go= {secrets}")


def _services(settings: Settings) -> Iterator[Finding]:
    for service in all_services(settings):
        yield _port(service)


def _port(service: Service) -> Finding:
    title = f"{service.name} (port {service.port})"
    if service.serves(service.port):
        return Finding(title, True, f"serves at {service.address}")
    if listens(service.port):
        remedy = f"Another program has the port: set {service.port_variable} to a free one."
        return Finding(title, False, "the port is taken by something else", remedy)
    return Finding(title, None, NOT_RUNNING, "Start it by `isthmus up`.")


def _warehouse(settings: Settings) -> Iterator[Finding]:
    from resources.errors import ResourceError, Unavailable
    from resources.warehouse import WarehouseResource

    warehouse = WarehouseResource(attempts=1)
    try:
        (row,) = warehouse.query_rows(
            "SELECT version() AS version, (SELECT count() FROM system.databases WHERE name = 'ops') AS migrated"
        )
    except Unavailable:
        yield Finding("warehouse connection", None, "does not answer", "Start it, or set ISTHMUS_WAREHOUSE_URL.")
    except ResourceError as error:
        remedy = "Check user and password in ISTHMUS_WAREHOUSE_URL."
        yield Finding("warehouse connection", False, str(error)[:120], remedy)
    else:
        yield Finding("warehouse connection", True, f"ClickHouse {row['version']}")
        remedy = "Run `python -m resources.migrate`; `isthmus up` does it too."
        yield Finding("tables", bool(row["migrated"]), "there" if row["migrated"] else "missing", remedy)


def _bus(_: Settings) -> Iterator[Finding]:
    from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS, INGRESS
    from resources.errors import ResourceError
    from resources.kafka import KafkaResource

    wanted = {*DOMAIN_TOPICS, DEAD_LETTER, INGRESS}
    try:
        missing = wanted - KafkaResource(attempts=1, timeout=3).topics(wanted).keys()
    except ResourceError:
        yield Finding("Kafka connection", None, "does not answer", "Start it, or set ISTHMUS_KAFKA_BOOTSTRAP.")
        return
    yield Finding("Kafka connection", True, "answers")
    seen = f"missing: {', '.join(sorted(missing))}" if missing else "all there"
    yield Finding("topics", not missing, seen, "The router makes them when it starts.")


def _ingestion(settings: Settings) -> Iterator[Finding]:
    names = ", ".join(sorted(settings.ingest_tokens))
    seen = f"tokens of {names}" if names else f"one token, in {settings.home / 'secrets' / 'ingest-token'}"
    yield Finding("events by HTTP", None, seen, "Several senders: name a token for each in ISTHMUS_INGEST_TOKENS.")
    if settings.router_host not in ("127.0.0.1", "::1", "localhost"):
        remedy = "Tokens travel in clear text: put a proxy with TLS in front."
        yield Finding("router's address", None, f"{settings.router_host} is not loopback", remedy)


def _advice(settings: Settings) -> Iterator[Finding]:
    from resources.errors import RedisError
    from resources.redis import RedisResource, typed

    names = ", ".join(sorted(settings.advice_tokens))
    seen = f"tokens of {names}" if names else f"one token, in {settings.home / 'secrets' / 'advice-token'}"
    yield Finding("saga advice", None, seen, "Several who ask: name a token for each in ISTHMUS_ADVICE_TOKENS.")
    if settings.orchestrator_host not in ("127.0.0.1", "::1", "localhost"):
        remedy = "Tokens travel in clear text: put a proxy with TLS in front."
        yield Finding("advice service's address", None, f"{settings.orchestrator_host} is not loopback", remedy)
    if settings.redis_url is None:
        yield Finding("policies in Redis", None, "not written", "Set ISTHMUS_REDIS_URL where readers want them there.")
        return
    try:
        with RedisResource().client() as client, typed():
            client.ping()
    except RedisError as error:
        yield Finding("policies in Redis", False, str(error), "Start Redis, or mend ISTHMUS_REDIS_URL.")
    else:
        yield Finding("policies in Redis", True, "answers")


def _extras(settings: Settings) -> Iterator[Finding]:
    seen = "there" if settings.data.exists() else f"not at {settings.data}"
    yield Finding("public data sets", None, seen, "Only for some tests and benchmarks: set ISTHMUS_DATA.")
    for program, use in (("java", "real Kafka in `make test-services`"), ("chromium", "`make test-e2e`")):
        yield Finding(program, None, shutil.which(program) or "missing", f"Only for {use}.")


_CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _room,
    _services,
    _warehouse,
    _bus,
    _ingestion,
    _advice,
    _extras,
)
