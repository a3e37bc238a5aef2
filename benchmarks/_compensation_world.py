"""A generated world in which sagas are undone: participants whose health drifts, windows that close, fees that grow.

What belongs here: the world's equations, which no estimator knows. What does not: arms and figures.

A trip has five steps. Each participant is healthy, degraded or broken for random spans; its error rates, its speed and
every fee move from one random set of values to another over the whole time. An undo is tried up to four times with
growing pauses; then a person does it ten minutes later, while the rest goes on. What an undo costs depends on when it
is done: a charge is captured and a carrier's free cancellation ends at a time of its own, stock loses by the second, a
voucher is spent sooner or later, and a customer who waits for a word calls. Nobody sees the health: what is seen is the
number of failures among the participant's last twelve calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ml.compensation.outcomes import conditions
from ml.compensation.rules import Plan, Ruling, Situation, rule
from ml.compensation.semantics import Fact, Semantics, parse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

DECLARED = """
saga_type: trip
steps:
  - step: stock
    ways: [{way: release}, {way: let_expire}]
  - step: charge
    ways:
      - {way: void, when: [{fact: age_seconds, at_most: 240}]}
      - {way: refund, yields_to: [void]}
  - step: carrier
    ways:
      - {way: cancel, when: [{fact: age_seconds, at_most: 300}]}
      - {way: cancel_late, yields_to: [cancel]}
  - step: voucher
    ways: [{way: revoke}]
  - step: mail
    ways: [{way: correction}]
order:
  - {first: mail, then: charge, because: who gets money back without a word calls}
rates: {per_second: 0.002, per_retry: 0.05, by_hand: 4.0}
"""
TRIP: Semantics = parse(DECLARED, name="trip")
STEPS = tuple(undo.step for undo in TRIP.steps)
STOCK, CHARGE, CARRIER, VOUCHER, MAIL = range(len(STEPS))
WINDOWS = (240.0, 300.0)
LATER = {"void": "refund", "cancel": "cancel_late"}

DAY = 86_400.0
TICK = 5.0
TRIES = 4
HAND_S, TICKET_S = 600.0, 30.0
CALLS = 12


@dataclass(frozen=True, slots=True)
class Drifting:
    """A value that moves from one end of the time to the other."""

    first: Floats
    last: Floats

    def at(self, share: float) -> Floats:
        """Return it at a share of the whole time."""
        return np.asarray(self.first + (self.last - self.first) * share)


@dataclass(frozen=True, slots=True)
class Saga:
    """A saga that gave up ``at`` (seconds), with what its fees depend on; ``left`` are the windows' seconds left."""

    number: int
    at: float
    done: tuple[int, ...]
    left: tuple[float, float]
    amount: float
    value: float
    conditions: tuple[str, ...]

    def situation(self) -> Situation:
        """Return what the orchestrator knows."""
        facts: dict[str, Fact] = {
            "charge.age_seconds": WINDOWS[0] - self.left[0],
            "carrier.age_seconds": WINDOWS[1] - self.left[1],
        }
        return Situation(tuple(STEPS[step] for step in self.done), facts)

    def ruling(self) -> Ruling:
        """Return what the rules leave open."""
        return rule(TRIP, self.situation())

    def seen(self) -> dict[str, str]:
        """Return the condition of each step's participant, as it is seen."""
        health = {STEPS[step]: self.conditions[step] for step in self.done}
        return conditions(TRIP, self.situation(), health)


@dataclass(frozen=True, slots=True)
class Result:
    """What plans cost, by plan and position; whether a person had to help, or a dear way was taken too early."""

    cost: Floats
    stuck: Flags
    closed_early: Flags

    def total(self) -> Floats:
        """Return the cost of each plan."""
        return np.asarray(self.cost.sum(axis=1))


