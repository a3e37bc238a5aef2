"""Each offset once, whatever happens to the run, the warehouse and the broker while it lands."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assets.landing import checks
from assets.landing.pipeline import land
from resources.errors import RangeGone
from resources.kafka import KafkaResource
from resources.ledger import Ledger
from resources.migrate import migrate
from resources.warehouse import WarehouseResource
from tests.conftest import ROOT, free_port, running
from tests.integration.landing.conftest import Log, landed_values


def payload(at: int, *, subject: str = "saga-1", when: str = "2026-01-01T10:00:00Z") -> bytes:
    return (
        f'{{"specversion":"1.0","id":"{at}","source":"/test","type":"isthmus.saga.step","subject":"{subject}",'
        f'"time":"{when}","data":{{}}}}'
    ).encode()


def noted(warehouse: WarehouseResource, topic: str) -> list[tuple[int, int, int]]:
    rows = warehouse.query_rows(
        "SELECT from_offset, to_offset, rows FROM raw.landings FINAL WHERE topic = {topic:String}"
        " ORDER BY from_offset, to_offset",
        {"topic": topic},
    )
    return [(row["from_offset"], row["to_offset"], row["rows"]) for row in rows]


def test_twice_cut_differently_and_overlapping(warehouse: WarehouseResource, kafka: KafkaResource, log: Log) -> None:
    values: list[bytes | None] = [payload(at) for at in range(2500)]
    values[3], values[4], values[1200] = b"\xff\xfe\x00 not UTF-8", b"{not json", None
    log.send(values)
    whole = log.range()
    land([whole], bus=kafka, warehouse=warehouse, block_events=700)
    physical = warehouse.query_rows("SELECT count() AS rows FROM raw.events WHERE topic = {t:String}", {"t": log.name})
    land([whole], bus=kafka, warehouse=warehouse, block_events=700)
    again = warehouse.query_rows("SELECT count() AS rows FROM raw.events WHERE topic = {t:String}", {"t": log.name})
    assert again == physical, "an identical range is not even written a second time"
    cuts = [log.range(0, 1000), log.range(1000, 2500), log.range(500, 1500), log.range(499, 501)]
    land(cuts, bus=kafka, warehouse=warehouse, block_events=300)
    assert landed_values(warehouse, log.name) == {at: (value or b"").hex() for at, value in enumerate(values)}
    verdict = checks.rows(warehouse, [whole, *cuts])
    assert verdict.passed, verdict.description
    shares = checks.quarantine(warehouse, [whole], limit=0.01).figures
    assert sum(shares["reasons"].values()) == 3


def test_headers_keys_and_what_was_touched(warehouse: WarehouseResource, kafka: KafkaResource, log: Log) -> None:
    log.send([payload(0, subject="a"), payload(1, subject="b", when="2026-01-01T12:30:00Z"), payload(2, subject="a")])
    log.send([payload(3, subject="c", when="never")], headers=[("trace", b"\xff"), ("trace", b"last"), ("none", None)])
    work = log.range()
    land([work], bus=kafka, warehouse=warehouse, block_events=2)
    touched = warehouse.query_rows(
        "SELECT subject, toHour(hour) AS hour FROM raw.touched FINAL WHERE landing_id = {id:String} ORDER BY ALL",
        {"id": work.landing_id},
    )
    assert [(row["subject"], row["hour"]) for row in touched] == [("a", 10), ("b", 12)]
    rows = warehouse.query_rows(
        "SELECT key, headers FROM raw.events WHERE topic = {t:String} ORDER BY offset", {"t": log.name}
    )
    assert rows[1] == {"key": "k1", "headers": {}}
    assert rows[3]["headers"] == {"trace": "last", "none": ""}


def test_markers_and_aborted_records_take_offsets(warehouse: WarehouseResource, kafka: KafkaResource, log: Log) -> None:
    log.send_in_transaction([b"a", b"b"], commit=True)
    log.send_in_transaction([b"gone"], commit=False)
    log.send_in_transaction([b"c"], commit=True)
    work = log.range()
    assert work.width == 7
    [landed] = land([work], bus=kafka, warehouse=warehouse, block_events=2)
    assert landed.rows == 3
    assert [bytes.fromhex(value) for value in landed_values(warehouse, log.name).values()] == [b"a", b"b", b"c"]
    # A range of nothing but a marker is landed too: it holds no record, and that is known now.
    [landed] = land([log.range(2, 3)], bus=kafka, warehouse=warehouse, block_events=2)
    assert landed.rows == 0
    assert (2, 3, 0) in noted(warehouse, log.name)


def test_an_empty_list_and_an_empty_range_write_nothing(
    warehouse: WarehouseResource, kafka: KafkaResource, log: Log
) -> None:
    assert land([], bus=kafka, warehouse=warehouse, block_events=10) == []
    [landed] = land([log.range(0, 0)], bus=kafka, warehouse=warehouse, block_events=10)
    assert (landed.rows, landed_values(warehouse, log.name)) == (0, {})


@pytest.mark.parametrize("fault", ["aged out", "beyond the end", "deleted"])
def test_what_is_gone_is_an_error_and_lands_nothing(
    warehouse: WarehouseResource, kafka: KafkaResource, log: Log, fault: str
) -> None:
    from confluent_kafka import TopicPartition

    log.send([b"x"] * 20)
    work = log.range(0, 25 if fault == "beyond the end" else 20)
    if fault == "aged out":
        for future in kafka.admin().delete_records([TopicPartition(log.name, 0, 10)]).values():
            future.result()
    if fault == "deleted":
        log.delete()
    with pytest.raises(RangeGone):
        land([work], bus=kafka, warehouse=warehouse, block_events=10)
    assert noted(warehouse, log.name) == []


def test_producers_time_neither_partitions_nor_expires(
    warehouse: WarehouseResource, kafka: KafkaResource, unique: Callable[[str], str]
) -> None:
    # Kept for ever: a broker that looks just then would take records of 1970 for past their retention.
    log = Log(unique("clock"), kafka).create(**{"message.timestamp.type": "CreateTime", "retention.ms": "-1"})
    log.send([payload(0)], timestamp=1000)
    log.send([payload(1)], timestamp=946684800000)
    land([log.range()], bus=kafka, warehouse=warehouse, block_events=10)
    rows = warehouse.query_rows("SELECT appended_at FROM raw.events WHERE topic = {t:String}", {"t": log.name})
    assert len(rows) == 2
    assert all(abs((datetime.now(UTC) - row["appended_at"]).total_seconds()) < 300 for row in rows)


def test_rows_that_the_warehouse_claims_to_have_are_written_anew(
    warehouse: WarehouseResource, kafka: KafkaResource, log: Log
) -> None:
    """As after a kill between a token's log entry and its part: the token is known, the rows are not there."""
    values = [payload(at) for at in range(300)]
    log.send([*values])
    land([log.range()], bus=kafka, warehouse=warehouse, block_events=100)
    warehouse.command(
        "ALTER TABLE raw.events DELETE WHERE topic = {t:String} AND offset >= 100 AND offset < 200"
        " SETTINGS mutations_sync = 2",
        {"t": log.name},
    )
    assert len(landed_values(warehouse, log.name)) == 200
    land([log.range()], bus=kafka, warehouse=warehouse, block_events=100)
    assert landed_values(warehouse, log.name) == {at: value.hex() for at, value in enumerate(values)}


