"""The gate on real parts: break an input, and the decision is refused with the reason, in the same run and in another.

The tables are made by hand; Dagster, the suites, the warehouse and the broker are the real ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.decisions import saga_policy
from assets.quality import QUALITY, quality_report
from assets.quality.report import REPORT
from assets.refusal import SAGA_POLICY
from events.validation import validate
from resources.decisions import DecisionStore, StoredDecision
from resources.kafka import KafkaResource
from resources.registry import FakeRegistry
from resources.settings import get_settings
from resources.warehouse import WarehouseResource
from tests.integration.quality import shop

pytestmark = pytest.mark.timeout(240)

MARTS = (["staging", "stg_saga_events"], ["marts", "fct_sagas"], ["marts", "fct_saga_steps"])
#: What happens to the tables while BI builds them; each test sets it.
FAULT: list[Callable[[], object]] = []


@dg.asset(key=["raw", "events"])
def raw_events() -> None:
    """Stand for landing."""


@dg.multi_asset(specs=[dg.AssetSpec(key, deps=[["raw", "events"]]) for key in MARTS])
def bi() -> Iterator[dg.MaterializeResult[Any]]:
    """Stand for dbt: the tables are there, whatever befalls them."""
    for fault in FAULT:
        fault()
    for key in MARTS:
        yield dg.MaterializeResult(asset_key=key)


@dg.asset(key=["ml", "saga_model"], deps=[["marts", "fct_sagas"]])
def saga_model() -> None:
    """Stand for training."""


REPORT_ONLY = dg.AssetSelection.assets(REPORT).without_checks()


class Platform:
    """One Dagster instance over the warehouse and the broker."""

    def __init__(self, instance: dg.DagsterInstance, warehouse: WarehouseResource, kafka: KafkaResource) -> None:
        self.instance, self.warehouse, self.store = instance, warehouse, DecisionStore(warehouse, bus=kafka)
        self.definitions = dg.Definitions(
            assets=[raw_events, bi, quality_report, saga_model, saga_policy],
            resources={
                "warehouse": warehouse,
                "kafka": kafka,
                "registry": dg.ResourceDefinition.hardcoded_resource(FakeRegistry()),
            },
            jobs=[
                # The pages cost an import of seconds; only the tests of the report ask for them.
                dg.define_asset_job("everything", selection=dg.AssetSelection.all() - REPORT_ONLY),
                dg.define_asset_job("with_report", selection=dg.AssetSelection.all()),
                dg.define_asset_job("decide", selection=dg.AssetSelection.assets(SAGA_POLICY)),
                dg.define_asset_job("build", selection=dg.AssetSelection.assets(*MARTS)),
                dg.define_asset_job("rebuild", selection=dg.AssetSelection.assets(*MARTS).without_checks()),
                dg.define_asset_job("report", selection=QUALITY - REPORT_ONLY),
            ],
        )

    def run(self, job: str, config: dict[str, Any] | None = None) -> bool:
        definition = self.definitions.get_job_def(job)
        run_config = {"ops": {"ops__saga_policy": {"config": config}}} if config else None
        result = definition.execute_in_process(instance=self.instance, raise_on_error=False, run_config=run_config)
        return bool(result.success)

    def newest(self) -> StoredDecision:
        return self.store.list(kind="saga_policy", limit=1)[0]


@pytest.fixture
def platform(
    shop_tables: WarehouseResource,
    kafka: KafkaResource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Platform]:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    get_settings.cache_clear()
    FAULT.clear()
    for table in ("ops.decisions", "ops.decision_events", "ops.audit"):
        shop_tables.command(f"TRUNCATE TABLE {table}")
    with dg.DagsterInstance.ephemeral() as instance:
        yield Platform(instance, shop_tables, kafka)
    FAULT.clear()
    get_settings.cache_clear()


def nulls(warehouse: WarehouseResource) -> None:
    warehouse.command(
        "ALTER TABLE marts.fct_saga_steps UPDATE saga_id = NULL WHERE step = 'charge' SETTINGS mutations_sync = 2"
    )


def corrupt_schema(warehouse: WarehouseResource) -> None:
    warehouse.command("ALTER TABLE marts.fct_saga_steps DROP COLUMN load")


def stop_the_feed(warehouse: WarehouseResource) -> None:
    shop.build(warehouse, landed_at=datetime.now(UTC) - timedelta(hours=30))


FAULTS = [
    pytest.param(nulls, "marts/fct_saga_steps: check expect_nulls", id="nulls"),
    pytest.param(corrupt_schema, "columns: missing load", id="schema"),
    pytest.param(stop_the_feed, "its newest data landed 30 h 0 min ago; the limit is 26 h 0 min", id="feed"),
]


def test_sound_inputs_publish_a_policy_and_announce_it(platform: Platform, kafka: KafkaResource) -> None:
    before = kafka.watermarks("isthmus.decisions")
    assert platform.run("everything")
    decision = platform.newest()
    assert decision.status == "published"
    assert [event.event for event in decision.events] == ["proposed", "rung", "published"]
    assert {entry["step"] for entry in decision.action["steps"]} == {"reserve", "charge", "notify"}
    assert decision.model is None
    assert decision.undo is None
    assert {entry["asset"] for entry in decision.inputs} == {"/".join(key) for key in MARTS}
    assert all(entry["data_version"] for entry in decision.inputs)
    assert all(check["passed"] for check in decision.checks)
    assert len(decision.checks) > 20
    assert {effect["metric"] for effect in decision.expected} >= {"failed_steps_share", "mean_wait_ms"}
    assert len(decision.trace_id) == 32
    assert decision.reasons[0].startswith("all ")
    assert decision.reasons[-1] == "no model: a rule"
    found = announced(kafka, before)
    assert [event.data["decision_id"] for event in found] == [str(decision.decision_id)]
    assert found[0].data["status"] == "published"
    assert found[0].subject == "order"
    assert decision.trace_id in (found[0].traceparent or "")
    audit = platform.warehouse.query_rows("SELECT action FROM ops.audit ORDER BY at")
    assert [row["action"] for row in audit] == ["decision.record", "decision.publish"]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_a_broken_input_refuses_in_the_same_run(
    platform: Platform, fault: Callable[[WarehouseResource], None], reason: str
) -> None:
    assert platform.run("everything")
    good = platform.newest()
    FAULT.append(lambda: fault(platform.warehouse))
    platform.run("everything")
    refused = platform.newest()
    assert refused.decision_id != good.decision_id
    assert refused.status == "refused"
    assert any(reason in why for why in refused.reasons), refused.reasons
    assert refused.action == good.action, "a refused decision changes nothing"
    in_force = platform.store.in_force("saga_policy", "order")
    assert in_force is not None
    assert in_force.decision_id == good.decision_id

    FAULT.clear()
    shop.build(platform.warehouse)
    assert platform.run("everything")
    recovered = platform.newest()
    assert recovered.status == "published"
    assert recovered.undo == good.action
    assert platform.store.in_force("saga_policy", "order") == recovered


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_a_broken_input_refuses_in_a_separate_run(
    platform: Platform, fault: Callable[[WarehouseResource], None], reason: str
) -> None:
    assert platform.run("everything")
    good = platform.newest()
    # Nothing is materialized or checked again: Dagster knows of nothing, the evaluations stand as they passed.
    fault(platform.warehouse)
    assert platform.run("decide"), "a refusal is a normal outcome of the run"
    refused = platform.newest()
    assert refused.status == "refused"
    assert any(reason in why for why in refused.reasons), refused.reasons
    assert platform.store.in_force("saga_policy", "order") == good
    shop.build(platform.warehouse)
    assert platform.run("decide")
    assert platform.newest().status == "published"


def test_a_failed_evaluation_of_another_run_refuses(platform: Platform) -> None:
    assert platform.run("everything")
    nulls(platform.warehouse)
    assert not platform.run("report"), "a blocking check fails its run"
    shop.build(platform.warehouse)  # mended, but not checked again: the evaluation that stands says failed
    assert platform.run("decide")
    refused = platform.newest()
    assert refused.status == "refused"
    assert any("check expect_nulls failed" in why for why in refused.reasons), refused.reasons
    assert platform.run("report")
    assert platform.run("decide")
    assert platform.newest().status == "published"


def test_no_evaluation_refuses(platform: Platform) -> None:
    for key in (["raw", "events"], *MARTS):
        platform.instance.report_runless_asset_event(dg.AssetMaterialization(key))
    assert platform.run("decide")
    refused = platform.newest()
    assert refused.status == "refused"
    assert "marts/fct_sagas: check expect_nulls has no evaluation" in refused.reasons
    assert platform.store.in_force("saga_policy", "order") is None


def test_an_input_that_was_never_materialized_refuses(platform: Platform) -> None:
    assert platform.run("decide")
    assert "marts/fct_sagas: was never materialized" in platform.newest().reasons


def test_an_evaluation_of_an_earlier_version_refuses(platform: Platform) -> None:
    assert platform.run("everything")
    assert platform.run("rebuild")  # new tables, old evaluations
    assert platform.run("decide")
    refused = platform.newest()
    assert refused.status == "refused"
    assert any("looked at data version" in why or "earlier materialization" in why for why in refused.reasons)
    assert platform.run("report")
    assert platform.run("decide")
    assert platform.newest().status == "published"


def test_a_build_alone_checks_what_it_built(platform: Platform, tmp_path: Path) -> None:
    assert platform.run("with_report")
    report = tmp_path / "quality" / "data_docs" / "index.html"
    written = report.stat().st_mtime_ns
    assert platform.run("build")
    assert report.stat().st_mtime_ns == written, "no report was asked for"
    assert platform.run("decide")
    assert platform.newest().status == "published"
    FAULT.append(lambda: nulls(platform.warehouse))
    assert not platform.run("build")
    assert platform.run("decide")
    assert platform.newest().status == "refused"


def test_a_replay_of_old_data_is_judged_as_of_the_time_it_names(platform: Platform) -> None:
    landed = datetime.now(UTC) - timedelta(days=90)
    shop.build(platform.warehouse, landed_at=landed)
    platform.run("everything")
    assert platform.newest().status == "refused"
    platform.run("report")
    assert platform.run("decide", {"as_of": (landed + timedelta(hours=1)).isoformat()})
    reasons = platform.newest().reasons
    assert not any("landed" in why and "ago" in why for why in reasons), reasons


def test_lost_tables_refuse_too(platform: Platform) -> None:
    assert platform.run("everything")
    for table in ("marts.fct_saga_steps", "marts.fct_sagas"):
        platform.warehouse.command(f"DROP TABLE {table} SYNC")
    assert platform.run("decide")
    refused = platform.newest()
    assert refused.subject == "order"
    assert refused.status == "refused"
    assert any("does not exist" in why for why in refused.reasons)


def test_a_step_that_is_tried_again_decides_once(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []
    announce = DecisionStore._announce

    def lose_the_broker_once(store: DecisionStore, *args: Any, **kwargs: Any) -> dict[str, Any]:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("the broker went away")
        return announce(store, *args, **kwargs)

    monkeypatch.setattr(DecisionStore, "_announce", lose_the_broker_once)
    assert platform.run("everything")
    decisions = platform.store.list(kind="saga_policy")
    assert [decision.status for decision in decisions] == ["published"]
    assert len(attempts) == 2


def test_results_are_kept_and_pages_written(platform: Platform, tmp_path: Path) -> None:
    assert platform.run("with_report")
    rows = platform.warehouse.query_rows("SELECT asset_key, check_name, success, observed FROM quality.results FINAL")
    assert {row["asset_key"] for row in rows} >= {"raw/events", "marts/fct_sagas"}
    assert all(json.loads(row["observed"]) for row in rows)
    pages = sorted(path.name for path in (tmp_path / "quality" / "data_docs").glob("*.html"))
    assert pages[0] == "index.html"
    for path in (tmp_path / "quality" / "data_docs").rglob("*.*"):
        assert "https://" not in path.read_text(), f"{path} points outside"
        assert "http://" not in path.read_text(), f"{path} points outside"


def announced(kafka: KafkaResource, before: dict[int, tuple[int, int]]) -> list[Any]:
    """Return the events on the decisions topic since ``before``."""
    found = []
    for partition, (_, high) in kafka.watermarks("isthmus.decisions").items():
        start = before.get(partition, (0, 0))[1]
        if high > start:
            for records in kafka.read_range("isthmus.decisions", partition, start, high):
                found += [validate(value) for value in records.values if value]
    return found
