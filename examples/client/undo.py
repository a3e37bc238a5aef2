"""Undoing what a saga has done.

What belongs here: the order, and the attempts at each compensation. What does not: when a saga is compensated.

A compensation is brought to its end: neither the saga's deadline nor a retry budget stops it, since what is not undone
costs more than the load. Its attempts are bounded all the same; what fails then is named, for a person.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from examples.client.attempt import Call, run
from examples.client.errors import CompensationFailed
from examples.client.reporting import Happened

if TYPE_CHECKING:
    from examples.client.saga import Saga

log = logging.getLogger("isthmus.client")


@dataclass(frozen=True, slots=True)
class Undo:
    """A step that was, or may have been, done, and how it is undone."""

    step: str
    participant: str
    key: str
    call: Call


async def undone(saga: Saga, steps: Sequence[Undo]) -> None:
    """Undo ``steps``; raises :class:`CompensationFailed` when all were tried and some could not be undone."""

    async def order() -> dict[str, Any]:
        return {"order": list((await saga.ask()).compensation)}

    advised = (await saga.client.durability.step("compensation", order))["order"]
    failed = [one.step for one in in_order(steps, advised) if not await _undo(saga, one)]
    if failed:
        log.error("of the saga %s these steps could not be undone: %s", saga.id, ", ".join(failed))
        raise CompensationFailed(failed)


def in_order(steps: Sequence[Undo], advised: Sequence[str]) -> list[Undo]:
    """Return the advised ones first, in the order advised, then the others, the last one done first."""
    place = {name: at for at, name in enumerate(advised)}
    order = sorted(range(len(steps)), key=lambda at: (place.get(steps[at].step, len(place)), -at))
    return [steps[at] for at in order]


async def _undo(saga: Saga, one: Undo) -> bool:
    client = saga.client
    seen = len(saga.events)

    async def attempts() -> dict[str, Any]:
        # After a crash the order is remembered, and nobody has been asked in this life.
        advice = saga.advice or await saga.ask()
        policy = advice.step(one.step, one.participant)
        for number in range(1, client.undo_attempts + 1):
            attempt = saga.attempt(one.step, one.participant, number, policy.timeout, undoes=one.key)
            outcome = await run(one.call, attempt, client.clock)
            if outcome.status == "completed":
                milliseconds = round(outcome.seconds * 1000, 3)
                happened = Happened(
                    client.wall(), one.step, one.participant, number, "compensated", duration_ms=milliseconds
                )
                saga.note(happened)
                return {"events": [happened], "done": True}
            log.warning("undoing %s of the saga %s: %s", one.step, saga.id, outcome.error)
            if outcome.is_permanent or outcome.status == "declined":
                break
            if number < client.undo_attempts:
                await client.clock.sleep(client.jitter(policy.backoff * 2.0 ** (number - 1)))
        return {"events": [], "done": False}

    record = await client.durability.step(f"undo {one.step}@{one.participant}", attempts)
    if len(saga.events) == seen:
        for happened in record["events"]:
            saga.note(happened)
    done: bool = record["done"]
    return done
