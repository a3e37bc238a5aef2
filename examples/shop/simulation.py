"""The course of the sagas: a discrete-event simulation of the orchestrator and its participants in virtual time.

What belongs here: queues, attempts, time-outs, retries, declines. What does not: parameters (``model``), undoing
(``undo``), and what the outside sees of it (``traffic``, ``metrics``). Times are seconds since the traffic's begin.

Load acts twice, as in life: an attempt waits for a free worker, and it runs longer and fails more often while many
others are in flight. A retry is load as well, so that a brown-out can turn into a storm. What an attempt meets is drawn
when a worker takes it up; nothing before it depends on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import exp
from typing import NamedTuple

import numpy as np

from examples.shop.model import CHANNELS, REFERENCE_RATE, SERVICES, Brownout, Floats, Orders
from examples.shop.undo import Undoing, Undone, undo

ORCHESTRATOR = len(SERVICES)  # position of the orchestrator among those who emit events
QUEUE_PER_WORKER = 5  # a service takes no more into its queue
ISSUER_HAZARD = 1.6  # of each charge to a card whose issuer does not answer
ERRORS = ("ServiceUnavailable", "ConnectionReset", "InternalError")
INVENTORY, PAYMENT, NOTIFICATION = range(3)


class StepRow(NamedTuple):
    """One step event; ``emitter`` is a position in SERVICES, or ORCHESTRATOR."""

    time: float
    order: int
    service: int
    emitter: int
    attempt: int
    status: str
    worker: int | None = None
    error: str | None = None
    duration_ms: float | None = None
    load: int | None = None
    undone: Undone | None = None  # of a compensated step


class EndRow(NamedTuple):
    """The end of a saga; ``reason`` is None where it completed."""

    time: float
    order: int
    reason: str | None
    word: str  # the outcome of a completed saga, the detail of an aborted one
    after: int  # how many step events came before it


class CallRow(NamedTuple):
    """One attempt as its service saw it; ``begun`` equals ``ended`` where the caller gave up in the queue."""

    service: int
    arrived: float
    begun: float
    ended: float
    failed: bool


@dataclass(slots=True)
class Course:
    """What happened, in the order in which it did (compensations stand where they were decided)."""

    steps: list[StepRow] = field(default_factory=list)
    ends: list[EndRow] = field(default_factory=list)
    calls: list[CallRow] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Attempt:
    order: int
    service: int
    number: int
    arrived: float = 0.0
    begun: float = 0.0
    worker: int = -1
    failure: str | None = None
    business: bool = False
    settled: bool = False  # answered or given up: what comes later changes nothing


@dataclass(slots=True)
class _Queue:
    size: int
    free: list[int]
    waiting: deque[_Attempt] = field(default_factory=deque)

    def in_flight(self) -> int:
        return self.size - len(self.free) + len(self.waiting)


class _Draws:
    """Random numbers one by one, drawn by the thousand: a call to numpy for each would be most of the simulation."""

    def __init__(self, random: np.random.Generator) -> None:
        def stream(draw: Callable[[int], np.ndarray]) -> Callable[[], float]:
            return (value for _ in count() for value in draw(4096).tolist()).__next__

        # Streams of their own, so that one kind's number of draws never shifts another's.
        uniform, normal, undo = random.spawn(3)
        self.uniform = stream(uniform.random)
        self.normal = stream(normal.standard_normal)
        self.undo = stream(undo.random)


class Simulation:
    """Orders run through the services until ``until``; what is unfinished then stays unfinished."""

    def __init__(
        self,
        orders: Orders,
        brownouts: list[Brownout],
        conditions: Floats,
        random: np.random.Generator,
        *,
        per_day: float,
        until: float,
    ) -> None:
        self.workers = [max(1, round(service.workers * per_day / REFERENCE_RATE)) for service in SERVICES]
        self._queues = [_Queue(size, list(range(size))[::-1]) for size in self.workers]
        self._brownouts = [[b for b in brownouts if b.service == number] for number in range(len(SERVICES))]
        self._conditions = conditions.tolist()
        self._until = until
        self._course = Course()
        self._heap: list[tuple[float, int, Callable[[float, _Attempt], None], _Attempt]] = []
        self._tie = count()
        self._draw = _Draws(random)
        self._charged: dict[int, float] = {}
        self._locked: set[int] = set()
        self._arrival, self._amount, self._items = (
            column.tolist() for column in (orders.arrival, orders.amount, orders.items)
        )
        self._partner = (orders.channel == CHANNELS.index("partner")).tolist()
        self._digital, self._issuer_down = orders.digital.tolist(), orders.issuer_down.tolist()

    def run(self) -> Course:
        """Return the course of all orders."""
        heap, until = self._heap, self._until
        for order, arrival in enumerate(self._arrival):
            while heap and heap[0][0] < arrival:
                now, _, handle, attempt = heappop(heap)
                handle(now, attempt)
            self._schedule(arrival, _Attempt(order, INVENTORY, 1))
        while heap and heap[0][0] < until:
            now, _, handle, attempt = heappop(heap)
            handle(now, attempt)
        return self._course

    def _at(self, time: float, handle: Callable[[float, _Attempt], None], attempt: _Attempt) -> None:
        heappush(self._heap, (time, next(self._tie), handle, attempt))

    def _schedule(self, now: float, attempt: _Attempt) -> None:
        """The orchestrator sends a command, which takes a few milliseconds."""
        self._course.steps.append(
            StepRow(now, attempt.order, attempt.service, ORCHESTRATOR, attempt.number, "scheduled")
        )
        attempt.arrived = now + 0.002 + 0.01 * self._draw.uniform()
        self._at(attempt.arrived, self._arrive, attempt)

    def _arrive(self, now: float, attempt: _Attempt) -> None:
        queue = self._queues[attempt.service]
        self._at(now + SERVICES[attempt.service].timeout_s, self._time_out, attempt)
        if queue.free:
            self._begin(now, attempt, queue)
        elif len(queue.waiting) < QUEUE_PER_WORKER * queue.size:
            queue.waiting.append(attempt)
        else:
            # Shedding load keeps a brown-out from becoming a storm of retries that outlives it.
            attempt.failure, attempt.settled = "Overloaded", True
            self._course.calls.append(CallRow(attempt.service, now, now, now, True))
            self._course.steps.append(
                StepRow(
                    now,
                    attempt.order,
                    attempt.service,
                    attempt.service,
                    attempt.number,
                    "failed",
                    error=attempt.failure,
                    load=queue.in_flight(),
                )
            )
            self._try_again(now, attempt)

    def _begin(self, now: float, attempt: _Attempt, queue: _Queue) -> None:
        """A free worker takes the attempt up; how it will go is drawn here."""
        service, draw, order = SERVICES[attempt.service], self._draw, attempt.order
        load = queue.in_flight()
        pressure = load / queue.size
        hazard = service.error * self._conditions[attempt.service][int(now / 60)]
        hazard += service.error_load * pressure * pressure
        run = service.median_s * exp(service.spread * draw.normal()) * (1 + service.stretch * pressure)
        for brownout in self._brownouts[attempt.service]:
            if brownout.start < now < brownout.end:
                strength = brownout.strength(now)
                run *= 1 + strength * brownout.slowdown
                hazard += strength * brownout.error
        if attempt.service == INVENTORY:
            run *= 1 + 0.06 * (self._items[order] - 1)
        elif attempt.service == PAYMENT:
            # A large amount takes another factor of authentication; the partner's gateway is the weakest.
            run *= 1.35 if self._amount[order] > 120 else 1.0
            hazard *= 1.8 if self._partner[order] else 1.0
            hazard += ISSUER_HAZARD if self._issuer_down[order] else 0.0
        if draw.uniform() < 1 - exp(-hazard):
            attempt.failure = ERRORS[int(draw.uniform() * len(ERRORS))]
            run *= 0.2 + 0.8 * draw.uniform()
        else:
            attempt.failure = self._decline(attempt)
            attempt.business = attempt.failure is not None
        attempt.begun, attempt.worker = now, queue.free.pop()
        self._course.steps.append(
            StepRow(now, order, attempt.service, attempt.service, attempt.number, "started", attempt.worker, load=load)
        )
        self._at(now + run, self._finish, attempt)

    def _decline(self, attempt: _Attempt) -> str | None:
        """Return the business's own reason to refuse the order, if there is one."""
        if attempt.service == INVENTORY and self._draw.uniform() < 0.007 * self._items[attempt.order]:
            return "OutOfStock"
        if attempt.service == PAYMENT and self._draw.uniform() < 0.018 + 0.0001 * min(self._amount[attempt.order], 500):
            return "CardDeclined"
        return None

    def _finish(self, now: float, attempt: _Attempt) -> None:
        queue = self._queues[attempt.service]
        queue.free.append(attempt.worker)
        technical = attempt.failure is not None and not attempt.business
        self._course.calls.append(CallRow(attempt.service, attempt.arrived, attempt.begun, now, technical))
        while queue.waiting:
            waiting = queue.waiting.popleft()
            if not waiting.settled:
                self._begin(now, waiting, queue)
                break
        if attempt.settled:
            return  # the orchestrator has given up on it: the answer reaches nobody
        attempt.settled = True
        self._course.steps.append(
            StepRow(
                now,
                attempt.order,
                attempt.service,
                attempt.service,
                attempt.number,
                "completed" if attempt.failure is None else "failed",
                attempt.worker,
                attempt.failure,
                round((now - attempt.begun) * 1000, 3),
            )
        )
        if attempt.failure is None:
            self._go_on(now, attempt)
        elif attempt.business:
            self._abort(now, attempt, "business", attempt.failure)
        else:
            self._try_again(now, attempt)

    def _time_out(self, now: float, attempt: _Attempt) -> None:
        if attempt.settled:
            return
        attempt.settled = True
        if attempt.worker < 0:
            self._course.calls.append(CallRow(attempt.service, attempt.arrived, now, now, True))
        self._course.steps.append(
            StepRow(
                now,
                attempt.order,
                attempt.service,
                ORCHESTRATOR,
                attempt.number,
                "timed_out",
                error="DeadlineExceeded",
                duration_ms=round((now - attempt.arrived) * 1000, 3),
            )
        )
        self._try_again(now, attempt)

    def _go_on(self, now: float, attempt: _Attempt) -> None:
        if attempt.service == PAYMENT:
            self._charged[attempt.order] = now
        elif attempt.service == INVENTORY and attempt.number > 1:
            self._locked.add(attempt.order)
        if attempt.service == NOTIFICATION:
            self._end(now, attempt.order, None, "confirmed")
        else:
            self._schedule(now, _Attempt(attempt.order, attempt.service + 1, 1))

    def _try_again(self, now: float, attempt: _Attempt) -> None:
        """The orchestrator tries again after a pause that doubles each time, or gives up."""
        service, order = SERVICES[attempt.service], attempt.order
        if attempt.number < service.attempts:
            self._course.steps.append(
                StepRow(now, order, attempt.service, ORCHESTRATOR, attempt.number, "retried", error=attempt.failure)
            )
            pause = 3 * 2 ** (attempt.number - 1) * (0.5 + self._draw.uniform())
            self._at(now + pause, self._schedule, _Attempt(order, attempt.service, attempt.number + 1))
        elif attempt.service == NOTIFICATION and not self._digital[order]:
            self._end(now, order, None, "unconfirmed")  # the parcel goes out; only the mail does not
        else:
            self._abort(now, attempt, "technical", f"{service.step} failed {attempt.number} times")

    def _abort(self, now: float, attempt: _Attempt, reason: str, detail: str) -> None:
        """Undo the steps that were done, then end."""
        order, draw = attempt.order, self._draw
        undoing = Undoing(
            self._items[order],
            self._amount[order],
            self._charged.pop(order, None),
            order in self._locked,
            range(attempt.service),
            INVENTORY,
            PAYMENT,
        )
        for one in undo(
            undoing, now, takes=lambda: 0.05 + 0.3 * exp(0.5 * draw.normal()), uniform=draw.undo, hazard=self._trouble
        ):
            now, took = one.ended, round(one.seconds * 1000, 3)
            self._course.steps.append(
                StepRow(now, order, one.service, one.service, 1, "compensated", duration_ms=took, undone=one)
            )
        self._end(now, order, reason, detail)

    def _trouble(self, service: int, now: float) -> float:
        """Return the hazard of an error of an undo: it is quick work, but it meets the same hours and brown-outs."""
        minutes = self._conditions[service]
        hazard: float = SERVICES[service].error * minutes[min(int(now / 60), len(minutes) - 1)]
        return hazard + sum(one.strength(now) * one.error for one in self._brownouts[service])

    def _end(self, now: float, order: int, reason: str | None, word: str) -> None:
        self._course.ends.append(EndRow(now, order, reason, word, after=len(self._course.steps)))
