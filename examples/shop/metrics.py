"""What the shop's monitoring sees: metrics of each service by the minute, health of its disks by the quarter hour.

What belongs here: aggregates over the calls of a simulated course, vectorised. What does not: the course itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from examples.shop.model import DAY, SERVICES, Floats
from examples.shop.simulation import CallRow
from examples.source import Ints, Part

WINDOW = 60.0
HEALTH_EVERY = 900.0
QUANTILES = (50, 90, 95, 99)


def service_metrics(calls: list[CallRow], workers: list[int], *, begin_us: int, until: float, run: str) -> list[Part]:
    """Return a part of metrics events per service: one event a minute, at the minute's end, from ``begin_us`` on."""
    edges = np.arange(0.0, until - WINDOW + 1e-9, WINDOW)
    table = np.array([(c.service, c.arrived, c.begun, c.ended, c.failed) for c in calls], dtype=np.float64).reshape(
        -1, 5
    )
    parts = []
    for number, service in enumerate(SERVICES):
        arrived, begun, ended, failed = table[table[:, 0] == number, 1:].T
        ends = edges + WINDOW
        arrivals = _within(np.sort(arrived), edges)
        latencies = _latencies(arrived, ended, edges)
        busy = (_area(begun, ends) - _area(ended, ends) - _area(begun, edges) + _area(ended, edges)) / WINDOW
        inside = (_area(arrived, ends) - _area(ended, ends) - _area(arrived, edges) + _area(ended, edges)) / WINDOW
        waiting = np.searchsorted(np.sort(arrived), ends) - np.searchsorted(np.sort(begun), ends)
        count = len(edges)
        parts.append(
            Part(
                "isthmus.service.metrics",
                f"/shop/{service.name}",
                _at(begin_us, ends),
                ids=[f"{run}/metrics/{minute}" for minute in range(count)],
                subjects=[service.name] * count,
                data={
                    "window_seconds": [WINDOW] * count,
                    "requests": arrivals.tolist(),
                    "errors": _within(np.sort(ended[failed > 0]), edges).tolist(),
                    "in_flight": inside.round(3).tolist(),
                    "latency_ms": latencies,
                    "cpu_cores": (0.05 + busy * service.cores_per_worker).round(4).tolist(),
                    "cpu_limit_cores": [workers[number] * service.cores_per_worker + 0.5] * count,
                    # Memory grows with what is in flight.
                    "memory_bytes": ((service.memory_mib + 6.0 * inside) * (1 << 20)).round().tolist(),
                    "memory_limit_bytes": [1 << 30] * count,
                    "replicas": [workers[number]] * count,
                    "queue_depth": np.maximum(waiting, 0).tolist(),
                },
            )
        )
    return parts


def component_health(random: np.random.Generator, *, begin_us: int, until: float, run: str) -> Part:
    """Return readings of each service's disk, every quarter of an hour: one of them wears out faster than it should."""
    moments = np.arange(HEALTH_EVERY, until, HEALTH_EVERY)
    subjects: list[str] = []
    times: list[int] = []
    readings: list[dict[str, float]] = []
    for number, service in enumerate(SERVICES):
        wear = random.poisson(0.35 if number == 1 else 0.01, len(moments)).cumsum()
        temperature = 38 + 4 * np.sin(moments / DAY * 2 * np.pi) + random.normal(0, 0.6, len(moments))
        subjects += [f"{service.name}-disk-0"] * len(moments)
        times += _at(begin_us, moments).tolist()
        readings += [
            {"reallocated_sectors": float(sectors), "temperature_celsius": round(degrees, 2)}
            for sectors, degrees in zip(wear.tolist(), temperature.tolist(), strict=True)
        ]
    return Part(
        "isthmus.component.health",
        "/shop/monitoring",
        np.array(times, dtype=np.int64),
        ids=[f"{run}/health/{number}" for number in range(len(times))],
        subjects=subjects,
        data={
            "component_type": ["disk"] * len(times),
            "readings": readings,
            "status": ["degraded" if reading["reallocated_sectors"] > 20 else "ok" for reading in readings],
        },
    )


def _at(begin_us: int, seconds: Floats) -> Ints:
    return begin_us + np.round(seconds * 1e6).astype(np.int64)


def _within(moments: Floats, edges: Floats) -> Ints:
    """Return how many of the sorted ``moments`` lie in each window."""
    return np.searchsorted(moments, edges + WINDOW, side="left") - np.searchsorted(moments, edges, side="left")


def _area(moments: Floats, at: Floats) -> Floats:
    """Return, for each time in ``at``, the sum over earlier ``moments`` of the time since then."""
    moments = np.sort(moments)
    sums = np.concatenate([[0.0], np.cumsum(moments)])
    before = np.searchsorted(moments, at)
    return np.asarray(before * at - sums[before])


def _latencies(arrived: Floats, ended: Floats, edges: Floats) -> list[dict[str, float] | None]:
    """Return mean, quantiles and maximum of the latencies (ms) of the calls that ended in each window."""
    order = np.argsort(ended)
    latency, ended = ((ended - arrived) * 1000)[order], ended[order]
    low, high = np.searchsorted(ended, edges), np.searchsorted(ended, edges + WINDOW)
    found: list[dict[str, Any] | None] = []
    for first, last in zip(low.tolist(), high.tolist(), strict=True):
        if first == last:
            found.append(None)
            continue
        window = np.sort(latency[first:last])
        places = [round((len(window) - 1) * share / 100) for share in QUANTILES]
        quantiles = {
            f"p{share}": round(float(window[place]), 3) for share, place in zip(QUANTILES, places, strict=True)
        }
        found.append({"mean": round(float(window.mean()), 3), **quantiles, "max": round(float(window[-1]), 3)})
    return found
