"""Past compensations as the model reads them.

What belongs here: the record of one, which plan it was, and under which conditions. What does not: where it is read
from (``course``, ``assets.decisions`` and the benchmark).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ml.compensation.rules import Plan, Ruling, Situation, closing
from ml.compensation.semantics import Semantics

CALM: Final = "calm"
"""The condition of a participant of which nothing is known."""
CLOSING: Final = ", closing"
"""Added to the condition of a step whose preferred way is soon closed: whether it can wait is half of its cost."""
CLOSING_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Undone:
    """One undo: the step, the way that was chosen for it, and its cost (fee, time, retries, a person's help)."""

    step: str
    way: str
    cost: float


@dataclass(frozen=True, slots=True)
class Past:
    """One past compensation: its undos in the order in which they were done.

    ``at`` is when it began, seconds since any fixed time; ``ruling`` what was open then; ``conditions`` the condition
    of a step's participant then, by step; ``propensity`` the chance that its plan had of being chosen, None where
    nobody wrote it down.
    """

    saga: str
    at: float
    ruling: Ruling
    undone: tuple[Undone, ...]
    conditions: Mapping[str, str] = field(default_factory=dict)
    propensity: float | None = None

    @property
    def plan(self) -> Plan:
        """Return what was chosen."""
        return tuple((one.step, one.way) for one in self.undone)

    @property
    def cost(self) -> float:
        """Return what all of it cost."""
        return sum(one.cost for one in self.undone)

    @property
    def is_admissible(self) -> bool:
        """Return whether the rules would allow the plan: a model learns its costs all the same."""
        steps, ways = [one.step for one in self.undone], self.ruling.ways
        place = {step: at for at, step in enumerate(steps)}
        return (
            place.keys() == ways.keys()
            and len(place) == len(steps)
            and all(one.way in ways[one.step] for one in self.undone)
            and all(place[first] < place[then] for first, then in self.ruling.before)
        )


def conditions(semantics: Semantics, situation: Situation, participants: Mapping[str, str]) -> dict[str, str]:
    """Return the condition of each step from that of its participant, and from whether its way is soon closed."""
    soon = closing(semantics, situation, CLOSING_SECONDS)
    return {step: participants.get(step, CALM) + (CLOSING if step in soon else "") for step in situation.done}
