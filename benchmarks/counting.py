"""What it costs the router to count an event: its own counters beside those of ``prometheus_client``.

Best of several rounds, the empty loop taken off. ``--data`` is not needed.
"""

from __future__ import annotations

import argparse
import json
import sys
import timeit
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from services.router.exposition import Exposition
from services.router.health import Health
from services.router.metrics import Metrics

_STATEMENTS = {
    "ours: count by type": "metrics.routed['isthmus.saga.step'] += 1",
    "ours: observe a stage": "metrics.stage('produce', 0.0000021)",
    "ours: observe a stage of 1,000 events": "metrics.stage('produce', 0.0021, 1000)",
    "prometheus_client: labels().inc()": "counter.labels('isthmus.saga.step').inc()",
    "prometheus_client: labels().observe()": "histogram.labels('produce').observe(0.0000021)",
}


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
