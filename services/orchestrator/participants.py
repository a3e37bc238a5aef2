"""What participants look like lately, from the events of all sagas: attempts under way, latency, failures.

What belongs here: figures, pure; times are given, in seconds on any one clock. What does not: reading events
(:mod:`services.orchestrator.stream`), and what follows from the figures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

WINDOW: Final = 60.0
"""Seconds that count as lately."""
LONGEST: Final = 600.0
"""Seconds after which an attempt without an end counts as ended: its end was lost, or never told."""
_MOST_ENDS: Final = 500
"""Ends that are looked at, the newest ones: bounds what a busy participant holds."""
_MOST_PARTICIPANTS: Final = 1_000
_MOST_ATTEMPTS: Final = 100_000

Attempt = Hashable


@dataclass(frozen=True, slots=True)
class Figures:
    """A participant at one moment. Latency is the median of lately ended attempts, milliseconds, None without any."""

    in_flight: int
    latency_ms: float | None
    ended: int
    failed: int


@dataclass(slots=True)
class _Participant:
    started_at: float
    under_way: dict[Attempt, float] = field(default_factory=dict)
    ends: deque[tuple[float, float | None, bool]] = field(default_factory=lambda: deque(maxlen=_MOST_ENDS))


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

    def ended(self, attempt: Attempt, at: float, *, failed: bool, latency_ms: float | None = None) -> None:
        """Note that an attempt ended; where no latency is told, it is the time since its start."""
        self._now = max(self._now, at)
        participant = self._at.pop(attempt, None)
        if participant is None:
            return
        one = self._of[participant]
        began = one.under_way.pop(attempt)
        one.ends.append((at, max(0.0, at - began) * 1000 if latency_ms is None else latency_ms, failed))

    def dropped(self, attempt: Attempt) -> None:
        """Forget an attempt whose end will not be told: its saga ended, or is not read here any more."""
        participant = self._at.pop(attempt, None)
        if participant is not None:
            self._of[participant].under_way.pop(attempt, None)

    def figures(self, participant: str, at: float | None = None) -> Figures | None:
        """Return a participant's figures ``at`` a time, by default that of the newest event; None where it is unknown.

        It is unknown where it has not said for :data:`LONGEST` seconds that an attempt starts: then a count of 0 would
        only mean that nobody tells.
        """
        one = self._of.get(participant)
        now = self._now if at is None else at
        if one is None or one.started_at < now - LONGEST:
            return None
        self._expire(one, now)
        ends = [(latency, failed) for ended, latency, failed in one.ends if ended >= now - WINDOW]
        latencies = [latency for latency, _ in ends if latency is not None]
        return Figures(
            in_flight=len(one.under_way),
            latency_ms=median(latencies) if latencies else None,
            ended=len(ends),
            failed=sum(failed for _, failed in ends),
        )

    def in_flight(self, at: float | None = None) -> dict[str, float]:
        """Return the attempts under way by participant, of those that are known."""
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
