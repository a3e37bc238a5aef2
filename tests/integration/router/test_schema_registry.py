"""A schema registry: what is asked, what is believed, and that nobody loses an event because it does not answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from cli.main import app
from events.codec import encode
from events.compiled import CATALOGUE, compiled_types
from events.fields import keyed_hash
from events.publication import publications, whole
from events.refusals import SchemaUnavailable
from events.schemas import envelope
from resources.errors import KafkaUnavailable
from resources.settings import Settings, get_settings
from services.router.letters.repair import verdict
from services.router.registry import HEADER, RegistrySchemas, schemas_of
from services.router.registry.cache import RegistryCache
from services.router.registry.client import MAX_SCHEMA_BYTES, NoAnswer, RegistryClient, RegistryError
from services.router.registry.source import BELIEVED_SECONDS, LONGEST_DELAY, RegistrySource
from services.router.routing import Refused, Routed, route
from tests.integration.router import registry_server as server
from tests.integration.router.registry_server import Registry, serving

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)
STEP = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1, "status": "completed"}
ORDER = "com.acme.order"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A registry, and a router's view of it."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.registry, self.folder, self.clock = registry, folder, Clock()
        self.topics: list[str] = []
        self.restart()

    def restart(self, read_seconds: float = 20.0) -> None:
        client = RegistryClient(self.registry.url, read_seconds=read_seconds)
        self.source = RegistrySource(client, RegistryCache(self.folder, client.url), clock=self.clock)
        self.schemas = RegistrySchemas(self.source, make_topic=self.topics.append)

    def fate(self, value: bytes, headers: list[tuple[str, bytes | None]] | None = None) -> Routed | Refused:
        return route(value, b"k", headers, NOW, b"key", schemas=self.schemas)

    def routed(self, value: bytes, headers: list[tuple[str, bytes | None]] | None = None) -> Routed:
        result = self.fate(value, headers)
        assert isinstance(result, Routed), result
        return result

    def refused(self, value: bytes, headers: list[tuple[str, bytes | None]] | None = None) -> Refused:
        result = self.fate(value, headers)
        assert isinstance(result, Refused), result
        return result

    def asked(self, path: str) -> int:
        return self.registry.requests[f"GET {path}"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serving() as registry:
        made = World(registry, tmp_path / "cache")
        yield made
        made.schemas.close()


def order(data: dict[str, Any] | None = None, **attributes: Any) -> bytes:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/acme",
        "type": ORDER,
        "subject": "o-1",
        "time": "2026-05-04T08:00:00Z",
        "data": {"total": 3, **(data or {})},
    }
    return orjson.dumps({**event, **attributes})


def order_schema(**more: Any) -> dict[str, Any]:
    """As a producer with a library of its own would register it: draft 7, the whole event, references inside."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": ORDER,
        "type": "object",
        "required": ["type", "data"],
        "definitions": {"name": {"type": "string", "x-pii": "hash"}},
        "properties": {
            "type": {"const": ORDER},
            "data": {
                "type": "object",
                "required": ["total"],
                "properties": {"total": {"type": "number"}, "customer": {"$ref": "#/definitions/name"}},
                "additionalProperties": False,
            },
        },
        "x-topic": "acme.orders",
        **more,
    }


def framed(number: int, value: bytes) -> bytes:
    return b"\0" + number.to_bytes(4) + value


# What is asked and what comes of it


def test_a_framed_event_is_checked_by_the_schema_of_its_id_once_fetched(world: World) -> None:
    number = world.registry.add(ORDER, order_schema())
    for _ in range(3):
        result = world.routed(framed(number, order({"customer": "Ada"})))
    assert (result.type, result.topic, result.key) == (ORDER, "acme.orders", b"o-1")
    assert orjson.loads(result.value)["data"] == {"total": 3, "customer": keyed_hash("Ada", b"key")}
    assert world.asked(f"/schemas/ids/{number}") == 1
    assert world.topics == ["acme.orders"], "made once, before anything is written to it"
    plain = world.routed(framed(number, order()))
    assert (plain.value, plain.rewritten) == (order(), False)


