"""Verdicts on what lands: each complete hour of a topic judged row by row, by what good rows before it share.

What belongs here: the asset and its check. What does not: the rules (``ml.verdicts``), SQL (``landed``).

Rows that are held back stay in ``raw.events``; staging does not read them until a steward releases them. A repaired
row is read with its repaired payload. What is not judged yet is read as it came.
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.permanent import no_retry_of_permanent
from assets.quality import landed
from resources.warehouse import Warehouse, WarehouseResource

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ml.verdicts.rulebook import Rulebook
    from ml.verdicts.types import Judged

ASSET = dg.AssetKey(["quality", "verdicts"])
CHECK = "rows_as_usual"
#: Fewest hours and rows that are learned from; how far back; the newest rows of that.
LEAST_HOURS, LEAST_ROWS = 48, 5_000
MEMORY, NEWEST = timedelta(days=28), 200_000
#: Hours before a batch that its rows are placed among.
CONTEXT_HOURS = 2


@dataclass(slots=True)
class Hours:
    """What came of a topic: a row of ``quality.judged_hours`` for each hour."""

    topic: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def total(self, name: str) -> int:
        """Return the sum of a count over the hours."""
        return sum(int(row[name]) for row in self.rows)


@dg.asset(
    key=ASSET,
    deps=[dg.AssetKey(["raw", "events"])],
    group_name="quality",
    owners=["team:data"],
    kinds={"python", "clickhouse"},
    description="A verdict on each landed row: served, repaired, collapsed (a copy) or held back for a steward.",
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=25)),
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset=ASSET,
            description="No check of landed rows alarmed; one rate of false alarms over all checks of all topics.",
            metadata={"severity": "WARN"},
        )
    ],
    hooks={no_retry_of_permanent},
)
def quality_verdicts(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Judge the complete hours that were not judged yet; keep verdicts, repairs and counts."""
    judged = judge_landed(warehouse, landed.topics(), run_id=context.run_id, now=datetime.now(UTC))
    rows = [row for one in judged for row in one.rows]
    alarmed = [row for row in rows if row["alarms"]]
    said = [f"{row['topic']} {row['hour']:%Y-%m-%d %H:%M}: {', '.join(row['alarms'])}" for row in alarmed]
    yield dg.MaterializeResult(
        asset_key=ASSET,
        metadata={
            "hours": len(rows),
            "hours_learning": sum(row["state"] == "learning" for row in rows),
            **{
                f"rows_{name}": sum(one.total(name) for one in judged)
                for name in ("repaired", "collapsed", "quarantined")
            },
            "alarms": dg.MetadataValue.md("\n".join(f"- {line}" for line in said) or "None."),
        },
    )
    yield dg.AssetCheckResult(
        asset_key=ASSET,
        check_name=CHECK,
        passed=not alarmed,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(said[-3:])[:2000] or f"{len(rows)} hours as usual",
        metadata={"hours": len(rows), "hours_alarmed": len(alarmed)},
    )


