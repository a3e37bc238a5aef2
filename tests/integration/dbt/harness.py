"""A warehouse of its own with a landing side that a test drives by hand, and dbt over it."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assets.bi.project import dbt_executable, project_folder
from events.codec import encode
from resources.warehouse import WarehouseResource

TOPIC = "isthmus.sagas"
EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
APPENDED = datetime(2026, 3, 20, tzinfo=UTC)

# What a person reads; the order of rows and the engine's own columns do not matter.
MARTS = (
    "staging.stg_saga_events",
    "marts.fct_saga_steps",
    "marts.fct_sagas",
    "marts.kpi_hourly",
    "marts.dim_saga_type",
    "marts.dim_participant",
    "marts.saga_funnel",
    "marts.saga_rework",
)


def saga_event(
    kind: str, saga: str, at: timedelta, *, id: str, saga_type: str = "order", source: str = "/shop/test", **data: Any
) -> bytes:
    """Return an event of ``isthmus.saga.<kind>`` as bytes, ``at`` after the test's epoch."""
    return encode(
        f"isthmus.saga.{kind}",
        {"saga_type": saga_type, **data},
        subject=saga,
        source=source,
        id=id,
        time=EPOCH + at,
    )


@dataclass
class World:
    """The warehouse and what has landed in it: each landing appends to one partition."""

    warehouse: WarehouseResource
    folder: Path
    ends: dict[int, int] = field(default_factory=dict)
    manifest: Any = field(default=None, repr=False)

    def reset(self) -> None:
        """Empty everything that landing and dbt wrote."""
        for table in ("raw.events", "raw.landings", "raw.touched", "ops.built_landings"):
            self.warehouse.command(f"TRUNCATE TABLE {table}")
        for database in ("staging", "intermediate", "marts"):
            for row in self.warehouse.query_rows(
                f"SELECT name, engine FROM system.tables WHERE database = '{database}'"
            ):
                kind = "VIEW" if row["engine"] == "View" else "TABLE"
                self.warehouse.command(f"DROP {kind} {database}.`{row['name']}`")
        self.ends.clear()

    def land(self, payloads: Sequence[bytes], *, partition: int = 0, topic: str = TOPIC) -> tuple[int, int]:
        """Append records to a partition, land them, and return their range."""
        low = self.ends.get(partition, 0)
        rows = [
            {
                "topic": topic,
                "partition": partition,
                "offset": low + number,
                "appended_at": APPENDED + timedelta(milliseconds=low + number),
                "key": "",
                "value": payload.decode("utf-8", "surrogateescape"),
            }
            for number, payload in enumerate(payloads)
        ]
        self.warehouse.insert_rows("raw.events", rows)
        high = self.ends[partition] = low + len(rows)
        self.commit(low, high, partition=partition, topic=topic)
        return low, high

    def commit(self, low: int, high: int, *, partition: int = 0, topic: str = TOPIC) -> None:
        """Report what a range touched and note it in the ledger, as landing does: the ledger last."""
        landing = f"{topic}/{partition}/{low}-{high}"
        self.warehouse.command(
            "INSERT INTO raw.touched SELECT DISTINCT {landing:String}, topic, tupleElement(envelope, 'subject'),"
            " toStartOfHour(assumeNotNull(event_time)) FROM raw.events WHERE topic = {topic:String}"
            " AND partition = {partition:Int32} AND offset >= {low:Int64} AND offset < {high:Int64}"
            " AND isNotNull(event_time)",
            {"landing": landing, "topic": topic, "partition": partition, "low": low, "high": high},
        )
        self.warehouse.command(
            "INSERT INTO raw.landings (landing_id, topic, partition, from_offset, to_offset, rows, bytes, run_id)"
            " SELECT {landing:String}, {topic:String}, {part:Int32}, {low:Int64}, {high:Int64}, {size:UInt64}, 0, ''",
            {
                "landing": landing,
                "topic": topic,
                "part": partition,
                "low": low,
                "high": high,
                "size": high - low,
            },
        )

    def environment(self) -> dict[str, str]:
        """Return dbt's environment for this warehouse."""
        url = urlsplit(self.warehouse.url)
        return {
            "DBT_HOST": str(url.hostname),
            "DBT_PORT": str(url.port),
            "DBT_USER": str(url.username),
            "DBT_PASSWORD": str(url.password),
            "DBT_PROJECT_DIR": str(project_folder()),
            "DBT_PROFILES_DIR": str(project_folder()),
            "DBT_TARGET_PATH": str(self.folder / "target"),
            "DBT_LOG_PATH": str(self.folder / "logs"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }

    def dbt(self, *arguments: str) -> Any:
        """Run dbt in this process and parse once, which spares its start; return its result, failed or not."""
        from dbt.cli.main import dbtRunner

        before = dict(os.environ)
        os.environ.update(self.environment())
        quiet = ["--quiet", "--log-level-file", "none"]
        try:
            if self.manifest is None:
                self.manifest = dbtRunner().invoke([*quiet, "parse"]).result
            return dbtRunner(manifest=self.manifest).invoke([*quiet, "--no-write-json", *arguments])
        finally:
            os.environ.clear()
            os.environ.update(before)

    def build(self, *arguments: str) -> None:
        """Build every model, without the tests, and expect success."""
        done = self.dbt("run", *arguments)
        assert done.success, [(result.node.name, result.message) for result in done.result or ()]

    def start_build(self) -> subprocess.Popen[bytes]:
        """Start a build in a process of its own, to be killed."""
        return subprocess.Popen(
            [dbt_executable(), "run"],
            env={**os.environ, **self.environment(), "PYTHONUNBUFFERED": "1"},  # a line is read when it is said
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def rows(self, table: str) -> list[str]:
        """Return a table's rows as text, sorted."""
        return sorted(map(repr, (tuple(row.values()) for row in self.warehouse.query_rows(f"SELECT * FROM {table}"))))

    def marts(self) -> dict[str, list[str]]:
        """Return all that people read."""
        return {table: self.rows(table) for table in MARTS}

    def one(self, sql: str) -> Any:
        """Return the one value of a query."""
        (row,) = self.warehouse.query_rows(sql)
        (value,) = row.values()
        return value

    def pending(self) -> int:
        """Return how many landings no complete build has taken in."""
        return int(
            self.one(
                "SELECT count() FROM raw.landings FINAL WHERE (landing_id, landed_at) NOT IN"
                " (SELECT landing_id, landed_at FROM ops.built_landings FINAL)"
            )
        )


def traffic(random_source: random.Random, sagas: int) -> list[bytes]:
    """Return the events of some sagas in time order per saga: retries, time-outs, compensations, ties, two types."""
    events: list[tuple[float, int, bytes]] = []

    def emit(kind: str, saga: str, minute: float, **data: Any) -> None:
        number = len(events)
        at = timedelta(minutes=minute)
        events.append((minute, number, saga_event(kind, saga, at, id=f"{saga}/{number}", **data)))

    for index in range(sagas):
        saga, saga_type = f"s{index % (sagas - 2)}", ("order", "refund")[index >= sagas - 2]  # two types share an id
        minute = random_source.uniform(0, 600)
        emit(
            "started", saga, minute, saga_type=saga_type, amount=round(random_source.uniform(1, 900), 2), currency="EUR"
        )
        for step in ("reserve", "pay", "notify")[: random_source.randint(1, 3)]:
            for attempt in range(1, random_source.randint(1, 3) + 1):
                common = {"saga_type": saga_type, "step": step, "participant": f"p-{step}", "attempt": attempt}
                for status in ("scheduled", "started", random_source.choice(["completed", "failed", "timed_out"])):
                    if random_source.random() < 0.9:
                        extra = {"load": float(random_source.randint(0, 9))} if status == "started" else {}
                        emit("step", saga, minute, **common, status=status, worker="w1", **extra)
                    minute += random_source.choice([0, 0.5, 7.25, 90])
                if random_source.random() < 0.3:
                    emit("step", saga, minute, **common, status=random_source.choice(["retried", "compensated"]))
        ending = random_source.choice(["completed", "business", "technical", "none"])
        if ending == "completed":
            emit("completed", saga, minute, saga_type=saga_type)
        elif ending != "none":
            emit("aborted", saga, minute, saga_type=saga_type, reason=ending, detail="test")
    return [payload for _, _, payload in sorted(events, key=lambda event: event[:2])]
