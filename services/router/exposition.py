"""The figures as Prometheus and OpenMetrics text.

What belongs here: names, help texts and labels. What does not: counting (:mod:`services.router.metrics`), and HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from services.families import Labels, by, counter, gauge
from services.router.health import Health
from services.router.metrics import Histogram

_PREFIX = "isthmus_router_"
_counter = partial(counter, _PREFIX)
_gauge = partial(gauge, _PREFIX)


class Exposition(Collector):
    """Collects from a router's health and counters when it is asked; costs nothing in between."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._version = version("isthmus")
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)  # resident memory, open files, CPU, start time; on Linux

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return the text in the form that an ``Accept`` header asks for (Prometheus' by default), and its type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (ValueError, TypeError):  # a version that is none
            encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield every family as it stands now."""
        yield from self._of_the_process()
        yield from self._of_events()
        yield from self._of_the_consumer()
        yield from self._of_ingestion()

    def _of_the_process(self) -> Iterator[Metric]:
        health = self._health
        yield _gauge("info", "1, with the router's version.", {(self._version,): 1}, ["version"])
        metrics = health.metrics
        yield _counter("table_loads", "Routing tables that came into force after the first.", metrics.table_loads)
        yield _counter("table_refusals", "Routing tables that were refused.", metrics.table_refusals)
        yield _gauge("routing", "Whether it routes: partitions were assigned, and the loop turns.", health.routing)
        yield _gauge("loop_age_seconds", "Seconds since the loop last went round.", health.loop_age)
        yield _counter("spans", "Spans of traces, by what became of them.", by(metrics.spans), ["outcome"])
        yield _counter("restarts", "Times that the clients were made anew after an error.", metrics.restarts)

    def _of_events(self) -> Iterator[Metric]:
        metrics = self._health.metrics
        yield _counter("routed", "Events accepted, by type.", by(metrics.routed), ["type"])
        yield _counter("refused", "Records refused, by reason.", by(metrics.refused), ["reason"])
        yield _counter("rewritten", "Events whose value was written anew.", metrics.rewritten)
        yield _counter("copies", "Extra copies that the routing table asked for.", metrics.copies)
        yield _counter("delivered", "Records acknowledged by the broker.", metrics.delivered)
        yield _gauge("in_flight", "Records without acknowledgement.", metrics.in_flight)
        yield _histogram(
            "latency_seconds",
            "Seconds from the broker's receipt at ingress to the acknowledgement of what was written.",
            {(): metrics.latency},
        )
        stages: dict[Labels, Histogram] = {(name,): histogram for name, histogram in metrics.stages.items()}
        yield _histogram("stage_seconds", "Seconds that an event spends in a stage.", stages, ["stage"])

    def _of_the_consumer(self) -> Iterator[Metric]:
        metrics = self._health.metrics
        yield _counter("commits", "Commits of consumed offsets.", metrics.commits)
        yield _counter("gone_offsets", "Ingress offsets that aged out before they were read.", metrics.gone_offsets)
        errors = by(metrics.consumer_errors)
        yield _counter("consumer_errors", "Errors that the consumer reported, by name.", errors, ["error"])
        yield _gauge("assigned_partitions", "Partitions that this router reads.", metrics.assigned)
        yield _gauge("waiting_partitions", "Partitions whose next record waits for its schema.", metrics.waiting)
        lag: dict[Labels, float] = {(topic, str(partition)): count for (topic, partition), count in metrics.lag.items()}
        yield _gauge("lag", "Records not read yet, by assigned partition.", lag, ["topic", "partition"])
        yield _gauge("paused", "Whether nothing is consumed now because the producer's queue is full.", metrics.paused)
        yield _counter("paused_seconds", "Seconds in which nothing was consumed for that.", metrics.paused_seconds)

    def _of_ingestion(self) -> Iterator[Metric]:
        ingest = self._health.metrics.ingest
        yield _counter("ingest_events", "Events taken by HTTP and acknowledged by the broker.", ingest.events)
        refused = by(ingest.refused)
        yield _counter("ingest_refused", "Events refused at the door, by reason.", refused, ["reason"])
        yield _gauge("ingest_in_flight", "Events taken by HTTP and not acknowledged yet.", ingest.in_flight)
        seconds: dict[Labels, Histogram] = {(outcome,): histogram for outcome, histogram in ingest.seconds.items()}
        yield _histogram("ingest_seconds", "Seconds that a request took, by outcome.", seconds, ["outcome"])


def _histogram(name: str, text: str, values: Mapping[Labels, Histogram], labels: list[str] | None = None) -> Metric:
    family = HistogramMetricFamily(_PREFIX + name, text, labels=labels or [])
    for given, histogram in values.items():
        total, below, buckets = histogram.total, 0, []
        for bound, count in zip([*histogram.bounds, float("inf")], list(histogram.counts), strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), below))
        family.add_metric(given, buckets, total)
    return family