def test_a_header_names_the_schema_by_guid_or_by_id_and_goes_first(world: World) -> None:
    number = world.registry.add(ORDER, order_schema())
    guid = b"\1" + UUID(world.registry.guid(number)).bytes
    assert world.routed(order(), [(HEADER, guid)]).topic == "acme.orders"
    assert world.routed(order(), [(HEADER, b"\0" + number.to_bytes(4))]).topic == "acme.orders"
    assert world.routed(framed(999, order()), [(HEADER, b"bad"), (HEADER, guid)]).topic == "acme.orders"
    assert world.asked("/schemas/ids/999") == 0
    for content in (None, b"", b"\1short", b"\2" + bytes(16), b"\0" * 17):
        refused = world.refused(order(), [(HEADER, content)])
        assert (refused.reason, HEADER in refused.detail) == ("unknown-schema", True)
    other = world.refused(order(), [(HEADER, b"\1" + bytes(16))])
    assert other.reason == "unknown-schema"


def test_an_unframed_event_of_a_strange_type_is_checked_by_its_subjects_latest_version(world: World) -> None:
    world.registry.add(ORDER, {**order_schema(), "required": ["type", "data", "region"]})
    world.registry.add(ORDER, order_schema())
    assert world.routed(order()).topic == "acme.orders"
    wrong = world.refused(order({"total": "much"}))
    assert (wrong.reason, wrong.instance_path) == ("invalid-data", "/data/total")
    assert wrong.schema_path == f"type:{ORDER}#/properties/data/properties/total/type"
    assert "much" not in wrong.detail


def test_an_unframed_event_of_the_catalogue_costs_the_registry_nothing(world: World) -> None:
    value = encode("isthmus.saga.step", STEP, subject="s", source="/t", time=NOW)
    assert world.routed(value).value is value
    assert world.refused(order(type="isthmus.saga.stop\n")).reason == "unknown-type"
    assert world.refused(order(type="a/b")).reason == "unknown-type"
    assert not world.registry.requests


def test_our_envelope_holds_for_a_strange_type_too_save_for_its_dataschema(world: World) -> None:
    number = world.registry.add(ORDER, order_schema())
    assert world.routed(framed(number, order(dataschema="https://acme.example/order"))).topic == "acme.orders"
    for wrong in ({"subject": ""}, {"time": "yesterday"}, {"id": 7}, {"extension": {"a": 1}}):
        refused = world.refused(framed(number, order(**wrong)))
        assert refused.reason == "invalid-envelope"
    assert world.refused(framed(number, order(time="1970-01-01T00:00:00Z"))).reason == "time-before-1990"


def test_a_type_without_topic_has_no_route(world: World) -> None:
    schema = order_schema()
    del schema["x-topic"]
    assert world.refused(framed(world.registry.add(ORDER, schema), order())).reason == "no-route"


def test_the_subject_says_the_type_where_the_schema_does_not(world: World) -> None:
    schema = order_schema()
    del schema["properties"]["type"]
    number = world.registry.add(ORDER, schema)
    assert world.routed(framed(number, order())).type == ORDER
    assert world.routed(order()).type == ORDER
    assert world.refused(framed(number, order(type="com.acme.other"))).reason == "unusable-schema"


def test_references_are_resolved_and_fetched_once(world: World) -> None:
    world.registry.add("money", {"type": "number", "minimum": 0})
    world.registry.add("body", {"type": "object", "properties": {"total": {"$ref": "urn:money"},
                                                                  "name": {"type": "string", "x-pii": "mask"}}},
                       references=[{"name": "urn:money", "subject": "money", "version": 1}])  # fmt: skip
    schema = {"$id": "https://acme.example/order.json", "properties": {"type": {"const": ORDER},
              "data": {"$ref": "body.json"}}, "x-topic": "acme.orders"}  # fmt: skip
    references = [{"name": "body.json", "subject": "body", "version": 1}]
    number = world.registry.add(ORDER, schema, references=references)
    assert orjson.loads(world.routed(framed(number, order({"name": "Ada"}))).value)["data"]["name"] == "****"
    assert world.refused(framed(number, order({"total": -1}))).reason == "invalid-data"
    assert world.asked("/subjects/money/versions/1") == 1


# Types of the catalogue under a schema id


