"""Families of metrics from plain numbers, for collectors that read what a service counts.

What belongs here: counters and gauges, of a number or by label. What does not: which ones there are (the services).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

Labels = tuple[str, ...]
Labelled = Mapping[Labels, float]


def by(counts: Mapping[str, float]) -> Labelled:
    """Return counts by one label, in order; dict() copies in one step, which no other thread can come between."""
    return {(name,): float(count) for name, count in sorted(dict(counts).items())}


def counter(prefix: str, name: str, text: str, values: float | Labelled, labels: list[str] | None = None) -> Metric:
    """Return a counter; ``values`` by labels where there are some."""
    return _filled(CounterMetricFamily(prefix + name, text, labels=labels or []), values)


def gauge(prefix: str, name: str, text: str, values: float | Labelled, labels: list[str] | None = None) -> Metric:
    """Return a gauge; ``values`` by labels where there are some."""
    return _filled(GaugeMetricFamily(prefix + name, text, labels=labels or []), values)


def _filled(family: CounterMetricFamily | GaugeMetricFamily, values: float | Labelled) -> Metric:
    samples: Iterable[tuple[Labels, float]] = values.items() if isinstance(values, Mapping) else [((), values)]
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
