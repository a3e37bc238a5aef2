"""What it costs the router to route an event, to count it beside ``prometheus_client``, and to trace it.

Best of several rounds, the empty loop taken off. The events are the shop's, or those of the data set in ``--data``.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import timeit
from collections import Counter as Counts
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Counter, Histogram

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from events.catalogue import INGRESS
from examples.datasets import open_folder
from examples.shop import traffic
from services.router.exposition import Exposition
from services.router.health import Health
from services.router.metrics import Metrics
from services.router.routing import Routed, route
from services.router.tracing import Tracing

_STATEMENTS = {
    "route one event": "route(*next(records), stamp, hash_key)",
    "ours: count by type": "metrics.routed['isthmus.saga.step'] += 1",
    "ours: observe a stage": "metrics.stage('produce', 0.0000021)",
    "ours: observe a stage of 1,000 events": "metrics.stage('produce', 0.0021, 1000)",
    "prometheus_client: labels().inc()": "counter.labels('isthmus.saga.step').inc()",
    "prometheus_client: labels().observe()": "histogram.labels('produce').observe(0.0000021)",
    "tracing: no context": "tracing.routed(None, None, plain, 0)",
    "tracing: three other headers": "tracing.routed(None, others, plain, 0)",
    "tracing: an attribute that is not sampled": "tracing.routed(None, None, unsampled, 0)",
    "tracing: a header that is not sampled": "tracing.routed(None, header, plain, 0)",
}
_UNSAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
_SPANS = 1_500  # in one round: fewer than may wait for the collector


def _routed(traceparent: str | None) -> Routed:
    return Routed("isthmus.saga.step", "isthmus.sagas", b"", b"", False, traceparent=traceparent)


def _span_cost(routed: Routed) -> float:
    """Return microseconds of the loop's thread for one span, from the header to the acknowledgement."""
    sampled = [("traceparent", (_UNSAMPLED[:-1] + "1").encode())]
    message = SimpleNamespace(topic=lambda: INGRESS, partition=lambda: 0, offset=lambda: 0)
    names = {"plain": routed, "sampled": sampled, "message": message, "acknowledged": lambda error, written: None}
    costs = []
    for _ in range(7):
        names["tracing"] = Tracing(InMemorySpanExporter(), Counts(), per_second=2 * _SPANS)
        statement = "tracing.routed(message, sampled, plain, 0).until(acknowledged, 1)(None, None)"
        costs.append(timeit.timeit(statement, globals=names, number=_SPANS) / _SPANS * 1e6)
    return min(costs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of a data set, instead of shop traffic")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    given = parser.parse_args()
    number = 20_000 if given.quick else 200_000
    registry, health = CollectorRegistry(), Health(Metrics())
    source = open_folder(given.data) if given.data else traffic(seed=1)
    records = [(one.value, one.key, None) for one in source.render(np.arange(min(1_000, len(source))))]
    names = {
        "metrics": health.metrics,
        "counter": Counter("routed", "Events.", ["type"], registry=registry),
        "histogram": Histogram("stage", "Seconds.", ["stage"], registry=registry),
        "text": Exposition(health).text,
        "tracing": Tracing(InMemorySpanExporter(), Counts(), per_second=100),
        "plain": _routed(None),
        "unsampled": _routed(_UNSAMPLED),
        "header": [("traceparent", _UNSAMPLED.encode())],
        "others": [("a", b"1"), ("b", b"2"), ("c", b"3")],
        "route": route,
        "records": cycle(records),
        "stamp": datetime.now(UTC),
        "hash_key": secrets.token_bytes(32),
    }

    def best(statement: str, times: int) -> float:
        return min(timeit.repeat(statement, globals=names, number=times, repeat=7)) / times * 1e6

    empty = best("pass", number)
    figures = {name: round(best(statement, number) - empty, 3) for name, statement in _STATEMENTS.items()}
    figures["tracing: a span"] = round(_span_cost(_routed(None)), 1)
    figures["one scrape of /metrics"] = round(best("text()", number // 10_000), 1)
    for name, microseconds in figures.items():
        print(f"{name:<40}{microseconds:>10.3f} µs")
    print(json.dumps({"benchmark": "counting", "microseconds": figures}))


if __name__ == "__main__":
    main()
