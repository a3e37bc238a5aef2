"""A small system of eight services whose traffic, with a fault or without, root cause is tested on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ml.root_cause import Observed

#: Who calls whom, in order.
CALLS = {"front": ["shop", "user"], "shop": ["cart", "price"], "price": ["stock", "rates"], "user": ["store"]}
SERVICES = ["front", "shop", "user", "cart", "price", "stock", "rates", "store"]
MINUTE = 60_000_000
KINDS: dict[str, Any] = {"cpu": "use", "latency": "served"}


@dataclass
class Fault:
    """What goes wrong: time that a service takes, time on the ways to it, services that fail, or fall silent."""

    own_ms: dict[str, float] = field(default_factory=dict)
    way_ms: dict[str, float] = field(default_factory=dict)
    fails: str = ""
    silent: str = ""
    cpu: str = ""


class Traffic:
    """Writes traces and lines of ``minutes`` minutes, 15 traces a minute."""

    def __init__(self, seed: int, fault: Fault, start_us: int) -> None:
        self.random, self.fault, self.start_us = np.random.default_rng(seed), fault, start_us
        self.spans: list[tuple[str, str, str, str, str, float, float]] = []
        self.lines: list[tuple[str, str, str, str, float]] = []
        self.rows: list[tuple[float, str, float, float]] = []

    def observe(self, minutes: int) -> Observed:
        for number in range(15 * minutes):
            self.visit(f"t{self.start_us}.{number}", "", "front", self.start_us / 1000 + number * 4000.0)
        for minute in range(2 * minutes):
            at = self.start_us + minute * MINUTE // 2
            for service in SERVICES:
                cpu = self.random.gamma(20, 0.5) + (60 if service == self.fault.cpu else 0)
                self.rows.append((at, service, cpu, self.random.gamma(50, 0.4) + self.fault.own_ms.get(service, 0)))
        spans = pd.DataFrame(
            self.spans, columns=["trace", "span", "parent", "service", "operation", "start_us", "end_us"]
        )
        for name in ("start_us", "end_us"):
            spans[name] = (spans[name] * 1000).astype("int64")
        logs = pd.DataFrame(self.lines, columns=["trace", "span", "service", "text", "time_us"])
        logs["time_us"] = (logs["time_us"] * 1000).astype("int64")
        metrics = pd.DataFrame(self.rows, columns=["time_us", "service", "cpu", "latency"])
        return Observed(spans=spans, logs=logs, metrics=metrics, kinds=KINDS)

    def visit(self, trace: str, parent: str, service: str, now: float) -> tuple[float, bool]:
        """Write a visit that begins at ``now`` (ms); return its end and whether it failed."""
        span, began = f"{service}{len(self.spans)}", now
        place = len(self.spans)
        self.spans.append((trace, span, parent, service, f"/{service}", began, began))
        self.line(trace, span, service, f"INFO {service} got order {self.random.integers(1e9)}", now)
        now += self.random.gamma(20, 0.2) + self.fault.own_ms.get(service, 0)
        failed = service == self.fault.fails and self.random.random() < 0.9
        for callee in () if failed else CALLS.get(service, ()):
            call, sent = f"{service}>{len(self.spans)}", now
            at = len(self.spans)
            self.spans.append((trace, call, span, service, "HTTP", sent, sent))
            slow = self.fault.way_ms.get(callee, 0)
            now, failed = self.visit(trace, call, callee, now + self.random.gamma(10, 0.05) + slow)
            now += self.random.gamma(10, 0.05)
            self.spans[at] = (*self.spans[at][:6], now)
            if failed:
                break
        now += self.random.gamma(20, 0.1)
        if failed:
            self.line(trace, span, service, f"ERROR {service} could not serve order {self.random.integers(1e9)}", now)
        elif service != self.fault.silent:
            self.line(trace, span, service, f"INFO {service} served order {self.random.integers(1e9)}", now)
        self.spans[place] = (*self.spans[place][:6], now)
        return now, failed

    def line(self, trace: str, span: str, service: str, text: str, now: float) -> None:
        self.lines.append((trace, span, service, text, now))


def traffic(fault: Fault | None = None, *, seed: int = 1, minutes: int = 3, start: int = 0) -> Observed:
    return Traffic(seed, fault or Fault(), 1_700_000_000_000_000 + start * MINUTE).observe(minutes)
