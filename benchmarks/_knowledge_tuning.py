"""The search for the constants of ``ml.knowledge.index.Ranking``, one coordinate at a time.

What belongs here: the grid and the walk. What does not: which questions it walks on (``_knowledge_sets``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from benchmarks._knowledge_sets import Questions
from ml.knowledge.evaluation import rank
from ml.knowledge.index import FIELDS, Field, Index, Ranking

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 9.0)
LENGTHS = (0.3, 0.5, 0.75, 0.9)
SATURATIONS = (1.5, 2.0, 3.0, 4.0, 6.0, 9.0)
NAMES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
#: A smaller gain than this in mean reciprocal rank is taken for chance.
WORTH = 0.001


def quality(sets: Sequence[Questions], ranking: Ranking) -> float:
    """Return the mean over sets of the mean reciprocal rank."""
    found = []
    for asked in sets:
        index = Index(asked.documents, ranking)
        pairs = zip(asked.questions, asked.right, strict=True)
        found.append(np.mean([1 / rank(index.scores(question), right) for question, right in pairs]))
    return float(np.mean(found))


def steps(ranking: Ranking) -> Iterator[Ranking]:
    """Yield every ranking that differs from this one in one constant; the body's weight is the unit."""
    for name in FIELDS:
        now: Field = getattr(ranking, name)
        if name != "body":
            yield from (replace(ranking, **_changed(name, replace(now, weight=weight))) for weight in WEIGHTS)
        yield from (replace(ranking, **_changed(name, replace(now, length=length))) for length in LENGTHS)
    yield from (replace(ranking, saturation=value) for value in SATURATIONS)
    yield from (replace(ranking, names=value) for value in NAMES)


def _changed(name: str, value: Field) -> dict[str, Any]:
    return {name: value}


def tune(sets: Sequence[Questions], start: Ranking | None = None) -> dict[str, Any]:
    """Climb to the best ranking on these sets, print each step that is worth it, and return where it ends."""
    ranking = start or Ranking()
    best, better = quality(sets, ranking), True
    print(f"from {best:.4f}: {ranking}")
    while better:
        tried = max(((quality(sets, one), at, one) for at, one in enumerate(steps(ranking))), key=lambda of: of[:2])
        better = tried[0] > best + WORTH
        if better:
            best, ranking = tried[0], tried[2]
            print(f"  to {best:.4f}: {ranking}", flush=True)
    return {"mrr": round(best, 4), "ranking": asdict(ranking)}
