"""Repairs: pointers that lead somewhere and pointers that do not; an outline that says nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from events.codec import encode
from services.router.letters.repair import Repair, RepairError, edits, outline, verdict
from services.router.routing import Refused, Routed

VALUE = orjson.dumps({"data": {"a": [1, {"b/c": 2, "~": 3}], "n": None}, "type": "t"})


def edited(*texts: str, removals: tuple[str, ...] = ()) -> object:
    return orjson.loads(Repair(sets=edits(texts), removals=removals).apply(VALUE) or b"")["data"]


def test_pointers_set_append_and_remove() -> None:
    assert edited("/data/a/0=7", "/data/a/-=x", '/data/n={"k": true}', "/data/new=2026-01-01T00:00:00Z") == {
        "a": [7, {"b/c": 2, "~": 3}, "x"],
        "n": {"k": True},
        "new": "2026-01-01T00:00:00Z",
    }
    assert edited("/data/a/1/b~1c=0", removals=("/data/a/1/~0", "/data/n")) == {"a": [1, {"b/c": 0}]}
    assert edited("/data/n==") == {"a": [1, {"b/c": 2, "~": 3}], "n": "="}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/data/x/y=1", "there is no 'x'"),
        ("/data/a/9=1", "the array has 2 items"),
        ("/data/a/01x=1", "the array has 2 items"),
        ("/data/a/9/b=1", "the array has 2 items"),
        ("/type/x=1", "is no object and no array"),
        ("data=1", "is no edit"),
        ("/data", "is no edit"),
    ],
)
def test_a_pointer_that_leads_nowhere_is_told(text: str, said: str) -> None:
    with pytest.raises(RepairError, match=said):
        edited(text)


def test_what_cannot_be_repaired_is_told() -> None:
    with pytest.raises(RepairError, match="there is no 'gone'"):
        edited(removals=("/data/gone",))
    with pytest.raises(RepairError, match="begins with /"):
        edited(removals=("data",))
    with pytest.raises(RepairError, match="give a whole value"):
        Repair(removals=("/data",)).apply(b"{")
    with pytest.raises(RepairError, match="give a whole value"):
        Repair(removals=("/data",)).apply(None)


def test_without_edits_bytes_stay_as_they_are() -> None:
    assert Repair().apply(b" {} ") == b" {} "
    assert not Repair()
    assert Repair(b"x").apply(None) == b"x"
    assert orjson.loads(Repair(b'{"data":{}}', edits(["/data/a=1"])).apply(None) or b"") == {"data": {"a": 1}}


def test_a_verdict_is_the_routers() -> None:
    step = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1, "status": "completed"}
    value = encode("isthmus.saga.step", step, subject="s", source="/t", id="1")
    assert isinstance(verdict(value, None, (), datetime.now(UTC)), Routed)
    refused = verdict(value[:-1], None, (), datetime.now(UTC))
    assert isinstance(refused, Refused)
    assert refused.reason == "malformed-json"


def test_an_outline_holds_no_value() -> None:
    value = b'{"type":"t","id":7,"subject":"secret","data":{"a":["secret",1,null,true],"deep":%s"secret"%s}}'
    deep = value % (b"[" * 900, b"]" * 900)
    shown = outline(deep)
    assert shown["type"] == "t"
    assert shown["id"] == "<number>"
    assert shown["data"]["a"] == ["<string of 6>", "<number>", "<null>", "<boolean>"]
    assert "secret" not in str(shown)
    with pytest.raises(RepairError, match="nested too deeply"):
        Repair(removals=("/id",)).apply(deep)
    assert outline(None) == "no value"
    assert outline(b'{"secret').startswith("8 bytes, not JSON")
