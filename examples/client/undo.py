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

from examples.client.advice import PlannedUndo
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
    """Undo ``steps``, asking anew after each since what is open may change: ages go on.

    Raises :class:`CompensationFailed` when all were tried, and some could not be undone or are a person's to decide.
    """

    async def plan() -> dict[str, Any]:
        return {"plan": (await saga.ask(giving_up=True)).compensation}

    left, failed = list(steps), []
    while left:
        told = await saga.client.durability.step(f"plan {len(steps) - len(left)}", plan)
        one, way, is_open = following(left, told["plan"])
        left.remove(one)
        if not (is_open and await _undo(saga, one, way)):
            failed.append(one.step)
    if failed:
        log.error("of the saga %s these steps are not undone: %s", saga.id, ", ".join(failed))
        raise CompensationFailed(failed)


def following(left: Sequence[Undo], plan: Sequence[PlannedUndo]) -> tuple[Undo, str | None, bool]:
    """Return what is undone next, by which way (None: the participant's own), and whether it may be.

    The planned ones come first, in their order; then those that no plan names, the last one done first; then those that
    a person decides.
    """
    ways = {(one.step, one.participant): (at, one.way) for at, one in enumerate(plan)}
    behind = len(plan)

    def place(at: int) -> tuple[int, int]:
        known = ways.get((left[at].step, left[at].participant))
        if known is None:
            return behind, -at
        return (known[0] if known[1] is not None else behind + 1), -at

    one = left[min(range(len(left)), key=place)]
    known = ways.get((one.step, one.participant))
    return one, known and known[1], known is None or known[1] is not None


async def _undo(saga: Saga, one: Undo, way: str | None) -> bool:
    client = saga.client
    seen = len(saga.events)

    async def attempts() -> dict[str, Any]:
        # After a crash the order is remembered, and nobody has been asked in this life.
        advice = saga.advice or await saga.ask(giving_up=True)
        policy = advice.step(one.step, one.participant)
        for number in range(1, client.undo_attempts + 1):
            attempt = saga.attempt(one.step, one.participant, number, policy.timeout, undoes=one.key, way=way)
            outcome = await run(one.call, attempt, client.clock)
            if outcome.status == "completed":
                milliseconds = round(outcome.seconds * 1000, 3)
                told: dict[str, str | int] = {"tries": number} if way is None else {"tries": number, "way": way}
                happened = Happened(
                    *(client.wall(), one.step, one.participant, number, "compensated"),
                    duration_ms=milliseconds,
                    attributes=told,
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
