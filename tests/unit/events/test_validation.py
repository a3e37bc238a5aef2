"""Validation: each way to be wrong has its reason, its path, and no value of the event in what is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from events.codec import encode
from events.validation import EARLIEST, MAX_AHEAD, InvalidEvent, Reason, check, validate

STEP = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1, "status": "completed"}
ENVELOPE, STEP_1 = "urn:isthmus:envelope#", "urn:isthmus:isthmus.saga.step:1#"
NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)


def document(data: dict[str, Any] | None = None, **attributes: Any) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(
        encode("isthmus.saga.step", {**STEP, **(data or {})}, subject="s-1", source="/test", time=NOW)
    )
    return {name: value for name, value in {**event, **attributes}.items() if value != "absent"}


def refusal(value: bytes | dict[str, Any], received: datetime = NOW) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        validate(value if isinstance(value, bytes) else orjson.dumps(value), received=received)
    return caught.value


@pytest.mark.parametrize(
    ("event", "reason", "schema_path", "instance_path"),
    [
        (b"", Reason.EMPTY, "", ""),
        (b"\x00\x00\x00\x00\x01", Reason.MALFORMED, "", ""),
        (b'{"specversion":', Reason.MALFORMED, "", ""),
        (b"\xff\xfe", Reason.MALFORMED, "", ""),
        (b"[" * 5000, Reason.MALFORMED, "", ""),
        (b'{"a":1e999}', Reason.MALFORMED, "", ""),
        (b'"an event"', Reason.MALFORMED, "", ""),
        (b"{}", Reason.ENVELOPE, ENVELOPE + "/required", ""),
        (document(type=7), Reason.ENVELOPE, ENVELOPE + "/properties/type/type", "/type"),
        (document(type="isthmus.saga.stop"), Reason.UNKNOWN_TYPE, ENVELOPE[:-1], "/type"),
        (
            document(dataschema="urn:isthmus:isthmus.saga.step:99"),
            Reason.UNKNOWN_VERSION,
            ENVELOPE[:-1],
            "/dataschema",
        ),
        (
            document(dataschema="urn:isthmus:isthmus.saga.started:1"),
            Reason.UNKNOWN_VERSION,
            ENVELOPE[:-1],
            "/dataschema",
        ),
        (
            document(dataschema="https://example.org/s"),
            Reason.ENVELOPE,
            ENVELOPE + "/properties/dataschema/pattern",
            "/dataschema",
        ),
        (document(dataschema=None), Reason.ENVELOPE, ENVELOPE + "/properties/dataschema/type", "/dataschema"),
        (document(subject="absent"), Reason.ENVELOPE, ENVELOPE + "/required", ""),
        (document(subject=""), Reason.ENVELOPE, ENVELOPE + "/properties/subject/minLength", "/subject"),
        (document(id="a\u0000b"), Reason.ENVELOPE, ENVELOPE + "/properties/id/pattern", "/id"),
        (document(source="a b"), Reason.ENVELOPE, ENVELOPE + "/properties/source/format", "/source"),
        (document(specversion="0.3"), Reason.ENVELOPE, ENVELOPE + "/properties/specversion/const", "/specversion"),
        (document(data_base64="e30="), Reason.ENVELOPE, ENVELOPE + "/propertyNames/pattern", ""),
        (document(traceparent="1-2"), Reason.ENVELOPE, ENVELOPE + "/properties/traceparent/pattern", "/traceparent"),
        (document(time="yesterday"), Reason.ENVELOPE, ENVELOPE + "/properties/time/pattern", "/time"),
        (document(time="2026-02-30T00:00:00Z"), Reason.ENVELOPE, ENVELOPE + "/properties/time/format", "/time"),
        (document(time="2026-05-04T08:00:00"), Reason.ENVELOPE, ENVELOPE + "/properties/time/pattern", "/time"),
        (document(time="2016-12-31T23:59:60Z"), Reason.ENVELOPE, ENVELOPE + "/properties/time/format", "/time"),
        (document(time="0001-01-01T00:00:00+23:59"), Reason.ENVELOPE, ENVELOPE + "/properties/time/format", "/time"),
        (document(time="1970-01-01T00:00:00Z"), Reason.TIME_TOO_OLD, "", "/time"),
        (document(time="2026-05-04T09:00:00.000001Z"), Reason.TIME_AHEAD, "", "/time"),
        (document(data={"attempt": 0}), Reason.DATA, STEP_1 + "/properties/attempt/minimum", "/data/attempt"),
        (document(data={"attempt": "1"}), Reason.DATA, STEP_1 + "/properties/attempt/type", "/data/attempt"),
        (document(data={"status": "lost"}), Reason.DATA, STEP_1 + "/properties/status/enum", "/data/status"),
        (document(data={"iban": "x"}), Reason.DATA, STEP_1 + "/additionalProperties", "/data"),
    ],
)  # fmt: skip
def test_refusal(event: bytes | dict[str, Any], reason: Reason, schema_path: str, instance_path: str) -> None:
    refused = refusal(event)
    assert (refused.reason, refused.schema_path, refused.instance_path) == (reason, schema_path, instance_path)
    assert refused.detail


def test_what_is_said_holds_no_value() -> None:
    secret = "ada.lovelace@example.org"
    for event in (
        document(data={"attempt": secret}),
        document(data={"status": secret}),
        document(type=secret),
        document(subject=[secret]),
        document(time=secret),
        document(dataschema=secret),
        document(source=f"{secret} {secret}"),
        orjson.dumps(document(data={"error": secret})) + b"}",
    ):
        refused = refusal(event)
        assert secret not in f"{refused} {refused.detail} {refused.schema_path} {refused.instance_path}"


def test_the_limits_on_time_belong_to_the_good_side() -> None:
    last = (NOW + MAX_AHEAD).isoformat()
    assert validate(orjson.dumps(document(time=last)), received=NOW).time == NOW + MAX_AHEAD
    assert validate(orjson.dumps(document(time=EARLIEST.isoformat())), received=NOW).time == EARLIEST
    assert refusal(document(time="1989-12-31T23:59:59.999999Z")).reason is Reason.TIME_TOO_OLD


def test_received_defaults_to_now() -> None:
    ahead = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    with pytest.raises(InvalidEvent, match="time-in-future"):
        validate(orjson.dumps(document(time=ahead)))


def test_extensions_and_absent_dataschema_are_accepted() -> None:
    event = validate(orjson.dumps(document(dataschema="absent", tenant="a", priority=3)), received=NOW)
    assert event.version == 1
    assert event.extensions == {"tenant": "a", "priority": 3}
    assert refusal(document(tenant={"a": 1})).reason is Reason.ENVELOPE


def test_the_action_of_a_decision_follows_its_kind() -> None:
    action = {"saga_type": "order", "steps": [{"step": "charge", "participant": "payment", "timeout_ms": 850}]}
    data = {
        "decision_id": "0190163d-8694-739b-aea5-966c26f8ad91",
        "kind": "saga_policy",
        "status": "applied",
        "actor": "orchestrator",
        "action": action,
    }

    def encoded(**changes: Any) -> bytes:
        return encode("isthmus.action", {**data, **changes}, subject="order", source="/test", time=NOW)

    assert validate(encoded(), received=NOW).data["action"] == action
    assert validate(encoded(kind="scaling_plan", action={"replicas": 3}), received=NOW)
    refused = refusal(encoded(action={"replicas": 3}))
    assert refused.reason is Reason.DATA
    assert refused.schema_path.endswith("#/allOf/0/then/properties/action/$ref/required")
    assert refused.instance_path == "/data/action"


def test_check_returns_the_parsed_event_and_its_type() -> None:
    parsed, compiled = check(orjson.dumps(document()), NOW)
    assert parsed["data"] == STEP
    assert (compiled.topic, compiled.version) == ("isthmus.sagas", 1)


@pytest.mark.parametrize("place", [b'{"specversion":', b'"data":{"saga_type":'], ids=["envelope", "payload"])
def test_an_invalid_event_is_refused_at_any_depth(place: bytes) -> None:
    opened, name = place.split(b"{")
    deep = opened + b'{"deep":' + b"[" * 500 + b"]" * 500 + b"," + name
    found = refusal(orjson.dumps(document()).replace(place, deep))
    assert found.reason is Reason.MALFORMED
    assert "too deeply" in found.detail


@pytest.mark.parametrize("name", ["ada@example.org", "Ada Lovelace", "card_4111111111111111", "ada's", 'a"b', "é"])
def test_a_name_that_may_be_somebodys_is_withheld(name: str) -> None:
    event = orjson.loads(encode("isthmus.saga.started", {"saga_type": "order"}, subject="s", source="/test"))
    for data in ({name: 1}, {"attributes": {name: {"deep": 1}}}, {"attributes": {name: [1], "plain": [2]}}):
        with pytest.raises(InvalidEvent) as refused:
            validate(orjson.dumps({**event, "data": {"saga_type": "order", **data}}), received=datetime.now(UTC))
        said = f"{refused.value} {refused.value.detail} {refused.value.schema_path} {refused.value.instance_path}"
        assert name not in said
