"""Rules: which ways are open for each step that is to be undone, what a person decides, and what goes before what.

What belongs here: the ruling of a situation, the plan that the rules alone give, and a check of any plan. What does
not: costs. Whatever a model says, a plan that breaks a rule is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ml.compensation.semantics import Fact, Semantics, Undo, Way, all_hold

Decider = Literal["rule", "model", "default", "exploration"]


@dataclass(frozen=True, slots=True)
class Situation:
    """What is to be undone: ``done`` are steps in the order in which they were done, the oldest first.

    ``unsure`` are those of them that timed out, so that nobody knows whether they were done; ``tried`` are undos (step,
    way) that were asked and have not been answered.
    """

    done: tuple[str, ...]
    facts: Mapping[str, Fact] = field(default_factory=dict)
    tried: frozenset[tuple[str, str]] = frozenset()
    unsure: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if len(set(self.done)) < len(self.done):
            raise ValueError("a step stands in a situation once")


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules say of a situation.

    ``ways`` has for each step that is undone its open ways, the preferred one first, ``closed`` why the others are
    not; ``held`` has for each other step why a person decides; what may never have been done may be left, too.
    ``before`` are pairs (first, then) of steps in ``ways``.
    """

    done: tuple[str, ...]
    ways: Mapping[str, tuple[str, ...]]
    held: Mapping[str, str]
    closed: Mapping[str, tuple[str, ...]]
    before: frozenset[tuple[str, str]]
    because: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def ready(self, step: str, undone: frozenset[str]) -> bool:
        """Return whether ``step`` may be undone next, after ``undone``."""
        return all(first in undone for first, then in self.before if then == step)


Plan = tuple[tuple[str, str], ...]
"""Steps with their way, in the order in which they are undone; held steps are not in it."""


def rule(semantics: Semantics, situation: Situation) -> Ruling:
    """Return what is open, and what a person decides."""
    ways: dict[str, tuple[str, ...]] = {}
    held: dict[str, str] = {}
    closed: dict[str, tuple[str, ...]] = {}
    for step in situation.done:
        undo = semantics.of(step)
        if undo is None:
            held[step] = f"nothing is declared for {step}"
        elif undo.pivot:
            # Past this point nothing is undone: the steps before it are part of what was promised.
            how = "may be done" if step in situation.unsure else "is done"
            reason = f"{step} {how}, and from there the saga only goes forward"
            return Ruling(situation.done, {}, dict.fromkeys(situation.done, reason), {}, frozenset())
        elif step in situation.unsure and undo.if_unsure == "leave":
            continue
        elif reason := _held(undo, situation):
            held[step] = reason
        else:
            found, why = _open(undo, situation)
            closed[step] = why
            if found:
                ways[step] = found
            else:
                held[step] = f"no way is open: {'; '.join(why)}"
    waiting = True
    while waiting:  # what waits for a person holds what comes after it
        waiting = False
        for pair in semantics.order:
            if pair.first in held and pair.then in ways:
                del ways[pair.then]
                held[pair.then] = f"{pair.first} goes before it ({pair.because}), and a person decides there"
                waiting = True
    pairs = {
        (pair.first, pair.then): pair.because for pair in semantics.order if {pair.first, pair.then} <= ways.keys()
    }
    return Ruling(situation.done, ways, held, closed, frozenset(pairs), pairs)


def closing(semantics: Semantics, situation: Situation, seconds: float) -> frozenset[str]:
    """Return the steps whose preferred way is open now and closed ``seconds`` later, all else being equal."""
    ages = {name: value for name, value in situation.facts.items() if name.endswith(".age_seconds")}
    later = {name: value + seconds for name, value in ages.items() if isinstance(value, int | float)}
    now, then = (rule(semantics, replace(situation, facts={**situation.facts, **more})).ways for more in ({}, later))
    return frozenset(step for step, ways in now.items() if ways[0] not in then.get(step, ()))


def default_plan(ruling: Ruling) -> Plan:
    """Return the plan of the rules alone: the preferred way of each, the last step first where the order is free."""
    return arranged(ruling, [(step, ruling.ways[step][0]) for step in reversed(ruling.done) if step in ruling.ways])


