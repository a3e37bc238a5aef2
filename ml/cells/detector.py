"""Wrong cells of a table: a probability for each, a decision without labels, and better ones after a few answers.

What belongs here: the way from a table to probabilities, in three steps: the first look at each cell alone, the second
one that knows what the first thought of the cell's row, value and source, and a third that knows labels. Each is a set
of boosted trees, trained on other tables (``benchmarks/cells``). What does not: fitting, reading the trees from a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml.cells.features import SECOND, Evidence, evidence, second_look
from ml.cells.labels import LABELLED, label_features, space
from ml.cells.sampling import groups, next_rows
from ml.cells.table import BadTable, Floats, Ints, Table
from ml.cells.trees import Trees

ROWS: Final = 20
"""Rows that a steward is asked about."""
_FIRST_ROUND: Final = 10
Answer = Callable[[Ints], NDArray[np.bool_]]
"""Rows (k,) in, which of their cells are wrong (k, columns) out."""


@dataclass(frozen=True)
class Model:
    """Trees of the three looks, two of each: their log odds are averaged. ``scale``: one unit of each evidence."""

    first: tuple[Trees, ...]
    second: tuple[Trees, ...]
    third: tuple[Trees, ...]
    scale: Floats

    @classmethod
    def from_arrays(cls, arrays: Any) -> Model:
        """Return the model that :meth:`arrays` gave."""
        looks: dict[str, Any] = {
            look: tuple(Trees.from_arrays(arrays, f"{look}{fold}_") for fold in (0, 1))
            for look in ("first", "second", "third")
        }
        return cls(scale=arrays["scale"], **looks)

    def arrays(self) -> dict[str, Any]:
        """Return all of it as named arrays."""
        out: dict[str, Any] = {"scale": self.scale}
        for look in ("first", "second", "third"):
            for fold, trees in enumerate(getattr(self, look)):
                out |= trees.arrays(f"{look}{fold}_")
        return out


def mean_logit(trees: tuple[Trees, ...], matrix: NDArray[np.float32]) -> Floats:
    """Return the mean of the trees' log odds."""
    return np.asarray(np.mean([one.logit(matrix) for one in trees], axis=0))


def probability(logit: Floats) -> Floats:
    """Return log odds as probabilities."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -30, 30))))


def threshold(p: Floats) -> float:
    """Return the probability from which cells are called wrong, so that the F1 to be expected is the largest.

    The probabilities themselves say what to expect: of the k likeliest cells, their sum is wrong.
    """
    falling = np.sort(p.ravel())[::-1]
    expected = 2 * np.cumsum(falling) / (np.arange(1, len(falling) + 1) + falling.sum() + 1e-12)
    return float(max(falling[int(expected.argmax())], 1e-3))


class Detector:
    """Looks at one table. Create it once; asking for probabilities again costs nothing."""

    def __init__(self, table: Table, model: Model) -> None:
        self._model = model
        self.table = table
        self._found: Evidence = evidence(table)
        self._grouped: dict[int, Ints] = {}

    def _by_row(self, logit: Floats) -> Floats:
        n, width = self.table.shape
        return probability(logit).reshape(width, n).T

    @cached_property
    def _extra(self) -> NDArray[np.float32]:
        first = self._by_row(mean_logit(self._model.first, self._found.matrix))
        return second_look(self._found, first)

    @cached_property
    def unlabelled(self) -> Floats:
        """Return the probability that each cell is wrong, (rows, columns), without labels."""
        both = np.concatenate([self._found.matrix, self._extra], axis=1)
        return self._by_row(mean_logit(self._model.second, both))

    @cached_property
    def _spaces(self) -> list[NDArray[np.float32]]:
        return space(self._found, self._extra, self._model.scale)

    def ask(self, asked: Ints, wrong: NDArray[np.bool_], count: int, seed: int = 0) -> Ints:
        """Return the next rows to ask about, given the rows ``asked`` so far and their answers."""
        p = self.unlabelled
        if len(asked):
            p = self._middle(asked, wrong, seed)
        return next_rows(self._groups(seed), p, asked, count, seed + len(asked))

    def _groups(self, seed: int) -> Ints:
        if seed not in self._grouped:
            self._grouped[seed] = groups(self._spaces, seed)
        return self._grouped[seed]

    def _middle(self, asked: Ints, wrong: NDArray[np.bool_], seed: int) -> Floats:
        n, width = self.table.shape
        seen = label_features(self._found, self._spaces, self.unlabelled, asked, wrong, seed=seed)
        columns = [LABELLED.index(name) for name in ("own", "pooled")]
        return np.asarray((self.unlabelled + seen[:, columns].sum(axis=1).reshape(width, n).T) / 3)

    def labelled_matrix(self, asked: Ints, wrong: NDArray[np.bool_], seed: int = 0) -> NDArray[np.float32]:
        """Return (cells, features), what the third look sees."""
        seen = label_features(self._found, self._spaces, self.unlabelled, asked, wrong, seed=seed)
        p = np.clip(self.unlabelled.T.ravel(), 1e-5, 1 - 1e-5)
        logit = np.log(p / (1 - p))[:, None].astype(np.float32)
        return np.concatenate([self._found.matrix, self._extra, logit, seen], axis=1)

    def labelled(self, asked: Ints, wrong: NDArray[np.bool_], seed: int = 0) -> Floats:
        """Return probabilities (rows, columns) with the answers; the answered cells have 0 or 1."""
        wrong = np.asarray(wrong, dtype=bool)
        if wrong.shape != (len(asked), self.table.shape[1]):
            raise BadTable(f"labels have the shape {wrong.shape}, not one for each cell of the {len(asked)} rows")
        if not len(asked):
            return self.unlabelled
        p = self._by_row(mean_logit(self._model.third, self.labelled_matrix(asked, wrong, seed)))
        p[asked] = wrong
        return p

    def questions(self, answer: Answer, rows: int = ROWS, seed: int = 0) -> tuple[Ints, NDArray[np.bool_]]:
        """Ask about ``rows`` rows in two rounds; return the rows asked and their answers."""
        asked = np.zeros(0, dtype=np.int64)
        wrong = np.zeros((0, self.table.shape[1]), dtype=bool)
        for count in (min(_FIRST_ROUND, rows), rows - min(_FIRST_ROUND, rows)):
            if count:
                more = self.ask(asked, wrong, count, seed)
                asked, wrong = np.concatenate([asked, more]), np.concatenate([wrong, answer(more)])
        return asked, wrong

    def learn(self, answer: Answer, rows: int = ROWS, seed: int = 0) -> tuple[Floats, Ints]:
        """Ask about ``rows`` rows; return probabilities and the rows asked."""
        asked, wrong = self.questions(answer, rows, seed)
        return self.labelled(asked, wrong, seed), asked


FEATURES: Final = (*SECOND, "logit", *LABELLED)
"""Names of what the second and third look add to the evidence."""
