"""The search for the constants of ``ml.knowledge.index.Ranking``, one coordinate at a time.

What belongs here: the grid and the walk. What does not: which questions it walks on (``_knowledge_sets``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._knowledge_sets import Questions
from ml.knowledge.evaluation import measure, rank
from ml.knowledge.index import FIELDS, Field, Index, Ranking

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 9.0)
LENGTHS = (0.3, 0.5, 0.75, 0.9)
SATURATIONS = (1.5, 2.0, 3.0, 4.0, 6.0, 9.0)
NAMES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
#: A smaller gain than this in mean reciprocal rank is taken for chance.
WORTH = 0.001
ROUNDS = 3
#: Where every search begins: all fields alike, no second view.
START = Ranking(
    title=Field(1.0, 0.75),
    headings=Field(1.0, 0.75),
    body=Field(1.0, 0.75),
    code=Field(1.0, 0.75),
    tags=Field(1.0, 0.75),
    saturation=1.5,
    names=0.0,
)


class Trial:
    """Sets with their documents counted and their questions asked once: a ranking is then quickly judged."""

    def __init__(self, sets: Sequence[Questions]) -> None:
        self.sets = tuple(sets)
        self._indexes = [Index(asked.documents) for asked in sets]
        self._asked = [index.ask(asked.questions) for index, asked in zip(self._indexes, sets, strict=True)]

    def quality(self, ranking: Ranking, chosen: Sequence[int]) -> float:
        """Return the mean over some sets of the mean reciprocal rank."""
        return float(np.mean([np.mean(1 / self.ranks(ranking, at)) for at in chosen]))

    def ranks(self, ranking: Ranking, at: int) -> NDArray[np.int64]:
        """Return the rank of the right document of each question of one set."""
        scores = self._indexes[at].reranked(ranking).scores(self._asked[at])
        return np.array([rank(row, right) for row, right in zip(scores, self.sets[at].right, strict=True)])


def constants(ranking: Ranking) -> Iterator[list[Ranking]]:
    """Yield, for each constant, the rankings that differ from this one in it; the body's weight is the unit."""
    for name in FIELDS:
        now: Field = getattr(ranking, name)
        if name != "body":
            yield [_with(ranking, name, replace(now, weight=weight)) for weight in WEIGHTS]
        yield [_with(ranking, name, replace(now, length=length)) for length in LENGTHS]
    yield [_with(ranking, "saturation", value) for value in SATURATIONS]
    yield [_with(ranking, "names", value) for value in NAMES]


def _with(ranking: Ranking, name: str, value: Any) -> Ranking:
    return replace(ranking, **{name: value})


def search(trial: Trial, chosen: Sequence[int], start: Ranking) -> Ranking:
    """Set one constant after the other to its best value on some sets, until none gains."""
    ranking, best = start, trial.quality(start, chosen)
    for _ in range(ROUNDS):
        before = best
        for position in range(len(list(constants(start)))):
            tried = list(constants(ranking))[position]
            found = [trial.quality(one, chosen) for one in tried]
            if max(found) > best + WORTH:
                best, ranking = max(found), tried[int(np.argmax(found))]
        if best == before:
            break
    return ranking


def tune(asked: Sequence[Questions], own: Sequence[Questions]) -> dict[str, Any]:
    """Search on people's questions and on the documents' own together, and once more without each of people's sets.

    Prints where each search ends, and what it is worth on the set that it did not see. All begin at the same plain
    start, which treats all fields alike.
    """
    trial = Trial([*asked, *own])
    everything = range(len(trial.sets))
    line: dict[str, Any] = {}
    for left_out in (*range(len(asked)), None):
        ranking = search(trial, [at for at in everything if at != left_out], START)
        if left_out is None:
            print(f"on all: {ranking}")
            line["ranking"] = asdict(ranking)
            continue
        measures = measure(trial.ranks(ranking, left_out))
        name = trial.sets[left_out].name
        print(f"without {name}: {ranking}\n  there: {', '.join(f'{key} {of:.3f}' for key, of in measures.items())}")
        line |= {f"unseen_{key}_{name}": round(of, 4) for key, of in measures.items()}
    return line