def arranged(ruling: Ruling, wanted: Sequence[tuple[str, str]]) -> Plan:
    """Return ``wanted`` in the order nearest to it that keeps the rules: again and again the first that may be next."""
    left, plan = list(wanted), []
    undone: frozenset[str] = frozenset()
    while left:
        following = next((one for one in left if ruling.ready(one[0], undone)), None)
        if following is None:
            raise ValueError("what is wanted lacks a step that goes before another one")
        left.remove(following)
        plan.append(following)
        undone |= {following[0]}
    return tuple(plan)


def violations(semantics: Semantics, situation: Situation, plan: Plan) -> list[str]:
    """Return every rule that a plan breaks: read off the declaration, not off a ruling."""
    found = []
    place = {step: at for at, (step, _) in enumerate(plan)}
    if len(place) < len(plan):
        found.append("a step is undone twice")
    if any((undo := semantics.of(step)) is not None and undo.pivot for step in situation.done) and plan:
        found.append("something is undone past the pivot")
    for step, name in plan:
        undo = semantics.of(step)
        way = next((one for one in undo.ways if one.way == name), None) if undo else None
        if step not in situation.done:
            found.append(f"{step} was not done")
        elif undo is None or way is None:
            found.append(f"{name} is no way of {step}")
        else:
            found += _breaks(undo, way, situation)
    for pair in semantics.order:
        if pair.first in situation.done and pair.then in place:
            if pair.first not in place and _is_left(semantics, situation, pair.first):
                continue
            if pair.first not in place:
                found.append(f"{pair.then} is undone while a person decides on {pair.first}")
            elif place[pair.first] > place[pair.then]:
                found.append(f"{pair.then} is undone before {pair.first}")
    return found


def _breaks(undo: Undo, way: Way, situation: Situation) -> list[str]:
    found, facts = [], situation.facts
    held = all_hold(way.when, facts, undo.step)
    if held is False or (held is None and not way.safe_to_try):
        found.append(f"{way.way} of {undo.step} is not possible, or not known to be")
    found += [
        f"{undo.step} is undone by {way.way} while {other.way} may be possible"
        for other in undo.ways
        if other.way in way.yields_to and all_hold(other.when, facts, undo.step) is not False
    ]
    if undo.step in situation.unsure and (undo.if_unsure != "undo" or not way.safe_to_try):
        found.append(f"{undo.step} may never have been done, and is undone by {way.way}")
    if (undo.step, way.way) in situation.tried and not way.idempotent:
        found.append(f"{way.way} of {undo.step} is asked twice")
    if any(condition.holds(facts, undo.step) is not False for condition in undo.hold_when):
        found.append(f"{undo.step} is for a person to decide")
    return found


def _is_left(semantics: Semantics, situation: Situation, step: str) -> bool:
    undo = semantics.of(step)
    return undo is not None and step in situation.unsure and undo.if_unsure == "leave"


def _held(undo: Undo, situation: Situation) -> str:
    if undo.irreversible:
        return "it cannot be undone"
    if undo.step in situation.unsure and undo.if_unsure == "hold":
        return "nobody knows whether it was done"
    for condition in undo.hold_when:
        holds = condition.holds(situation.facts, undo.step)
        if holds is not False:
            return condition.words() if holds else f"{condition.fact} is unknown"
    return ""


def _open(undo: Undo, situation: Situation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ways that are open, and why each other one is not."""
    holds = {way.way: all_hold(way.when, situation.facts, undo.step) for way in undo.ways}
    found, why = [], []
    for way in undo.ways:
        before = next((name for name in way.yields_to if holds[name] is not False), None)
        if undo.step in situation.unsure and not way.safe_to_try:
            why.append(f"{way.way} is not safe to try, and nobody knows whether {undo.step} was done")
        elif holds[way.way] is False:
            why.append(f"{way.way} is not possible: it needs that {_needs(way)}")
        elif holds[way.way] is None and not way.safe_to_try:
            why.append(f"{way.way} is not known to be possible: it needs that {_needs(way)}")
        elif before is not None:
            why.append(f"never {way.way} while {before} {'is' if holds[before] else 'may be'} possible")
        elif (undo.step, way.way) in situation.tried and not way.idempotent:
            why.append(f"{way.way} was asked, has not been answered, and must not be asked twice")
        else:
            found.append(way.way)
    return tuple(found), tuple(why)


def _needs(way: Way) -> str:
    return " and ".join(condition.words() for condition in way.when)