def test_what_we_published_is_the_catalogue_itself(world: World) -> None:
    ids = {}
    for one in publications():
        references = [{"name": uri, "subject": subject, "version": 1} for uri, subject in one.references.items()]
        ids[one.subject] = world.registry.register(
            one.subject, {"schema": one.text, "schemaType": "JSON", "references": references}
        )
    value = encode("isthmus.saga.step", STEP, subject="s", source="/t", time=NOW)
    assert world.routed(framed(ids["isthmus.saga.step.v1"], value)).value == value
    action = {"decision_id": "0190163d-8694-739b-aea5-966c26f8ad91", "kind": "saga_policy", "status": "applied",
              "actor": "o", "action": {"replicas": 1}}  # fmt: skip
    event = encode("isthmus.action", action, subject="s", source="/t", time=NOW)
    assert world.refused(framed(ids["isthmus.action.v1"], event)).reason == "invalid-data"
    health = {"component_type": "d", "readings": {"a": 1}, "age": 2, "age_unit": "hours"}
    old = encode("isthmus.component.health", health, subject="s", source="/t", time=NOW, version=1)
    first = ids["isthmus.component.health.v1"]
    silent = old.replace(b'"dataschema":"urn:isthmus:isthmus.component.health:1",', b"")
    for event in (old, silent):
        assert orjson.loads(world.routed(framed(first, event)).value)["data"]["usage"] == {"hours": 2}
    other = world.refused(framed(first, old.replace(b"health:1", b"health:2")))
    assert (other.reason, other.instance_path) == ("unknown-version", "/dataschema")
    assert world.refused(framed(first, value)).reason == "unusable-schema"


def test_a_strange_schema_does_not_loosen_the_catalogue(world: World) -> None:
    """Domain topics keep their promise: a schema id adds conditions, and never takes a field rule away."""
    loose = {"properties": {"type": {"const": "isthmus.saga.started"}, "tenant": {"maxLength": 3}}}
    number = world.registry.add("isthmus.saga.started", loose)

    def started(**data: Any) -> bytes:
        value = encode("isthmus.saga.started", {"saga_type": "o", **data}, subject="s", source="/t", time=NOW)
        return framed(number, value)

    assert b"Ada" not in world.routed(started(customer="Ada")).value
    refused = world.refused(started(iban="x"))
    assert (refused.reason, refused.schema_path) == (
        "invalid-data",
        "urn:isthmus:isthmus.saga.started:1#/additionalProperties",
    )
    tenant = world.refused(started().replace(b'"data":', b'"tenant":"long","data":'))
    assert (tenant.reason, tenant.instance_path) == ("invalid-envelope", "/tenant")


# Drift: what can never be used


def pii(path: str, schema: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"type": "object", path: schema}
    return {"properties": {"type": {"const": ORDER}, "data": data}, "x-topic": "acme.orders"}


@pytest.mark.parametrize(
    ("schema", "kind", "detail"),
    [
        ('"record"', "AVRO", "type AVRO"),
        ('syntax = "proto3";', "PROTOBUF", "type PROTOBUF"),
        ("{not json", "JSON", "not JSON"),
        ("true", "JSON", "no object"),
        ({"type": 5}, "JSON", "cannot be compiled"),
        ({"properties": {"type": {"pattern": "("}}}, "JSON", "cannot be compiled"),
        ({"$schema": "http://127.0.0.1:1/meta"}, "JSON", "cannot be compiled"),
        ({"properties": {"data": {"$ref": "http://127.0.0.1:1/remote.json"}}}, "JSON", "cannot be compiled"),
        ({"properties": {"data": {"$ref": "file:///etc/passwd"}}}, "JSON", "cannot be compiled"),
        (order_schema(**{"x-topic": "isthmus.ingress"}), "JSON", "x-topic"),
        (order_schema(**{"x-topic": "a topic"}), "JSON", "x-topic"),
        (pii("properties", {"n": {"type": "number", "x-pii": "hash"}}), "JSON", "cannot be honoured"),
        (pii("properties", {"n": {"type": "string", "x-pii": "erase"}}), "JSON", "cannot be honoured"),
        (pii("patternProperties", {"^n": {"type": "string", "x-pii": "hash"}}), "JSON", "no field rule reaches"),
        (pii("prefixItems", [{"type": "string", "x-pii": "hash"}]), "JSON", "no field rule reaches"),
        (pii("dependentSchemas", {"a": {"properties": {"b": {"x-pii": "drop"}}}}), "JSON", "no field rule reaches"),
        ({"properties": {"subject": {"type": "string", "x-pii": "hash"}}}, "JSON", "outside data"),
        (
            {"$defs": {"n": {"properties": {"a": {"type": "string", "x-pii": "hash"}, "b": {"$ref": "#/$defs/n"}}}},
             "properties": {"type": {"const": ORDER}, "data": {"$ref": "#/$defs/n"}}},
            "JSON",
            "refers to itself",
        ),
    ],
)  # fmt: skip
def test_a_schema_that_can_never_be_used_is_a_dead_letter_with_the_reason(
    world: World, schema: Any, kind: str, detail: str
) -> None:
    number = world.registry.add(ORDER, schema, kind=kind)
    for _ in range(2):
        refused = world.refused(framed(number, order()))
        assert (refused.reason, refused.schema_path) == ("unusable-schema", f"id:{number}")
        assert detail in refused.detail
    assert world.asked(f"/schemas/ids/{number}") == 1
    world.registry.fault = server.status(500)
    world.restart()
    if kind == "JSON":  # kept on disk; of another kind there is nothing to keep
        assert world.refused(framed(number, order())).reason == "unusable-schema"


