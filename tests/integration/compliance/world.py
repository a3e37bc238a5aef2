"""Persons in every store: Ann, who asks to be erased, and Joann, whose values hold Ann's."""

from __future__ import annotations

import base64
import gzip
import json
import os
import sqlite3
import time
import zipfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assets.compliance.stores import Store, stores
from assets.landing.pipeline import land
from assets.quality.pii_vault import Vault
from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS, INGRESS
from events.codec import encode
from ml.pii.redaction import Keys
from ml.privacy.subject import Subject, parse
from resources.kafka import KafkaResource
from resources.ledger import Ledger, Range, Seen
from resources.settings import Settings
from resources.warehouse import WarehouseResource
from tests.integration.router.bus import PII_KEY, STEP, committed, producer, router

KEYS = Keys(PII_KEY.encode(), (b"key before",))
NAME, OTHER_NAME = 'Zoë O\'Brien "Q" 50%', "Zoë O'Brien-Ortiz"
ANN = {
    "id": "customer-4711",
    "email": "ann@x.io",
    "name": NAME,
    "other": "مريم_العلي_4711",
    "account": "DE02120300000000202051",
}
JOANN = {"id": "customer-47110", "email": "joann@x.io", "name": OTHER_NAME}


def subject(values: dict[str, str]) -> Subject:
    return parse(json.dumps(values))


def started(number: str, **data: Any) -> bytes:
    plain = json.loads(encode("isthmus.saga.step", STEP, subject=number, source="/shop", id=f"s-{number}"))
    kind = {"type": "isthmus.saga.started", "dataschema": "urn:isthmus:isthmus.saga.started:1"}
    return json.dumps({**plain, **kind, "data": {"saga_type": "order", **data}}).encode()


@dataclass
class World:
    """A home with its services, and what was put in."""

    home: Path
    warehouse: WarehouseResource
    kafka: KafkaResource
    settings: Settings

    def stores(self) -> list[Store]:
        return stores(self.settings, self.warehouse, self.kafka)

    def by_name(self, name: str) -> Store:
        return next(store for store in self.stores() if store.name == name)

    def land(self) -> None:
        """Land what the domain topics hold."""
        ledger = Ledger(self.warehouse)
        marks = self.kafka.watermarks_of(self.kafka.topics(DOMAIN_TOPICS).values())
        ledger.see({place: Seen(0, "", 0) for place in marks if place not in ledger.seen()})
        covered = ledger.landed()
        ranges = []
        for (topic, partition), (low, high) in marks.items():
            begin = max(low, max((last for _, last in covered.get((topic, partition, 0), [])), default=0))
            ranges += [Range(topic, partition, begin, high, 0)] if begin < high else []
        land(ranges, bus=self.kafka, warehouse=self.warehouse, block_events=1000)

    def rows(self) -> dict[str, int]:
        """Rows of each table that is ours."""
        tables = self.warehouse.query_rows(
            "SELECT concat(database, '.', table) AS name, engine FROM system.tables WHERE engine LIKE '%MergeTree'"
            " AND database IN ('raw', 'marts', 'ml', 'quality') OR table = 'pii_vault'"
        )
        return {
            one["name"]: self.warehouse.query_rows(
                f"SELECT count() AS n FROM {one['name']} {'FINAL' if 'Replacing' in one['engine'] else ''}"
            )[0]["n"]
            for one in tables
        }


def fill(world: World) -> None:
    """Put both persons into every store that is there."""
    _bus(world)
    world.land()
    _warehouse(world)
    _files(world)
    _sources(world)


def _bus(world: World) -> None:
    bootstrap = world.kafka.bootstrap
    with router(bootstrap, world.home) as running:
        sender = producer(bootstrap)
        for number, who in (("1", ANN), ("2", JOANN)):
            fields = {
                "customer": who["id"],
                "customer_email": who["email"],
                "account": who.get("account", "FR7630006000011234567890189"),
            }
            sender.produce(INGRESS, started(f"saga-{number}", **fields), f"saga-{number}")
            # A dead letter each: a field of the wrong type, and a text that is no JSON.
            sender.produce(INGRESS, started(f"bad-{number}", amount=who["email"], customer=who["id"]), f"bad-{number}")
            sender.produce(
                INGRESS, f"{who['name']} <{who['email']}>".encode(), f"text-{number}", headers=[("who", who["id"])]
            )
        sender.flush(10)
        deadline = time.monotonic() + 60
        while committed(bootstrap, INGRESS)[0] < 6:
            assert time.monotonic() < deadline, running.log.read_text()[-2000:]
            time.sleep(0.05)
    # A cut dead letter of each: Ann's address stands across the cut.
    sender = producer(bootstrap, **{"linger.ms": 0})
    for index, who in enumerate((ANN, JOANN)):
        text = f"xx {who['email']} yy".encode()
        for part, piece in ((1, text[:7]), (2, text[7:])):
            marks = {
                "part": f"{part}/2",
                "source-topic": INGRESS,
                "source-partition": "0",
                "source-offset": str(90 + index),
                "refused-at": "2026",
                "reason": "x",
            }
            headers = [(f"isthmus-{name}", content.encode()) for name, content in marks.items()]
            sender.produce(DEAD_LETTER, piece, None, headers=headers, partition=part - 1)
    sender.flush(10)


