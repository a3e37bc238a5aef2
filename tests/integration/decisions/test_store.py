"""The book of decisions on a real warehouse and broker: append-only, idempotent, and who may do what."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.decision import app
from ml.decisions import CheckRead, Decision, InputRead, decision_id
from resources.decisions import (
    DecisionConflict,
    DecisionInvalid,
    DecisionNotAuthorised,
    DecisionNotFound,
    DecisionStore,
    PublishFailed,
)
from resources.decisions.fake import FakeDecisionStore
from resources.decisions.refusals import read_refusals
from resources.kafka import KafkaResource
from resources.settings import get_settings
from resources.warehouse import WarehouseResource

pytestmark = pytest.mark.timeout(120)

ACTION = {"saga_type": "order", "steps": [{"step": "charge", "participant": "payment", "timeout_ms": 850}]}


@dataclass
class Clock:
    """A clock that a test moves."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


def a_decision(clock: Clock, subject: str, **change: Any) -> dict[str, Any]:
    now = clock()
    decision = Decision(
        decision_id=decision_id(now, "saga_policy", subject, str(change)),
        kind="saga_policy",
        subject=subject,
        made_at=now,
        valid_from=now,
        valid_to=now + timedelta(hours=1),
        inputs=(InputRead("marts/fct_sagas", "v1", 1, "run", now, now),),
        checks=(CheckRead("marts/fct_sagas", "nulls", True, evaluated_at=now),),
        action=change.get("action", ACTION),
        expected=({"metric": "failed_steps_share", "with_action": 0.01, "without_action": 0.02},),
        guardrails=({"name": "floor", "limit": 20.0, "bit": False},),
        undo=None,
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        run_id="run",
    )
    return decision.as_record()


@pytest.fixture(params=["real", "fake"])
def store(request: pytest.FixtureRequest) -> DecisionStore:
    """The real store, and its fake: both keep the same rules."""
    if request.param == "fake":
        return FakeDecisionStore(clock=Clock())
    warehouse: WarehouseResource = request.getfixturevalue("own_warehouse")
    return DecisionStore(warehouse, bus=request.getfixturevalue("kafka"), clock=Clock())


def clock_of(store: DecisionStore) -> Clock:
    assert isinstance(store.clock, Clock)
    return store.clock


def test_a_life(store: DecisionStore, unique: Callable[[str], str]) -> None:
    subject = unique("order")
    decision = store.record(a_decision(clock_of(store), subject), allowed=True)
    assert decision.status == "proposed"
    assert decision.rung == "advise"
    assert store.in_force("saga_policy", subject) is None
    published = store.publish(decision.decision_id)
    assert published.status == "published"
    approved = store.approve(str(decision.decision_id)[:13], actor="ana", note="on-call, change 12")
    assert [event.event for event in approved.events] == ["proposed", "rung", "published", "approved"]
    assert store.in_force("saga_policy", subject) is not None
    refused = store.refuse(decision.decision_id, actor="ana", reason="wrong after all")
    assert refused.status == "refused"
    assert refused.reasons == ["wrong after all"]
    assert store.in_force("saga_policy", subject) is None
    assert [one.decision_id for one in store.list(subject=subject)] == [decision.decision_id]
    assert store.list(subject=subject, status="published") == []
    assert refused.action == ACTION
    assert refused.inputs[0]["data_version"] == "v1"


def test_everything_is_idempotent(store: DecisionStore, unique: Callable[[str], str]) -> None:
    record = a_decision(clock_of(store), unique("order"))
    for _ in range(3):
        decision = store.record(record, allowed=True)
    for _ in range(3):
        store.publish(decision.decision_id)
        store.approve(decision.decision_id, actor="ana", note="fine")
    for _ in range(3):
        last = store.refuse(decision.decision_id, actor="ana", reason="no")
    assert [event.event for event in last.events] == ["proposed", "rung", "published", "approved", "refused"]


def test_another_content_under_the_same_id_is_refused(store: DecisionStore, unique: Callable[[str], str]) -> None:
    record = a_decision(clock_of(store), unique("order"))
    store.record(record, allowed=True)
    other = {**record, "action": {**ACTION, "risk_threshold": 0.5}}
    with pytest.raises(DecisionConflict, match="another content"):
        store.record(other, allowed=True)


def test_a_refusal_is_never_published_approved_or_applied(store: DecisionStore, unique: Callable[[str], str]) -> None:
    record = a_decision(clock_of(store), unique("order"))
    decision = store.record(record, allowed=False, reasons=["check nulls failed", "stale"])
    assert decision.reasons == ["check nulls failed", "stale"]
    forbidden: tuple[Callable[[], object], ...] = (
        lambda: store.publish(decision.decision_id),
        lambda: store.approve(decision.decision_id, actor="ana", note="please"),
        lambda: store.assert_applicable(decision.decision_id, actuation="apply"),
    )
    for attempt in forbidden:
        with pytest.raises(DecisionConflict, match="refused"):
            attempt()
    with pytest.raises(ValueError, match="says why"):
        store.record(a_decision(clock_of(store), "x"), allowed=False)


