"""Retry budgets: retries may be at most a share of what is asked of a participant, so that they do not keep an outage
alive.

What belongs here: counting, pure and with the time given, so that real time and virtual time use the same code. What
does not: when a step is tried again (:mod:`examples.client.saga`), and where ratio and window come from.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

SLOTS: Final = 20
"""Parts that a window is cut into; what leaves it leaves a part at a time."""
_ROUNDING: Final = 1e-9


class RetryBudget:
    """A bucket of retries for one participant, shared by all that call it from this process.

    A request earns ``ratio`` of a retry, for ``window_seconds``; a retry spends a whole one, and gets it back when it
    is older than that. ``minimum`` retries per window are always there, so that a quiet participant can be retried at
    all. Hence at each retry granted: retries within the last window <= ``ratio`` * requests within it + ``minimum``.

    ``now`` is in seconds of any clock; where it goes back it is taken as standing still. Not for several threads at
    once without a lock.
    """

    __slots__ = ("_latest", "_requests", "_retries", "_slots", "_width", "minimum", "ratio")

    def __init__(self, ratio: float, window_seconds: float, minimum: float = 1.0) -> None:
        if not (math.isfinite(ratio) and ratio >= 0):
            raise ValueError(f"a ratio of {ratio} is not one: 0 or more is needed")
        if not (math.isfinite(window_seconds) and window_seconds > 0):
            raise ValueError(f"a window of {window_seconds} s is not one: more than 0 is needed")
        if not (math.isfinite(minimum) and minimum >= 0):
            raise ValueError(f"a minimum of {minimum} retries is not one: 0 or more is needed")
        self.ratio = ratio
        """May be set anew at any time; what was counted stays."""
        self.minimum = minimum
        self._width = window_seconds / SLOTS
        self._slots: deque[list[int]] = deque()  # [slot, requests, retries], oldest first
        self._requests = 0
        self._retries = 0
        self._latest = -math.inf

    @property
    def window_seconds(self) -> float:
        """Length of the window, seconds."""
        return self._width * SLOTS

    def deposit(self, now: float) -> None:
        """Count a request: a first attempt, not a retry."""
        self._slot(now)[1] += 1
        self._requests += 1

    def withdraw(self, now: float) -> bool:
        """Spend a retry and return True, or return False where none is left: the retry must not be sent."""
        slot = self._slot(now)
        if self._retries + 1 > self.ratio * self._requests + self.minimum + _ROUNDING:
            return False
        slot[2] += 1
        self._retries += 1
        return True

    def balance(self, now: float) -> float:
        """Return how many retries could be spent now; below 0 where requests have become fewer since some were."""
        self._slot(now)
        return self.ratio * self._requests + self.minimum - self._retries

    def _slot(self, now: float) -> list[int]:
        """Return the slot of ``now``, with what is older than the window taken out of the sums."""
        if not math.isfinite(now):
            raise ValueError(f"{now} is no time")
        self._latest = now = max(now, self._latest)
        number = math.floor(now / self._width)
        slots = self._slots
        if slots and slots[-1][0] == number:
            return slots[-1]
        # The slot that is just leaving lies partly within the window still: its retries count, its requests do not.
        for slot in slots:
            if slot[0] > number - SLOTS:
                break
            self._requests -= slot[1]
            slot[1] = 0
        while slots and slots[0][0] < number - SLOTS:
            self._retries -= slots.popleft()[2]
        slots.append([number, 0, 0])
        return slots[-1]


class RetryBudgets:
    """The budgets of one process, a participant each; ratio and window follow the advice."""

    def __init__(self, minimum: float = 1.0) -> None:
        self._minimum = minimum
        self._budgets: dict[str, RetryBudget] = {}

    def of(self, participant: str, ratio: float, window_seconds: float) -> RetryBudget:
        """Return the budget of ``participant``, at these terms; a new window begins it anew."""
        known = self._budgets.get(participant)
        if known is None or not math.isclose(known.window_seconds, window_seconds):
            known = self._budgets[participant] = RetryBudget(ratio, window_seconds, self._minimum)
        known.ratio = ratio
        return known