def test_a_schema_without_type_and_subject_says_nothing(world: World) -> None:
    number = world.registry.add(ORDER, {"type": "object"})
    world.registry.subjects.clear()
    assert "which event type" in world.refused(framed(number, order())).detail


def test_a_huge_schema_and_a_missing_reference_cannot_be_used(world: World) -> None:
    number = world.registry.add(ORDER, order_schema(description="x" * MAX_SCHEMA_BYTES))
    refused = world.refused(framed(number, order()))
    assert (refused.reason, "bytes" in refused.detail) == ("unusable-schema", True)
    gone = [{"name": "a", "subject": "gone", "version": 1}]
    number = world.registry.add("other", order_schema(title="a"), references=gone)
    assert "not in the registry" in world.refused(framed(number, order())).detail
    many = [{"name": f"n{n}", "subject": "s", "version": 1} for n in range(101)]
    world.registry.add("s", {"type": "object"})
    number = world.registry.add("third", order_schema(title="b"), references=many)
    assert "100 schemas" in world.refused(framed(number, order())).detail


def test_an_unusable_latest_version_may_be_mended(world: World) -> None:
    world.registry.add(ORDER, {"type": 5})
    assert world.refused(order()).reason == "unusable-schema"
    world.registry.add(ORDER, order_schema())
    assert world.refused(order()).reason == "unusable-schema"
    world.clock.now += BELIEVED_SECONDS
    assert world.routed(order()).topic == "acme.orders"


# Ids that do not exist


def test_an_unknown_id_is_refused_and_asked_again_after_a_minute_only(world: World) -> None:
    for _ in range(3):
        refused = world.refused(framed(1, order()))
        assert (refused.reason, refused.schema_path) == ("unknown-schema", "id:1")
    assert world.asked("/schemas/ids/1") == 1
    world.registry.add(ORDER, order_schema())
    world.clock.now += BELIEVED_SECONDS
    assert world.routed(framed(1, order())).topic == "acme.orders"


def test_a_dead_letter_can_be_put_back_once_its_schema_is_there(world: World) -> None:
    def answer() -> Routed | Refused:
        return verdict(framed(1, order()), b"k", [], NOW, schemas=world.schemas)

    assert isinstance(answer(), Refused)
    world.registry.add(ORDER, order_schema())
    world.clock.now += BELIEVED_SECONDS
    assert isinstance(answer(), Routed)


@pytest.mark.parametrize("number", [2**32 - 1, 2**31])
def test_an_id_that_no_registry_gives_is_refused_unasked(world: World, number: int) -> None:
    assert world.refused(framed(number, order())).reason == "unknown-schema"
    assert not world.registry.requests


def test_framing_with_garbage_is_malformed_and_asks_nothing(world: World) -> None:
    for value in (b"\0", b"\0\0\0", b"\0\0\0\0\1", b"\0\0\0\0\1{", framed(7, b"\xff\xfe"), framed(7, b"[1]")):
        assert world.refused(value).reason == "malformed-json"
    assert not world.registry.requests
    assert world.refused(framed(7, b"{}")).reason == "invalid-envelope"


