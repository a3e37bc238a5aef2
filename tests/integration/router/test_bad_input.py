"""Bad input: where each kind ends, and what the person sees. The table in docs/architecture/router.md says the same."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import KafkaException, Producer

from events.catalogue import DEAD_LETTER, INGRESS, TOPICS
from events.codec import decode, encode
from events.fields import keyed_hash
from services.router.dead_letter import PART_BYTES, DeadLetter, original
from tests.integration.router.bus import PII_KEY, Reader, Record, Router, producer, router

STEP = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1, "status": "completed"}
ENVELOPE, STEP_1 = "urn:isthmus:envelope", "urn:isthmus:isthmus.saga.step:1"
SECRET = "ada.lovelace@example.org"


@dataclass(frozen=True)
class Bus:
    bootstrap: str
    producer: Producer
    reader: Reader
    router: Router


@pytest.fixture(scope="module")
def bus(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with router(kafka_bootstrap, tmp_path_factory.mktemp("router")) as process:
        reader = Reader(kafka_bootstrap)
        yield Bus(kafka_bootstrap, producer(kafka_bootstrap), reader, process)
        reader.close()


def good(key: str, **attributes: Any) -> bytes:
    event = orjson.loads(encode("isthmus.saga.step", STEP, subject=key, source="/test", id=key))
    return orjson.dumps({**event, **attributes})


def send(bus: Bus, value: bytes | None, key: str, headers: list[tuple[str, Any]] | None = None) -> list[Record]:
    """Send a record and a good event after it under the same key; return what came of the first."""
    bus.producer.produce(INGRESS, value, key, headers=headers)
    bus.producer.produce(INGRESS, good(key + "/next"), key + "/next")
    bus.producer.flush(10)
    bus.reader.with_key(f"{key}/next".encode())
    return bus.reader.with_key(key.encode())


def ahead(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


CASES = [
    ("malformed JSON", b'{"specversion":"1.0","id":', "malformed-json", "", "not JSON"),
    ("not UTF-8", b'{"id":"\xff"}', "malformed-json", "", "not JSON"),
    ("no object", b"[1,2]", "malformed-json", "", "a JSON array where an object was expected"),
    ("no value", None, "empty", "", "the record has no value"),
    ("wrong type of an attribute", {"id": 7}, "invalid-envelope", f"{ENVELOPE}#/properties/id/type", "/id: "),
    ("missing attribute", {"subject": None}, "invalid-envelope", f"{ENVELOPE}#/properties/subject/type", "/subject: "),
    (
        "wrong type in the payload",
        {"data": {**STEP, "attempt": SECRET}},
        "invalid-data",
        f"{STEP_1}#/properties/attempt/type",
        'not of type "integer"',
    ),
    (
        "wrong value in the payload",
        {"data": {**STEP, "status": SECRET}},
        "invalid-data",
        f"{STEP_1}#/properties/status/enum",
        "/data/status: ",
    ),
    (
        "undeclared field",
        {"data": {**STEP, "iban": SECRET}},
        "invalid-data",
        f"{STEP_1}#/additionalProperties",
        "'iban'",
    ),
    (
        "unknown event type",
        {"type": "isthmus.saga.stop"},
        "unknown-type",
        ENVELOPE,
        "the catalogue has no such event type",
    ),
    (
        "unknown schema version",
        {"dataschema": "urn:isthmus:isthmus.saga.step:9"},
        "unknown-version",
        ENVELOPE,
        "it has 1",
    ),
    ("1970", {"time": "1970-01-01T00:00:00Z"}, "time-before-1990", "", "a clock that was never set"),
    ("future", {"time": ahead(2)}, "time-in-future", "", "more than an hour after the broker received it"),
    (
        "no such day",
        {"time": "2026-02-30T00:00:00Z"},
        "invalid-envelope",
        f"{ENVELOPE}#/properties/time/format",
        "/time: ",
    ),
    (
        "binary CloudEvent without envelope",
        orjson.dumps(STEP),
        "invalid-envelope",
        f"{ENVELOPE}#/required",
        "required property",
    ),
]


@pytest.mark.parametrize(
    ("value", "reason", "schema_path", "detail"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_bad_record_ends_as_a_dead_letter_with_its_reason(
    bus: Bus, value: bytes | dict[str, Any] | None, reason: str, schema_path: str, detail: str
) -> None:
    key = f"bad-{secrets.token_hex(4)}"
    sent = good(key, **value) if isinstance(value, dict) else value
    headers = [("traceparent", b"00-1"), ("traceparent", b"00-2"), ("empty", None)]
    (letter,) = send(bus, sent, key, headers)
    assert (letter.topic, letter.value) == (DEAD_LETTER, sent)
    assert letter.headers[:3] == headers
    assert letter.header("isthmus-reason") == reason
    assert letter.header("isthmus-schema-path") == schema_path
    assert detail in letter.header("isthmus-detail")
    assert letter.header("isthmus-source-topic") == INGRESS
    assert letter.header("isthmus-source-partition").isdigit()
    assert letter.header("isthmus-source-offset").isdigit()
    assert SECRET not in "".join(letter.header(name) for name, _ in letter.headers[3:])
    assert original([DeadLetter(letter.key, letter.value, letter.headers)]) == (key.encode(), sent, headers)


def test_what_the_person_sees(bus: Bus) -> None:
    key = f"seen-{secrets.token_hex(4)}"
    send(bus, good(key, data={**STEP, "attempt": SECRET}), key)
    assert 'isthmus_router_refused_total{reason="invalid-data"}' in bus.router.get("/metrics")
    log = bus.router.log.read_text()
    assert "refused isthmus.ingress/" in log
    assert SECRET not in log
    assert PII_KEY not in log


def test_good_event_passes_with_its_headers_and_confluents_framing_is_stripped(bus: Bus) -> None:
    key = f"good-{secrets.token_hex(4)}"
    headers = [("traceparent", b"00-1"), ("empty", None)]
    (record,) = send(bus, b"\x00\x00\x00\x00\x2a" + good(key), key, headers)
    assert (record.topic, record.value, record.headers) == ("isthmus.sagas", good_like(record, key), headers)


def good_like(record: Record, key: str) -> bytes:
    """The bytes of ``good(key)`` with the time that stands in ``record``."""
    return good(key, time=orjson.loads(record.value or b"")["time"])


def test_personal_fields_do_not_pass(bus: Bus) -> None:
    key = f"pii-{secrets.token_hex(4)}"
    data = {"saga_type": "order", "customer": SECRET, "customer_email": SECRET}
    (record,) = send(bus, encode("isthmus.saga.started", data, subject=key, source="/test"), key)
    assert decode(record.value or b"").data == {"saga_type": "order", "customer": keyed_hash(SECRET, PII_KEY.encode())}


def test_ten_megabytes_are_refused_by_the_client_with_its_defaults(bus: Bus) -> None:
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        bus.producer.produce(INGRESS, b"x" * 10_000_000, "large")


def test_ten_megabytes_are_refused_by_the_broker_with_a_clear_error(bus: Bus) -> None:
    errors: list[Any] = []
    large = producer(bus.bootstrap, **{"message.max.bytes": 20_000_000})
    large.produce(INGRESS, os.urandom(10_000_000), "large", on_delivery=lambda error, _: errors.append(error))
    large.flush(30)
    assert [error.name() for error in errors] == ["MSG_SIZE_TOO_LARGE"]
    assert "too large" in errors[0].str()


def test_three_megabytes_end_as_one_dead_letter(bus: Bus) -> None:
    key = f"large-{secrets.token_hex(4)}"
    sent = good(key, data={**STEP, "error": "x" * 3_000_000})
    assert len(sent) < int(TOPICS[INGRESS]["max.message.bytes"])
    large = producer(bus.bootstrap, **{"message.max.bytes": 20_000_000})
    large.produce(INGRESS, sent, key)
    assert large.flush(30) == 0
    (letter,) = bus.reader.with_key(key.encode())
    assert (letter.topic, letter.value) == (DEAD_LETTER, sent)
    assert letter.header("isthmus-reason") == "too-large"
    assert letter.header("isthmus-detail").endswith("bytes of key, value and headers; at most 1,000,000 are routed")


def test_ten_megabytes_that_compression_brought_past_the_broker_end_as_parts(bus: Bus) -> None:
    key = f"parts-{secrets.token_hex(4)}"
    sent = good(key, data={**STEP, "error": "x" * 10_000_000})
    large = producer(bus.bootstrap, **{"message.max.bytes": 20_000_000, "compression.type": "lz4"})
    large.produce(INGRESS, sent, key, headers=[("h", b"v")])
    assert large.flush(30) == 0
    letters = bus.reader.with_key(key.encode(), count=2)
    assert [letter.header("isthmus-part") for letter in letters] == ["1/2", "2/2"]
    assert all(len(letter.value or b"") <= PART_BYTES for letter in letters)
    parts = [DeadLetter(letter.key, letter.value, letter.headers) for letter in letters]
    assert original(parts) == (key.encode(), sent, [("h", b"v")])


class Raw:
    """A header's name as other clients may send it: bytes that are not UTF-8."""

    def encode(self, _encoding: str) -> bytes:
        return b"name-\xff\xfe"


