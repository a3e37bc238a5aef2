"""Those who wait for a participant, by deadline.

What belongs here: the order. What does not: who is called (``ml.steering.decide``).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Final

_FIRST: Final = -math.inf
"""Before every saga's number, among equal deadlines."""


@dataclass(slots=True)
class Line:
    """Those who wait for a participant, by deadline."""

    order: list[tuple[float, int]] = field(default_factory=list)
    places: dict[int, float] = field(default_factory=dict)

    def join(self, saga: int, deadline: float) -> int:
        """Return how many stand before a saga, which stands in line from now on."""
        if saga not in self.places:
            self.places[saga] = deadline
            insort(self.order, (deadline, saga))
        return bisect_left(self.order, (self.places[saga], saga))

    def before(self, deadline: float) -> int:
        """Return how many have an earlier deadline."""
        return bisect_left(self.order, (deadline, _FIRST))

    def first(self, count: int) -> list[int]:
        """Return the ``count`` sagas with the earliest deadlines."""
        return [saga for _, saga in self.order[:count]]

    def leave(self, saga: int) -> None:
        """Take a saga out of the line."""
        if (deadline := self.places.pop(saga, None)) is not None:
            del self.order[bisect_left(self.order, (deadline, saga))]

    def expire(self, now: float) -> None:
        """Take out those whose deadline has passed: they have not come back."""
        gone = bisect_left(self.order, (now, _FIRST))
        for _, saga in self.order[:gone]:
            del self.places[saga]
        del self.order[:gone]