LANDER = """
import sys, time
import assets.landing.pipeline as pipeline
from resources.kafka import KafkaResource
from resources.ledger import Range
from resources.warehouse import WarehouseResource

url, bootstrap, topic, last = sys.argv[1:]
class Slow(WarehouseResource):
    def insert_arrow(self, *args, **options):
        print("inserting\\n", end="", flush=True)
        super().insert_arrow(*args, **options)
        time.sleep(0.05)
pipeline.land([Range(topic, 0, 0, int(last))], bus=KafkaResource(bootstrap=bootstrap), warehouse=Slow(url=url),
              block_events=100)
"""


def test_a_run_killed_in_mid_insert_is_landed_whole_by_the_next(
    warehouse: WarehouseResource, kafka: KafkaResource, log: Log
) -> None:
    values = [payload(at) for at in range(3000)]
    log.send(list(values))
    arguments = [warehouse.url, kafka.bootstrap, log.name, "3000"]
    for inserts in (1, 4, 9):
        process = subprocess.Popen(
            [sys.executable, "-c", LANDER, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(inserts):
            assert process.stdout.readline() == "inserting\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert noted(warehouse, log.name) == [], "the ledger's row comes last"
    land([log.range()], bus=kafka, warehouse=warehouse, block_events=100)
    assert landed_values(warehouse, log.name) == {at: value.hex() for at, value in enumerate(values)}
    assert noted(warehouse, log.name) == [(0, 3000, 3000)]


@pytest.mark.parametrize("victim", ["warehouse", "broker"])
def test_a_server_killed_under_a_run(tmp_path: Path, victim: str) -> None:
    ports = {"warehouse": free_port(), "broker": free_port()}
    password = secrets.token_urlsafe(8)
    env = {"ISTHMUS_WAREHOUSE_PASSWORD": password, "ISTHMUS_HOME": str(tmp_path / "home")}

    def serve(name: str):  # type: ignore[no-untyped-def]
        arguments = ("--path", str(tmp_path / name), "--port", str(ports[name]))
        return running(f"services.embedded.{name}", *arguments, log=tmp_path / f"{name}.log", env=env)

    other = "broker" if victim == "warehouse" else "warehouse"
    warehouse = WarehouseResource(url=f"http://isthmus:{password}@127.0.0.1:{ports['warehouse']}", attempts=12)
    kafka = KafkaResource(bootstrap=f"127.0.0.1:{ports['broker']}", timeout=30.0)
    inserted: list[int] = []

    class Watched(WarehouseResource):
        def insert_arrow(self, *args, **options):  # type: ignore[no-untyped-def]
            super().insert_arrow(*args, **options)
            inserted.append(1)
            time.sleep(0.02)

    with serve(other):
        with serve(victim) as process:
            migrate(warehouse)
            log = Log("victim", kafka).create()
            values = [payload(at) for at in range(4000)]
            log.send(list(values))
            failures: list[BaseException] = []

            def run() -> None:
                try:
                    watched = Watched(url=warehouse.url, attempts=12)
                    land([log.range(0, 4000)], bus=kafka, warehouse=watched, block_events=50)
                except BaseException as error:  # noqa: BLE001 (shown by the assertion below)
                    failures.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            while len(inserted) < 5 and thread.is_alive():
                time.sleep(0.01)
            process.kill()
            process.wait()
        with serve(victim):
            thread.join(60)
            assert not failures
            assert landed_values(warehouse, "victim") == {at: value.hex() for at, value in enumerate(values)}
            assert Ledger(warehouse).landed() == {("victim", 0, 0): [(0, 4000)]}
