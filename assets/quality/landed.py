"""Landed rows of a topic as a flat table, and what is kept of the verdicts on them.

What belongs here: SQL over ``raw.events`` and the tables of verdicts. What does not: the judging (``ml.verdicts``), the
asset (``verdicts``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from assets.quality.pushdown import quoted
from events.catalogue import TYPES
from events.schemas import schema
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    import pandas as pd

VERDICTS: Final = "quality.row_verdicts"
DECISIONS: Final = "quality.row_decisions"
REPAIRED: Final = "quality.repaired_events"
HOURS: Final = "quality.judged_hours"
HELD: Final = "quality.held_rows"
#: The columns that name a landed row.
PLACE: Final = ("topic", "partition", "generation", "offset")
_ENVELOPE: Final = {
    "event_type": "tupleElement(envelope, 'type')",
    "source": "tupleElement(envelope, 'source')",
    "event_id": "tupleElement(envelope, 'id')",
    "subject": "tupleElement(envelope, 'subject')",
}


class JudgedError(ValueError):
    """A list of topics that cannot be used; the text names the entry."""


@lru_cache
def topics(path: Path = Path(__file__).parent / "judged.yml") -> tuple[str, ...]:
    """Return the topics whose rows are judged. Raises :class:`JudgedError`."""
    import yaml  # type: ignore[import-untyped]

    known = {kind.topic for kind in TYPES.values()}
    try:
        found = tuple(str(entry["topic"]) for entry in yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise JudgedError(f"{path.name}: a list of {{topic: NAME}}: {error}") from error
    if strange := sorted(set(found) - known):
        raise JudgedError(f"{path.name}: no topic {', '.join(strange)}; there are {', '.join(sorted(known))}")
    return found


@lru_cache
def fields(topic: str) -> dict[str, tuple[tuple[str, ...], str]]:
    """Return the scalar fields of a topic's events: column → (path within ``data``, ClickHouse type)."""
    found: dict[str, tuple[tuple[str, ...], str]] = {}

    def note(path: tuple[str, ...], content: Mapping[str, Any]) -> None:
        said = content.get("type", ())
        kind = next(iter({said} if isinstance(said, str) else set(said) - {"null"}), "")
        if kind == "object" and len(path) < 3:
            for name, inner in (content.get("properties") or {}).items():
                note((*path, name), inner)
        elif kind in ("number", "integer"):
            found[".".join(path)] = (path, "Nullable(Float64)")
        elif kind in ("string", "boolean") or "enum" in content:
            found.setdefault(".".join(path), (path, "Nullable(String)"))

    for name, event in TYPES.items():
        if event.topic == topic:
            for version in event.versions:
                for key, content in (schema(name, version).get("properties") or {}).items():
                    note((key,), content)
    return {name: one for name, one in found.items() if name not in _ENVELOPE}


def read(
    warehouse: Warehouse, topic: str, since: datetime, until: datetime, *, newest: int | None = None, good: bool = False
) -> pd.DataFrame:
    """Return the rows that came in [since, until), in order of arrival, flat, with their :data:`PLACE`.

    ``newest`` keeps the newest rows only; ``good`` leaves out those that are held back.
    """
    columns = [f"{sql} AS {quoted(name)}" for name, sql in _ENVELOPE.items()]
    for name, (path, kind) in fields(topic).items():
        keys = ", ".join(f"'{part}'" for part in path)
        columns.append(f"JSONExtract(value, 'data', {keys}, '{kind}') AS {quoted(name)}")
    places = ", ".join(quoted(name) for name in PLACE)
    held_back = f"SELECT {places} FROM {HELD} WHERE topic = {{topic:String}}"  # noqa: S608 (constants; bound)
    left_out = f"AND ({places}) NOT IN ({held_back})" if good else ""
    limit = "LIMIT {newest:UInt64}" if newest else ""
    selected = ", ".join([places, *columns, "event_time", "appended_at"])
    found = warehouse.query_arrow(
        f"SELECT {selected} FROM raw.events FINAL "  # noqa: S608 (names of the schemas, quoted; values are bound)
        "WHERE topic = {topic:String} AND appended_at >= {since:DateTime64(3, 'UTC')} "
        "AND appended_at < {until:DateTime64(3, 'UTC')} AND tupleElement(envelope, 'id') != '' "
        f"AND event_time IS NOT NULL {left_out} "
        f"ORDER BY appended_at DESC, {places} {limit}",
        {"topic": topic, "since": since, "until": until, "newest": newest or 0},
    )
    frame: pd.DataFrame = found.to_pandas()
    for name in ("event_time", "appended_at"):
        frame[name] = frame[name].dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]")
    for name, (_, kind) in fields(topic).items():
        if kind == "Nullable(String)":
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    return frame.iloc[::-1].reset_index(drop=True)


