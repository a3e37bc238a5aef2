"""The router's process while a schema cannot be had: that partition waits, in order, and the others go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import orjson
import pytest

from events.catalogue import DEAD_LETTER, INGRESS, SAGAS
from events.codec import decode, encode
from resources.kafka import KafkaResource
from tests.integration.router import registry_server as server
from tests.integration.router.bus import STEP, Reader, Router, producer, router
from tests.integration.router.registry_server import Registry, serving


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as made:
        yield made


def schema(kind: str, topic: str) -> dict[str, Any]:
    return {"properties": {"type": {"const": kind}, "data": {"type": "object"}}, "x-topic": topic}


def event(kind: str, number: int) -> bytes:
    document = orjson.loads(encode("isthmus.saga.step", STEP, subject="s", source="/t", id=str(number)))
    del document["dataschema"]
    return orjson.dumps({**document, "type": kind, "data": {"number": number}})


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def step(name: str, number: int) -> bytes:
    return encode("isthmus.saga.step", STEP, subject=name, source=f"/{name}", id=str(number))


def steps_of(reader: Reader, name: str) -> list[int]:
    reader.poll()
    return [int(decode(record.value or b"").id) for record in reader.records if record.key == name.encode()]


@pytest.mark.parametrize("transactional", ["false", pytest.param("true", marks=pytest.mark.soak)])
def test_one_partition_waits_and_nothing_is_lost_doubled_or_out_of_order(
    bootstrap: str, tmp_path: Path, registry: Registry, unique: Callable[[str], str], transactional: str
) -> None:
    kind, topic, behind, beside = unique("com.acme.order"), unique("acme"), unique("behind"), unique("beside")
    registry.add(kind, schema(kind, topic))
    registry.fault = server.status(500)
    value = b"\0" + (1).to_bytes(4) + event(kind, 7)
    settings = {"schema_registry_url": registry.url, "router_transactional": transactional}
    kafka = KafkaResource(bootstrap=bootstrap)
    kafka.ensure_topics([topic])
    until(lambda: topic in kafka.topics([topic]))  # Kafka tells its clients a moment later
    reader, to = Reader(bootstrap, (SAGAS, DEAD_LETTER, topic)), producer(bootstrap)
    reader.poll()

    def send(partition: int, *values: bytes, key: str) -> None:
        for one in values:
            to.produce(INGRESS, one, key, partition=partition)
        assert to.flush(10) == 0

    def waits(life: Router) -> bool:
        return "waits" in life.log.read_text()

    with router(bootstrap, tmp_path, **settings) as life:
        send(0, step(behind, 0), step(behind, 1), value, step(behind, 2), step(behind, 3), key=behind)
        until(lambda: waits(life))
        send(1, *(step(beside, number) for number in range(4)), key=beside)
        until(lambda: len(steps_of(reader, beside)) == 4)
        assert steps_of(reader, behind) == [0, 1], "what stands before it passed, what stands behind it waits"
        send(0, step(behind, 4), key=behind)
        asked = registry.requests["GET /schemas/ids/1"]
        until(lambda: registry.requests["GET /schemas/ids/1"] > asked)
        until(lambda: life.metric("waiting_partitions") == 1)
        assert life.ready()
    assert life.process.returncode == 0, "a wait does not keep it from stopping"
    with router(bootstrap, tmp_path, **settings):
        send(1, step(beside, 4), key=beside)
        until(lambda: len(steps_of(reader, beside)) == 5)
        assert steps_of(reader, behind) == [0, 1]
        registry.fault = None
        until(lambda: len(steps_of(reader, behind)) == 5)
    reader.poll()
    assert steps_of(reader, behind) == [0, 1, 2, 3, 4]
    assert steps_of(reader, beside) == [0, 1, 2, 3, 4]
    (routed,) = [record for record in reader.records if record.topic == topic]
    assert (routed.key, orjson.loads(routed.value or b"")["data"]) == (b"s", {"number": 7})
    own = {behind.encode(), beside.encode()}
    assert not [record for record in reader.records if record.topic == DEAD_LETTER and record.key in own]
    reader.close()


def test_ingestion_by_http_knows_the_registrys_types(
    bootstrap: str, tmp_path: Path, registry: Registry, unique: Callable[[str], str]
) -> None:
    kind, topic = unique("com.acme.order"), unique("acme")
    registry.add(kind, schema(kind, topic))
    settings = {"schema_registry_url": registry.url, "ingest_tokens": json.dumps({"t": "a token of the tests"})}

    def post(life: Router, value: bytes) -> int:
        headers = {"Content-Type": "application/cloudevents+json", "Authorization": "Bearer a token of the tests"}
        try:
            with urlopen(Request(f"{life.address}/v1/events", value, headers), timeout=20) as answer:
                return int(answer.status)
        except OSError as error:
            return int(getattr(error, "code", 0))

    with router(bootstrap, tmp_path, **settings) as life:
        assert post(life, event(kind, 1)) == 202
        reader = Reader(bootstrap, (topic,))
        reader.with_key(b"s")
        reader.close()
        assert post(life, event(unique("com.acme.none"), 1)) == 422
        registry.fault = server.status(500)
        assert post(life, event(unique("com.acme.other"), 1)) == 503
        assert post(life, step("still", 1)) == 202
