"""The price's online correction, so that the share of false time-outs comes to its target under drift.

What belongs here: the rule and its state as plain numbers. What does not: what a price buys (``ml.timeouts.price``)
and how the past sets the first one (``ml.timeouts.learning``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: How far, in logs, each of the two corrections may lie from the start: an outage that cuts every step must not be
#: paid back for hours.
LIMIT = 3.0
#: What an error adds to the log price, for all participants and for its own.
POOLED_RATE, OWN_RATE = 0.3, 0.05


@dataclass(slots=True)
class Tracking:
    """Quantile tracking (the P of conformal PID; Gibbs and Candès 2021 before it) of the log price, in two parts.

    One correction is a participant's own, one is pooled: errors are one outcome in a hundred, and a participant alone
    sees too few of them to follow a tail that grows. An error raises both by their rate, a success lowers both by
    ``rate * target``. Whatever the streams, the share of errors over all n outcomes is within
    (2 * LIMIT + pooled_rate) / (pooled_rate * n) of the target as long as no limit is met, and so is each
    participant's by its own rate and number. The sums are over outcomes in the order in which they come, so a delay
    moves corrections but loses none.
    """

    start: Mapping[str, float]
    target: float = 0.01
    pooled_rate: float = POOLED_RATE
    own_rate: float = OWN_RATE
    pooled: float = 0.0
    own: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (0 < self.target < 1 and self.pooled_rate >= 0 and self.own_rate >= 0):
            raise ValueError(
                f"need 0 < target < 1 and no negative rate: {self.target}, {self.pooled_rate}, {self.own_rate}"
            )
        self.own = dict.fromkeys(self.start, 0.0) | self.own

    def log_price(self, participant: str) -> float:
        """Return the log price of a participant's next step."""
        return self.start[participant] + self.pooled + self.own[participant]

    def outcome(self, participant: str, error: bool) -> None:
        """Take an outcome: whether the step was cut."""
        self._move(participant, float(error) - self.target)

    def withdraw(self, participant: str) -> None:
        """Take an error back: the step that was cut would never have ended, so it tells nothing."""
        self._move(participant, self.target - 1.0)

    def _move(self, participant: str, by: float) -> None:
        self.pooled = min(max(self.pooled + self.pooled_rate * by, -LIMIT), LIMIT)
        self.own[participant] = min(max(self.own[participant] + self.own_rate * by, -LIMIT), LIMIT)

    def save(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return {"start": dict(self.start), "pooled": self.pooled, "own": dict(self.own)}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take the state that ``save`` returned.

        A correction belongs to the price that it started from: of a past that was learned anew, nothing is taken over.
        """
        if saved["start"] == dict(self.start):
            self.pooled = float(saved["pooled"])
            self.own = {name: float(saved["own"][name]) for name in self.start}
