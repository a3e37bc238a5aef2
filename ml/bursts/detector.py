"""When failures become a burst: evidence against the usual rate, with a bound on false alarms.

What belongs here: the usual rate by hour, and the sequential test. What does not: reading events, what is to blame.

Each look counts the sagas that were heard of and those of them to which something bad happened (a saga counts once: its
retries fail together). The evidence of a look is a mixture of likelihood ratios of higher rates against the highest
rate that is still usual, which is an e-value for any rate up to that. Shiryaev and Roberts's sum of their products has
a mean of at most the number of looks while nothing changes, so an alarm at ``looks`` comes at most once in so many
looks on average (Shin, Ramdas and Rinaldo 2022, "E-detectors").
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ml.bursts.told import Told

#: A rate so many times the hour's own, or so much above it, is still usual.
USUAL_TIMES, USUAL_PLUS = 1.5, 0.02
#: What a burst may be: the odds of something bad, times these.
BURSTS = (1.5, 3.0, 8.0, 30.0)
#: Sagas that say as much about an hour as all hours do together.
_SHRINK = 200.0
#: The usual forgets by half in so many sagas of its hour.
_HALF_LIFE = 20_000.0
#: Sagas heard of before anything is judged.
LEAST_HEARD = 300
#: Of one look at most so many sagas count: one look alone is no proof.
_MOST_A_LOOK = 500


def counted(endings: Iterable[Told]) -> tuple[int, int]:
    """Return how many sagas something bad happened to, and how many were heard of."""
    sagas: dict[str, bool] = {}
    for one in endings:
        sagas[one.saga] = sagas.get(one.saga, False) or one.bad
    return sum(sagas.values()), len(sagas)


@dataclass(slots=True)
class Usual:
    """Sagas with something bad, and all, by hour of the day (UTC)."""

    bad: list[float] = field(default_factory=lambda: [0.0] * 24)
    heard: list[float] = field(default_factory=lambda: [0.0] * 24)

    def learn(self, hour: int, bad: int, heard: int) -> None:
        """Take in a look that is no part of a burst."""
        keep = 0.5 ** (heard / _HALF_LIFE)
        self.bad[hour] = keep * self.bad[hour] + bad
        self.heard[hour] = keep * self.heard[hour] + heard

    def rate(self, hour: int) -> float | None:
        """Return the highest share that is still usual in an hour; None while too few sagas were heard of."""
        total = sum(self.heard)
        if total < LEAST_HEARD:
            return None
        every = (sum(self.bad) + 1) / (total + 2)
        own = (self.bad[hour] + _SHRINK * every) / (self.heard[hour] + _SHRINK)
        return min(0.9, max(USUAL_TIMES * own, own + USUAL_PLUS))


@dataclass(slots=True)
class Detector:
    """The test's state between looks; ``evidence`` is Shiryaev and Roberts's sum."""

    usual: Usual = field(default_factory=Usual)
    evidence: float = 0.0

    def look(self, hour: int, bad: int, heard: int) -> float:
        """Take in one look and return the evidence; the usual rate learns only where there is little of it."""
        limit = self.usual.rate(hour)
        if limit is None or not heard:
            self.usual.learn(hour, bad, heard)
            return self.evidence
        if heard > _MOST_A_LOOK:
            bad, heard = round(bad * _MOST_A_LOOK / heard), _MOST_A_LOOK
        self.evidence = min(1e30, (self.evidence + 1.0) * _e_value(bad, heard, limit))
        if self.evidence < 20.0:
            self.usual.learn(hour, bad, heard)
        return self.evidence

    def as_dict(self) -> dict[str, Any]:
        """Return the state in JSON's types, figures cut to what matters."""
        return {
            "evidence": float(f"{self.evidence:.6g}"),
            "bad": [round(one, 2) for one in self.usual.bad],
            "heard": [round(one, 2) for one in self.usual.heard],
        }

    @classmethod
    def of(cls, state: dict[str, Any]) -> Detector:
        """Return the detector of a state; raises KeyError, TypeError or ValueError where it is none."""
        bad, heard = ([float(one) for one in state[name]] for name in ("bad", "heard"))
        if len(bad) != 24 or len(heard) != 24:
            raise ValueError("a day has 24 hours")
        return cls(Usual(bad, heard), float(state["evidence"]))


def _e_value(bad: int, heard: int, limit: float) -> float:
    total = 0.0
    for times in BURSTS:
        odds = times * limit / (1 - limit)
        rate = odds / (1 + odds)
        log = bad * math.log(rate / limit) + (heard - bad) * math.log((1 - rate) / (1 - limit))
        total += math.exp(min(log, 60.0))
    return total / len(BURSTS)
