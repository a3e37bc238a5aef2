"""Advice as the client understands it: how to call each step, what to do next, and what that rests on.

What belongs here: the form of an answer, read with distrust, and the safe defaults. What does not: asking
(:mod:`examples.client.asking`), obeying (:mod:`examples.client.saga`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

Action = Literal["go_on", "retry", "fall_back", "compensate", "hold"]
Source = Literal["service", "cached", "defaults"]
Place = tuple[str, str]
"""A step and its participant."""
ANY: Final[Place] = ("*", "*")


class Nonsense(ValueError):
    """An answer that cannot be acted on; the text holds the place and no value."""


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """How a step is called. It holds for any saga of the type: ``attempts`` are all, the first one counted."""

    timeout: float  # seconds
    attempts: int
    retry_ratio: float  # retries per request at the participant
    retry_window: float  # seconds
    backoff: float  # seconds, at most, before the second attempt; doubles with each further one
    known: bool = True  # False for the default of a step that no policy names


SAFE: Final = StepPolicy(timeout=30.0, attempts=2, retry_ratio=0.1, retry_window=60.0, backoff=0.2, known=False)
"""What holds where nobody has advised anything; the same figures as the service's own defaults."""
_BOUNDS: Final = {
    "timeout_ms": (1.0, 3_600_000.0),
    "attempts_left": (0.0, 1_000.0),
    "retry_ratio": (0.0, 10.0),
    "retry_window_seconds": (0.1, 86_400.0),
    "backoff_ms": (0.0, 600_000.0),
}


@dataclass(frozen=True, slots=True)
class PlannedUndo:
    """One step of a plan of undoing; ``way`` is None where a person decides."""

    step: str
    participant: str
    way: str | None


@dataclass(frozen=True, slots=True)
class Advice:
    """What a saga should do. ``problem`` says why it is not the service's own word; empty where it is."""

    action: Action
    because: str = ""
    source: Source = "service"
    steps: Mapping[Place, StepPolicy] = field(default_factory=dict)
    decision_id: str | None = None
    compensation: tuple[PlannedUndo, ...] = ()
    """What to undo, in order; empty where nothing is advised."""
    problem: str = ""

    def step(self, name: str, participant: str) -> StepPolicy:
        """Return how a step is to be called."""
        return self.steps.get((name, participant)) or self.steps.get(ANY) or SAFE


def parse(document: Any, failed: Mapping[Place, int]) -> Advice:
    """Return the advice in an answer of the service; raises :class:`Nonsense`.

    ``failed`` are the attempts that had ended badly when it was asked, by step: the service tells what is left.
    """
    if not isinstance(document, dict):
        raise Nonsense("the answer is not an object")
    action: Any = document.get("action")
    if action not in get_args(Action):
        raise Nonsense("action: none that is known")
    told = document.get("steps")
    if not isinstance(told, list):
        raise Nonsense("steps: not a list")
    steps = {}
    for number, entry in enumerate(told):
        place, policy = _entry(entry, failed, f"steps[{number}]")
        steps[place] = policy
    decision = document.get("decision_id")
    return Advice(
        action=action,
        because=str(document.get("because", ""))[:500],
        steps=steps,
        decision_id=decision if isinstance(decision, str) else None,
        compensation=_plan(document.get("compensation")),
    )


def _entry(entry: Any, failed: Mapping[Place, int], where: str) -> tuple[Place, StepPolicy]:
    if not isinstance(entry, dict):
        raise Nonsense(f"{where}: not an object")
    step, participant = entry.get("step"), entry.get("participant")
    if not (isinstance(step, str) and isinstance(participant, str)):
        raise Nonsense(f"{where}: no step or no participant")
    figures = {name: _figure(entry.get(name), name, where) for name in _BOUNDS}
    place, known = (step, participant), not entry.get("default")
    # The default's attempts are those of any step, not what is left to one.
    attempts = int(figures["attempts_left"]) + (failed.get(place, 0) if known else 0)
    return place, StepPolicy(
        timeout=figures["timeout_ms"] / 1000,
        attempts=attempts,
        retry_ratio=figures["retry_ratio"],
        retry_window=figures["retry_window_seconds"],
        backoff=figures["backoff_ms"] / 1000,
        known=known,
    )


def _figure(value: Any, name: str, where: str) -> float:
    low, high = _BOUNDS[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Nonsense(f"{where}.{name}: not a number")
    if not low <= value <= high:
        raise Nonsense(f"{where}.{name}: not within {low:g} to {high:g}")
    return float(value)


def _plan(told: Any) -> tuple[PlannedUndo, ...]:
    """Return the plan of undoing; it may be left out."""
    if told is None:
        return ()
    if not isinstance(told, list):
        raise Nonsense("compensation: not a list")
    plan = []
    for one in told:
        names: list[Any] = (
            [one.get("step"), one.get("participant"), one.get("way") or ""] if isinstance(one, dict) else [None]
        )
        if not all(isinstance(name, str) for name in names):
            raise Nonsense("compensation: a step without a name, or a way that is none")
        plan.append(PlannedUndo(names[0], names[1], names[2] or None))
    return tuple(plan)
