"""Advice for one running saga: pure, from its events so far and what stands.

What belongs here: probability and reasons, time-outs and retries of the coming steps, what to do next. What does not:
where policies and models come from (:mod:`services.orchestrator.standing`), and HTTP.

Whatever is missing is replaced by a safe default and said in ``defaults``: an orchestrator that asks always gets an
answer that it can act on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np

from ml.compensation.course import standing as where_it_stands
from ml.compensation.section import PlannedUndo, planned
from ml.compensation.semantics import semantics
from ml.sagas.spec import SagaEvent
from ml.sagas.state import SagaState
from ml.sagas.types import saga_type
from services.orchestrator.standing import Champion, InForce, Standing

Action = Literal["go_on", "retry", "fall_back", "compensate", "hold"]
_GIVEN_UP: Final[tuple[Action, str]] = ("compensate", "its orchestrator gives it up")

SAFE_TIMEOUT_MS: Final = 30_000.0
SAFE_ATTEMPTS: Final = 2
#: Retries may be at most this share of a participant's requests: a storm of them keeps an outage alive.
SAFE_RATIO: Final = 0.1
SAFE_WINDOW_SECONDS: Final = 60.0
SAFE_BACKOFF_MS: Final = 200.0
ANY: Final = "*"
"""Step and participant of the default that holds for every step without a policy."""
REASONS: Final = 3
"""Most reasons that are given."""
_ENDED_BADLY: Final = ("failed", "timed_out")


@dataclass(frozen=True, slots=True)
class Reason:
    """One event of the saga, and by how much it moved the probability."""

    position: int
    step: str
    participant: str
    status: str
    moved: float


@dataclass(frozen=True, slots=True)
class Risk:
    """The probability of an outcome. ``moved`` of all events and ``base`` add up to it."""

    outcome: str
    probability: float
    base: float
    threshold: float
    model: str
    reasons: tuple[Reason, ...]

    @property
    def alarm(self) -> bool:
        """Whether it lies at or above the model's operating point."""
        return self.probability >= self.threshold


@dataclass(frozen=True, slots=True)
class StepAdvice:
    """How a coming step should be called; ``attempts_left`` counts the next attempt too."""

    step: str
    participant: str
    timeout_ms: float
    attempts_left: int
    retry_ratio: float
    retry_window_seconds: float
    backoff_ms: float
    default: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """What a saga should do; ``defaults`` says what it rests on instead of policy and model, and why."""

    saga_type: str
    saga_id: str
    action: Action
    because: str
    risk: Risk | None
    steps: tuple[StepAdvice, ...]
    decision_id: str | None
    valid_to: datetime | None
    stale: bool
    """Whether the policy's validity has ended; the last good one stays in force all the same."""
    defaults: tuple[str, ...]
    compensation: tuple[PlannedUndo, ...] = ()
    """What to undo, in order, where the action is ``compensate`` or ``hold``; ask again after each undo."""


def advise(
    name: str,
    saga_id: str,
    events: Sequence[SagaEvent],
    standing: Standing,
    *,
    now: datetime,
    load: Mapping[str, float] | None = None,
    giving_up: bool = False,
) -> Advice:
    """Return the advice for a saga of type ``name`` from its ``events`` so far, in order.

    ``load`` is the number of requests in flight by participant, where the orchestrator knows it. ``giving_up``: the
    orchestrator undoes the saga for a reason of its own (the business declined, its deadline has passed), and asks how.
    """
    defaults: list[str] = []
    policy = standing.policies.get(name)
    if policy is None:
        said = standing.problems.get("warehouse")
        defaults.append(f"policy: the warehouse does not answer ({said})" if said else "policy: none is in force")
    risk = _risk(name, events, standing, defaults)
    steps = _coming(policy, events, load or {})
    if giving_up:
        action, because = _GIVEN_UP
    else:
        action, because = _next(events, steps, policy, risk)
    return Advice(
        saga_type=name,
        saga_id=saga_id,
        action=action,
        because=because,
        risk=risk,
        steps=steps,
        decision_id=policy.decision_id if policy else None,
        valid_to=policy.valid_to if policy else None,
        stale=policy is not None and now >= policy.valid_to,
        defaults=tuple(defaults),
        compensation=_undoing(name, events, policy, now) if action in ("compensate", "hold") else (),
    )


def _risk(name: str, events: Sequence[SagaEvent], standing: Standing, defaults: list[str]) -> Risk | None:
    """Return the risk of the outcome whose miss costs most, where a model can tell."""
    champions = standing.champions.get(name, ())
    steps = [event for event in events if event.kind == "step"]
    if silent := _silence(name, steps, champions, standing.problems.get("registry")):
        defaults.append(f"model: {silent}")
        return None
    try:
        return _scored(next(one for one in champions if one.model.is_current), events, steps)
    except Exception as error:  # noqa: BLE001 (a defect of a model must not leave a saga without an answer)
        defaults.append(f"model: it failed ({type(error).__name__})")
        return None