def _warehouse(world: World) -> None:
    warehouse = world.warehouse
    warehouse.command(
        "CREATE TABLE marts.people (id UInt64, who String, contact Nullable(String),"
        " facts Map(String, String), tags Array(String), blob String)"
        " ENGINE = MergeTree ORDER BY (id, who)"
    )
    warehouse.insert_rows(
        "marts.people",
        [
            {
                "id": n,
                "who": who["id"] if n < 2 else f"customer-{n}",
                "contact": who["email"] if n % 2 else None,
                "facts": {"name": who["name"]},
                "tags": [who["name"]],
                "blob": base64.b64encode(f"mail {who['email']} now".encode()).decode(),
            }
            for n in range(20)
            for who in (ANN, JOANN)
        ],
    )
    Vault(warehouse, KEYS).tokens("EMAIL_ADDRESS", [ANN["email"], JOANN["email"]])
    key = "hex(sipHash128(ifNull(toString(id), ''), ifNull(toString(who), '')))"
    for row in warehouse.query_rows(f"SELECT {key} AS k FROM marts.people WHERE id = 1"):
        warehouse.insert_rows(
            "quality.cell_labels",
            [{"table_name": "marts.people", "row_key": row["k"], "wrong_columns": ["who"], "actor": "steward"}],
        )
    for number, who in enumerate((ANN, JOANN)):
        identity = f"01890000-0000-7000-8000-00000000000{number}"
        at = datetime(2026, 11, 1, tzinfo=UTC)
        warehouse.insert_rows(
            "ops.decisions",
            [
                {
                    "decision_id": identity,
                    "kind": "data_repair",
                    "subject": f"row of {who['id']}",
                    "made_at": at,
                    "valid_from": at,
                    "valid_to": at,
                    "inputs": "[]",
                    "model": "null",
                    "checks": "[]",
                    "action": json.dumps({"rows": [{"key": who["id"], "note": json.dumps(who)}]}),
                    "expected": "[]",
                    "guardrails": "[]",
                    "undo": "null",
                    "trace_id": "",
                    "run_id": "",
                }
            ],
        )
        warehouse.insert_rows(
            "ops.audit",
            [
                {
                    "actor": "ann",
                    "action": "warehouse.sql",
                    "subject": who["email"],
                    "details": json.dumps({"q": who["name"]}),
                }
            ],
        )
        warehouse.insert_rows(
            "ops.outcomes",
            [
                {
                    "decision_id": identity,
                    "measured_at": at,
                    "metric": "m",
                    "actual": 1,
                    "counterfactual": 1,
                    "low": 0,
                    "high": 1,
                    "method": "m",
                    "details": json.dumps(who),
                }
            ],
        )
        warehouse.insert_rows(
            "ops.incidents",
            [
                {
                    "at": at,
                    "incident_id": who["id"],
                    "kind": "x",
                    "subject": "s",
                    "summary": who["email"],
                    "details": "{}",
                }
            ],
        )
        value = json.dumps(
            {
                "id": f"c-{number}",
                "source": "/db",
                "type": "isthmus.data.change",
                "subject": "x",
                "time": "2026-11-01T00:00:00Z",
                "data": {"store": "shop", "after": {**who, "street": f"Only street {number}"}},
            }
        )
        warehouse.insert_rows(
            "raw.events",
            [
                {
                    "topic": "isthmus.changes",
                    "partition": 7,
                    "offset": number,
                    "appended_at": at,
                    "key": who["id"],
                    "value": value,
                    "headers": {"h": who["email"]},
                }
            ],
        )
        page = json.dumps([who["id"]])
        warehouse.insert_rows(
            "raw.source_pages",
            [
                {"snapshot_id": f"done-{number}", "page": 0, "digest": "d", "rows": 1, "last_key": page},
                {"snapshot_id": f"cut-{number}", "page": 0, "digest": "d", "rows": 1, "last_key": page},
            ],
        )
        warehouse.insert_rows(
            "raw.source_snapshots",
            [
                {
                    "source": "s",
                    "table_name": "t",
                    "snapshot_id": f"done-{number}",
                    "position": "",
                    "consistent": True,
                    "rows": 1,
                    "pages": 1,
                    "run_id": "",
                }
            ],
        )
    # Parts that merges left behind hold the rows too.
    for table in ("marts.people", "ops.audit", "raw.events"):
        warehouse.command(f"OPTIMIZE TABLE {table} FINAL")