def judge_landed(warehouse: Warehouse, topics: tuple[str, ...], *, run_id: str, now: datetime) -> list[Hours]:
    """Judge every complete hour since the last one that is kept; return what was written of each topic.

    The first hours of a topic are only learned from. An hour is judged by what was served before the run.
    """
    from ml.monitors.rounds import alarms
    from ml.verdicts.rulebook import look_harder, pooled
    from ml.verdicts.watch import p_values

    until = landed.hour_of(now)
    found = {topic: Hours(topic) for topic in topics}
    books: dict[str, Rulebook] = {}
    pending: dict[str, dict[datetime, int]] = {}
    for topic in topics:
        last = landed.last_judged(warehouse, topic)
        since = last + landed.HOUR if last else until - MEMORY
        pending[topic] = landed.arrived(warehouse, topic, since, until) if since < until else {}
        if not pending[topic]:
            continue
        book = _learn(warehouse, topic, min(pending[topic])) if last else None
        if book is None:
            found[topic].rows = [
                _hour(topic, hour, "learning", n, run_id=run_id, now=now) for hour, n in pending[topic].items()
            ]
        else:
            books[topic] = book
    books = pooled(books)
    for hour in sorted({hour for topic in books for hour in pending[topic]}):
        batches: dict[str, tuple[pd.DataFrame, Judged]] = {}
        p: dict[str, float] = {}
        for topic, book in books.items():
            if hour not in pending[topic]:
                continue
            batch, judged = _judge(warehouse, topic, book, hour)
            batches[topic] = batch, judged
            p |= {f"{topic}/{check}": value for check, value in p_values(book, judged).items()}
        alarmed = alarms(p)
        for topic, (batch, judged) in batches.items():
            mine = {check.split("/", 1)[1] for check in alarmed if check.startswith(f"{topic}/")}
            look_harder(judged, mine)
            found[topic].rows.append(
                _keep(warehouse, topic, hour, batch, judged, alarmed=sorted(mine | judged.hard), run_id=run_id, now=now)
            )
    for topic, hours in found.items():
        warehouse.insert_rows(landed.HOURS, hours.rows, token=f"verdicts/{run_id}/{topic}")
    return list(found.values())


def _learn(warehouse: Warehouse, topic: str, until: datetime) -> "Rulebook | None":
    """Return the rulebook of what was served before ``until``, None where that is too little."""
    from ml.verdicts.rulebook import learn

    good = landed.read(warehouse, topic, until - MEMORY, until, newest=NEWEST, good=True)
    if len(good) < LEAST_ROWS or good["appended_at"].dt.floor("h").nunique() < LEAST_HOURS:
        return None
    filled = [name for name in good.columns if name not in landed.PLACE and good[name].notna().any()]
    return learn(good[filled], _layout())


def _layout() -> Any:
    from ml.verdicts.types import Layout

    return Layout(key=("source", "event_id"), entity="subject", time="event_time", arrival="appended_at")


def _judge(warehouse: Warehouse, topic: str, book: "Rulebook", hour: datetime) -> "tuple[pd.DataFrame, Judged]":
    every = landed.read(warehouse, topic, hour - CONTEXT_HOURS * landed.HOUR, hour + landed.HOUR)
    names = [*book.columns, "event_time", "appended_at"]
    new = (every["appended_at"] >= hour.replace(tzinfo=None)).to_numpy()
    batch, before = every[new].reset_index(drop=True), every[~new].reset_index(drop=True)
    return batch, book.judge(batch[names], before[names], _held(warehouse, topic, before))


