"""A run of the world: seeded arrivals, participants, faults, a policy; for every policy the same arrivals and faults.

What belongs here: what a world is made of, and the run. What does not: where durations and faults come from, and what
is made of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from examples.shop.world.clock import VirtualClock
from examples.shop.world.durability import InMemory
from examples.shop.world.faults import Fault, Schedule
from examples.shop.world.participants import Participant, Work
from examples.shop.world.policy import Policy
from examples.shop.world.saga import End, OrderSaga

Floats = NDArray[np.float64]
_BLOCK = 64
"""Durations are taken in runs of neighbours: what measured calls in a row have in common stays."""


@dataclass(frozen=True)
class World:
    """What a run is made of. Durations are seconds, in the order in which they were measured."""

    plan: tuple[str, ...]
    durations: Mapping[str, Floats]
    slow_durations: Mapping[str, Floats]
    """Measured under a brown-out; where there are some they stand for slow work, instead of a factor."""
    workers: Mapping[str, int]
    rate: float
    """Orders a second, on average."""
    horizon: float
    """Seconds in which orders come in."""
    patience: float
    """Seconds within which an order must be through."""
    faults: tuple[Fault, ...] = ()
    later_durations: Mapping[str, Floats] = field(default_factory=dict)
    """Durations that take the place of the first ones bit by bit over the run: drift."""
    declines: float = 0.03
    """Share of orders that the business refuses, at the middle step."""
    room: float = 20.0
    """How many calls may wait at a participant, for each worker."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    ends: tuple[End, ...]
    work: Mapping[str, Work]
    patience: float

    def summary(self) -> dict[str, float]:
        """Return its figures: shares of sagas, seconds, calls a saga.

        ``p95_s`` is of the sagas that completed; ``p95_all_s`` of all but the declined ones, where a failed one counts
        with the whole patience: an arm that fails what takes long is not quick.
        """
        reasons = np.array([end.reason for end in self.ends])
        failed = (reasons != "") & (reasons != "declined")
        took = np.array([end.ended - end.began for end in self.ends])
        through = reasons == ""
        sagas = len(self.ends)
        return {
            "sagas": float(sagas),
            "failures": float(failed.sum()),
            "failure_share": float(failed.mean()),
            "p50_s": float(np.quantile(took[through], 0.5)) if through.any() else float("nan"),
            "p95_s": float(np.quantile(took[through], 0.95)) if through.any() else float("nan"),
            "p95_all_s": float(np.quantile(np.where(failed, self.patience, took)[reasons != "declined"], 0.95)),
            "calls": sum(work.calls for work in self.work.values()) / sagas,
            "asks": sum(end.asks for end in self.ends) / sagas,
            "busy_s": sum(work.busy for work in self.work.values()) / sagas,
            "compensations": float(sum(end.compensations for end in self.ends)) / sagas,
            "stuck": float(sum(end.stuck for end in self.ends)),
        }


def arrivals(world: World, random: np.random.Generator) -> Floats:
    """Return when orders come in: a rate that swings by a half in some minutes, and wanders."""
    step = 10.0
    bins = int(np.ceil(world.horizon / step))
    walk = np.empty(bins)
    value = 0.0
    for place, push in enumerate(random.normal(0, 0.06, bins).tolist()):
        value = 0.97 * value + push
        walk[place] = value
    moments = (np.arange(bins) + 0.5) * step
    swing = 1 + 0.4 * np.sin(2 * np.pi * (moments / 900.0 + random.uniform()))
    rate = swing * np.exp(walk)
    counts = random.poisson(rate / rate.mean() * world.rate * step)
    starts = np.repeat(np.arange(bins) * step, counts)
    return np.sort(starts + random.uniform(0, step, len(starts)))


def run(world: World, policy: Policy, seed: int) -> Outcome:
    """Run the world under a policy; equal seeds give equal arrivals, declines and faults to every policy."""
    of_arrivals, of_declines, of_service = np.random.default_rng(seed).spawn(3)
    clock = VirtualClock()
    came = arrivals(world, of_arrivals)
    declined = of_declines.random(len(came)) < world.declines
    middle = world.plan[len(world.plan) // 2]
    participants = {
        name: _participant(world, name, clock, of_service, declined if name == middle else None) for name in world.plan
    }
    saga = OrderSaga(clock, participants, world.plan, policy, patience=world.patience)
    ends: list[End] = []

    async def order(number: int) -> None:
        ends.append(await saga.run(number, InMemory()))

    for number, moment in enumerate(came.tolist()):
        clock.spawn_at(moment, order(number))
    clock.run()
    ends.sort(key=lambda end: end.order)
    return Outcome(tuple(ends), {name: one.work for name, one in participants.items()}, world.patience)


def _participant(
    world: World, name: str, clock: VirtualClock, random: np.random.Generator, declined: NDArray[np.bool_] | None
) -> Participant:
    of_calm, of_slow, of_later, of_uniform = random.spawn(4)
    calm = _blocks(world.durations[name], of_calm)
    slow = _blocks(world.slow_durations[name], of_slow) if name in world.slow_durations else None
    later = _blocks(world.later_durations[name], of_later) if name in world.later_durations else None
    uniform = _uniforms(of_uniform)
    schedule = Schedule([fault for fault in world.faults if fault.participant == name])

    def duration(moment: float, factor: float) -> float:
        if factor > 1.0 and slow is not None:
            return next(slow)
        drifted = later is not None and uniform() < moment / world.horizon
        return next(later if drifted and later is not None else calm) * factor

    listed = declined.tolist() if declined is not None else None
    workers = world.workers[name]
    return Participant(
        name,
        clock,
        schedule,
        workers=workers,
        room=max(4, round(world.room * workers)),
        duration=duration,
        uniform=uniform,
        declines=(lambda order: False) if listed is None else listed.__getitem__,
    )


def _blocks(values: Floats, random: np.random.Generator) -> Iterator[float]:
    """Yield measured values in runs of neighbours, each run from a place of its own."""
    size = min(_BLOCK, len(values))
    for _ in count():
        begin = int(random.integers(0, len(values) - size + 1))
        yield from values[begin : begin + size].tolist()


def _uniforms(random: np.random.Generator) -> Callable[[], float]:
    return (value for _ in count() for value in random.random(4096).tolist()).__next__


def sized(durations: Mapping[str, Floats], plan: Sequence[str], rate: float, usage: float) -> dict[str, int]:
    """Return the workers of each participant so that at ``rate`` calls a second about ``usage`` of them are busy."""
    return {name: max(2, int(np.ceil(rate * float(np.mean(durations[name])) / usage))) for name in plan}
