"""Counters of the router, and their form for Prometheus.

What belongs here: what is counted and how it is written. What does not: HTTP (:mod:`services.router.health`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Upper bounds of the latency histogram, seconds."""


class Metrics:
    """Written by the loop's thread alone, read by the health server's: a figure may be one event old, never torn."""

    def __init__(self) -> None:
        self.routed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.rewritten = 0
        self.delivered = 0
        self.commits = 0
        self.restarts = 0
        self.consumer_errors: Counter[str] = Counter()
        self.gone_offsets = 0
        self.in_flight = 0
        self._latency = [0] * (len(BUCKETS) + 1)
        self._latency_sum = 0.0

    def observe_latency(self, seconds: float) -> None:
        """Count one delivered record: ``seconds`` from the broker's receipt at ingress to its acknowledgement here."""
        self._latency[bisect_left(BUCKETS, seconds)] += 1
        self._latency_sum += seconds

    def text(self) -> str:
        """Return all figures in Prometheus' text format, version 0.0.4."""
        lines: list[str] = []

        def family(name: str, kind: str, help_text: str, samples: dict[str, float]) -> None:
            lines.append(f"# HELP isthmus_router_{name} {help_text}")
            lines.append(f"# TYPE isthmus_router_{name} {kind}")
            lines.extend(f"isthmus_router_{name}{labels} {value:g}" for labels, value in samples.items())

        def labelled(label: str, counter: Counter[str]) -> dict[str, float]:
            return {f'{{{label}="{value}"}}': count for value, count in sorted(counter.copy().items())}

        family("routed_total", "counter", "Events accepted, by type.", labelled("type", self.routed))
        family("refused_total", "counter", "Records refused, by reason.", labelled("reason", self.refused))
        family("rewritten_total", "counter", "Events whose value was written anew.", {"": self.rewritten})
        family("delivered_total", "counter", "Records acknowledged by the broker.", {"": self.delivered})
        family("in_flight", "gauge", "Records without acknowledgement.", {"": self.in_flight})
        family("commits_total", "counter", "Commits of consumed offsets.", {"": self.commits})
        family(
            "restarts_total", "counter", "Times that the clients were made anew after an error.", {"": self.restarts}
        )
        family(
            "gone_offsets_total",
            "counter",
            "Ingress offsets that aged out before they were read.",
            {"": self.gone_offsets},
        )
        errors = labelled("error", self.consumer_errors)
        family("consumer_errors_total", "counter", "Errors that the consumer reported, by name.", errors)
        counts, below, buckets = list(self._latency), 0, {}
        for bound, count in zip([*BUCKETS, float("inf")], counts, strict=True):
            below += count
            buckets[f'_bucket{{le="{"+Inf" if bound == float("inf") else f"{bound:g}"}"}}'] = float(below)
        help_text = "Seconds from the broker's receipt at ingress to the acknowledgement of what was written."
        family(
            "latency_seconds", "histogram", help_text, {**buckets, "_sum": self._latency_sum, "_count": float(below)}
        )
        return "\n".join(lines) + "\n"