def test_an_unknown_type_is_refused_and_may_be_registered_later(world: World) -> None:
    refused = world.refused(order())
    assert (refused.reason, refused.instance_path) == ("unknown-type", "/type")
    world.registry.add(ORDER, order_schema())
    world.clock.now += BELIEVED_SECONDS
    assert world.routed(order()).topic == "acme.orders"


def test_a_registry_that_has_no_guids_is_believed_where_it_is_one(world: World) -> None:
    world.registry.add(ORDER, order_schema())
    world.registry.without.add("/schemas/guids/")
    assert world.refused(order(), [(HEADER, b"\1" + bytes(16))]).reason == "unknown-schema"
    world.registry.without.add("/schemas/types")
    with pytest.raises(SchemaUnavailable):
        world.fate(order(), [(HEADER, b"\1" + bytes(15) + b"x")])


# No answer


FAULTS: dict[str, Callable[[Any], None]] = {
    "500": server.status(500, b'{"error_code":50001,"message":"store"}', server.CONTENT),
    "503 of a proxy": server.status(503, b"<html>"),
    "429": server.status(429),
    "401": server.status(401, b'{"error_code":40101,"message":"no"}', server.CONTENT),
    "403": server.status(403),
    "404 of a proxy": server.status(404, b"<html>nothing here"),
    "404 in JSON, not of a registry": server.status(404, b'{"detail":"Not Found"}', "application/json"),
    "301": server.status(301),
    "a page": server.status(200, b"<html>welcome", "text/html"),
    "another object": server.status(200, b'{"hello":1}', "application/json"),
    "an array": server.status(200, b"[]", "application/json"),
    "schema of another type": server.status(200, b'{"schema":5,"schemaType":"JSON"}', server.CONTENT),
    "no references": server.status(200, b'{"schema":"{}","schemaType":"JSON","references":[3]}', server.CONTENT),
    "not JSON": server.status(200, b"{", server.CONTENT),
    "no content": server.status(204),
    "hanging up": server.hanging_up,
    "slow": server.slow(0.6),
    "dripping": server.dripping,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_without_an_answer_an_event_waits_and_is_routed_once_there_is_one(world: World, fault: str) -> None:
    number = world.registry.add(ORDER, order_schema())
    world.registry.fault = FAULTS[fault]
    if fault in ("slow", "dripping"):
        world.restart(read_seconds=0.3)
    for value in (framed(number, order()), order()):
        with pytest.raises(SchemaUnavailable) as caught:
            world.fate(value)
        assert caught.value.retry_after > 0
        world.clock.now += LONGEST_DELAY * 2
    world.registry.fault = None
    if fault in ("slow", "dripping"):
        world.restart()
    assert world.routed(framed(number, order())).topic == "acme.orders"
    assert world.routed(order()).topic == "acme.orders"


def test_attempts_come_ever_more_seldom_and_none_is_made_meanwhile(world: World) -> None:
    number = world.registry.add(ORDER, order_schema())
    world.registry.fault = server.status(500)
    waits = []
    for attempt in range(1, 11):
        for _ in range(3):
            with pytest.raises(SchemaUnavailable) as caught:
                world.fate(framed(number, order()))
        assert world.asked(f"/schemas/ids/{number}") == attempt
        waits.append(caught.value.retry_after)
        world.clock.now += caught.value.retry_after
    assert waits[-1] > 10 * waits[0]
    assert max(waits) <= LONGEST_DELAY * 1.25


def test_with_the_registry_down_known_schemas_go_on_and_after_a_restart_too(world: World) -> None:
    number = world.registry.add(ORDER, order_schema())
    world.routed(framed(number, order()))
    world.routed(order())
    world.registry.stop()
    for _ in range(2):
        assert world.routed(framed(number, order())).topic == "acme.orders"
        assert world.routed(order()).topic == "acme.orders"
        with pytest.raises(SchemaUnavailable):
            world.fate(framed(number + 1, order()))
        world.schemas.close()
        world.restart()
    step = encode("isthmus.saga.step", STEP, subject="s", source="/t", time=NOW)
    assert world.routed(step).value == step


def test_with_the_registry_down_from_the_start_the_catalogue_works(tmp_path: Path) -> None:
    with serving() as registry:
        pass
    made = World(registry, tmp_path / "cache")
    step = encode("isthmus.saga.step", STEP, subject="s", source="/t", time=NOW)
    assert made.routed(step).value == step
    with pytest.raises(SchemaUnavailable):
        made.fate(framed(1, step))
    made.schemas.close()


def test_what_was_refused_while_it_answered_waits_when_it_no_longer_does(world: World) -> None:
    """The id may have been given since: only an answer may refuse it again."""
    assert world.refused(framed(1, order())).reason == "unknown-schema"
    world.registry.fault = server.status(500)
    world.clock.now += BELIEVED_SECONDS
    with pytest.raises(SchemaUnavailable):
        world.fate(framed(1, order()))


# The latest version of a subject


def refreshed(world: World) -> None:
    world.source._background.submit(lambda: None).result(timeout=20)


def test_a_new_latest_version_comes_into_force_without_making_an_event_wait(world: World) -> None:
    world.registry.add(ORDER, order_schema())
    assert world.routed(order()).topic == "acme.orders"
    world.registry.add(ORDER, order_schema(**{"x-topic": "acme.orders.v2"}))
    assert world.routed(order()).topic == "acme.orders"
    world.clock.now += BELIEVED_SECONDS
    assert world.routed(order()).topic == "acme.orders", "asked in the background"
    refreshed(world)
    assert world.routed(order()).topic == "acme.orders.v2"


@pytest.mark.parametrize("trouble", ["down", "unusable"])
def test_the_last_version_stays_in_force_while_there_is_no_better_one(world: World, trouble: str) -> None:
    world.registry.add(ORDER, order_schema())
    world.routed(order())
    if trouble == "down":
        world.registry.fault = server.status(500)
    else:
        world.registry.add(ORDER, {"type": 5})
    for _ in range(2):
        world.clock.now += BELIEVED_SECONDS
        assert world.routed(order()).topic == "acme.orders"
        refreshed(world)
    assert world.routed(order()).topic == "acme.orders"


def test_a_subject_that_was_deleted_is_unknown(world: World) -> None:
    world.registry.add(ORDER, order_schema())
    world.routed(order())
    del world.registry.subjects[ORDER]
    world.clock.now += BELIEVED_SECONDS
    world.routed(order())
    refreshed(world)
    assert world.refused(order()).reason == "unknown-type"


# The rest


def test_a_topic_that_cannot_be_made_yet_lets_the_event_wait(world: World) -> None:
    number = world.registry.add(ORDER, order_schema())

    def refuse(_topic: str) -> None:
        raise KafkaUnavailable("no broker")

    world.schemas._make_topic = refuse
    with pytest.raises(SchemaUnavailable, match="topic acme"):
        world.fate(framed(number, order()))
    world.schemas._make_topic = world.topics.append
    assert world.routed(framed(number, order())).topic == "acme.orders"


@pytest.mark.parametrize("damage", ["no JSON", "other form", "other registry", "a folder"])
def test_a_damaged_cache_is_an_empty_one(world: World, damage: str) -> None:
    number = world.registry.add(ORDER, order_schema())
    world.routed(framed(number, order()))
    (file,) = world.folder.iterdir()
    content = json.loads(file.read_text())
    other = json.dumps({**content, "url": "http://another"})
    damaged = {"no JSON": "{", "other form": '{"url": 1, "schemas": 7}', "other registry": other}
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_text(damaged[damage])
    world.restart()
    assert world.routed(framed(number, order())).topic == "acme.orders"


def test_the_cache_holds_no_password_and_nobody_else_reads_it(tmp_path: Path) -> None:
    with serving() as registry:
        registry.authorization = server.basic("ann", "s3cret/")
        number = registry.add(ORDER, order_schema())
        url = registry.url.replace("://", "://ann:s3cret%2F@")
        client = RegistryClient(url)
        assert "s3cret" not in client.url
        cache = RegistryCache(tmp_path / "cache", client.url)
        source = RegistrySource(client, cache)
        schemas = RegistrySchemas(source)
        assert isinstance(route(framed(number, order()), b"", None, NOW, b"", schemas=schemas), Routed)
        (file,) = (tmp_path / "cache").iterdir()
        assert "s3cret" not in file.read_text()
        assert (tmp_path / "cache").stat().st_mode & 0o077 == 0
        schemas.close()
        with pytest.raises(NoAnswer, match="credentials") as caught:
            RegistryClient(registry.url, user="ann", password="wrong").by_id(number)
        assert "wrong" not in str(caught.value)


def test_tls_with_a_ca_of_ones_own(tmp_path: Path) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    with serving(tls=(certificate, key)) as registry:
        number = registry.add(ORDER, order_schema())
        assert RegistryClient(registry.url, ca=certificate).by_id(number).subjects == {ORDER: 1}
        with pytest.raises(NoAnswer):
            RegistryClient(registry.url).by_id(number)
        with pytest.raises(RegistryError, match="ISTHMUS_SCHEMA_REGISTRY_CA"):
            RegistryClient(registry.url, ca=tmp_path / "absent.pem")


def test_settings_name_the_registry_and_it_is_not_asked_before_an_event_needs_it(tmp_path: Path) -> None:
    assert schemas_of(Settings(home=tmp_path), print) is CATALOGUE
    with serving() as registry:
        registry.authorization = server.basic("ann", "s3cret")
        number = registry.add(ORDER, order_schema())
        settings = Settings(
            home=tmp_path,
            schema_registry_url=registry.url,
            schema_registry_user="ann",
            schema_registry_password=SecretStr("s3cret"),
        )
        assert "s3cret" not in repr(settings)
        schemas = schemas_of(settings, print)
        assert isinstance(schemas, RegistrySchemas)
        assert not registry.requests
        assert isinstance(route(framed(number, order()), b"", None, NOW, b"", schemas=schemas), Routed)
        schemas.close()
    with pytest.raises(RegistryError, match="ISTHMUS_SCHEMA_REGISTRY_URL"):
        schemas_of(Settings(schema_registry_url="registry:8081"), print)


def test_a_url_that_is_none_is_told_at_once() -> None:
    for url in ("registry:8081", "file:///etc/passwd", "http://"):
        with pytest.raises(RegistryError, match="http"):
            RegistryClient(url)


def publishing(world: World, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[dict[str, Any]]]:
    monkeypatch.setenv("ISTHMUS_SCHEMA_REGISTRY_URL", world.registry.url)
    get_settings.cache_clear()
    done = CliRunner().invoke(app, ["schema", "publish", "--json", *arguments])
    return done.exit_code, json.loads(done.output) if done.output.startswith("[") else []


def test_publish_registers_once_and_tells_what_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code, told = publishing(world, "--check", monkeypatch=monkeypatch)
    assert (code, {one["outcome"] for one in told}, world.registry.subjects) == (0, {"would register"}, {})
    code, told = publishing(world, monkeypatch=monkeypatch)
    assert (code, {one["outcome"] for one in told}) == (0, {"registered"})
    assert world.registry.config == {one["subject"]: "BACKWARD" for one in told}
    before = dict(world.registry.schemas)
    code, told = publishing(world, monkeypatch=monkeypatch)
    assert (code, {one["outcome"] for one in told}, world.registry.schemas) == (0, {"unchanged"}, before)
    for number in (1, 2):  # as if a part and a type had grown since
        world.registry.schemas[number] = {**world.registry.schemas[number], "schema": "{}"}
    world.registry.incompatible = {"isthmus.saga.started.v1"}
    code, told = publishing(world, monkeypatch=monkeypatch)
    outcomes = {one["subject"]: (one["outcome"], one["detail"]) for one in told}
    assert code == 2
    assert outcomes["isthmus.actions.saga_policy"][0] == "registered"
    assert outcomes["isthmus.saga.started.v1"] == ("incompatible", "PROPERTY_REMOVED at '#/properties/a'")
    assert outcomes["isthmus.action.v1"][0] == "registered", "it refers to the new version of its part"


def test_publish_without_a_registry_says_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.registry.fault = server.status(500)
    assert publishing(world, monkeypatch=monkeypatch)[0] == 1
    monkeypatch.delenv("ISTHMUS_SCHEMA_REGISTRY_URL")
    get_settings.cache_clear()
    assert CliRunner().invoke(app, ["schema", "publish"]).exit_code == 1


def test_a_whole_schema_accepts_what_the_catalogue_accepts() -> None:
    for name, compiled in compiled_types()[None].items():
        document = whole(name, compiled.version)
        assert set(document["properties"]) == set(envelope()["properties"])
        assert document["x-topic"] == compiled.topic
