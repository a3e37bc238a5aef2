"""The attempts at one step: one after another, as far as advice, deadline and budget let them.

What belongs here: when a step is tried, tried again, and given up. What does not: one attempt
(:mod:`examples.client.attempt`), and what follows for the saga (:mod:`examples.client.saga`).

Where the saga has a deadline and turns are given (:mod:`examples.client.turns`), these say when an attempt is made, how
long it is waited for, and when it is too late: attempts and budget of the advice are for those who see no others.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from examples.client.advice import Advice, StepPolicy
from examples.client.attempt import Call, Outcome, run
from examples.client.reporting import Happened, Scalars
from examples.client.turns import Coming, Turn

if TYPE_CHECKING:
    from examples.client.saga import Saga


class Attempts:
    """The attempts at one step, up to its end."""

    def __init__(
        self, saga: Saga, name: str, participant: str, call: Call, ran: list[Outcome], *, number: int = 1
    ) -> None:
        self._saga, self._call, self._ran = saga, call, ran
        self._client = saga.client
        self._place = (name, participant)
        self._events: list[Happened] = []
        self._sent = False
        self._number = number
        self._advice: Advice | None = None
        self._turn: Turn | None = None

    async def run(self) -> dict[str, Any]:
        """Return the record of the step: events, how it ended, its result. It can be pickled where the result can."""
        while True:
            record = await self.once()
            if record["end"] != "again":
                return record
            await self._client.clock.sleep(record["pause"])
            self._number += 1

    async def once(self) -> dict[str, Any]:
        """Return the record after one attempt: where its end is ``again``, another is due after ``pause`` seconds."""
        advice = self._advice
        if advice is None:
            advice = await self._saga.ask()
            verdict = await self._saga.verdict(advice, before=True)
            if verdict != "go_on":
                return self._ended(verdict, advice.because, decision_id=advice.decision_id)
        self._note("scheduled", attributes=_marks(advice))
        outcome = await self._attempt(advice.step(*self._place))
        if end := _final(outcome):
            return self._ended(*end, result=outcome and outcome.result)
        self._advice = advice = await self._saga.ask()
        end, pause = await self._next(advice)
        return self._ended(*end, decision_id=advice.decision_id, pause=pause)

    async def _next(self, advice: Advice) -> tuple[tuple[str, str], float]:
        """Return how the step goes on after an attempt that ended badly, and after how many seconds."""
        policy, client = advice.step(*self._place), self._client
        left = policy.attempts - self._number
        verdict = await self._saga.verdict(advice)
        if verdict != "go_on" and not (verdict == "compensate" and left <= 0):
            return (verdict, advice.because), 0.0
        pause = 0.0
        if self._turn is None:
            if left <= 0:
                return ("failed", "attempts"), 0.0
            pause = client.jitter(policy.backoff * 2.0 ** (self._number - 1))
            if not self._saga.deadline.allows(pause, client.clock.now()):
                return ("failed", "deadline"), 0.0
            if not client.may_retry(self._place[1], policy):
                return ("failed", "budget"), 0.0
        self._note("retried")
        return ("again", advice.because), pause

    async def _attempt(self, policy: StepPolicy) -> Outcome | None:
        """Return how the next attempt ended; None where it was not sent, because nobody would wait for its answer."""
        client, saga, now = self._client, self._saga, self._client.clock.now()
        if not saga.deadline.allows(client.expected(self._place, now), now):
            self._shed()
            return None
        turn = self._turn = await self._my_turn(now)
        if turn is not None and turn.move == "stop":
            self._shed()
            return None
        left = saga.deadline.remaining(client.clock.now())
        seconds = min(policy.timeout if turn is None else turn.seconds, left)
        if self._number == 1:
            client.count(self._place[1], policy)
        with client.in_flight(self._place[1]) as load:
            self._note("started", load=load)
            self._sent = True
            outcome = await run(self._call, saga.attempt(*self._place, self._number, seconds), client.clock)
        if turn is not None and turn.ticket is not None:
            client.turner.ended(self._place[1], turn.ticket, outcome)
        self._ran.append(outcome)
        if outcome.status in ("completed", "declined"):
            client.observe(self._place, outcome.seconds)
        status = "failed" if outcome.status == "declined" else outcome.status
        self._note(status, error=outcome.error, duration_ms=round(outcome.seconds * 1000, 3))
        return outcome

    async def _my_turn(self, now: float) -> Turn | None:
        """Wait for the turn of the next attempt; None where nobody decides, or the saga has all the time there is."""
        saga, (step, participant) = self._saga, self._place
        left = saga.deadline.remaining(now)
        if math.isinf(left):
            return None
        coming = Coming(saga.id, step, participant, left, self._number - 1, saga.after(participant))
        return await self._client.turner.turn(coming, now)

    def _shed(self) -> None:
        """Note an attempt that was not sent."""
        self._note("failed", error="DeadlineShed", attributes={"sent": False})

    def _note(self, status: str, **more: Any) -> None:
        step, participant = self._place
        one = Happened(self._client.wall(), step, participant, self._number, status, **more)
        self._events.append(one)
        self._saga.note(one)

    def _ended(
        self, end: str, why: str = "", *, result: Any = None, decision_id: str | None = None, pause: float = 0.0
    ) -> dict[str, Any]:
        return {
            "events": self._events,
            "sent": self._sent and end != "declined",
            "end": end,
            "why": why,
            "attempts": self._number,
            "decision_id": decision_id,
            "result": result,
            "pause": pause,
        }


def _final(outcome: Outcome | None) -> tuple[str, str] | None:
    """Return how the step ends by its last attempt (None: it was not sent) alone; None where that is still open."""
    if outcome is None:
        return "failed", "deadline"
    if outcome.status == "completed":
        return "done", ""
    if outcome.status == "declined":
        return "declined", outcome.error or ""
    return ("failed", "permanent") if outcome.is_permanent else None


def _marks(advice: Advice) -> Scalars:
    """Return what an attempt rests on, for its event."""
    marks: dict[str, str] = {"advice": advice.source}
    return marks if advice.decision_id is None else {**marks, "decision_id": advice.decision_id}
