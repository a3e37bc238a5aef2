"""What the router counts, in the cheapest form: plain numbers that one thread writes.

What belongs here: the figures and how they are added to. What does not: their names and form for Prometheus
(:mod:`services.router.exposition`), and HTTP (:mod:`services.router.web`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, get_args

from services.router.progress import Partition

LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Upper bounds of end-to-end latency and of ingestion, seconds."""
STAGE_BUCKETS: Final = (
    *(0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005),
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0),
)
"""Upper bounds of a stage's latency: the first stages take microseconds, the last one milliseconds."""

Stage = Literal["consume", "decode_validate", "rules_route", "produce", "acknowledge"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


class Histogram:
    """Observations by bucket. One thread writes; a reader's figures may be one observation old, never torn."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Observations at or below each bound and above the one before it; the last: above all bounds."""
        self.total = 0.0

    def observe(self, seconds: float, count: int = 1) -> None:
        """Add ``count`` observations that took ``seconds`` together, each as long as their mean."""
        self.counts[bisect_left(self.bounds, seconds / count)] += count
        self.total += seconds


class Metrics:
    """The figures of the loop, written by its thread alone and read by the web server's.

    An event costs an addition or two per figure. There are no locks, and no look-ups of labels by name.
    """

    def __init__(self) -> None:
        self.routed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.rewritten = 0
        self.copies = 0
        self.delivered = 0
        self.commits = 0
        self.restarts = 0
        self.consumer_errors: Counter[str] = Counter()
        self.gone_offsets = 0
        self.in_flight = 0
        self.assigned = 0
        self.lag: dict[Partition, int] = {}
        """Records that each assigned partition holds beyond what was read; replaced whole."""
        self.waiting = 0
        """Partitions that wait for a schema."""
        self.table_loads = 0
        self.table_refusals = 0
        self.spans: Counter[str] = Counter()
        """Spans by what became of them; each outcome is counted by one thread."""
        self.paused = False
        self.paused_seconds = 0.0
        self.latency = Histogram(LATENCY_BUCKETS)
        self.stages: Final = {name: Histogram(STAGE_BUCKETS) for name in STAGES}
        self.ingest: Final = IngestMetrics()

    def observe_latency(self, seconds: float) -> None:
        """Count one delivered record: ``seconds`` from the broker's receipt at ingress to its acknowledgement here."""
        self.latency.observe(seconds)

    def stage(self, name: Stage, seconds: float, count: int = 1) -> None:
        """Count ``count`` events that spent ``seconds`` together in a stage; a batch of 1,000 costs what one does."""
        self.stages[name].observe(seconds, count)


class IngestMetrics:
    """The figures of ``POST /v1/events``, written by the web server's thread alone."""

    def __init__(self) -> None:
        self.events = 0
        """Events that the broker acknowledged."""
        self.refused: Counter[str] = Counter()
        """Events that were refused at the door, by reason."""
        self.seconds: dict[str, Histogram] = {}
        """Requests by outcome, and how long they took."""
        self.in_flight = 0
        """Events that were sent and are not acknowledged yet."""

    def request(self, outcome: str, seconds: float) -> None:
        """Count one request."""
        histogram = self.seconds.get(outcome)
        if histogram is None:
            # A new dictionary, so that a reader's iteration is never disturbed.
            histogram = Histogram(LATENCY_BUCKETS)
            self.seconds = {**self.seconds, outcome: histogram}
        histogram.observe(seconds)
