"""What it costs the router to count an event, beside ``prometheus_client``, and to look for its trace context.

Best of several rounds, the empty loop taken off. ``--data`` is not needed.
"""

from __future__ import annotations

import argparse
import json
import sys
import timeit
from collections import Counter as Counts
from pathlib import Path

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Counter, Histogram

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from services.router.exposition import Exposition
from services.router.health import Health
from services.router.metrics import Metrics
from services.router.routing import Routed
from services.router.tracing import Tracing

_STATEMENTS = {
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


def _routed(traceparent: str | None) -> Routed:
    return Routed("isthmus.saga.step", "isthmus.sagas", b"", b"", False, traceparent=traceparent)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="not needed")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    given = parser.parse_args()
    number = 20_000 if given.quick else 200_000
    registry, health = CollectorRegistry(), Health(Metrics())
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
    }

    def best(statement: str, times: int) -> float:
        return min(timeit.repeat(statement, globals=names, number=times, repeat=7)) / times * 1e6

    empty = best("pass", number)
    figures = {name: round(best(statement, number) - empty, 3) for name, statement in _STATEMENTS.items()}
    figures["one scrape of /metrics"] = round(best("text()", number // 10_000), 1)
    for name, microseconds in figures.items():
        print(f"{name:<40}{microseconds:>10.3f} µs")
    print(json.dumps({"benchmark": "counting", "microseconds": figures}))


if __name__ == "__main__":
    main()
