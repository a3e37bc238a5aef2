"""A burst on a real broker: the sensor sees it, the asset explains it, the warehouse has one incident."""

from __future__ import annotations

from typing import Any

import dagster as dg
import numpy as np
import pytest

import sensors.bursts
from assets.incidents import bursts, saga_bursts
from events.codec import encode
from resources.kafka import KafkaResource
from resources.migrate import migrate
from resources.settings import Settings
from resources.warehouse import WarehouseResource


@pytest.fixture
def topic(unique: Any, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(unique("isthmus.sagas"))
    for module in (sensors.bursts, bursts):
        monkeypatch.setattr(module, "TOPIC", name)
    KafkaResource(bootstrap=kafka_bootstrap).ensure_topics([name])
    return name


def send(kafka: KafkaResource, topic: str, count: int, share: float, seed: int) -> None:
    producer, random = kafka.producer(), np.random.default_rng(seed)
    for number in range(count):
        for participant in ("inventory", "payment"):
            bad = random.random() < (share if participant == "payment" else 0.05)
            data: dict[str, Any] = {
                "saga_type": "order", "step": f"do_{participant}", "participant": participant, "attempt": 1,
                "status": "timed_out" if bad else "completed",
            }  # fmt: skip
            saga = f"{seed}-{number}"
            producer.produce(topic, encode("isthmus.saga.step", data, subject=saga, source="/test"), key=saga)
    producer.flush(10)


def test_a_burst_is_seen_explained_and_recorded_once(topic: str, kafka_bootstrap: str, warehouse_url: str) -> None:
    kafka, warehouse = KafkaResource(bootstrap=kafka_bootstrap), WarehouseResource(url=warehouse_url)
    migrate(warehouse)
    instance, settings = dg.DagsterInstance.ephemeral(), Settings(burst_poll_seconds=0.0)

    def tick(cursor: str | None) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        return sensors.bursts.evaluate(context, kafka, warehouse, settings=settings)

    send(kafka, topic, 600, 0.05, seed=1)
    usual = tick(None)
    assert not usual.run_requests
    send(kafka, topic, 120, 0.8, seed=2)
    [wanted] = tick(usual.cursor).run_requests or []
    for _ in range(2):  # a run that is tried again writes the same incident
        result = dg.materialize(
            [saga_bursts], resources={"kafka": kafka, "warehouse": warehouse}, run_config=wanted.run_config
        )
    [check] = result.get_asset_check_evaluations()
    assert check.passed
    rows = warehouse.query_rows(
        "SELECT * FROM ops.incidents FINAL WHERE incident_id = {id:String}", {"id": str(wanted.run_key)}
    )
    [row] = rows
    assert (row["kind"], row["subject"]) == ("saga_burst", "payment")
    assert "do_payment at payment goes wrong in" in row["summary"]
    assert "timed_out" in row["details"]


def test_without_a_burst_to_explain_the_newest_records_are_looked_at(
    topic: str, kafka_bootstrap: str, warehouse_url: str
) -> None:
    kafka, warehouse = KafkaResource(bootstrap=kafka_bootstrap), WarehouseResource(url=warehouse_url)
    migrate(warehouse)
    send(kafka, topic, 100, 0.05, seed=3)
    result = dg.materialize([saga_bursts], resources={"kafka": kafka, "warehouse": warehouse})
    assert result.success
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
