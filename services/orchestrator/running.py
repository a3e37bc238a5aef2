"""Running sagas as the stream knows them: what happened so far in each, in bounded memory.

What belongs here: taking in events, forgetting, and what of a saga changed. What does not: clients, and what is advised
(:mod:`services.orchestrator.advice`).

A saga whose beginning was not seen, or of which something was forgotten, says so (:attr:`Saga.missing`).
"""

from __future__ import annotations

from bisect import insort_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ml.sagas.spec import SagaEvent
from services.orchestrator.participants import Participants
from services.orchestrator.wire import Told

MOST_EVENTS: Final = 1_000
"""Events of one saga that are kept; of one with more the oldest go."""
USUAL_EVENTS: Final = 25
"""Events a saga that there is room for; where sagas are longer, fewer of them are kept."""
_MOST_ENDED: Final = 10_000
_ENDINGS: Final = ("completed", "aborted")
_OVER: Final = ("completed", "failed", "timed_out")

Key = tuple[str, str]
"""Saga type and saga id."""
Place = tuple[str, int]
"""Topic and partition that a saga's events come from."""


@dataclass(slots=True)
class Saga:
    """One running saga; ``events`` are in the order of time."""

    place: Place
    events: list[SagaEvent] = field(default_factory=list)
    last: Told | None = None
    missing: str = ""
    """Why its events are not all here; empty where they are."""
    alarm: bool = False
    """Whether its last advice held an alarm."""
    decision_id: str | None = None
    """Policy that its last advice rests on; what was in force where none was given yet."""
    judged: bool = False
    """Whether the two above are known."""
    seen: dict[int, None] = field(default_factory=dict)
    """Hashes of the events' identities, oldest first: a text each would take more room than all else."""
    attempts: set[tuple[str, str, str, int]] = field(default_factory=set)

    def knows(self, told: Told) -> bool:
        """Return whether an event was taken in before."""
        return hash((told.source, told.id)) in self.seen

    def add(self, told: Told) -> None:
        """Take in an event that was not seen yet."""
        event = told.event
        self.seen[hash((told.source, told.id))] = None
        if len(self.seen) > 2 * MOST_EVENTS:
            del self.seen[next(iter(self.seen))]
        if event.kind == "started":
            # First whatever its clock says: a step may come from a machine whose clock is behind.
            self.events.insert(0, event)
            if self.missing == NO_BEGINNING:
                self.missing = ""
        elif not self.events or self.events[-1].us <= event.us:
            self.events.append(event)
        else:
            begun = self.events[0].kind == "started"
            insort_right(self.events, event, lo=int(begun), key=lambda one: one.us)
        if len(self.events) > MOST_EVENTS:
            del self.events[int(self.events[0].kind == "started")]
            self.missing = "only its newest events are kept"
        self.last = told


NO_BEGINNING: Final = "its beginning was not seen"


class Running:
    """All running sagas, at most ``most``: beyond, the one that was silent for longest is forgotten."""

    def __init__(self, most: int, participants: Participants) -> None:
        self.forgotten = 0
        """Sagas that had to go before their end."""
        self.repeated = 0
        """Events that came again."""
        self._most = most
        self._participants = participants
        self._held = 0
        self._sagas: OrderedDict[Key, Saga] = OrderedDict()
        self._ended: OrderedDict[Key, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sagas)

    def get(self, key: Key) -> Saga | None:
        """Return a running saga; None where it is not known, or has ended."""
        return self._sagas.get(key)

    def of_type(self, saga_type: str) -> list[Key]:
        """Return the running sagas of a type, the one that was silent for longest first."""
        return [key for key in self._sagas if key[0] == saga_type]

    def take(self, told: Told, place: Place) -> Saga | None:
        """Take in an event; return its saga, None where that is over or nothing new was told."""
        key, kind = (told.saga_type, told.event.saga_id), told.event.kind
        saga = self._sagas.get(key)
        if saga is not None and saga.knows(told):
            self.repeated += 1
            return None
        if kind in _ENDINGS:
            self._let_go(key)
            self._ended[key] = None
            if len(self._ended) > _MOST_ENDED:
                self._ended.popitem(last=False)
            return None
        if saga is None:
            if key in self._ended and kind != "started":  # late, or again
                return None
            self._ended.pop(key, None)
            saga = self._sagas[key] = Saga(place, missing="" if kind == "started" else NO_BEGINNING)
        before = len(saga.events)
        saga.place = place
        saga.add(told)
        self._held += len(saga.events) - before
        self._sagas.move_to_end(key)
        self._count(key, saga, told.event)
        while len(self._sagas) > self._most or (self._held > self._most * USUAL_EVENTS and len(self._sagas) > 1):
            self._let_go(next(iter(self._sagas)))
            self.forgotten += 1
        return saga

    def forget(self, places: Iterable[Place]) -> None:
        """Forget the sagas of partitions that are read elsewhere now."""
        gone = set(places)
        for key in [key for key, saga in self._sagas.items() if saga.place in gone]:
            self._let_go(key)

    def _let_go(self, key: Key) -> None:
        saga = self._sagas.pop(key, None)
        if saga is not None:
            self._held -= len(saga.events)
            for attempt in saga.attempts:
                self._participants.dropped(attempt)

    def _count(self, key: Key, saga: Saga, event: SagaEvent) -> None:
        if event.kind != "step":
            return
        attempt = (*key, event.step, event.attempt)
        seconds = event.us / 1e6
        if event.status == "started":
            saga.attempts.add(attempt)
            self._participants.started(event.participant, attempt, seconds)
        elif event.status in _OVER:
            saga.attempts.discard(attempt)
            self._participants.ended(attempt, seconds)
