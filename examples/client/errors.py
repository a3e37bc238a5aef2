"""What ends a step or a saga, as types: business, technical, or because of the advice.

What belongs here: exceptions that the caller of the library sees or raises. What does not: what is done about them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class SagaError(Exception):
    """The root of all of them."""


class Declined(SagaError):
    """Raised by a call: the participant says no for a reason of the business. It is not tried again, and did nothing.

    ``reason`` goes into the reported events: a word, nothing personal. It is cut to what an event takes.
    """

    def __init__(self, reason: str) -> None:
        reason = _CONTROL.sub(" ", reason)[:200] or "Declined"
        super().__init__(reason)
        self.reason = reason


class Permanent(SagaError):
    """Raised by a call: it failed, and would fail again. It is not tried again."""


class StepFailed(SagaError):
    """A step has failed for good.

    ``because`` is one of ``attempts`` (none is left), ``budget`` (the participant gets no more retries now),
    ``deadline`` (no call could make it), ``permanent``. The last error, where there was one, is the cause.
    """

    def __init__(self, step: str, participant: str, attempts: int, because: str) -> None:
        # All of it as arguments, here and below: a durable orchestrator pickles what ends a saga.
        super().__init__(step, participant, attempts, because)
        self.step, self.participant, self.attempts, self.because = step, participant, attempts, because

    def __str__(self) -> str:
        return f"{self.step} at {self.participant} failed after {self.attempts} attempts: {self.because}"


class Advised(SagaError):
    """The advice is not to go on; ``why`` is its sentence."""

    def __init__(self, why: str, decision_id: str | None = None) -> None:
        super().__init__(why, decision_id)
        self.why, self.decision_id = why, decision_id

    def __str__(self) -> str:
        return self.why


class Held(Advised):
    """A person should decide. Nothing is compensated, and the saga is not ended: it stands where it is."""


class FallBackAdvised(Advised):
    """Another way should be taken. Caught by the saga's code it may go on with other steps; else it is compensated."""


class CompensationAdvised(Advised):
    """What was done should be undone now."""


class CompensationFailed(SagaError):
    """Some of what was done could not be undone; the saga is not ended, a person has to look. ``steps`` names them."""

    def __init__(self, steps: Sequence[str]) -> None:
        super().__init__(tuple(steps))
        self.steps = tuple(steps)

    def __str__(self) -> str:
        return f"not undone: {', '.join(self.steps)}"


class Backlog(SagaError):
    """Too many events wait to be reported: no new saga is begun. Nothing of this one has happened."""


class Undelivered(SagaError):
    """Events could not be reported before the client was closed; ``events`` are their bytes, to be sent later."""

    def __init__(self, events: Sequence[bytes]) -> None:
        super().__init__(tuple(events))
        self.events = tuple(events)

    def __str__(self) -> str:
        return f"{len(self.events)} events were not delivered"