def last_judged(warehouse: Warehouse, topic: str) -> datetime | None:
    """Return the start of the newest hour that was judged or learned from."""
    rows = warehouse.query_rows(
        f"SELECT count() AS n, max(hour) AS hour FROM {HOURS} WHERE topic = {{topic:String}}",  # noqa: S608 (a constant)
        {"topic": topic},
    )
    return rows[0]["hour"] if rows[0]["n"] else None


def arrived(warehouse: Warehouse, topic: str, since: datetime, until: datetime) -> dict[datetime, int]:
    """Return how many rows came in each hour of [since, until); hours without any are left out."""
    rows = warehouse.query_rows(
        "SELECT toStartOfHour(appended_at) AS hour, count() AS n FROM raw.events FINAL WHERE topic = {topic:String} "
        "AND appended_at >= {since:DateTime64(3, 'UTC')} AND appended_at < {until:DateTime64(3, 'UTC')} "
        "GROUP BY hour ORDER BY hour",
        {"topic": topic, "since": since, "until": until},
    )
    return {_utc(row["hour"]): int(row["n"]) for row in rows}


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def announce(warehouse: Warehouse, topic: str, places: Sequence[tuple[int, int, int]]) -> int:
    """Say that the ranges around ``places`` (partition, generation, offset) landed anew, so that a build takes them in.

    Returns how many ranges that were.
    """
    if not places:
        return 0
    names = ", ".join(f"({int(p)}, {int(g)}, {int(o)})" for p, g, o in places)
    where = (
        "topic = {topic:String} AND arrayExists(at -> at.1 = partition AND at.2 = generation "
        f"AND at.3 >= from_offset AND at.3 < to_offset, [{names}])"
    )
    count = int(
        warehouse.query_rows(f"SELECT count() AS n FROM raw.landings FINAL WHERE {where}", {"topic": topic})[0]["n"]  # noqa: S608 (integers)
    )
    columns = "landing_id, topic, partition, generation, from_offset, to_offset, rows, bytes, run_id"
    warehouse.command(
        f"INSERT INTO raw.landings ({columns}) SELECT {columns} FROM raw.landings FINAL WHERE {where}",  # noqa: S608
        {"topic": topic},
        idempotent=True,
    )
    return count


def decide(
    warehouse: Warehouse,
    *,
    topic: str,
    partition: int,
    generation: int,
    offset: int,
    decision: str,
    because: str,
    actor: str,
) -> None:
    """Keep a steward's decision on a row that is held back, with an audit row; a release lets builds take it in.

    Raises:
        JudgedError: no such row is held back, no reason is given, or the decision is none.
    """
    if decision not in ("release", "keep"):
        raise JudgedError(f"a decision is release or keep, not {decision!r}")
    if not because.strip():
        raise JudgedError("say why: the reason is kept beside the decision")
    place = {"topic": topic, "partition": partition, "generation": generation, "offset": offset}
    known = warehouse.query_rows(
        f"SELECT 1 AS known FROM {VERDICTS} FINAL WHERE topic = {{topic:String}} AND partition = {{partition:Int32}} "  # noqa: S608
        "AND generation = {generation:UInt16} AND offset = {offset:Int64} AND verdict IN ('quarantined', 'collapsed')",
        place,
    )
    if not known:
        raise JudgedError(f"no row is held back at {topic}/{partition}/{offset}")
    warehouse.insert_rows(
        "ops.audit",
        [
            {
                "at": datetime.now(UTC),
                "actor": actor,
                "action": f"quality_row_{decision}",
                "subject": f"{topic}/{partition}/{offset}" + (f"@{generation}" if generation else ""),
                "details": json.dumps({"because": because}),
            }
        ],
    )
    warehouse.insert_rows(
        DECISIONS,
        [{**place, "decision": decision, "because": because, "actor": actor, "decided_at": datetime.now(UTC)}],
    )
    announce(warehouse, topic, [(partition, generation, offset)])


def held(warehouse: Warehouse, *, limit: int = 50) -> list[dict[str, Any]]:
    """Return the rows that are held back and wait for a decision, newest first, each with its payload."""
    places = ", ".join(PLACE)
    return warehouse.query_rows(
        f"SELECT h.*, e.value AS value FROM (SELECT * FROM {HELD} WHERE verdict = 'quarantined' AND ({places}) NOT IN "  # noqa: S608
        f"(SELECT {places} FROM {DECISIONS} FINAL) ORDER BY judged_at DESC, offset LIMIT {{limit:UInt32}}) AS h "
        f"INNER JOIN (SELECT {places}, value FROM raw.events FINAL WHERE ({places}) IN (SELECT {places} FROM {HELD})) "
        f"AS e USING ({places}) ORDER BY judged_at DESC, topic, partition, offset",
        {"limit": limit},
    )


def hour_of(at: datetime) -> datetime:
    """Return the start of an hour."""
    return at.replace(minute=0, second=0, microsecond=0)


HOUR: Final = timedelta(hours=1)
