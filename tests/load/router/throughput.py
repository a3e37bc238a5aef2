"""``python -m tests.load.router.throughput``: how fast a router drains, with and without poison, in one run.

What belongs here: the measurement. What does not: latency, and other routers (``benchmarks/router.py``).

Ingress is filled first; then a router drains it. The arms alternate, so that what else the machine does falls on both.
"""

from __future__ import annotations

# ruff: noqa: T201 - a table for people is the point
import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from resources.kafka import KafkaResource
from tests.conftest import free_port, running
from tests.load.bench import KAFKA, until
from tests.load.router.evidence import Broker
from tests.load.router.forks import Router
from tests.load.router.traffic import POISON, Traffic

COUNT = 150_000
ROUNDS = 5
_WARM = 0.1  # share of the records that goes by before the clock starts: connecting, first batches


def drain(bootstrap: str, folder: Path, *, poison: float, count: int = COUNT, transactional: bool = False) -> float:
    """Return records a second from a full ingress to its topics and the dead letters, acknowledged."""
    KafkaResource(bootstrap=bootstrap).ensure_topics()
    broker = Broker(bootstrap)
    traffic = Traffic(bootstrap, seed=1, rate=0, poison=poison, duplicates=0.0)
    router = Router(bootstrap, folder, "drain", transactional=transactional)
    before = broker.written()
    assert traffic.send(count) == count
    router.start()
    try:
        until(lambda: broker.written() - before >= _WARM * count, "the router works", pause=0.005)
        began, first = time.perf_counter(), broker.written() - before
        until(lambda: broker.written() - before >= count, "all is routed", seconds=300, pause=0.005)
        rate = (count - first) / (time.perf_counter() - began)
        until(lambda: broker.lag() == 0, "all is committed", seconds=60)
    finally:
        router.stop()
        broker.close()
    return rate


def ratio(
    bootstrap: str, folder: Path, *, count: int = COUNT, rounds: int = ROUNDS, transactional: bool = False
) -> tuple[float, float, float]:
    """Return (records a second without poison, with 1% of it, the median of the rounds' ratios)."""
    pairs = []
    for _ in range(rounds):
        healthy, poisoned = (
            drain(bootstrap, folder, poison=share, count=count, transactional=transactional) for share in (0.0, POISON)
        )
        pairs.append((healthy, poisoned))
    return (
        statistics.median(healthy for healthy, _ in pairs),
        statistics.median(poisoned for _, poisoned in pairs),
        statistics.median(poisoned / healthy for healthy, poisoned in pairs),
    )


def main() -> None:
    """Measure on the Kafka of ISTHMUS_TEST_KAFKA, or on an embedded broker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--transactional", action="store_true")
    given = parser.parse_args()
    options = {"count": given.count, "rounds": given.rounds, "transactional": given.transactional}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if bootstrap := os.environ.get(KAFKA):
            print(told("Apache Kafka", ratio(bootstrap, folder, **options)))
            return
        port = free_port()
        arguments = ("--path", str(folder / "data"), "--port", str(port))
        with running("services.embedded.broker", *arguments, log=folder / "broker.log"):
            print(told("embedded broker", ratio(f"127.0.0.1:{port}", folder, **options)))


def told(name: str, figures: tuple[float, float, float]) -> str:
    """Return the figures as a line."""
    healthy, poisoned, share = figures
    return f"{name}: {healthy:,.0f} records/s, with 1% poison {poisoned:,.0f}: {share:.3f} of it"


if __name__ == "__main__":
    main()