def _silence(name: str, steps: Sequence[SagaEvent], champions: Sequence[Champion], problem: str | None) -> str:
    """Return why no model speaks; empty where one does."""
    kind = saga_type(name)
    sealed = any(
        where.matches(one.kind, one.step, one.status, one.participant) for one in steps for where in kind.sealed_by
    )
    reasons = {
        f"the registry does not answer ({problem})": not champions and problem,
        "no champion": not champions,
        "the champion has an old form, train it anew": not any(one.model.is_current for one in champions),
        "it tells nothing before the first step": not steps,
        f"it knows sagas of up to {kind.longest} steps": len(steps) > kind.longest,
        "this saga's fate is sealed": sealed,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _scored(champion: Champion, events: Sequence[SagaEvent], steps: Sequence[SagaEvent]) -> Risk:
    """Score every prefix in one go: the differences from one to the next are the reasons."""
    model = champion.model
    state, rows = SagaState(champion.layout), []
    for event in events:
        state.update(event)
        if event.kind == "step":
            rows.append(model.features.encode(state.values()))
    course = champion.score(np.array(rows, dtype=np.float64))
    moved = np.diff(course)
    order = sorted(range(len(moved)), key=lambda at: -abs(moved[at]))[:REASONS]
    reasons = tuple(
        Reason(at + 2, steps[at + 1].step, steps[at + 1].participant, steps[at + 1].status, float(moved[at]))
        for at in order
        if moved[at]
    )
    return Risk(
        outcome=model.outcome,
        probability=float(course[-1]),
        base=float(course[0]),
        threshold=model.threshold,
        model=f"{champion.version.name}/{champion.version.version}",
        reasons=reasons,
    )


def _coming(policy: InForce | None, events: Sequence[SagaEvent], load: Mapping[str, float]) -> tuple[StepAdvice, ...]:
    """Return the advice for each step that has not completed, and the default for any that no policy knows."""
    done = {(event.step, event.participant) for event in events if event.status == "completed"}
    advised = []
    for entry in policy.action["steps"] if policy else ():
        place = (entry["step"], entry["participant"])
        if place not in done:
            retry = entry["retry_budget"]
            left = int(retry["max_attempts"]) - _attempts(events, *place)
            advised.append(
                StepAdvice(
                    *place,
                    timeout_ms=_timeout(entry, load.get(entry["participant"])),
                    attempts_left=max(0, left),
                    retry_ratio=float(retry["ratio"]),
                    retry_window_seconds=float(retry["window_seconds"]),
                    backoff_ms=float(retry["backoff_ms"]),
                )
            )
    safe = StepAdvice(
        ANY, ANY, SAFE_TIMEOUT_MS, SAFE_ATTEMPTS, SAFE_RATIO, SAFE_WINDOW_SECONDS, SAFE_BACKOFF_MS, default=True
    )
    return (*advised, safe)


def _timeout(entry: Mapping[str, Any], load: float | None) -> float:
    """Return a step's time-out, milliseconds: at the load that is known, else at the usual one."""
    if load is None or not math.isfinite(load):
        return float(entry["timeout_ms"])
    line = entry["load_coefficients"]
    at_load = float(line["intercept"]) + float(line["load"]) * load
    return min(max(at_load, float(entry["timeout_floor_ms"])), float(entry["timeout_ceiling_ms"]))


def _undoing(name: str, events: Sequence[SagaEvent], policy: InForce | None, now: datetime) -> tuple[PlannedUndo, ...]:
    """Return what the saga undoes: by the declared rules, in the policy's order where that has one."""
    declared = semantics(name)
    stood = where_it_stands(declared, events, now_us=round(now.timestamp() * 1e6))
    return planned(declared, policy.action.get("compensation") if policy else None, stood)


def _attempts(events: Sequence[SagaEvent], step: str, participant: str) -> int:
    """Return how many attempts at a step have ended badly."""
    return sum(
        event.step == step and event.participant == participant and event.status in _ENDED_BADLY for event in events
    )


def _next(
    events: Sequence[SagaEvent], steps: Sequence[StepAdvice], policy: InForce | None, risk: Risk | None
) -> tuple[Action, str]:
    """Return what to do next, and why. A person is asked only where going on and going back are both doubtful."""
    if any(event.status == "compensated" for event in events):
        return "compensate", "compensation has begun, and is brought to its end"
    fallback = bool(policy and policy.action.get("fallback"))
    last = next((event for event in reversed(events) if event.kind == "step"), None)
    if last is not None and last.status in _ENDED_BADLY:
        known = next((one for one in steps if (one.step, one.participant) == (last.step, last.participant)), None)
        left = known.attempts_left if known else SAFE_ATTEMPTS - _attempts(events, last.step, last.participant)
        return _after_a_failure(last, left, risk, fallback=fallback)
    if risk is None or not risk.alarm:
        return "go_on", _words(risk) or "nothing speaks against it"
    if fallback:
        return "fall_back", _words(risk)
    return "hold", f"{_words(risk)}, and there is no fallback: a person decides"


def _after_a_failure(last: SagaEvent, left: int, risk: Risk | None, *, fallback: bool) -> tuple[Action, str]:
    """Return what follows a step that ended badly, with ``left`` attempts at it."""
    how = f"{last.step} {'failed' if last.status == 'failed' else 'timed out'}"
    alarm = risk is not None and risk.alarm
    if left > 0 and not alarm:
        return "retry", f"{how}, and may be tried {left} more time{'s' if left > 1 else ''}"
    if fallback:
        return "fall_back", f"{how}; {_words(risk) if left > 0 else 'no attempt is left'}"
    if left > 0:
        return "hold", f"{how}, {_words(risk)}, and there is no fallback: a person decides"
    return "compensate", f"{how}, and no attempt is left"


def _words(risk: Risk | None) -> str:
    if risk is None:
        return ""
    return f"the risk of {risk.outcome} is {risk.probability:.0%}, from {risk.threshold:.0%} on it counts"
