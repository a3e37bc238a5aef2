"""Saga policies as an asset: computed, judged by the gate, recorded, and announced in dry-run.

What belongs here: the order of these steps for each saga type. What does not: the evidence (``evidence``), the
computation (``ml.policy``), the verdict (``ml.decisions``) and the book of decisions (``resources.decisions``).
"""

# No `from __future__ import annotations`: Dagster reads the parameters' types of an asset as they are.
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg
from pydantic import Field

from assets.decisions import evidence
from assets.decisions.compensation import compensation_section
from assets.decisions.risk import Champion, champion_of
from assets.decisions.steps import read_attempts
from assets.quality.report import REPORT
from assets.refusal import SAGA_POLICY
from assets.resting import decides
from assets.sources import AGREES
from ml.decisions import CheckRead, Decision, InputRead, Verdict, decision_id, gate
from resources.decisions import DecisionInvalid, DecisionStore, StoredDecision
from resources.errors import WarehouseError, WarehouseUnavailable
from resources.kafka import KafkaResource
from resources.settings import get_settings
from resources.warehouse import WarehouseResource

KIND: Final = "saga_policy"
ACTOR = "ops/saga_policy"
#: Subject of a refusal where not even the saga types can be read.
ANY = "*"


class SagaPolicyConfig(dg.Config):
    """How a run judges and how long what it decides holds."""

    as_of: str = Field("", description="ISO 8601 time that ages are taken against, for a replay; empty: now.")
    max_age_hours: float = Field(26.0, description="Hours after which the newest landed event is too old.")
    valid_hours: float = Field(26.0, description="Hours that the policy is valid.")


@dg.asset(
    key=SAGA_POLICY,
    deps=[*(dg.AssetKey(asset.split("/")) for asset in evidence.INPUTS), REPORT, dg.AssetKey(["ml", "saga_model"])],
    group_name="decisions",
    owners=["team:platform"],
    kinds={"python", "clickhouse", "kafka"},
    description="Time-outs, retries, risk threshold and compensation plans of each saga type: gated, recorded, told "
    "in dry-run.",
    code_version="2",
    metadata=decides(
        KIND,
        rests_on=[
            *(
                key
                for key, level in evidence.of_suites(evidence.INPUTS + evidence.UPSTREAM).items()
                if level == "ERROR"
            ),
            AGREES,
        ],
        because="every other check of these tables that blocks, landing's and dbt's among them; the comparison with a "
        "source where one of them is compared; the suites again on what is read",
    ),
    pool=KIND,  # one plan at a time for one target
    retry_policy=dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL),
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=25)),
    check_specs=[
        dg.AssetCheckSpec("recorded", asset=SAGA_POLICY, description="Every saga type has a decision of this run."),
        dg.AssetCheckSpec("in_force", asset=SAGA_POLICY, description="Every saga type has a policy in force."),
    ],
)
def saga_policy(
    context: dg.AssetExecutionContext,
    config: SagaPolicyConfig,
    warehouse: WarehouseResource,
    kafka: KafkaResource,
    registry: dg.ResourceParam[Any],
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster compares it with the bare class
    """Decide for each saga type; a refusal is a normal outcome, recorded with its reasons."""
    store = DecisionStore(warehouse, bus=kafka)
    store.expire(actor=ACTOR)
    checks = evidence.read_checks(context.instance, _blocking_checks(context))
    live = evidence.live_failures(warehouse)
    trace = evidence.trace_id(context.instance, warehouse, context.run_id)
    decided = []
    for subject in _subjects(warehouse, store):
        decision = _of_run(store, subject, context.run_id)
        if decision is None:
            inputs = _inputs(context.instance, warehouse, subject, config)
            champion = champion_of(registry, subject)
            verdict = gate(
                inputs, checks, as_of=_as_of(config), model=champion.model if champion else None, live_failures=live
            )
            decision = _decide(
                store, warehouse, subject, verdict, inputs, checks, champion, context.run_id, trace, config
            )
        if decision.status == "proposed":
            decision = store.publish(decision.decision_id, actor=ACTOR)
        decided.append(decision)
        context.log.info("%s: %s %s", decision.subject, decision.status, "; ".join(decision.reasons))
    return _result(store, decided)


def refuse_for(instance: dg.DagsterInstance, warehouse: WarehouseResource, *, run_id: str, cause: str) -> None:
    """Record a refusal for each saga type because the run cannot come to a decision, as the last good policy stays."""
    run = instance.get_run_by_id(run_id)
    root = (run.root_run_id or run_id) if run else run_id  # a run that is tried again refuses once
    store, config = DecisionStore(warehouse), SagaPolicyConfig()  # type: ignore[call-arg]
    checks = evidence.read_checks(instance)
    for subject in _subjects(warehouse, store):
        if _of_run(store, subject, root) is None:
            inputs = _inputs(instance, warehouse, subject, config)
            # What the evidence says comes first, then what the run says of itself.
            reasons = (*gate(inputs, checks, as_of=_as_of(config)).reasons, cause)
            verdict = Verdict(allowed=False, reasons=tuple(dict.fromkeys(reasons)))
            trace = evidence.trace_id(instance, warehouse, run_id)
            _decide(store, warehouse, subject, verdict, inputs, checks, None, root, trace, config)


def _decide(  # noqa: PLR0917 (each is one thing that a decision records)
    store: DecisionStore,
    warehouse: WarehouseResource,
    subject: str,
    verdict: Verdict,
    inputs: Sequence[InputRead],
    checks: Sequence[CheckRead],
    champion: Champion | None,
    run_id: str,
    trace: str,
    config: SagaPolicyConfig,
) -> StoredDecision:
    """Compute where the gate allows it, and record either way; a refused decision proposes what is in force."""
    in_force = store.in_force(KIND, subject)
    previous: Mapping[str, Any] | None = in_force.action if in_force else None
    from ml.policy import Policy
    from ml.policy import saga_policy as compute

    stays = Policy(previous or {"saga_type": subject, "steps": []}, (), ())
    policy = stays
    if verdict.allowed:
        attempts = read_attempts(warehouse, subject)
        policy = compute(subject, attempts, previous=previous, risk=champion.risk if champion else None)
        section = compensation_section(warehouse, subject)
        if section is not None:
            policy = replace(policy, action={**policy.action, "compensation": section})
        if not policy.action["steps"]:
            verdict = Verdict(False, (f"{subject}: no step has enough durations for a time-out",))
    now = datetime.now(UTC)
    decision = Decision(
        decision_id=decision_id(now, KIND, subject, run_id),
        kind=KIND,
        subject=subject,
        made_at=now,
        valid_from=now,
        valid_to=now + timedelta(hours=config.valid_hours),
        inputs=tuple(inputs),
        checks=tuple(checks),
        action=policy.action,
        expected=policy.expected,
        guardrails=policy.guardrails,
        undo=previous,
        model=champion.model if champion else None,
        trace_id=trace,
        run_id=run_id,
    )
    rung = "apply" if get_settings().actuation.get(KIND) == "apply" else "advise"
    reasons = verdict.reasons or _grounds(inputs, checks, champion)
    try:
        return store.record(decision.as_record(), allowed=verdict.allowed, reasons=reasons, actor=ACTOR, rung=rung)
    except DecisionInvalid as error:
        unchanged = replace(decision, action=stays.action, expected=(), guardrails=())
        return store.record(unchanged.as_record(), allowed=False, reasons=[str(error)], actor=ACTOR, rung=rung)


def _grounds(inputs: Sequence[InputRead], checks: Sequence[CheckRead], champion: Champion | None) -> tuple[str, ...]:
    """Return in words what allowed a decision."""
    held = sum(check.severity == "ERROR" for check in checks)
    landed = max((read.landed_at for read in inputs if read.landed_at), default=None)
    model = f"{champion.model.name} version {champion.model.version} is calibrated" if champion else "no model: a rule"
    return (
        f"all {held} checks that it rests on hold, and hold now",
        f"newest data landed at {landed:%Y-%m-%d %H:%M:%S} UTC" if landed else "no age limit",
        model,
    )


def _result(store: DecisionStore, decided: Sequence[StoredDecision]) -> dg.MaterializeResult:  # type: ignore[type-arg]
    refused = [decision for decision in decided if decision.status == "refused"]
    without = [one.subject for one in decided if store.in_force(KIND, one.subject) is None]
    metadata: dict[str, Any] = {
        "decisions": len(decided),
        "published": sum(decision.status == "published" for decision in decided),
        "refused": len(refused),
    }
    for decision in decided:
        why = "\n".join(f"- {reason}" for reason in decision.reasons)
        metadata[f"policy {decision.subject}"] = dg.MetadataValue.md(
            f"**{decision.status}** `{decision.decision_id}`\n\n{why}"
        )
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                asset_key=SAGA_POLICY,
                check_name="recorded",
                passed=bool(decided),
                description=f"{len(decided)} decided, {len(refused)} of them refused",
            ),
            dg.AssetCheckResult(
                asset_key=SAGA_POLICY,
                check_name="in_force",
                passed=bool(decided) and not without,
                severity=dg.AssetCheckSeverity.WARN,  # a first refusal leaves orchestrators with their own defaults
                description=f"no policy in force for {', '.join(without)}"
                if without
                else "a policy is in force for each",
            ),
        ],
    )


