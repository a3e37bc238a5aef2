"""How well learned time-outs would have kept their share on steps that came later.

What belongs here: playing later steps through an advisor, as they would have come. What does not: learning
(``ml.timeouts.learning``), and the comparison with other methods (``benchmarks/timeouts.py``).
"""

from __future__ import annotations

import heapq
import math

from ml.timeouts.advisor import Advisor
from ml.timeouts.learning import History, Learned


def false_share(learned: Learned, later: History, *, target: float = 0.01) -> tuple[float, int]:
    """Return the share of ``later`` steps that would have been cut though they ended, and of how many.

    Steps that were not learned are left out: they would have had the safe default. NaN where no step is left.
    """
    advisor = Advisor(learned, target=target)
    pending: list[tuple[float, int, float, bool]] = []
    cut = steps = 0
    loads: list[float | None] = [None] * len(later.ms) if later.load is None else later.load.tolist()
    for ticket, (participant, step, at, ms, load) in enumerate(
        zip(later.participant, later.step, later.start.tolist(), later.ms.tolist(), loads, strict=True)
    ):
        while pending and pending[0][0] <= at:
            _, done, waited, was_cut = heapq.heappop(pending)
            (advisor.gave_up if was_cut else advisor.ended)(done, waited)
        advice = advisor.advise(ticket, participant, step, at, load)
        if not advice.known:
            continue
        is_cut = ms > advice.timeout_ms
        waited = min(ms, advice.timeout_ms)
        heapq.heappush(pending, (at + waited / 1000.0, ticket, waited, is_cut))
        if math.isfinite(ms):
            steps += 1
            cut += is_cut
    return (cut / steps if steps else math.nan), steps
