"""A collection and its copy: the documents that differ, in flight or for good, and the repair once approved."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest

from assets.reconcile.documents import reconcile_collection
from assets.reconcile.repair import COPIES, apply, propose
from assets.sources import compare_table, copy_table
from resources.decisions import DecisionConflict, DecisionStore
from resources.errors import SourceError, SourceUnavailable
from resources.mongo import MongoResource
from resources.settings import Source, get_settings
from resources.warehouse import WarehouseResource
from tests.integration.sources.conftest import Killable

pytestmark = pytest.mark.services
DOCUMENTS = 900


@pytest.fixture
def notes(own_mongo: Killable) -> Iterator[Any]:
    """The collection, with keys of three types."""
    with pymongo.MongoClient[dict[str, Any]](own_mongo.url) as client:
        client.drop_database("notes")
        made: list[dict[str, Any]] = [{"_id": at, "text": f"ä {at}", "deep": {"list": [at, 1.5]}} for at in range(300)]
        made += [{"_id": f"n{at}", "text": "geheim", "count": at} for at in range(300)]
        client["notes"]["entries"].insert_many([*made, *({"text": str(at)} for at in range(300))])
        yield client["notes"]["entries"]


def break_(notes: Any) -> dict[str, str]:
    notes.update_one({"_id": 5}, {"$set": {"text": "other"}})
    notes.update_one({"_id": "n7"}, {"$set": {"count": 7.0}})
    notes.update_one({"_id": "n8"}, {"$unset": {"count": ""}})
    notes.delete_one({"_id": 9})
    notes.insert_one({"_id": "new"})
    number = '{"$numberInt": "%d"}'
    kinds = {'"n7"': "type_drift", '"n8"': "changed", '"new"': "missing"}
    return {number % 5: "changed", number % 9: "extra", **kinds}


def found(report: Any) -> dict[str, str]:
    return {str(one.key): one.kind for one in report.differences}


def test_exact_documents_are_found_and_repaired_after_approval(
    own_warehouse: WarehouseResource,
    own_mongo: Killable,
    notes: Any,
    unique: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = unique("notes")
    settings = {"url": own_mongo.url + "notes", "tables": ["entries"], "compare": {"entries": COPIES}, "lag_seconds": 0}
    source = Source(**settings)
    copy_table(own_warehouse, name, source, "entries", run_id="first")

    def compare() -> Any:
        return compare_table(own_warehouse, name, source, "entries", COPIES)

    report = compare()
    assert (found(report), report.rows_source, report.rows_warehouse) == ({}, DOCUMENTS, DOCUMENTS)
    expected = break_(notes)
    report = compare()
    assert found(report) == expected
    assert {one.columns for one in report.differences if one.kind == "changed"} == {("text",), ("count",)}

    monkeypatch.setenv("ISTHMUS_SOURCES", json.dumps({name: settings}))
    get_settings.cache_clear()
    try:
        decision, store = propose(own_warehouse, name, report, run_id="run"), DecisionStore(own_warehouse)
        assert "geheim" not in json.dumps(decision.action)
        with pytest.raises(DecisionConflict, match="no approval"):
            apply(store, own_warehouse, decision.decision_id, actor="ann")
        assert found(compare()) == expected, "nothing is repaired silently"
        store.approve(decision.decision_id, actor="ann", note="the source is right")
        assert apply(store, own_warehouse, decision.decision_id, actor="ann").status == "applied"
        assert found(compare()) == {}
        apply(store, own_warehouse, decision.decision_id, actor="ann")
        assert found(compare()) == {}
    finally:
        get_settings.cache_clear()


def test_documents_in_flight_are_no_difference(
    own_warehouse: WarehouseResource, own_mongo: Killable, notes: Any, unique: Callable[[str], str]
) -> None:
    name = unique("flight")
    source = Source(url=own_mongo.url + "notes")  # type: ignore[arg-type]
    copy_table(own_warehouse, name, source, "entries", run_id="first")
    break_(notes)
    looks: list[float] = []

    def meanwhile(seconds: float) -> None:
        """A copy catches up at the first look; one document changes before each."""
        looks.append(seconds)
        if len(looks) == 1:
            copy_table(own_warehouse, name, source, "entries", run_id="second")
        notes.update_one({"_id": 5}, {"$set": {"text": f"look {len(looks)}"}})

    now = iter(range(10_000))
    resource = MongoResource(url=own_mongo.url + "notes")
    report = reconcile_collection(
        resource, own_warehouse, name, "entries", COPIES, lag=100.0, clock=lambda: float(next(now)), sleep=meanwhile
    )
    assert found(report) == {'{"$numberInt": "5"}': "late"}
    assert report.real == ()


def test_a_server_killed_in_mid_comparison_is_told(
    own_warehouse: WarehouseResource, own_mongo: Killable, notes: Any, unique: Callable[[str], str]
) -> None:
    name, resource = unique("killed"), MongoResource(url=own_mongo.url + "notes", timeout=1.0)
    source = Source(url=own_mongo.url + "notes")  # type: ignore[arg-type]
    copy_table(own_warehouse, name, source, "entries", run_id="first")
    expected, command = break_(notes), []

    class Killing:
        """A warehouse whose first question is the source's death."""

        def query_arrow(self, *given: Any, **more: Any) -> Any:
            if not command:
                command.extend(own_mongo.kill())
            return own_warehouse.query_arrow(*given, **more)

    with pytest.raises(SourceUnavailable):
        reconcile_collection(resource, Killing(), name, "entries", COPIES)  # type: ignore[arg-type]
    own_mongo.start(command, None)
    assert found(reconcile_collection(resource, own_warehouse, name, "entries", COPIES)) == expected
    with pytest.raises(SourceError, match="holds documents"):
        reconcile_collection(resource, own_warehouse, name, "entries", "marts.notes")