def _subjects(warehouse: WarehouseResource, store: DecisionStore) -> Sequence[str]:
    """Return the saga types to decide for; where they cannot be read, those that were decided for before."""
    try:
        types = evidence.saga_types(warehouse)
    except WarehouseUnavailable:
        raise
    except WarehouseError:
        types = []  # the table is gone or broken, which the checks say; the refusal still needs its subject
    known = dict.fromkeys(decision.subject for decision in store.list(kind=KIND, limit=200) if decision.subject != ANY)
    return list(types) or sorted(known) or [ANY]


def _inputs(
    instance: dg.DagsterInstance, warehouse: WarehouseResource, subject: str, config: SagaPolicyConfig
) -> tuple[InputRead, ...]:
    return evidence.read_inputs(instance, warehouse, saga_type=subject, max_age=timedelta(hours=config.max_age_hours))


def _of_run(store: DecisionStore, subject: str, run_id: str) -> StoredDecision | None:
    """Return the decision that this run made for the subject already: a step that is tried again decides once."""
    recent = store.list(kind=KIND, subject=subject, limit=20)
    return next((decision for decision in recent if decision.run_id == run_id), None)


def _as_of(config: SagaPolicyConfig) -> datetime:
    if not config.as_of:
        return datetime.now(UTC)
    named = datetime.fromisoformat(config.as_of)
    return named if named.tzinfo else named.replace(tzinfo=UTC)


def _blocking_checks(context: dg.AssetExecutionContext) -> Iterable[dg.AssetCheckKey]:
    """Return every check that the code location declares as blocking."""
    from dagster_shared.check import CheckError

    try:
        graph = context.repository_def.asset_graph
    except CheckError:
        graph = context.job_def.asset_layer.asset_graph  # a job that runs in process knows its own assets only
    return [key for key in graph.asset_check_keys if graph.get(key).blocking]
