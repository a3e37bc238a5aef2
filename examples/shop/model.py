"""What the shop is: its services, its orders, its load over a day and its bad quarters of an hour.

What belongs here: parameters and the draws that do not depend on what happens (arrivals, orders, brown-outs). What does
not: the course of the sagas (``simulation``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DAY = 86_400.0
# Orders per hour of the (UTC) day, relative: a trough at four, a bump at noon, the peak in the evening.
HOURLY = (35, 24, 17, 13, 12, 15, 26, 48, 72, 88, 97, 108, 118, 112, 101, 98, 104, 118, 139, 158, 162, 141, 98, 60)
WEEKDAY = (1.0, 0.97, 0.98, 1.02, 1.12, 1.18, 1.08)  # Monday first
REFERENCE_RATE = 20_000.0  # orders a day that the services below are sized for
CHANNELS = ("web", "app", "partner")


@dataclass(frozen=True, slots=True)
class Service:
    """A participant: a queue, its workers, and how they behave under load.

    An attempt's run time is lognormal, stretched by the load at its start (in flight per worker) and by a brown-out;
    its chance of a technical error rises with both.
    """

    name: str
    step: str
    workers: int
    median_s: float
    spread: float  # sigma of the logarithm
    stretch: float  # relative run time added per request in flight and worker
    timeout_s: float  # how long the orchestrator waits for an attempt, queue included
    attempts: int
    error: float  # hazard of a technical error at no load
    error_load: float  # hazard added per (request in flight and worker)²
    cores_per_worker: float
    memory_mib: float


SERVICES = (
    Service("inventory", "reserve_stock", 2, 1.45, 0.42, 0.16, 15.0, 3, 0.045, 0.015, 0.6, 420.0),
    Service("payment", "charge_payment", 4, 3.3, 0.42, 0.16, 30.0, 3, 0.060, 0.022, 0.4, 610.0),
    Service("notification", "send_confirmation", 1, 0.68, 0.38, 0.16, 12.0, 4, 0.045, 0.015, 0.3, 260.0),
)


@dataclass(frozen=True, slots=True)
class Brownout:
    """A service in trouble: from ``start`` to ``end`` (seconds since the traffic's begin) slower and faultier.

    It comes and goes gradually: trouble is at its height in the middle, so that those who look can see it coming.
    """

    service: int
    start: float
    end: float
    slowdown: float
    error: float

    def strength(self, moment: float) -> float:
        """Return how bad it is at ``moment``, 0 to 1."""
        if not self.start < moment < self.end:
            return 0.0
        share = (moment - self.start) / (self.end - self.start)
        return min(1.0, 4 * share, 4 * (1 - share))


@dataclass(frozen=True, slots=True)
class Orders:
    """The orders that come in, one position each; ``arrival`` is seconds since the traffic's begin, ascending."""

    arrival: Floats
    amount: Floats
    items: NDArray[np.int64]
    channel: NDArray[np.int64]  # position in CHANNELS
    digital: NDArray[np.bool_]  # delivered by the confirmation itself
    customer: NDArray[np.int64]
    issuer_down: NDArray[np.bool_]  # the bank behind the card does not answer; no event tells

    def __len__(self) -> int:
        return len(self.arrival)


def orders(random: np.random.Generator, *, begin: datetime, days: float, per_day: float) -> Orders:
    """Return the orders of ``days`` from ``begin`` (UTC), on average ``per_day`` on a common weekday."""
    minutes = np.arange(0, days * 1440 + 1)
    clock = begin.hour + begin.minute / 60 + begin.second / 3600 + minutes / 60
    curve = np.interp(clock % 24, np.arange(25) + 0.5, [*HOURLY, HOURLY[0]], period=24)
    weekday = np.array(WEEKDAY)[(begin.weekday() + (clock // 24).astype(np.int64)) % 7]
    # Demand wanders: a slow random walk around the curve that forgets itself within an hour or so.
    wander = _wander(random, len(minutes), spread=0.22, memory=0.98)
    rate = curve / np.mean(HOURLY) * weekday * wander * per_day / 1440
    cumulative = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    count = int(random.poisson(cumulative[-1]))
    arrival = np.sort(np.interp(random.uniform(0, cumulative[-1], count), cumulative, minutes * 60.0))
    items = 1 + random.poisson(1.4, count)
    return Orders(
        arrival=arrival,
        amount=np.round(random.lognormal(3.1, 0.7, count) * items**0.7, 2).astype(np.float64),
        items=items.astype(np.int64),
        channel=random.choice(len(CHANNELS), count, p=[0.55, 0.33, 0.12]).astype(np.int64),
        digital=random.random(count) < 0.25,
        # Few customers order often, many once.
        customer=np.floor(8_000 * random.random(count) ** 2).astype(np.int64),
        issuer_down=random.random(count) < 0.02,
    )


def brownouts(random: np.random.Generator, *, days: float, per_day: float) -> list[Brownout]:
    """Return the brown-outs of ``days``, on average ``per_day`` at each service."""
    found = []
    for number in range(len(SERVICES)):
        for _ in range(int(random.poisson(per_day * days))):
            start = float(random.uniform(0, days * DAY))
            length = float(random.uniform(6, 25) * 60)
            slowdown, error = float(random.uniform(0.1, 0.6)), float(random.uniform(0.1, 0.6))
            found.append(Brownout(number, start, start + length, slowdown, error))
    return sorted(found, key=lambda brownout: brownout.start)


def conditions(random: np.random.Generator, *, days: float) -> Floats:
    """Return a factor of each service's errors for each minute, shaped (services, minutes): some hours are bad ones."""
    return np.stack([_wander(random, int(days * 1440) + 2, spread=1.0, memory=0.95) for _ in SERVICES])


def _wander(random: np.random.Generator, count: int, *, spread: float, memory: float) -> Floats:
    """Return a factor around 1 for each minute, whose logarithm has standard deviation ``spread``."""
    steps = random.normal(0, spread * (1 - memory**2) ** 0.5, count)
    walk, value = np.empty(count), float(random.normal(0, spread))
    for minute, step in enumerate(steps.tolist()):
        value = memory * value + step
        walk[minute] = value
    return np.exp(walk)
