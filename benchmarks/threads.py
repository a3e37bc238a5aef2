"""How long the router's loop waits for its turn of Python while the HTTP side checks events, by the switch interval.

One thread validates without a pause, as a large batch makes the web server do. Another one sleeps half a millisecond at
a time and notes how much later it wakes, as the loop does at each answer of the broker. ``--data`` is not needed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from threading import Event, Thread

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from events.codec import encode
from events.validation import check
from services.router.__main__ import SWITCH_SECONDS

DEFAULT = 0.005
STEP = {"saga_type": "order", "step": "charge", "participant": "payment", "attempt": 1, "status": "completed"}
NAP = 0.0005


def run(interval: float, seconds: float, *, busy: bool = True) -> tuple[float, float, float]:
    """Return (median, 99th percentile) of the delay in milliseconds, and validations a second."""
    sys.setswitchinterval(interval)
    event = encode("isthmus.saga.step", STEP, subject="order-1", source="/shop", id="1")
    stop, checked, received = Event(), 0, datetime.now(UTC)

    def work() -> None:
        nonlocal checked
        while not stop.is_set():
            check(event, received)
            checked += 1

    thread = Thread(target=work)
    if busy:
        thread.start()
    late, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        time.sleep(NAP)
        late.append((time.perf_counter() - began - NAP) * 1000)
    stop.set()
    if busy:
        thread.join()
    return median(late), quantiles(late, n=100)[98], checked / seconds


def main() -> None:
    """Print the table: medians over rounds, in which the intervals take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="not needed")
    parser.add_argument("--quick", action="store_true", help="two rounds of half a second")
    given = parser.parse_args()
    rounds, seconds = (2, 0.5) if given.quick else (5, 2.0)
    intervals = (DEFAULT, 0.001, SWITCH_SECONDS, 0.0001)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(rounds):
        for interval in intervals:
            found.setdefault(f"{interval * 1000:g} ms", []).append(run(interval, seconds))
        found.setdefault("nothing to wait for", []).append(run(DEFAULT, seconds, busy=False))
    figures = {name: [round(median(each), 2) for each in zip(*runs, strict=True)] for name, runs in found.items()}
    print(f"{'switch interval':<22}{'median ms':>11}{'p99 ms':>9}{'checks/s':>10}")
    for name, (middle, high, rate) in figures.items():
        print(f"{name:<22}{middle:>11.2f}{high:>9.2f}{rate:>10.0f}")
    print(json.dumps({"benchmark": "threads", "default_ms": DEFAULT * 1000, "rows": figures}))


if __name__ == "__main__":
    main()
