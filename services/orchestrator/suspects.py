"""Whom a failing saga's own events point at: participants in the order in which they stand out, with why.

What belongs here: what one saga shows. What does not: other sagas, traces and metrics (``ml.root_cause``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml.sagas.spec import SagaEvent

_ENDED_BADLY = ("failed", "timed_out")


@dataclass(frozen=True, slots=True)
class Suspect:
    """A participant, the step that points at it, and why in words."""

    participant: str
    step: str
    because: str


def suspects(events: Sequence[SagaEvent], policy_steps: Sequence[Mapping[str, Any]] = ()) -> tuple[Suspect, ...]:
    """Return the participants that stand out: first those whose steps ended badly, the last of them first.

    Then those of steps before that went well but took longer than the policy would have waited: what comes after a slow
    participant may fail for want of time. A saga without either points at no one.
    """
    steps = [event for event in events if event.kind == "step"]
    found: dict[str, Suspect] = {}
    for last in reversed([event for event in steps if event.status in _ENDED_BADLY]):
        if last.participant not in found:
            count = sum(event.participant == last.participant and event.status in _ENDED_BADLY for event in steps)
            how = "failed" if last.status == "failed" else "timed out"
            often = f", {count} attempts at this participant have ended badly" if count > 1 else ""
            found[last.participant] = Suspect(last.participant, last.step, f"{last.step} {how}{often}")
    limits = {(each["step"], each["participant"]): float(each["timeout_ms"]) for each in policy_steps}
    for event in steps:
        limit = limits.get((event.step, event.participant))
        # A duration that was not told is NaN, and longer than nothing.
        if limit is not None and event.status == "completed" and event.duration_ms > limit:
            found.setdefault(
                event.participant,
                Suspect(
                    event.participant,
                    event.step,
                    f"{event.step} took {event.duration_ms:,.0f} ms, the policy waits {limit:,.0f}",
                ),
            )
    return tuple(found.values())
