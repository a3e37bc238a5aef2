"""Retention, access, record of processing and the report on a real warehouse and broker."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.compliance import access_audit, compliance_report, record_of_processing, retention
from assets.compliance.limits import RetentionError, declared
from assets.compliance.record import ProcessingError, activities
from assets.compliance.retention import enforce
from events.catalogue import SAGAS, TOPICS
from ml.decisions import CheckRead, Decision, decision_id
from resources.access import logged
from resources.decisions import DecisionStore
from resources.kafka import KafkaResource
from resources.removal import remove_before
from resources.settings import get_settings
from resources.warehouse import WarehouseResource

pytestmark = pytest.mark.timeout(240)
CANARY = "canary.person@example.org"
NOW = datetime.now(UTC)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def kafka(kafka_bootstrap: str) -> KafkaResource:
    bus = KafkaResource(bootstrap=kafka_bootstrap)
    bus.ensure_topics()
    return bus


@pytest.fixture(scope="module")
def held(own_warehouse: WarehouseResource) -> WarehouseResource:
    """A warehouse with old and new rows, an inventory, a request, refused decisions and failed checks."""
    warehouse = own_warehouse
    warehouse.command(
        "CREATE TABLE marts.people (id UInt64, contact String, at DateTime64(3, 'UTC')) ENGINE = MergeTree "
        "PARTITION BY toYYYYMM(at) ORDER BY id"
    )
    warehouse.insert_rows("marts.people", [{"id": n, "contact": CANARY, "at": NOW} for n in range(5)])
    columns = ("marts.people.contact", "ops.audit.actor", "raw.gaps.actor")
    warehouse.insert_rows(
        "quality.pii_inventory",
        [
            {
                "scanned_at": NOW, "run_id": "scan", "column": column, "entity": "PERSON", "route": "fast",
                "sampled": 5, "found": 5, "confidence": 1.0, "declared": column != "marts.people.contact",
                "undeclared": column == "marts.people.contact", "owner": "", "lawful_basis": "", "retention": "",
                "action": "", "note": "",
            }
            for column in columns
        ],
    )  # fmt: skip
    warehouse.insert_rows(
        "quality.results",
        [
            {"evaluated_at": NOW - timedelta(days=day), "run_id": f"r{day}", "asset_key": "marts/fct_sagas",
             "check_name": "expect_nulls", "expectation": "x", "success": day > 1, "severity": "ERROR",
             "observed": "[]", "message": f"1 row breaks it: {CANARY}"}
            for day in range(9)
        ],
    )  # fmt: skip
    warehouse.insert_rows(
        "ops.privacy_requests",
        [
            {"request_id": "0191e0aa-0000-7000-8000-000000000001", "kind": "erasure", "state": "completed",
             "subject_hashes": ["hash-of-a-person"], "actor": "a", "filed_at": NOW, "due_at": NOW + timedelta(days=30)},
            {"request_id": "0191e0bb-0000-7000-8000-000000000002", "kind": "access", "state": "open",
             "subject_hashes": ["hash-of-a-person"], "actor": "ana", "filed_at": NOW - timedelta(days=40),
             "due_at": NOW - timedelta(days=10)},
        ],
    )  # fmt: skip
    warehouse.insert_rows(
        "ops.erasure_proofs",
        [{"request_id": "0191e0aa-0000-7000-8000-000000000001", "store": store, "state": "erased", "found": 2,
          "erased": 2, "finished_at": NOW} for store in ("warehouse", "bus")],
    )  # fmt: skip
    store = DecisionStore(warehouse)
    for number in range(3):
        made = NOW - timedelta(days=number)
        decision = Decision(
            decision_id(made, "order"), "saga_policy", "order", made, made, made + timedelta(hours=1), (),
            (CheckRead("marts/fct_sagas", "expect_nulls", False),), {}, (), (), None,
        )  # fmt: skip
        why = [f"marts/fct_sagas: check expect_nulls failed: {CANARY}"]
        store.record(decision.as_record(), allowed=False, reasons=why)
    return warehouse


def run(asset: Any, warehouse: WarehouseResource, kafka: KafkaResource) -> dict[str, dg.AssetCheckEvaluation]:
    resources = {"warehouse": warehouse, "kafka": kafka}
    needed = {name: resources[name] for name in asset.required_resource_keys if name in resources}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([asset], resources=needed, instance=instance)
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def states(warehouse: WarehouseResource) -> dict[str, dict[str, Any]]:
    rows = warehouse.query_rows(
        "SELECT * FROM ops.retention FINAL WHERE run_id = (SELECT argMax(run_id, checked_at) FROM ops.retention)"
    )
    return {row["store"]: row for row in rows}


def age(warehouse: WarehouseResource) -> None:
    """Put rows past their retention where merges would not remove them by themselves."""
    warehouse.command("SYSTEM STOP TTL MERGES")
    old = NOW - timedelta(days=1200)
    warehouse.insert_rows(
        "raw.gaps",
        [{"gap_id": str(n), "kind": "aged_out", "topic": SAGAS, "updated_at": at} for n, at in enumerate((old, NOW))],
    )
    # An insert applies a TTL at once: the row is put in before there is one.
    warehouse.command("ALTER TABLE ops.incidents REMOVE TTL")
    for at in (old, NOW):
        warehouse.insert_rows("ops.incidents", [{"at": at, "incident_id": str(at), "kind": "k", "subject": "s"}])
    warehouse.command(
        "ALTER TABLE ops.incidents MODIFY TTL toDateTime(at) + INTERVAL 1100 DAY "
        "SETTINGS materialize_ttl_after_modify = 0"
    )


def test_what_is_past_its_retention_is_found_and_removed_only_where_the_setting_says_so(
    held: WarehouseResource, kafka: KafkaResource, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(held)
    log = home / "logs" / "router.log"
    log.parent.mkdir()
    log.write_text("old")
    os.utime(log, (time.time() - 200 * 86400,) * 2)

    check = run(retention, held, kafka)["kept"]
    assert not check.passed
    found = states(held)
    assert found["table marts.people"]["state"] == "undeclared"
    for store in ("table raw.gaps", "table ops.incidents", "files services' logs"):
        assert (found[store]["state"], found[store]["past"]) == ("overdue", 1), store
        assert found[store]["action"]
        assert not found[store]["done"]
    assert found["topic isthmus.sagas"]["state"] in ("kept", "empty")
    assert log.exists(), "dry-run removes nothing"
    assert held.query_rows("SELECT count() AS n FROM raw.gaps")[0]["n"] == 2

    monkeypatch.setenv("ISTHMUS_RETENTION", "apply")
    get_settings.cache_clear()
    run(retention, held, kafka)
    found = states(held)
    for store in ("table raw.gaps", "table ops.incidents", "files services' logs"):
        assert (found[store]["state"], found[store]["past"]) in (("kept", 0), ("empty", 0)), found[store]
        assert found[store]["done"]
    assert not log.exists()
    assert held.query_rows("SELECT count() AS n FROM raw.gaps")[0]["n"] == 1
    assert held.query_rows("SELECT count() AS n FROM ops.incidents")[0]["n"] == 1
    audit = held.query_rows("SELECT subject FROM ops.audit WHERE action = 'retention.remove'")
    assert {row["subject"] for row in audit} >= {"table raw.gaps", "table ops.incidents", "files services' logs"}


def test_a_topic_that_keeps_longer_than_declared_is_found_and_put_right(
    held: WarehouseResource, kafka: KafkaResource, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka.set_config(SAGAS, {"retention.ms": "99999999999"})
    assert not run(retention, held, kafka)["kept"].passed
    assert states(held)[f"topic {SAGAS}"]["state"] == "unlike"
    monkeypatch.setenv("ISTHMUS_RETENTION", "apply")
    get_settings.cache_clear()
    run(retention, held, kafka)
    assert kafka.configs([SAGAS])[SAGAS]["retention.ms"] == TOPICS[SAGAS]["retention.ms"]
    assert states(held)[f"topic {SAGAS}"]["state"] in ("kept", "empty")


def test_records_before_an_offset_are_removed_for_good(kafka: KafkaResource) -> None:
    producer = kafka.producer()
    for n in range(4):
        producer.produce("isthmus.changes", value=str(n).encode(), partition=0)
    producer.flush(10)
    low, high = kafka.watermarks("isthmus.changes")[0]
    assert high - low >= 4
    for _ in range(2):
        remove_before(kafka, {("isthmus.changes", 0): high - 1})
    marks = kafka.watermarks_of(kafka.topics(["isthmus.changes"]).values())
    assert marks["isthmus.changes", 0] == (high - 1, high)
    oldest = kafka.oldest(kafka.topics(["isthmus.changes"]).values(), marks)
    assert oldest is not None
    assert abs((datetime.now(UTC) - oldest).total_seconds()) < 600


def test_a_broker_that_is_away_fails_the_check_and_the_rest_is_looked_at(held: WarehouseResource, home: Path) -> None:
    check = run(retention, held, KafkaResource(bootstrap="127.0.0.1:1", attempts=1, timeout=1))["kept"]
    assert not check.passed
    assert "topic isthmus.sagas: could not be looked at (KafkaUnavailable)" in (check.description or "")
    assert states(held)["table raw.gaps"]["state"] in ("kept", "empty")


def test_a_removal_that_fails_is_said(held: WarehouseResource) -> None:
    from assets.compliance.holdings import Action, Holding
    from ml.retention import Held

    def broken() -> None:
        raise OSError(CANARY)

    done = enforce(held, [Holding("files", Held("files a", True), actions=(Action("delete", broken),))], run_id="r")
    assert done == {"files a": "removing failed (OSError)"}


def test_reads_of_personal_columns_are_kept_by_who_and_with_what(held: WarehouseResource, home: Path) -> None:
    held.query_rows("SELECT count(contact) AS n FROM marts.people WHERE contact = {c:String}", {"c": CANARY})
    held.query_rows("SELECT sum(id) AS n FROM marts.people")
    held.insert_rows(
        "ops.audit",
        [{"actor": "ana", "action": "pii.reveal", "subject": "CREDIT_CARD", "details": json.dumps({"entries": 3})}],
    )
    held.command("SYSTEM FLUSH LOGS")
    checks = run(access_audit, held, KafkaResource())
    assert checks["complete"].passed
    assert checks["usual"].passed, "the first days are learned from"
    rows = held.query_rows("SELECT * FROM ops.access_audit FINAL")
    (read,) = [row for row in rows if row["table_name"] == "marts.people"]
    assert (read["principal"], read["purpose"], read["reads"]) == ("isthmus", "isthmus", 1)
    assert read["columns"] == ["marts.people.contact"]
    (opened,) = [row for row in rows if row["store"] == "vault"]
    assert (opened["principal"], opened["table_name"], opened["rows"]) == ("ana", "CREDIT_CARD", 3)
    assert CANARY not in str(rows)
    assert not logged(held, ["marts.people.id"], since=(NOW + timedelta(days=2)).date())


def test_somebody_new_stands_out_once_there_is_a_history(held: WarehouseResource, home: Path) -> None:
    held.insert_rows(
        "ops.access_audit",
        [
            {"day": f"{NOW - timedelta(days=day):%Y-%m-%d}", "principal": "bi", "store": "warehouse",
             "table_name": "marts.people", "purpose": "grafana", "reads": 1, "rows": 10, "run_id": "past"}
            for day in range(3, 25)
        ],
    )  # fmt: skip
    held.query_rows("SELECT count(contact) AS n FROM marts.people WHERE contact != ''")
    held.command("SYSTEM FLUSH LOGS")
    check = run(access_audit, held, KafkaResource())["usual"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "isthmus, marts.people: new: did not read this table" in (check.description or "")


def test_the_record_and_the_report_say_what_stands_and_no_value(
    held: WarehouseResource, kafka: KafkaResource, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_CONTROLLER_NAME", "Example <Ltd>")
    get_settings.cache_clear()
    run(retention, held, kafka)
    gaps = str(run(record_of_processing, held, kafka)["complete"].description)
    assert "ISTHMUS_DPO_CONTACT" in gaps
    assert "ISTHMUS_CONTROLLER_NAME" not in gaps
    assert "nobody owns the personal data in marts.people" in gaps

    check = run(compliance_report, held, kafka)["sound"]
    assert not check.passed
    said = check.description or ""
    assert "1 quality check at ERROR failed" in said
    assert "1 column with personal data that nobody declared" in said
    assert "the request 0191e0bb is past its month" in said
    text = (home / "compliance" / "report" / "index.html").read_text().replace("<wbr>", "")
    for word in ("expect_nulls", "marts.people.contact", "Example &lt;Ltd&gt;", "not said", "Refused decisions by day"):
        assert word in text
    for secret in (CANARY, "hash-of-a-person"):
        assert secret not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    if keep := os.environ.get("ISTHMUS_KEEP_REPORT"):
        Path(keep).write_text(text)


def test_an_empty_platform_says_that_nothing_was_looked_at(
    own_warehouse: WarehouseResource, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assets.compliance.gather import Facts
    from assets.compliance.page import page
    from assets.compliance.verdict import judge

    empty = Facts(NOW, NOW - timedelta(days=90))
    verdict = judge(empty)
    assert verdict.word == "failed"
    assert len(verdict.missing) == 5
    assert "points stand against it" in page(empty, verdict, run_id="r")


@pytest.mark.parametrize(
    ("read", "error", "content", "says"),
    [
        (declared, RetentionError, "tables: [{table: a.b, days: 3}]\nruns: {days: 1}", "days with the time column"),
        (declared, RetentionError, "tables: [{table: a.b, dys: 3}]\nruns: {days: 1}", "unknown keys"),
        (declared, RetentionError, "files: [{name: x, path: ../a, days: 3}]\nruns: {days: 1}", "lies under"),
        (declared, RetentionError, "nonsense", "file.yml"),
        (activities, ProcessingError, "activities: [{name: a}]", "says nothing of purpose"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, read: Any, error: type[Exception], content: str, says: str
) -> None:
    path = tmp_path / "file.yml"
    path.write_text(content)
    with pytest.raises(error, match=says):
        read(path)
