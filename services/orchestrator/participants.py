"""How many attempts each participant has under way, counted from the events of all sagas.

What belongs here: the count, pure; times are given, in seconds on any one clock. What does not: reading events
(:mod:`services.orchestrator.stream`), and how a participant does (:mod:`ml.steering.health`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

LONGEST: Final = 600.0
"""Seconds after which an attempt without an end counts as ended: its end was lost, or never told."""
_MOST_PARTICIPANTS: Final = 1_000
_MOST_ATTEMPTS: Final = 100_000

Attempt = Hashable


@dataclass(slots=True)
class _Participant:
    started_at: float
    under_way: dict[Attempt, float] = field(default_factory=dict)


class Participants:
    """Counts attempts by participant. Participants that never say that an attempt starts are not known here."""

    def __init__(self) -> None:
        self._of: dict[str, _Participant] = {}
        self._at: dict[Attempt, str] = {}
        self._now = float("-inf")

    def started(self, participant: str, attempt: Attempt, at: float) -> None:
        """Note that an attempt began; ``attempt`` identifies it among all."""
        self._now = max(self._now, at)
        one = self._of.get(participant)
        if one is None:
            if len(self._of) >= _MOST_PARTICIPANTS:
                self._drop_the_oldest()
            one = self._of[participant] = _Participant(at)
        one.started_at = max(one.started_at, at)
        if attempt not in self._at and len(self._at) < _MOST_ATTEMPTS:
            self._at[attempt] = participant
            one.under_way[attempt] = at

    def ended(self, attempt: Attempt, at: float) -> None:
        """Note that an attempt ended."""
        self._now = max(self._now, at)
        self.dropped(attempt)

    def dropped(self, attempt: Attempt) -> None:
        """Forget an attempt whose end will not be told: its saga ended, or is not read here any more."""
        participant = self._at.pop(attempt, None)
        if participant is not None:
            self._of[participant].under_way.pop(attempt, None)

    def in_flight(self, at: float | None = None) -> dict[str, float]:
        """Return the attempts under way by participant ``at`` a time, by default that of the newest event.

        One that has not said for :data:`LONGEST` seconds that an attempt starts is left out: a count of 0 would only
        mean that nobody tells.
        """
        now, found = self._now if at is None else at, {}
        for name, one in self._of.items():
            if one.started_at >= now - LONGEST:
                self._expire(one, now)
                found[name] = float(len(one.under_way))
        return found

    def _expire(self, one: _Participant, now: float) -> None:
        # Begun in about the order of time, so that the first that is young enough ends the search.
        while one.under_way:
            attempt, began = next(iter(one.under_way.items()))
            if began >= now - LONGEST:
                return
            del one.under_way[attempt]
            self._at.pop(attempt, None)

    def _drop_the_oldest(self) -> None:
        name = min(self._of, key=lambda name: self._of[name].started_at)
        for attempt in self._of.pop(name).under_way:
            self._at.pop(attempt, None)
