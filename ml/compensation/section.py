"""The compensation section of a saga policy: made from the past, and read for one saga.

What belongs here: from past compensations to plain data of ``events/schemas/actions/saga_policy.json``, and from it to
the plan of a saga. What does not: reading events (``course``) and deciding whether a policy goes ahead (``assets``).

The section has plans for situations that were seen. A reader takes one where the situation is the same (steps done,
open ways, conditions) and arranges it by the rules as they are then; anywhere else the rules' default holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ml.compensation.course import History, Standing
from ml.compensation.model import CostModel, fit
from ml.compensation.offpolicy import always_default, gain
from ml.compensation.outcomes import CALM, Past
from ml.compensation.planner import Choice, Evidence, choose
from ml.compensation.rules import Decider, Plan, Ruling, arranged, default_plan, rule
from ml.compensation.semantics import Semantics

LEAST_SEEN: Final = 5
"""A situation seen less often has no plan of its own."""
MOST_SITUATIONS: Final = 100
HALF_LIFE_SECONDS: Final = 14 * 86_400.0
"""Participants change, but slowly against how seldom most undos are seen."""


@dataclass(frozen=True, slots=True)
class PlannedUndo:
    """One step of a plan. ``way`` is None where a person decides.

    ``decided_by`` says who chose its place, ``why`` for which reason; ``rule`` is what bound its way or its place, if
    anything did.
    """

    step: str
    participant: str
    way: str | None
    decided_by: Decider
    why: str
    rule: str | None = None


def learned(history: History, *, evidence: Evidence | None = None) -> dict[str, Any] | None:
    """Return the section, None where nothing was seen."""
    past, evidence = history.past, evidence or Evidence()
    model = fit(past, half_life=HALF_LIFE_SECONDS)
    if model is None:
        return None
    found = gain(
        past,
        lambda fitted, saga: _choice(fitted, saga, evidence).plan,
        against=always_default,
        half_life=HALF_LIFE_SECONDS,
    )
    # Where the past says that the model's plans cost more, the rules' own are published.
    trusted = model if found.high is None or found.high >= 0 else None
    counted: Counter[tuple[Any, ...]] = Counter(_key(saga.ruling, saga.conditions) for saga in past)
    like = {_key(saga.ruling, saga.conditions): saga for saga in past}
    situations = [
        _situation(like[key], seen, trusted, evidence)
        for key, seen in sorted(counted.items(), key=lambda item: (-item[1], repr(item[0])))[:MOST_SITUATIONS]
        if seen >= LEAST_SEEN
    ]
    return {
        "past": len(past),
        "left_out": dict(sorted(history.left_out.items())),
        "situations": situations,
        "gain": found.as_dict(),
    }


def planned(semantics: Semantics, section: Mapping[str, Any] | None, stood: Standing) -> tuple[PlannedUndo, ...]:
    """Return what a saga undoes, in order, then what a person decides. Rules win over the section."""
    situation = stood.situation
    ruling = rule(semantics, situation)
    wanted, decided_by, why = _wanted(ruling, section or {}, stood)
    bound = {step for pair in ruling.before for step in pair}
    undos = []
    for step, way in arranged(ruling, wanted):
        by: Decider = "rule" if step in bound or step in situation.unsure else decided_by
        reason = f"{step} timed out, and may have been done" if step in situation.unsure else why
        undos.append(PlannedUndo(step, stood.participants[step], way, by, reason, _rule_of(ruling, step) or None))
    held = (step for step in reversed(ruling.done) if step in ruling.held)
    return (
        *undos,
        *(PlannedUndo(at, stood.participants[at], None, "rule", "a person decides", ruling.held[at]) for at in held),
    )


def _choice(model: CostModel | None, saga: Past, evidence: Evidence) -> Choice:
    return choose(saga.ruling, model, saga.conditions, evidence=evidence)


def _situation(saga: Past, seen: int, model: CostModel | None, evidence: Evidence) -> dict[str, Any]:
    choice, ruling = _choice(model, saga, evidence), saga.ruling
    figures = {
        "cost": choice.cost,
        "default_cost": choice.default_cost,
        "saving_low": choice.low,
        "saving_high": choice.high,
    }
    return {
        "done": list(ruling.done),
        "ways": {step: list(ways) for step, ways in ruling.ways.items()},
        "conditions": {step: saga.conditions.get(step, CALM) for step in ruling.done},
        "seen": seen,
        "plan": [{"step": step, "way": way} for step, way in choice.plan],
        "decided_by": choice.decided_by,
        "why": choice.why,
        **{name: float(f"{value:.4g}") for name, value in figures.items() if value is not None},
    }


def _key(ruling: Ruling, conditions: Mapping[str, str]) -> tuple[Any, ...]:
    health = tuple(conditions.get(step, CALM) for step in ruling.done)
    return ruling.done, tuple((step, ruling.ways.get(step, ())) for step in ruling.done), health


def _wanted(ruling: Ruling, section: Mapping[str, Any], stood: Standing) -> tuple[Plan, Decider, str]:
    """Return the order that is wanted, who wants it and why."""
    default = default_plan(ruling)
    unsure = stood.situation.unsure
    sure = replace(ruling, done=tuple(step for step in ruling.done if step not in unsure))
    key = _key(sure, stood.conditions)
    entry = next((one for one in section.get("situations", ()) if _key_of(one) == key), None)
    if entry is None:
        why = "such a situation was not seen often enough" if section else "the policy has no plans"
        return default, "default", f"reverse order: {why}"
    if entry["decided_by"] != "model":
        return default, "default", f"reverse order: {entry['why']}"
    # What may have been done comes first: it is the newest, and the past tells nothing of it.
    plan = (*(one for one in default if one[0] in unsure), *((one["step"], one["way"]) for one in entry["plan"]))
    if sorted(step for step, _ in plan) != sorted(ruling.ways) or any(way not in ruling.ways[at] for at, way in plan):
        return default, "default", "reverse order: the policy's plan is none that the rules allow"
    return plan, "model", str(entry["why"])


def _key_of(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    done = tuple(entry["done"])
    ways = tuple((step, tuple(entry["ways"].get(step, ()))) for step in done)
    return done, ways, tuple(entry["conditions"].get(step, CALM) for step in done)


def _rule_of(ruling: Ruling, step: str) -> str:
    """Return the rules that left a step one way, or a place; empty where they left the choice."""
    said = [] if len(ruling.ways[step]) > 1 else list(ruling.closed.get(step, ()))
    said += [f"{first} before {then}: {why}" for (first, then), why in ruling.because.items() if step in (first, then)]
    return "; ".join(said)
