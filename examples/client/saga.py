"""A saga: its steps by the advice, each reported; undone where it cannot reach its end.

What belongs here: the life of one saga. What does not: what all sagas of a process share
(:mod:`examples.client.client`), the attempts at a step (:mod:`examples.client.attempts`), undoing
(:mod:`examples.client.undo`).

    async with client.saga("order", "order-4711", amount=129.95) as saga:
        await saga.step("reserve_stock", "inventory", reserve, compensate=release)
        await saga.step("charge_payment", "payment", charge, compensate=void)

Left without an exception, the saga has completed. With one it is compensated and aborted, and the exception goes on:
for a reason of the business with :class:`Declined`, for a technical one with any other. :class:`Held` and a
cancellation leave it as it is: a person, or a run after the crash, goes on with it.

What a saga does goes through its durability, a step at a time: after a crash it runs from its begin, is told what was
done before, reports it again under the same ids, and does only what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import asdict, dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from examples.client.advice import Advice
from examples.client.asking import Question
from examples.client.attempt import Attempt, Call, Outcome
from examples.client.attempts import Attempts
from examples.client.deadline import Deadline
from examples.client.errors import CompensationAdvised, Declined, FallBackAdvised, Held, StepFailed
from examples.client.reporting import Happened, Scalars, Trace, report
from examples.client.undo import Undo, undone

if TYPE_CHECKING:
    from examples.client.client import Client

log = logging.getLogger("isthmus.client")

_CURRENT: ContextVar[Saga] = ContextVar("isthmus_saga")
Verdict = Literal["go_on", "fall_back", "compensate", "hold"]


@dataclass(frozen=True, slots=True)
class Step:
    """A step, to be named as the fallback of another one."""

    name: str
    participant: str
    call: Call
    compensate: Call | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """What is said of a saga at its start; personal fields are hashed, masked or dropped by the router."""

    amount: float | None = None
    currency: str | None = None
    customer: str | None = None
    customer_email: str | None = None
    account: str | None = None
    attributes: Scalars | None = None

    def data(self) -> dict[str, Any]:
        """Return the fields that are there."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Saga:
    """One saga; made by :meth:`Client.saga`."""

    def __init__(
        self,
        client: Client,
        saga_type: str,
        saga_id: str,
        started: Started,
        *,
        deadline_seconds: float | None,
        traceparent: str | None,
        route: Sequence[str] = (),
    ) -> None:
        self.type, self.id = saga_type, saga_id
        self.deadline = Deadline()
        self.outcome: str | None = None
        """Which of several good ends it reaches; set by the saga's code, reported when it completes."""
        self.advice: Advice | None = None
        """The advice that was obeyed last."""
        self.client = client
        self._route = tuple(route)
        self._started = started
        self._started_at: datetime
        self._deadline_seconds = deadline_seconds
        self._trace = Trace.of(saga_id, traceparent)
        self._events: list[Happened] = []
        self._undo: list[Undo] = []
        self._fell_back = False
        self._begun = self._resumed = False
        self._token: Token[Saga] | None = None

    @staticmethod
    def current() -> Saga:
        """Return the saga that this code runs in; raises LookupError where there is none."""
        try:
            return _CURRENT.get()
        except LookupError:
            raise LookupError("no saga is open here: call it within `async with client.saga(…)`") from None

    @property
    def events(self) -> tuple[Happened, ...]:
        """What has happened so far."""
        return tuple(self._events)

    async def __aenter__(self) -> Saga:
        await self.client.room()
        begun = await self.client.durability.step("begin", self._begin)
        self._resumed = not self._begun
        self.resume(begun["at"])
        self.report_started()
        self._token = _CURRENT.set(self)
        return self

    def resume(self, started_at: datetime, events: Sequence[Happened] = ()) -> None:
        """Take up a saga that began at ``started_at``, with what has happened: for who keeps its state elsewhere."""
        self._started_at, self._events = started_at, list(events)
        if self._deadline_seconds is not None:
            # It counts from the start of the saga, which may lie in a life before this one.
            passed = max(0.0, (self.client.wall() - self._started_at).total_seconds())
            self.deadline = Deadline.within(self._deadline_seconds - passed, self.client.clock.now())

    def report_started(self) -> None:
        """Report the begin."""
        self._report("isthmus.saga.started", self._started.data(), "started", self._started_at)

    def report_ended(self, at: datetime, aborted: tuple[str, str] | None = None) -> None:
        """Report the end: a good one, or by ``aborted`` the reason (``business``, ``technical``) and its detail."""
        if aborted is None:
            more = {} if self.outcome is None else {"outcome": self.outcome}
            self._report("isthmus.saga.completed", more, "ended", at)
        else:
            reason, detail = aborted
            self._report("isthmus.saga.aborted", {"reason": reason, "detail": detail[:200]}, "ended", at)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _CURRENT.reset(self._token)
        if isinstance(error, Held) or not (error is None or isinstance(error, Exception)):
            log.warning("the saga %s stands where it is (%s)", self.id, type(error).__name__)
            return
        if error is not None:
            await self.compensate()
        ended = await self.client.durability.step("end", self._begin)
        self.report_ended(ended["at"], None if error is None else _why(error))

    async def step(
        self,
        name: str,
        participant: str,
        call: Call,
        *,
        compensate: Call | None = None,
        fall_back: Step | None = None,
    ) -> Any:
        """Do a step by the advice and return what ``call`` returned.

        ``call`` is given an :class:`Attempt` for each attempt. ``compensate`` undoes the step: it is called also where
        it is not known whether the step was done, so it must bear that nothing was. ``fall_back`` is done instead
        where that is advised (without it :class:`FallBackAdvised` is raised) or the step has failed. Raises
        :class:`Declined`, :class:`StepFailed`, :class:`Held`, :class:`CompensationAdvised`.
        """
        self.client.check_names(self.id, name, participant)
        ran: list[Outcome] = []

        async def attempts() -> dict[str, Any]:
            record = await Attempts(self, name, participant, call, ran).run()
            # The first step that a life before this one left no record of may have been under way in it.
            record["sent"] = record["sent"] or (self._resumed and record["end"] != "declined")
            self._resumed = False
            return record

        seen = len(self._events)
        record = await self.client.durability.step(f"{name}@{participant}", attempts)
        if len(self._events) == seen:
            # Done in a life before this one, which may have died before what it reported was delivered.
            for one in record["events"]:
                self.note(one)
        if compensate is not None and record["sent"]:
            self._undo.append(Undo(name, participant, self.key(name, participant), compensate))
        if record["end"] == "done":
            return record["result"]
        other = fall_back if record["end"] in ("fall_back", "failed") and not self._fell_back else None
        self._fell_back = self._fell_back or other is not None or record["end"] == "fall_back"
        if other is not None:
            return await self.step(other.name, other.participant, other.call, compensate=other.compensate)
        raise _error(name, participant, record) from (ran[-1].cause if ran else None)

    async def compensate(self) -> None:
        """Undo what was done, in the advised order, else the last one first; raises :class:`CompensationFailed`."""
        if self._undo:
            left, self._undo = self._undo, []
            await undone(self, left)

    def key(self, name: str, participant: str) -> str:
        """Return the idempotency key of a step."""
        return f"{self.id}/{name}@{participant}"

    def attempt(
        self,
        name: str,
        participant: str,
        number: int,
        seconds: float,
        *,
        undoes: str | None = None,
        way: str | None = None,
    ) -> Attempt:
        """Return what a call is told."""
        key = self.key(name, participant) + ("" if undoes is None else "/undo")
        span = self._trace.parent(f"{key}/{number}")
        return Attempt(self.type, self.id, name, participant, number, key, undoes, way, seconds, span)

    def after(self, participant: str) -> tuple[str, ...]:
        """Return whom the saga calls after ``participant``, as far as its route was told."""
        at = self._route.index(participant) + 1 if participant in self._route else len(self._route)
        return self._route[at:]

    def note(self, one: Happened) -> None:
        """Remember and report what happened."""
        self._events.append(one)
        self.client.report(one.report(self.type, self.id, source=self.client.source, trace=self._trace))

    async def ask(self, *, giving_up: bool = False) -> Advice:
        """Ask what to do next; ``giving_up``: how to undo it."""
        question = Question(
            self.type,
            self.id,
            self._started_at,
            self.events,
            self._started.amount,
            self.client.load(),
            self._trace.parent(f"{self.id}/advice/{len(self._events)}"),
            giving_up,
        )
        self.advice = await self.client.adviser.ask(question, self.client.clock.now())
        return self.advice

    async def verdict(self, advice: Advice, *, before: bool = False) -> Verdict:
        """Return what the advice comes to: a person may be asked, and one fallback is enough.

        ``before`` is for a step that begins. Where the one before it ended badly, and the saga's code goes on all the
        same, that a compensation is advised because of that end is known to it.
        """
        if before and advice.action == "compensate" and self._events and self._events[-1].ended_badly:
            return "go_on"
        if advice.action == "hold" and self.client.on_hold is not None:
            return await self.client.on_hold(self, advice)
        if advice.action == "fall_back" and self._fell_back:
            return "go_on"
        return "go_on" if advice.action == "retry" else advice.action

    async def _begin(self) -> dict[str, Any]:
        self._begun = True
        return {"at": self.client.wall()}

    def _report(self, type: str, data: dict[str, Any], name: str, at: datetime) -> None:
        data = {"saga_type": self.type, **data}
        self.client.report(
            report(type, data, self.id, f"{self.id}/{name}", at, source=self.client.source, trace=self._trace)
        )


def _error(name: str, participant: str, record: Mapping[str, Any]) -> Exception:
    why = record["why"]
    if record["end"] == "declined":
        return Declined(why)
    if record["end"] == "failed":
        return StepFailed(name, participant, record["attempts"], why)
    advised = {"hold": Held, "fall_back": FallBackAdvised, "compensate": CompensationAdvised}
    return advised[record["end"]](why, record["decision_id"])


def _why(error: BaseException) -> tuple[str, str]:
    """Return reason and detail of an end, in a line and without a foreign message: that may hold anything."""
    if isinstance(error, Declined):
        return "business", error.reason
    if isinstance(error, StepFailed):
        return "technical", f"{error.step} failed {error.attempts} times: {error.because}"
    return "technical", type(error).__name__
