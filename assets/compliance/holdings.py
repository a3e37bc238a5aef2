"""What each store really holds, and what would remove what is past its limit.

What belongs here: asking tables, topics, files and Dagster. What does not: the verdict (``ml.retention``), and when
something is removed (``retention``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg

from assets.compliance.limits import FileLimit, Personal, TableLimit, declared
from assets.quality.pii import DATABASES
from assets.quality.pushdown import quoted
from events.catalogue import TOPICS
from ml.retention import Held, days, ttl_of
from resources.errors import ResourceError
from resources.kafka import KafkaResource
from resources.removal import remove_before
from resources.warehouse import Warehouse

_TABLES: Final = """
    SELECT database, name, engine_full, ifNull(total_rows, 0) AS items FROM system.tables
    WHERE database IN {databases:Array(String)} AND engine LIKE '%MergeTree' AND NOT startsWith(name, 'migration_lock_')
    ORDER BY database, name
"""
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Action:
    """One removal: what it is in words, and how to do it. Doing it twice does what doing it once does."""

    words: str
    do: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Holding:
    """A store as it is: its kind, what it holds, where the limit comes from, and what removes what is past it."""

    kind: str
    held: Held
    by: str = ""
    actions: tuple[Action, ...] = field(default=())


def tables(warehouse: Warehouse, found: Personal, now: datetime) -> Iterator[Holding]:
    """Yield every table of the platform, one query each: its time column by partition."""
    of_yaml, columns = declared().tables, found.columns
    for row in warehouse.query_rows(_TABLES, {"databases": list(DATABASES)}):
        name = f"{row['database']}.{row['name']}"
        store, is_personal = f"table {name}", name in columns
        try:
            yield _table(warehouse, name, row, of_yaml.get(name), found, is_personal, now)
        except ResourceError as error:
            # Its text may quote a value: the class says enough for a person to look.
            yield Holding("table", Held(store, is_personal, unreachable=type(error).__name__))


def _table(  # noqa: PLR0917 (what a table's limit is made of)
    warehouse: Warehouse,
    name: str,
    row: Mapping[str, Any],
    said: TableLimit | None,
    found: Personal,
    is_personal: bool,
    now: datetime,
) -> Holding:
    store, ttl = f"table {name}", ttl_of(str(row["engine_full"]))
    limits: list[tuple[timedelta, str]] = [(ttl.limit, "TTL of the table")] if ttl else []
    if said and said.limit:
        limits.append((said.limit, "retention.yml"))
    at = ttl.time if ttl else quoted(said.time) if said and said.time else ""
    if at and (column := found.declared_limit(name)):
        limits.append(column)
    if not at:
        until = said.until if said else ""
        return Holding("table", Held(store, is_personal, criterion=until, items=int(row["items"])), until)
    limit, by = min(limits)
    database, table = name.split(".", 1)
    source, moment = f"{quoted(database)}.{quoted(table)}", f"toDateTime64({at}, 3, 'UTC')"
    cutoff = now - limit
    parts = warehouse.query_rows(
        f"SELECT _partition_id AS id, count() AS n, countIf({moment} < {{cutoff:DateTime64(3)}}) AS past, "  # noqa: S608
        f"min({moment}) AS oldest FROM {source} GROUP BY id ORDER BY id",
        {"cutoff": cutoff},
    )
    whole = [str(part["id"]) for part in parts if part["past"] == part["n"]]
    rest = sum(int(part["past"]) for part in parts if part["past"] != part["n"])
    actions = [
        Action(
            f"ALTER TABLE {name} DROP PARTITION ID '{part}'",
            lambda part=part: warehouse.command(  # type: ignore[misc]
                f"ALTER TABLE {source} DROP PARTITION ID {{part:String}}", {"part": part}, idempotent=True
            ),
        )
        for part in whole
    ]
    if rest and ttl and ttl.limit == limit:
        sql = f"ALTER TABLE {source} MATERIALIZE TTL SETTINGS mutations_sync = 1"
        actions.append(Action(f"ALTER TABLE {name} MATERIALIZE TTL", lambda: warehouse.command(sql, idempotent=True)))
    elif rest:
        sql = f"ALTER TABLE {source} DELETE WHERE {moment} < {{cutoff:DateTime64(3)}} SETTINGS mutations_sync = 1"
        actions.append(
            Action(
                f"ALTER TABLE {name} DELETE what is before {cutoff:%Y-%m-%d %H:%M}",
                lambda: warehouse.command(sql, {"cutoff": cutoff}, idempotent=True),
            )
        )
    held = Held(
        store,
        is_personal,
        limit,
        oldest=min((part["oldest"] for part in parts), default=None),
        items=sum(int(part["n"]) for part in parts),
        past=sum(int(part["past"]) for part in parts),
    )
    return Holding("table", held, by, tuple(actions))


def topics(kafka: KafkaResource, now: datetime) -> Iterator[Holding]:
    """Yield every topic of the platform: its ``retention.ms`` beside the catalogue's, and records past it.

    A broker removes whole segments, so a record may stay for ``segment.ms`` longer: that is the grace.
    """
    try:
        there = kafka.topics(TOPICS)
        configs = kafka.configs(there)
        marks = kafka.watermarks_of(there.values())
    except ResourceError as error:
        for name in TOPICS:
            yield Holding("topic", Held(f"topic {name}", True, unreachable=type(error).__name__))
        return
    for name, topic in there.items():
        wanted = int(TOPICS[name]["retention.ms"])
        actual, segment = (int(configs[name].get(key, "-1")) for key in ("retention.ms", "segment.ms"))
        limit, grace = timedelta(milliseconds=wanted), timedelta(milliseconds=max(0, segment)) + _DAY
        cutoff = int((now - limit).timestamp() * 1000)
        mine = {pair: mark for pair, mark in marks.items() if pair[0] == name}
        try:
            kept_from = kafka.offsets_at([topic], cutoff)
            oldest = kafka.oldest([topic], mine)
        except ResourceError as error:
            yield Holding("topic", Held(f"topic {name}", True, unreachable=type(error).__name__))
            continue
        past = {pair: kept_from[pair] for pair, (low, _) in mine.items() if kept_from.get(pair, low) > low}
        actions = []
        if actual != wanted:
            actions.append(
                Action(
                    f"{name}: set retention.ms to {wanted}",
                    lambda name=name, wanted=wanted: kafka.set_config(name, {"retention.ms": str(wanted)}),  # type: ignore[misc]
                )
            )
        if past and oldest and now - oldest > limit + grace:
            actions.append(
                Action(f"{name}: delete records before offsets", lambda past=past: remove_before(kafka, past))  # type: ignore[misc]
            )
        differs = "" if actual == wanted else f"retention.ms is {actual}, {wanted} is declared in events/catalogue.py"
        held = Held(
            f"topic {name}",
            True,
            limit,
            grace=grace,
            oldest=oldest,
            items=sum(high - low for low, high in mine.values()),
            past=sum(offset - mine[pair][0] for pair, offset in past.items()),
            differs=differs,
        )
        yield Holding("topic", held, f"catalogue, and up to {days(grace)} days for a segment", tuple(actions))


def files(home: Path, now: datetime) -> Iterator[Holding]:
    """Yield the folders of ``retention.yml``; a folder that is not there holds nothing."""
    for one in declared().files:
        yield _files(home / one.path, one, now)


def _files(folder: Path, one: FileLimit, now: datetime) -> Holding:
    cutoff = now.timestamp() - one.limit.total_seconds()
    try:
        every = folder.rglob("*") if folder.exists() else ()
        ages = [(path.stat().st_mtime, path) for path in every if path.is_file() and not path.is_symlink()]
    except OSError as error:
        return Holding("files", Held(f"files {one.name}", True, unreachable=type(error).__name__))
    old = [path for age, path in ages if age < cutoff]
    actions = (Action(f"delete {len(old)} files of {one.name}", lambda: _unlink(old)),) if old and one.remove else ()
    oldest = datetime.fromtimestamp(min(ages)[0], UTC) if ages else None
    held = Held(f"files {one.name}", True, one.limit, oldest=oldest, items=len(ages), past=len(old))
    return Holding("files", held, "retention.yml", actions)


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def runs(instance: dg.DagsterInstance, now: datetime) -> Holding:
    """Return Dagster's runs with their events; what is removed are runs that have ended."""
    limit = declared().runs
    cutoff = now - limit
    try:
        first = instance.get_run_records(limit=1, ascending=True)
        ended = dg.RunsFilter(
            created_before=cutoff,
            statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED],
        )
        old = [record.dagster_run.run_id for record in instance.get_run_records(ended)]
        count = instance.get_runs_count()
    except Exception as error:  # noqa: BLE001 (whatever its storage raises: it cannot be looked at)
        return Holding("runs", Held("runs of Dagster", True, unreachable=type(error).__name__))
    actions = (
        (Action(f"delete {len(old)} runs of Dagster", lambda: [instance.delete_run(run) for run in old]),)
        if old
        else ()
    )
    oldest = first[0].create_timestamp if first else None
    oldest = oldest.replace(tzinfo=UTC) if oldest and oldest.tzinfo is None else oldest
    held = Held("runs of Dagster", True, limit, oldest=oldest, items=count, past=len(old))
    return Holding("runs", held, "retention.yml", actions)


def look(
    warehouse: Warehouse, kafka: KafkaResource, instance: dg.DagsterInstance, home: Path, found: Personal
) -> list[Holding]:
    """Return every store as it is now."""
    now = datetime.fromtimestamp(time.time(), UTC)
    every = [*tables(warehouse, found, now), *topics(kafka, now), *files(home, now), runs(instance, now)]
    return every
