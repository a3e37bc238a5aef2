"""Faults of participants, by kind: what each does to a call, and when.

What belongs here: kinds, windows, and what is in force at a moment. What does not: how a call is served
(``participants``) and where schedules come from (benchmarks, the live shop's admin door).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a fault does. A severity is a factor (slow, delay) or a share of the calls (errors, hang, crash)."""

    SLOW = "slow"
    """Brown-out, starved CPU: the work takes longer, and the worker with it."""
    DELAY = "delay"
    """Network: the answer takes longer, the worker is free meanwhile."""
    ERRORS = "errors"
    """Exceptions and wrong returns: after some of the work the call fails."""
    HANG = "hang"
    """The call is taken up and never answered; its worker is lost until the fault's end, or until it is reaped."""
    CRASH = "crash"
    """Refused at once: nobody listens."""


_WORDS = {
    Kind.SLOW: (
        "slow",
        "brown",
        "latency",
        "cpu",
        "mem",
        "disk",
        "contention",
        "degrad",
        "throttl",
        "saturat",
        "overload",
    ),
    Kind.DELAY: ("delay", "network", "packet", "jitter", "bandwidth"),
    Kind.ERRORS: ("error", "exception", "return", "fail", "http", "5xx", "abort", "corrupt"),
    Kind.HANG: ("hang", "stall", "freeze", "deadlock", "block", "unresponsive", "timeout", "time-out", "blackhole"),
    Kind.CRASH: ("crash", "down", "outage", "kill", "partition", "unavailable", "restart", "refus", "reset", "oom"),
}


def kind_of(word: str) -> Kind:
    """Return the kind that a word of a schedule means; raises ValueError for one that means none."""
    plain = word.strip().lower().replace("slowdown", "slow")
    # A delay of the network first, since "network_delay" and "latency" are told apart by it.
    for kind in (Kind.DELAY, Kind.HANG, Kind.CRASH, Kind.ERRORS, Kind.SLOW):
        if any(part in plain for part in _WORDS[kind]):
            return kind
    raise ValueError(f"no kind of fault is called {word!r}: known are {', '.join(one.value for one in Kind)}")


@dataclass(frozen=True, slots=True)
class Fault:
    """A participant in trouble from ``start`` to ``end``, seconds."""

    participant: str
    kind: Kind
    start: float
    end: float
    severity: float

    @property
    def factor(self) -> float:
        """How many times as long calls take; a severity of at most 1 is read as how far it is on the way to tenfold."""
        return self.severity if self.severity > 1.0 else 1.0 + 9.0 * max(self.severity, 0.0)

    @property
    def share(self) -> float:
        """The share of calls that it hits; a severity above 1 is read as a percentage."""
        return min(max(self.severity if self.severity <= 1.0 else self.severity / 100.0, 0.0), 1.0)


class Schedule:
    """The faults of one participant, by moment."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.start))
        edges = sorted({moment for fault in self.faults for moment in (fault.start, fault.end)})
        self._edges = edges
        self._active = [tuple(fault for fault in self.faults if fault.start <= edge < fault.end) for edge in edges]

    def at(self, moment: float) -> tuple[Fault, ...]:
        """Return the faults in force at ``moment``."""
        place = bisect_right(self._edges, moment) - 1
        return self._active[place] if place >= 0 else ()
