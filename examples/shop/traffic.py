"""The shop's traffic as events: a seeded run of the simulation, told by its orchestrator and its services.

What belongs here: rows of a course to CloudEvents columns. What does not: what happens (``simulation``).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from examples.columns import pick, running_count
from examples.shop.metrics import component_health, service_metrics
from examples.shop.model import CHANNELS, DAY, SERVICES, Floats, Orders, brownouts, conditions, orders
from examples.shop.simulation import Course, EndRow, Simulation, StepRow
from examples.shop.undo import Undone
from examples.source import Ints, Part, Source

SAGA_TYPE, CURRENCY = "order", "EUR"
ORDERS_SOURCE = "/shop/orders"
EMITTERS = (*(f"/shop/{service.name}" for service in SERVICES), ORDERS_SOURCE)


def traffic(
    *,
    seed: int = 0,
    days: float = 1.0,
    orders_per_day: float = 20_000.0,
    brownouts_per_day: float = 4.0,
    end: datetime | None = None,
) -> Source:
    """Return ``days`` of the shop's events up to ``end`` (UTC; now, to the second, if None).

    Equal arguments give equal events, byte for byte. The order ids hold the run's end, so that two replays never mix.
    Brown-outs are a mean per service; what is under way at ``end`` stays unfinished.
    """
    finish = (end or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    begin = finish - timedelta(days=days)
    of_orders, of_brownouts, of_conditions, of_course, of_health = np.random.default_rng(seed).spawn(5)
    ordered = orders(of_orders, begin=begin, days=days, per_day=orders_per_day)
    troubles = brownouts(of_brownouts, days=days, per_day=brownouts_per_day)
    hours = conditions(of_conditions, days=days)
    simulation = Simulation(ordered, troubles, hours, of_course, per_day=orders_per_day, until=days * DAY)
    course = simulation.run()

    begin_us = round(begin.timestamp() * 1e6)
    run = f"{int(finish.timestamp()):x}-{seed:x}"
    return Source(
        "shop",
        [
            *_sagas(course, ordered, begin_us, run, until=days * DAY),
            *service_metrics(course.calls, simulation.workers, begin_us=begin_us, until=days * DAY, run=run),
            component_health(of_health, begin_us=begin_us, until=days * DAY, run=run),
        ],
    )


def _sagas(course: Course, ordered: Orders, begin_us: int, run: str, *, until: float) -> list[Part]:
    """Return the parts of the saga events: starts, steps by emitter, ends by kind, without what lies past ``until``."""
    names = [f"order-{run}-{number}" for number in range(len(ordered))]
    order = np.array([row.order for row in course.steps], dtype=np.int64)
    number = running_count(order)  # of the event within its saga: they stand in the order in which they happened
    times = np.array([row.time for row in course.steps], dtype=np.float64)
    emitters = np.array([row.emitter for row in course.steps], dtype=np.int64)
    parts = [_starts(ordered, names, begin_us)]
    undone = np.array([row.undone is not None for row in course.steps], dtype=np.bool_)
    for emitter, source in enumerate(EMITTERS):
        for kind in (~undone, undone):  # apart, since only what was undone has attributes
            places = np.flatnonzero((emitters == emitter) & (times < until) & kind)
            rows = pick(course.steps, places)
            parts.append(_steps(rows, places * 2, number[places], source, names=names, begin_us=begin_us))
    ends = [row for row in course.ends if row.time < until]
    completed, aborted = [row for row in ends if row.reason is None], [row for row in ends if row.reason is not None]
    outcome = {"outcome": [row.word for row in completed]}
    reason = {"reason": [row.reason for row in aborted], "detail": [row.word for row in aborted]}
    parts.append(_ends("isthmus.saga.completed", completed, outcome, names, begin_us))
    parts.append(_ends("isthmus.saga.aborted", aborted, reason, names, begin_us))
    return parts


def _starts(ordered: Orders, names: list[str], begin_us: int) -> Part:
    customers = ordered.customer.tolist()
    return Part(
        "isthmus.saga.started",
        ORDERS_SOURCE,
        _microseconds(begin_us, ordered.arrival),
        ids=[f"{name}/started" for name in names],
        subjects=names,
        data={
            "saga_type": [SAGA_TYPE] * len(names),
            "amount": ordered.amount.tolist(),
            "currency": [CURRENCY] * len(names),
            "customer": [f"customer-{customer}" for customer in customers],
            "customer_email": [f"customer-{customer}@example.org" for customer in customers],
            "account": [f"XX00SHOP{customer * 7_919 % 10_000_000_000:010d}" for customer in customers],
        },
        attributes={
            "items": ordered.items.tolist(),
            "channel": [CHANNELS[channel] for channel in ordered.channel.tolist()],
            "digital": ordered.digital.tolist(),
        },
        order=np.full(len(names), -1, dtype=np.int64),
        traced=True,
    )


def _steps(rows: list[StepRow], order: Ints, number: Ints, source: str, *, names: list[str], begin_us: int) -> Part:
    return Part(
        "isthmus.saga.step",
        source,
        _microseconds(begin_us, np.array([row.time for row in rows], dtype=np.float64)),
        ids=[f"{names[row.order]}/{count}" for row, count in zip(rows, number.tolist(), strict=True)],
        subjects=[names[row.order] for row in rows],
        data={
            "saga_type": [SAGA_TYPE] * len(rows),
            "step": [SERVICES[row.service].step for row in rows],
            "participant": [SERVICES[row.service].name for row in rows],
            "attempt": [row.attempt for row in rows],
            "status": [row.status for row in rows],
            "worker": [None if row.worker is None else f"{SERVICES[row.service].name}-{row.worker}" for row in rows],
            "error": [row.error for row in rows],
            "duration_ms": [row.duration_ms for row in rows],
            "load": [row.load for row in rows],
        },
        attributes=_undone([row.undone for row in rows if row.undone is not None]),
        order=order,
        traced=True,
    )


def _undone(rows: list[Undone]) -> dict[str, Any]:
    """Return what is told of an undo beside: columns, none where there is no row."""
    if not rows:
        return {}
    return {
        "way": [row.way for row in rows],
        "planned_way": [None if row.planned_way == row.way else row.planned_way for row in rows],
        "fee": [row.fee for row in rows],
        "tries": [row.tries for row in rows],
        "by_hand": [True if row.by_hand else None for row in rows],
        "propensity": [round(row.propensity, 6) for row in rows],
    }


def _ends(event_type: str, rows: list[EndRow], data: dict[str, Any], names: list[str], begin_us: int) -> Part:
    return Part(
        event_type,
        ORDERS_SOURCE,
        _microseconds(begin_us, np.array([row.time for row in rows], dtype=np.float64)),
        ids=[f"{names[row.order]}/ended" for row in rows],
        subjects=[names[row.order] for row in rows],
        data={"saga_type": [SAGA_TYPE] * len(rows), **data},
        order=np.array([row.after * 2 - 1 for row in rows], dtype=np.int64),  # right after the step that caused it
        traced=True,
    )


def _microseconds(begin_us: int, seconds: Floats) -> Ints:
    return begin_us + np.round(seconds * 1e6).astype(np.int64)