class World:
    """One seed's world: ``sagas`` in order of time over ``days``."""

    def __init__(self, seed: int, *, sagas: int, days: float) -> None:
        random = np.random.default_rng(seed)
        self.span = days * DAY
        self._seed, size = seed, len(STEPS)
        low, high = np.array([0.01, 0.15, 0.55]), np.array([0.05, 0.4, 0.95])
        self._errors = self._drifting(random, low, high, (size, 3))
        self._seconds = self._drifting(random, 0.3, 3.0, (size,))
        #: refund's share, stock's loss a second, lease, late cancellation, voucher's life, mail's loss a second
        self._fees = self._drifting(
            random, np.array([0.01, 0.002, 60, 3, 60, 0.0]), np.array([0.06, 0.03, 240, 15, 900, 0.04]), (6,)
        )
        self._health = np.stack([self._course(random) for _ in STEPS])
        self.sagas = self._give_up(random, sagas)

    @cached_property
    def slowness(self) -> Floats:
        """How much longer a try takes, by health."""
        return np.array([1.0, 3.0, 8.0])

    def draws(self, saga: Saga, *, salt: int = 0, count: int = 1) -> Floats:
        """Return the draws of a saga's undos, shaped (count, steps, tries, 3): the same for every plan and arm."""
        return np.random.default_rng([self._seed, saga.number, salt]).random((count, len(STEPS), TRIES, 3))

    def run(self, saga: Saga, plans: list[Plan], draws: Floats) -> Result:
        """Undo a saga by each of ``plans``; ``draws`` has one entry, or one a plan."""
        steps = np.array([[STEPS.index(step) for step, _ in plan] for plan in plans])
        share = saga.at / self.span
        errors, seconds, fees = self._errors.at(share), self._seconds.at(share), self._fees.at(share)
        draws = np.broadcast_to(draws, (len(plans), *draws.shape[1:]))
        rows = np.arange(len(plans))
        now = np.zeros(len(plans))
        cost, stuck = np.zeros(steps.shape), np.zeros(len(plans), dtype=np.bool_)
        closed = np.zeros(len(plans), dtype=np.bool_)
        for place in range(steps.shape[1]):
            step = steps[:, place]
            names = [plan[place][1] for plan in plans]
            sure = np.array([name == "let_expire" for name in names])
            later = np.array([name in LATER.values() for name in names])
            until = np.where(step == CHARGE, saga.left[0], np.where(step == CARRIER, saga.left[1], np.inf))
            # Who undoes the dear way while the cheap one is open breaks a rule, wherever the plan came from.
            closed |= later & (now <= until)
            begun, tries, going = now.copy(), np.ones(len(plans)), ~sure
            for attempt in range(TRIES):
                drawn = draws[rows, step, attempt]
                health = self._health[step, self._tick(saga.at + now)]
                took = seconds[step] * self.slowness[health] * np.exp(0.5 * (drawn[:, 0] - 0.5) * 3.46)
                now = np.where(going, now + took, now)
                going = going & (drawn[:, 1] < errors[step, health])
                if attempt < TRIES - 1:
                    now = np.where(going, now + 2.0 * 2**attempt * (0.5 + drawn[:, 2]), now)
                    tries = tries + going
            done_at = np.where(going, now + HAND_S, now)
            now = np.where(going, now + TICKET_S, now)
            late = later | (done_at > until)
            fee = self._fee(saga, fees, step, done_at, late=late, expire=sure)
            # A window that closed on the way costs one more request.
            tries = tries + (late & ~later & ~going)
            rates = TRIP.rates
            cost[:, place] = (
                fee + rates.per_second * (now - begun) + rates.per_retry * (tries - 1) + rates.by_hand * going
            )
            stuck |= going
        return Result(cost, stuck, closed)

    @staticmethod
    def _fee(saga: Saga, fees: Floats, step: Ints, at: Floats, *, late: Flags, expire: Flags) -> Floats:
        share, loss, lease, cancellation, life, wait = fees
        return np.select(
            [step == STOCK, step == CHARGE, step == CARRIER, step == VOUCHER],
            [
                loss * np.where(expire, at + lease, at),
                np.where(late, 0.3 + share * saga.amount, 0.05),
                np.where(late, cancellation, 0.2),
                saga.value * -np.expm1(-at / life),
            ],
            0.1 + wait * at,
        )

    @staticmethod
    def _drifting(
        random: np.random.Generator, low: Floats | float, high: Floats | float, shape: tuple[int, ...]
    ) -> Drifting:
        return Drifting(random.uniform(low, high, shape), random.uniform(low, high, shape))

    def _tick(self, at: Floats) -> Ints:
        return np.asarray(np.minimum(at / TICK, self._health.shape[1] - 1), dtype=np.int64)

    def _course(self, random: np.random.Generator) -> Ints:
        """Return a participant's health by tick: from healthy to degraded to broken or back, and again."""
        means = random.uniform([7_200, 600, 300], [28_800, 3_600, 2_400])
        course = np.zeros(int(self.span / TICK) + 1_000, dtype=np.int64)
        at, health = 0, 0
        while at < len(course):
            spell = max(1, int(random.exponential(means[health]) / TICK))
            course[at : at + spell] = health
            at, health = at + spell, 1 if health != 1 else int(random.choice([0, 2]))
        return course

    def _give_up(self, random: np.random.Generator, count: int) -> list[Saga]:
        found = []
        for number, at in enumerate(np.sort(random.uniform(0, self.span, count)).tolist()):
            errors = self._errors.at(at / self.span)
            # What is seen ends half a minute before: nobody knows the present.
            health = self._health[:, self._tick(np.array([max(0.0, at - 30.0)]))[0]]
            failed = random.binomial(CALLS, errors[np.arange(len(STEPS)), health])
            done = tuple(range(int(random.integers(2, len(STEPS) + 1))))
            windows = (float(random.uniform(-60, WINDOWS[0])), float(random.uniform(-30, WINDOWS[1])))
            found.append(
                Saga(
                    number,
                    at,
                    done,
                    windows,
                    float(random.lognormal(4.0, 0.6)),
                    float(random.uniform(3, 20)),
                    tuple("calm" if one <= 1 else "strained" if one <= 5 else "failing" for one in failed.tolist()),
                )
            )
        return found