async def send_raw_header(bootstrap: str, value: bytes, key: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as raw:
        batch = raw.create_batch()
        # The builder in Python asks a name to encode itself; the one in C takes strings alone.
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1_000_000)
        batch.append(timestamp=None, key=key, value=value, headers=[("h", b"v"), (Raw(), b"x")])
        batch.close()
        await (await raw.send_batch(batch, INGRESS, partition=0))


def test_a_header_name_that_is_not_utf8_ends_as_a_dead_letter(bus: Bus) -> None:
    # After many good ones: the interpreter then calls the client by a path that overlooks the client's exception.
    for number in range(200):
        bus.producer.produce(INGRESS, good(f"warm-{number}"), "warm", headers=[("h", b"v")])
    bus.producer.flush(10)
    key = f"header-{secrets.token_hex(4)}"
    asyncio.run(send_raw_header(bus.bootstrap, good(key), key.encode()))
    (letter,) = bus.reader.with_key(key.encode())
    assert (letter.topic, letter.value) == (DEAD_LETTER, good_like(letter, key))
    assert letter.header("isthmus-reason") == "unreadable-headers"
    assert letter.headers[0][0] == "isthmus-reason"
    assert bus.router.process.poll() is None


def test_an_event_of_just_the_routable_size_is_routed(bus: Bus) -> None:
    key = f"full-{secrets.token_hex(4)}"
    change = {"store": "s", "table": "t", "primary_key": [key], "operation": "insert", "before": None, "position": "1"}
    spare = 1_000_000 - len(encode("isthmus.data.change", {**change, "after": {"x": ""}}, source="/test", id=key))
    routed_key = f"s/t/{key}"
    value = encode(
        "isthmus.data.change", {**change, "after": {"x": "x" * (spare - len(routed_key))}}, source="/test", id=key
    )
    large = producer(bus.bootstrap, **{"message.max.bytes": 20_000_000})
    large.produce(INGRESS, value, routed_key)
    assert large.flush(10) == 0
    (record,) = bus.reader.with_key(routed_key.encode())
    assert (record.topic, record.value) == ("isthmus.changes", value)