def test_an_expired_decision_is_never_applied(store: DecisionStore, unique: Callable[[str], str]) -> None:
    subject = unique("order")
    decision = store.record(a_decision(clock_of(store), subject), allowed=True)
    store.publish(decision.decision_id)
    store.approve(decision.decision_id, actor="ana", note="fine")
    assert store.assert_applicable(decision.decision_id).decision_id == decision.decision_id
    clock_of(store).now += timedelta(hours=2)
    assert store.show(decision.decision_id).status == "expired"
    with pytest.raises(DecisionConflict, match="expired; it is never applied"):
        store.assert_applicable(decision.decision_id, actuation="apply")
    with pytest.raises(DecisionConflict, match="expired"):
        store.approve(decision.decision_id, actor="ben", note="late")
    assert decision.decision_id in store.expire()
    assert decision.decision_id not in store.expire()
    # What was published stays the last good policy until another replaces it; it is only not valid any more.
    assert store.in_force("saga_policy", subject) is not None
    assert store.in_force("saga_policy", subject, at=clock_of(store)()) is None


def test_dry_run_applies_nothing_without_an_approval(store: DecisionStore, unique: Callable[[str], str]) -> None:
    decision = store.record(a_decision(clock_of(store), unique("order")), allowed=True)
    with pytest.raises(DecisionConflict, match="dry-run"):
        store.assert_applicable(decision.decision_id)
    assert store.assert_applicable(decision.decision_id, actuation="apply")


def test_people_need_a_name_and_a_note(store: DecisionStore, unique: Callable[[str], str]) -> None:
    decision = store.record(a_decision(clock_of(store), unique("order")), allowed=True)
    for actor, note in (("", "why"), ("ana", " ")):
        with pytest.raises(DecisionConflict, match="name and a note"):
            store.approve(decision.decision_id, actor=actor, note=note)


@pytest.mark.parametrize("wrong", ["nothing", "' OR 1=1 --", "01234567", "%", "0123"])
def test_ids_that_are_none(store: DecisionStore, wrong: str) -> None:
    with pytest.raises(DecisionNotFound):
        store.show(wrong)


def test_what_breaks_the_schema_is_not_recorded(store: DecisionStore, unique: Callable[[str], str]) -> None:
    subject = unique("order")
    record = a_decision(clock_of(store), subject, action={"saga_type": "order", "steps": [{"step": "charge"}]})
    with pytest.raises(DecisionInvalid, match="schema"):
        store.record(record, allowed=True)
    assert store.list(subject=subject) == []


def test_names_that_look_like_sql_are_names(store: DecisionStore, unique: Callable[[str], str]) -> None:
    subject = unique("o'); DROP TABLE ops.decisions; --")
    decision = store.record(a_decision(clock_of(store), subject), allowed=True)
    store.refuse(decision.decision_id, actor="'; --", reason="\\'{x:String}")
    found = store.list(kind="saga_policy", subject=subject)
    assert [one.reasons for one in found] == [["\\'{x:String}"]]


def test_approvers(own_warehouse: WarehouseResource, unique: Callable[[str], str]) -> None:
    store = DecisionStore(own_warehouse, approvers=("ana",), clock=Clock())
    decision = store.record(a_decision(clock_of(store), unique("order")), allowed=True)
    with pytest.raises(DecisionNotAuthorised, match="ben is not among"):
        store.approve(decision.decision_id, actor="ben", note="mine")
    assert store.approve(decision.decision_id, actor="ana", note="mine").status == "approved"
    rows = own_warehouse.query_rows(
        "SELECT actor, action FROM ops.audit WHERE subject = {id:String} ORDER BY at", {"id": str(decision.decision_id)}
    )
    assert [(row["actor"], row["action"]) for row in rows] == [
        ("isthmus", "decision.record"),
        ("ben", "decision.approve.denied"),
        ("ana", "decision.approve"),
    ]


def test_a_broker_that_is_away_loses_no_decision(
    own_warehouse: WarehouseResource, unique: Callable[[str], str]
) -> None:
    class Away:
        def producer(self, **_: Any) -> Any:
            class Producer:
                def produce(self, *_: Any, **__: Any) -> None: ...
                def flush(self, _: float) -> int:
                    return 1

            return Producer()

    store = DecisionStore(own_warehouse, bus=Away(), clock=Clock())
    decision = store.record(a_decision(clock_of(store), unique("order")), allowed=True)
    with pytest.raises(PublishFailed, match="did not acknowledge"):
        store.publish(decision.decision_id)
    assert store.show(decision.decision_id).status == "proposed"
    with pytest.raises(PublishFailed, match="no bus"):
        DecisionStore(own_warehouse).publish(decision.decision_id)


