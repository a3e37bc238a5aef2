"""From a saga's events to what is to be undone, and to what was undone: the same reading for learning and for advice.

What belongs here: situations and past compensations, read off events. What does not: rules, costs and choices.

An event of status ``compensated`` tells more in its ``attributes``, all optional: ``way`` (that ended it),
``planned_way`` (that was chosen, where the participant refused it), ``fee``, ``tries``, ``by_hand`` (a person had to
end it) and ``propensity`` (of the plan).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ml.compensation.outcomes import CALM, Past, Undone, conditions
from ml.compensation.rules import Ruling, Situation, rule
from ml.compensation.semantics import Fact, Semantics
from ml.sagas.spec import SagaEvent

STRAINED: Final = "strained"
"""The condition of a participant that has failed, or not answered in time, in this saga."""
_ENDED_BADLY: Final = ("failed", "timed_out")
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a saga stands: what is to be undone, the condition of each step's participant, and who does it."""

    situation: Situation
    conditions: Mapping[str, str] = field(default_factory=dict)
    participants: Mapping[str, str] = field(default_factory=dict)


def standing(
    semantics: Semantics,
    events: Sequence[SagaEvent],
    *,
    now_us: int,
    facts: Mapping[str, Fact] | None = None,
    with_unsure: bool = True,
) -> Standing:
    """Return where a saga stands after ``events``, in order, at ``now_us`` (microseconds since 1970, UTC).

    What it knows as facts are the amount and each step's age; ``facts`` add others. ``with_unsure`` counts steps that
    timed out and never ended as perhaps done.
    """
    done: dict[str, int] = {}
    unsure: dict[str, None] = {}
    participants: dict[str, str] = {}
    failing: set[str] = set()
    known: dict[str, Fact] = {}
    for event in events:
        if event.kind != "step":
            if math.isfinite(event.amount):
                known["amount"] = event.amount
            continue
        participants.setdefault(event.step, event.participant)
        if event.status == "completed":
            done.setdefault(event.step, event.us)
            unsure.pop(event.step, None)
        elif event.status == "compensated":
            done.pop(event.step, None)
            unsure.pop(event.step, None)
        elif event.status in _ENDED_BADLY:
            failing.add(event.participant)
            if event.status == "timed_out" and event.step not in done:
                unsure[event.step] = None
    known |= {f"{step}.age_seconds": (now_us - us) / _SECOND for step, us in done.items()}
    perhaps = tuple(unsure) if with_unsure else ()
    steps = (*done, *perhaps)
    situation = Situation(steps, {**known, **(facts or {})}, unsure=frozenset(perhaps))
    health = {step: STRAINED if participants[step] in failing else CALM for step in steps}
    return Standing(situation, conditions(semantics, situation, health), {step: participants[step] for step in steps})


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a past saga with the attributes that it carried."""

    event: SagaEvent
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class History:
    """Past compensations, and how many sagas were left out, by reason."""

    past: tuple[Past, ...]
    left_out: Mapping[str, int]


def history(semantics: Semantics, sagas: Iterable[Sequence[Told]]) -> History:
    """Return the past compensations of ``sagas``, each in order; one that cannot be learned from is counted."""
    past: list[Past] = []
    left_out: Counter[str] = Counter()
    for told in sagas:
        found = _past(semantics, told)
        if isinstance(found, Past):
            past.append(found)
        else:
            left_out[found] += 1
    return History(tuple(past), dict(left_out))


def _past(semantics: Semantics, told: Sequence[Told]) -> Past | str:
    first = next((at for at, one in enumerate(told) if one.event.status == "compensated"), None)
    if first is None:
        return "nothing was undone"
    before = [one.event for one in told[:first]]
    # Compensation began when the orchestrator had heard the last of the saga's own steps.
    began_us = max((event.us for event in before if event.kind == "step"), default=told[first].event.us)
    stood = standing(semantics, before, now_us=began_us, with_unsure=False)
    ruling = rule(semantics, stood.situation)
    undone = [one for one in told[first:] if one.event.status == "compensated"]
    if sorted(one.event.step for one in undone) != sorted(stood.situation.done):
        return "other steps were undone than were done"
    found = []
    for one in undone:
        way = one.attributes.get("planned_way") or one.attributes.get("way") or _only(ruling, one.event.step)
        cost = _cost(semantics, one)
        if not isinstance(way, str):
            return "the way is not told"
        if cost is None:
            return "fee, tries or duration are no numbers"
        found.append(Undone(one.event.step, way, cost))
    propensity = undone[0].attributes.get("propensity")
    if isinstance(propensity, bool) or not isinstance(propensity, int | float) or not 0 < propensity <= 1:
        propensity = None
    return Past(
        told[first].event.saga_id,
        began_us / _SECOND,
        ruling,
        tuple(found),
        stood.conditions,
        None if propensity is None else float(propensity),
    )


def _only(ruling: Ruling, step: str) -> str | None:
    ways = ruling.ways.get(step, ())
    return ways[0] if len(ways) == 1 else None


def _cost(semantics: Semantics, one: Told) -> float | None:
    fee, tries = one.attributes.get("fee", 0.0), one.attributes.get("tries", 1)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (fee, tries))
    if not numbers or tries < 1:
        return None
    seconds = one.event.duration_ms / 1000 if math.isfinite(one.event.duration_ms) else 0.0
    cost = semantics.rates.cost(float(fee), seconds, int(tries), by_hand=one.attributes.get("by_hand") is True)
    return cost if math.isfinite(cost) else None