def _held(warehouse: Warehouse, topic: str, rows: "pd.DataFrame") -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Return which of ``rows`` are held back."""
    import pandas as pd

    known = warehouse.query_rows(
        f"SELECT partition, generation, offset FROM {landed.HELD} WHERE topic = {{topic:String}} "  # noqa: S608 (a constant)
        "AND appended_at >= {since:DateTime64(3, 'UTC')}",
        {"topic": topic, "since": (rows["appended_at"].min() if len(rows) else datetime.now(UTC))},
    )
    places = [(row["partition"], row["generation"], row["offset"]) for row in known]
    if not places or rows.empty:
        return pd.Series(False, index=rows.index).to_numpy()
    return pd.MultiIndex.from_frame(rows[list(landed.PLACE[1:])]).isin(places)


def _hour(topic: str, hour: datetime, state: str, rows: int, *, run_id: str, now: datetime) -> dict[str, Any]:
    return {
        "topic": topic,
        "hour": hour,
        "state": state,
        "rows": rows,
        "repaired": 0,
        "collapsed": 0,
        "quarantined": 0,
        "alarms": [],
        "run_id": run_id,
        "judged_at": now,
    }


def _keep(
    warehouse: Warehouse,
    topic: str,
    hour: datetime,
    batch: "pd.DataFrame",
    judged: "Judged",
    *,
    alarmed: list[str],
    run_id: str,
    now: datetime,
) -> dict[str, Any]:
    """Write the verdicts and repairs of an hour, let builds take in what changed; return the hour's row."""
    import numpy as np

    from ml.verdicts.types import SERVED, VERDICTS

    places = np.flatnonzero(judged.verdict != SERVED)
    rows: list[dict[str, Any]] = []
    frame: Any = batch
    for at in places.tolist():
        place = {name: frame[name].iat[at] for name in landed.PLACE}
        rows.append(
            {
                **{name: value if isinstance(value, str) else int(value) for name, value in place.items()},
                "appended_at": frame["appended_at"].iat[at].to_pydatetime().replace(tzinfo=UTC),
                "verdict": VERDICTS[judged.verdict[at]],
                "reasons": sorted(check for check, bad in judged.reasons.items() if bad[at]),
                "run_id": run_id,
                "judged_at": now,
            }
        )
    token = f"verdicts/{topic}/{hour:%Y%m%dT%H}/{run_id}"
    _repair(warehouse, topic, batch, judged, rows, now=now, token=token)
    warehouse.insert_rows(landed.VERDICTS, rows, token=token)
    landed.announce(warehouse, topic, [(row["partition"], row["generation"], row["offset"]) for row in rows])
    counts = {name: sum(row["verdict"] == name for row in rows) for name in ("repaired", "collapsed", "quarantined")}
    return {
        **_hour(topic, hour, "alarm" if alarmed else "quiet", len(batch), run_id=run_id, now=now),
        **counts,
        "alarms": alarmed,
    }


def _repair(
    warehouse: Warehouse,
    topic: str,
    batch: "pd.DataFrame",
    judged: "Judged",
    rows: list[dict[str, Any]],
    *,
    now: datetime,
    token: str,
) -> None:
    """Write the repaired payload of each repaired row whose values changed (a late one stays as it came)."""
    import orjson
    import pandas as pd

    mended = [row for row in rows if row["verdict"] == "repaired"]
    if not mended:
        return
    wanted = [(row["partition"], row["generation"], row["offset"]) for row in mended]
    at = {place: n for n, place in enumerate(batch[list(landed.PLACE[1:])].itertuples(index=False, name=None))}
    names = ", ".join(f"({p}, {g}, {o})" for p, g, o in wanted)
    came = warehouse.query_rows(
        "SELECT topic, partition, generation, offset, appended_at, key, value FROM raw.events FINAL "  # noqa: S608 (integers)
        f"WHERE topic = {{topic:String}} AND (partition, generation, offset) IN ({names})",
        {"topic": topic},
    )
    repaired = []
    old_rows: Any = batch
    new_rows: Any = judged.frame
    for record in came:
        n = at[record["partition"], record["generation"], record["offset"]]
        event = orjson.loads(record["value"])
        changed = False
        for name in judged.frame.columns:
            new, old = new_rows[name].iat[n], old_rows[name].iat[n]
            if name in ("event_time", "appended_at") or (pd.isna(new) and pd.isna(old)) or new == old:
                continue
            _put(event, topic, name, new)
            changed = True
        if changed:
            repaired.append({**record, "value": orjson.dumps(event).decode(), "repaired_at": now})
    warehouse.insert_rows(landed.REPAIRED, repaired, token=f"{token}/repaired")


def _put(event: dict[str, Any], topic: str, name: str, value: Any) -> None:
    """Set a column's value in the event that it was read from."""
    envelope = {"event_type": "type", "event_id": "id"}
    if name not in landed.fields(topic):
        event[envelope.get(name, name)] = value
        return
    path, kind = landed.fields(topic)[name]
    inner = event.setdefault("data", {})
    for part in path[:-1]:
        inner = inner.setdefault(part, {})
    inner[path[-1]] = float(value) if "Float" in kind else value
