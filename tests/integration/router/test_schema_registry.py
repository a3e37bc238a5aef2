"""A schema registry: what is asked, what is believed, and that nobody loses an event because it does not answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest

from events.codec import encode
from events.fields import keyed_hash
from events.publication import publications
from events.refusals import SchemaUnavailable
from services.router.letters.repair import verdict
from services.router.registry import HEADER
from services.router.registry.client import MAX_SCHEMA_BYTES
from services.router.registry.source import BELIEVED_SECONDS
from services.router.routing import Refused, Routed
from tests.integration.router import registry_server as server
from tests.integration.router.registry_world import NOW, ORDER, STEP, World, framed, order, order_schema

pytestmark = pytest.mark.embedded

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