def test_a_crash_between_two_rows_is_mended(own_warehouse: WarehouseResource, unique: Callable[[str], str]) -> None:
    class Crash(Exception):
        pass

    class Half(DecisionStore):
        def _append(self, *_: Any) -> None:
            raise Crash

    clock = Clock()
    record = a_decision(clock, unique("order"))
    with pytest.raises(Crash):
        Half(own_warehouse, clock=clock).record(record, allowed=False, reasons=["stale"])
    whole = DecisionStore(own_warehouse, clock=clock)
    assert whole.show(record["decision_id"]).status == "proposed"
    assert whole.record(record, allowed=False, reasons=["stale"]).status == "refused"


def test_two_people_at_once_and_the_refusal_wins(
    own_warehouse: WarehouseResource, unique: Callable[[str], str]
) -> None:
    store = DecisionStore(own_warehouse, clock=Clock())
    decision = store.record(a_decision(clock_of(store), unique("order")), allowed=True)

    def act(number: int) -> None:
        try:
            if number % 2:
                store.approve(decision.decision_id, actor=f"p{number}", note="yes")
            else:
                store.refuse(decision.decision_id, actor=f"p{number}", reason="no")
        except DecisionConflict:
            pass  # came after the refusal

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(8)))
    assert store.show(decision.decision_id).status == "refused"


def test_a_withdrawal_is_announced(
    own_warehouse: WarehouseResource, kafka: KafkaResource, unique: Callable[[str], str]
) -> None:
    from tests.integration.decisions.test_gate import announced

    before = kafka.watermarks("isthmus.decisions")
    store = DecisionStore(own_warehouse, bus=kafka, clock=Clock())
    decision = store.record(a_decision(clock_of(store), unique("order")), allowed=True)
    store.publish(decision.decision_id)
    store.refuse(decision.decision_id, actor="ana", reason="harmful")
    found = [event for event in announced(kafka, before) if event.subject == decision.subject]
    assert sorted(event.data["status"] for event in found) == ["published", "refused"]
    assert len({event.id for event in found}) == 2


def test_a_decision_that_names_no_check_is_invalid(store: DecisionStore) -> None:
    record = {**a_decision(clock_of(store), "nothing-checked"), "checks": []}
    with pytest.raises(DecisionInvalid, match="no check that it rests on"):
        store.record(record, allowed=True)


def test_refusals_are_read_with_their_reasons(own_warehouse: WarehouseResource) -> None:
    clock = Clock()
    store, began = DecisionStore(own_warehouse, clock=clock), clock()
    why = ["marts/fct_sagas: check expect_nulls failed: 3 rows", "raw/events: check rows has no evaluation"]
    refused = store.record(a_decision(clock, "refused-by-checks"), allowed=False, reasons=why)
    by_ana = store.record(a_decision(clock, "refused-by-ana"), allowed=True)
    store.refuse(by_ana.decision_id, actor="ana", reason="load test tonight")
    found = {one.decision_id: one for one in read_refusals(store.warehouse, since=began)}
    assert found[str(refused.decision_id)].reasons == tuple(why)
    assert (found[str(by_ana.decision_id)].actor, found[str(by_ana.decision_id)].reasons) == ("ana", ())
    assert not read_refusals(store.warehouse, since=began, kind="data_repair")


def test_the_command_shows_what_refused_which_decision(
    own_warehouse: WarehouseResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock = DecisionStore(own_warehouse), Clock()
    for number in range(2):
        why = ["staging/stg_told: check expect_told failed: a value", "model m is not calibrated"]
        store.record(a_decision(clock, f"told-{number}"), allowed=False, reasons=why)
    monkeypatch.setenv("ISTHMUS_WAREHOUSE_URL", own_warehouse.url)
    monkeypatch.setattr("cli.console.console.width", 300)
    get_settings.cache_clear()
    told = CliRunner().invoke(app, ["refused", "--kind", "saga_policy"])
    nothing = CliRunner().invoke(app, ["refused", "--kind", "scaling_plan"])
    monkeypatch.undo()
    get_settings.cache_clear()
    assert told.exit_code == 0, told.output
    (line,) = [line for line in told.output.splitlines() if "expect_told" in line]
    for word in ("staging/stg_told", "failed", " 2 ", "told-0", "told-1"):
        assert word in line
    assert "a value" not in told.output
    assert "No decision was refused in 30 days." in nothing.output