def _files(world: World) -> None:
    docs = world.home / "quality" / "data_docs"
    artefacts = world.home / "mlflow" / "artifacts"
    logs = world.home / "logs"
    for folder in (docs, artefacts, logs, world.home / "dagster"):
        folder.mkdir(parents=True, exist_ok=True)
    for number, who in enumerate((ANN, JOANN)):
        (docs / f"page{number}.html").write_text(f"<td>{who['email']}</td><p>{who['name']}</p>")
        (logs / f"service{number}.log").write_text(
            json.dumps({"message": f"refused {who['id']}", "name": who["name"]}) + "\n"
        )
        with gzip.open(artefacts / f"frame{number}.csv.gz", "wt") as packed:
            packed.write(f"{who['id']},{who['email']}\n")
        with zipfile.ZipFile(artefacts / f"model{number}.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("examples", who["email"].encode("utf-16-le") * 3)
    for name in ("mlflow/mlflow.db", "dagster/runs.db"):
        with closing(sqlite3.connect(world.home / name)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE params (key TEXT PRIMARY KEY, value TEXT, body BLOB)")
            for who in (ANN, JOANN):
                connection.execute(
                    "INSERT INTO params VALUES (?, ?, ?)", (who["id"], json.dumps(who), who["email"].encode())
                )
            connection.execute("INSERT INTO params VALUES ('gone', ?, NULL)", (ANN["email"] * 50,))
            connection.commit()
            # Deleted, and on a free page still.
            connection.execute("PRAGMA secure_delete = OFF")
            connection.execute("DELETE FROM params WHERE key = 'gone'")
            connection.commit()


def _sources(world: World) -> None:
    from assets.sources import copy_table

    if "shop" in world.settings.sources:
        import psycopg

        with psycopg.connect(os.environ["ISTHMUS_TEST_POSTGRES"], autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS erase_notes, erase_people, theirs_people, erase_invoices")
            for table in ("erase_people", "theirs_people", "erase_notes", "erase_invoices"):
                connection.execute(
                    f"CREATE TABLE {table} (id text PRIMARY KEY, email text, name text NOT NULL, raw bytea)".encode()
                )
                for who in (ANN, JOANN):
                    values: tuple[object, ...] = (who["id"], who["email"], who["name"], who["email"].encode())
                    if table == "erase_notes":
                        values = (f"n-{len(who['id'])}", *values[1:])
                    connection.execute(f"INSERT INTO {table} VALUES (%s, %s, %s, %s)".encode(), values)
    if "notes" in world.settings.sources:
        import pymongo

        url = world.settings.sources["notes"].url.get_secret_value()
        mongo: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(url)
        with mongo:
            database = mongo.get_default_database()
            database.drop_collection("people")
            database["people"].insert_many(
                [{"_id": who["id"], "deep": [{"mail": who["email"]}]} for who in (ANN, JOANN)]
            )
    if world.settings.redis_url:
        import redis

        store: redis.Redis = redis.Redis.from_url(world.settings.redis_url, decode_responses=True)
        with store as client:
            client.flushdb()
            for who in (ANN, JOANN):
                client.hset(f"isthmus:policy:order:{who['id']}:x", mapping={"a": "1"})
                client.set(f"isthmus:note:{len(who['id'])}", who["email"])
                client.sadd("isthmus:policies", f"isthmus:policy:order:{who['id']}:x")
            client.set("another:key", ANN["email"])
    for name, source in world.settings.sources.items():
        for table in source.tables:
            copy_table(world.warehouse, name, source, table, run_id="first")
