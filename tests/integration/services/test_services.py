"""Each real service serves what the platform uses it for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.services.kafka import KafkaServer

pytestmark = pytest.mark.services


@pytest.fixture
def database(postgres: str, unique: Callable[[str], str]) -> Iterator[str]:
    """A database of this test's own; dropped behind it."""
    name = unique("isthmus").replace("-", "_")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres.rsplit("/", 1)[0] + f"/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_mlflow_keeps_runs_and_versions_in_postgresql(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_MLFLOW_TRACKING_URI", database)
    from mlflow import MlflowClient

    from resources.settings import Settings

    uri = Settings().mlflow_uri()
    assert uri == database
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    run = client.create_run(client.create_experiment("services"))
    client.log_metric(run.info.run_id, "auc", 0.7)
    client.create_registered_model("failure")
    version = client.create_model_version("failure", source=run.info.artifact_uri, run_id=run.info.run_id)
    client.set_registered_model_alias("failure", "champion", version.version)
    # Read back by another client: from the database, not from a cache.
    other = MlflowClient(tracking_uri=uri, registry_uri=uri)
    assert other.get_run(run.info.run_id).data.metrics == {"auc": 0.7}
    assert other.get_model_version_by_alias("failure", "champion").run_id == run.info.run_id


def test_dagster_keeps_runs_in_postgresql(database: str, tmp_path: Path) -> None:
    pytest.importorskip("dagster_postgres", reason="needs the extra `production` (uv sync --extra production)")
    # The driver is named: SQLAlchemy 2.1 else takes psycopg 3, whose NOTIFY has no parameters, and every run fails.
    url = database.replace("postgresql://", "postgresql+psycopg2://")
    (tmp_path / "dagster.yaml").write_text(
        f"""
        storage:
          postgres:
            postgres_url: "{url}"
        """
    )
    program = """
import dagster as dg

@dg.asset
def one() -> int:
    return 1

with dg.DagsterInstance.get() as instance:
    result = dg.materialize([one], instance=instance)
    assert result.success
    print(result.run_id)
"""
    env = {"DAGSTER_HOME": str(tmp_path), "PATH": "", "DAGSTER_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT status FROM runs WHERE run_id = %s", [done.stdout.strip()]).fetchone()
    assert row == ("SUCCESS",)


def test_redis_keeps_and_expires(redis_url: str, unique: Callable[[str], str]) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        key = unique("policy")
        client.set(key, b"retry=3", px=60_000)
        assert client.get(key) == b"retry=3"
        assert 0 < client.pttl(key) <= 60_000
        client.delete(key)


def test_mongodb_protocol_stores_and_queries(mongo: str, unique: Callable[[str], str]) -> None:
    import pymongo

    with pymongo.MongoClient(mongo, serverSelectionTimeoutMS=10_000) as client:
        orders = client[unique("shop")]["orders"]
        orders.insert_many([{"_id": number, "amount": number * 10} for number in range(5)])
        assert [one["_id"] for one in orders.find({"amount": {"$gte": 30}}).sort("_id")] == [3, 4]
        orders.update_one({"_id": 0}, {"$set": {"status": "paid"}})
        assert orders.find_one({"_id": 0}) == {"_id": 0, "amount": 0, "status": "paid"}
        client.drop_database(orders.database.name)


def test_kafka_survives_a_kill_with_what_it_acknowledged(kafka: str, unique: Callable[[str], str]) -> None:
    server = KafkaServer.attached()
    if server is None:
        pytest.skip("Kafka was given by address: it is not ours to kill")
    topic = unique("kill")
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    failures = []
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True, "log_level": 0})
    for number in range(1000):
        producer.produce(topic, str(number).encode(), on_delivery=lambda error, _: error and failures.append(error))
        if number == 500:
            producer.poll(0)
            server.kill()
            assert not server.running()
            server.start()
    assert producer.flush(60) == 0
    assert not failures
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": kafka, "group.id": unique("g"), "log_level": 0})
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30) == (0, 1000)
    consumer.close()
