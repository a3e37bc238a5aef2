"""What an orchestrator asks a policy, and what it may answer.

What belongs here: the protocol. What does not: any policy (benchmarks; Isthmus' own is in ``ml``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Coming:
    """A call that a saga would make next; times are seconds of the clock."""

    saga: int
    step: int
    participant: str
    attempts: int
    """Attempts at this step so far."""
    asked: int
    """How often the policy was asked about this attempt before, and said to wait."""
    deadline: float
    last: str | None
    """How the last attempt at this step ended: ``error``, ``refused``, ``timed_out``."""


@dataclass(frozen=True, slots=True)
class Send:
    """Call now, wait at most ``timeout`` seconds, and tell the participant so where ``tells``."""

    timeout: float
    tells: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after ``seconds``, or as soon as the saga is called where it is ``held``."""

    seconds: float
    held: bool = False
    """Whether the policy keeps its answer back meanwhile: the saga has asked once, and waits for it."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Undo what was done, and end."""

    reason: str


class Policy(Protocol):
    """Decides on every attempt; is told of each that was sent and how it ended."""

    def decide(self, coming: Coming, now: float) -> Send | Wait | GiveUp:
        """Return what the saga does next."""

    def sent(self, coming: Coming, now: float) -> int:
        """Note that an attempt began; return a ticket for it."""

    def ended(self, coming: Coming, ticket: int, now: float, outcome: str) -> Iterable[int]:
        """Note how an attempt ended: ``ok``, ``declined``, ``error``, ``refused``, ``timed_out``.

        Return the sagas that are called: those of them that are held at this participant are decided on at once.
        """
