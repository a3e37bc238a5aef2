"""The same on a real schema registry (Apicurio), through its Confluent interface: it says what we think it says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from events import publication
from events.codec import encode
from events.publication import Publication, publications
from events.refusals import SchemaUnavailable
from services.router.registry import RegistrySchemas
from services.router.registry import publish as registry_publish
from services.router.registry.cache import RegistryCache
from services.router.registry.client import NotThere, RegistryClient, Rejected
from services.router.registry.publish import publish
from services.router.registry.source import RegistrySource
from services.router.routing import Refused, Routed, route

pytestmark = pytest.mark.services

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
STEP = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1, "status": "completed"}


@pytest.fixture
def client() -> Iterator[RegistryClient]:
    url = os.environ.get("ISTHMUS_TEST_REGISTRY")
    if not url:
        pytest.skip("ISTHMUS_TEST_REGISTRY is not set: run `python -m tests.services pytest …`")
    made = RegistryClient(url)
    yield made
    made.close()


@pytest.fixture
def fate(client: RegistryClient, tmp_path: Path) -> Callable[[bytes], Routed | Refused]:
    schemas = RegistrySchemas(RegistrySource(client, RegistryCache(tmp_path, client.url)))
    return lambda value: route(value, b"k", None, NOW, b"key", schemas=schemas)


def framed(number: int, value: bytes) -> bytes:
    return b"\0" + number.to_bytes(4) + value


def body(schema: Any, **more: Any) -> dict[str, Any]:
    return {"schemaType": "JSON", "schema": orjson.dumps(schema).decode(), **more}


def thing(kind: str, **data: Any) -> bytes:
    event = orjson.loads(encode("isthmus.saga.step", STEP, subject="s", source="/t", id="1", time=NOW))
    del event["dataschema"]
    return orjson.dumps({**event, "type": kind, "data": data})


def test_publishing_twice_changes_nothing_and_the_ids_are_good(
    client: RegistryClient, fate: Callable[[bytes], Routed | Refused]
) -> None:
    first = list(publish(client))
    assert {one.outcome for one in first} <= {"registered", "unchanged"}
    again = list(publish(client))
    assert [(one.subject, one.outcome, one.id) for one in again] == [
        (one.subject, "unchanged", one.id) for one in first
    ]
    ids = {one.subject: one.id for one in first}
    assert list(ids) == [one.subject for one in publications()]
    value = encode("isthmus.saga.step", STEP, subject="s", source="/t", time=NOW)
    number = ids["isthmus.saga.step.v1"]
    assert number is not None
    result = fate(framed(number, value))
    assert isinstance(result, Routed)
    assert result.value == value
    decision = ids["isthmus.action.v1"]
    assert decision is not None
    assert client.by_id(decision).references, "a reference comes back as it went"


def test_a_version_may_grow_and_not_shrink(
    client: RegistryClient, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, name = f"{unique('test.grows')}.v1", "isthmus.saga.step"
    document = publication.whole(name, 1)

    def outcome(data: dict[str, Any], *, check_only: bool = False) -> str:
        changed = {**document, "properties": {**document["properties"], "data": data}}
        one = Publication(subject, changed, {}, name, 1)
        monkeypatch.setattr(registry_publish, "publications", lambda: iter([one]))
        (done,) = publish(client, check_only=check_only)
        return done.outcome

    data = document["properties"]["data"]
    grown = {**data, "properties": {**data["properties"], "queue": {"type": "string"}}}
    shrunk = {**data, "required": [*data["required"], "worker"]}
    assert outcome(data, check_only=True) == "would register"
    assert outcome(data) == "registered"
    assert outcome(grown, check_only=True) == "would register"
    assert outcome(grown) == "registered"
    assert outcome(grown) == "unchanged"
    assert outcome(shrunk) == "incompatible"


def test_a_type_that_only_the_registry_knows(
    client: RegistryClient, unique: Callable[[str], str], fate: Callable[[bytes], Routed | Refused]
) -> None:
    kind = unique("com.acme.order")
    total = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "number", "minimum": 0}
    client.register(f"{kind}.total", body(total))
    data = {
        "type": "object",
        "properties": {"total": {"$ref": "total.json"}, "who": {"type": "string", "x-pii": "hash"}},
    }
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "x-topic": "acme.orders",
              "properties": {"type": {"const": kind}, "data": data}}  # fmt: skip
    references = [{"name": "total.json", "subject": f"{kind}.total", "version": 1}]
    number = client.register(kind, body(schema, references=references))
    for value in (framed(number, thing(kind, total=3, who="Ada")), thing(kind, total=3, who="Ada")):
        result = fate(value)
        assert isinstance(result, Routed)
        assert (result.type, result.topic) == (kind, "acme.orders")
        assert b"Ada" not in result.value
    refused = fate(framed(number, thing(kind, total=-3)))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.instance_path) == ("invalid-data", "/data/total")
    assert client.by_id(number).subjects == {kind: 1}


def test_what_does_not_exist_and_what_cannot_be_used(
    client: RegistryClient, unique: Callable[[str], str], fate: Callable[[bytes], Routed | Refused]
) -> None:
    for value, reason in (
        (framed(2**31 - 1, thing("x")), "unknown-schema"),
        (framed(0, thing("x")), "unknown-schema"),
        (thing(unique("com.acme.none")), "unknown-type"),
    ):
        refused = fate(value)
        assert isinstance(refused, Refused)
        assert refused.reason == reason
    avro = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "string"}]}
    number = client.register(unique("avro"), {"schema": orjson.dumps(avro).decode()})
    refused = fate(framed(number, thing("x")))
    assert isinstance(refused, Refused)
    assert refused.reason == "unusable-schema"
    with pytest.raises(Rejected):
        client.register(unique("bad"), {"schemaType": "JSON", "schema": "{not json"})
    with pytest.raises(NotThere):
        client.by_guid("00000000-0000-0000-0000-000000000000")


def test_a_path_that_is_no_registry_refuses_nothing(client: RegistryClient, tmp_path: Path) -> None:
    elsewhere = RegistryClient(client.url.rsplit("/", 2)[0])
    schemas = RegistrySchemas(RegistrySource(elsewhere, RegistryCache(tmp_path, elsewhere.url)))
    with pytest.raises(SchemaUnavailable):
        route(framed(1, thing("x")), b"", None, NOW, b"", schemas=schemas)
    schemas.close()
