"""Which features a saga type's models see: generated from the steps that occur, so that a new saga type needs none.

What belongs here: the list of features and their categories. What does not: what a feature means (``spec``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.sagas.spec import ANY, Aggregate, Feature, Node, Recent, Where

FAILED = ("failed", "timed_out")
ENDED = ("completed", "failed", "timed_out")
_COUNT = "count "


@dataclass(frozen=True)
class FeatureSet:
    """Features in order, and the known values of each that is a category.

    A category's code is its place in ``categories``; one that is unknown has the code -1.
    """

    features: tuple[Feature, ...]
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return the features' names, in the order of the matrix's columns."""
        return [feature.name for feature in self.features]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Return the distinct nodes that the features rest on, in order of first use."""
        return tuple(dict.fromkeys(feature.node for feature in self.features))

    @cached_property
    def text_columns(self) -> tuple[int, ...]:
        """Return the places of the categories."""
        return tuple(place for place, feature in enumerate(self.features) if feature.is_text)

    @cached_property
    def count_columns(self) -> tuple[int, ...]:
        """Return the places of the activity counts: the plain count encoding of the baselines."""
        return tuple(place for place, feature in enumerate(self.features) if feature.name.startswith(_COUNT))

    @cached_property
    def _codes(self) -> dict[str, dict[str, float]]:
        return {
            name: {value: float(code) for code, value in enumerate(values)} for name, values in self.categories.items()
        }

    def encode(self, row: Sequence[Any]) -> list[float]:
        """Return a row of values with the categories as codes."""
        encoded = list(row)
        for place in self.text_columns:
            encoded[place] = self._codes.get(self.features[place].name, {}).get(row[place], -1.0)
        return encoded

    def matrix(self, columns: Mapping[str, Any]) -> NDArray[np.float64]:
        """Return the matrix (rows, features) of columns by name; a category's column holds texts."""
        rows = len(next(iter(columns.values())))
        matrix = np.empty((rows, len(self.features)))
        for place, feature in enumerate(self.features):
            column = columns[feature.name]
            if feature.is_text:
                values, inverse = np.unique(np.asarray(column, dtype=object).astype(str), return_inverse=True)
                codes = self._codes.get(feature.name, {})
                matrix[:, place] = np.array([codes.get(str(value), -1.0) for value in values])[inverse]
            else:
                matrix[:, place] = np.asarray(column, dtype=np.float64)
        return matrix

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, as a model keeps it."""
        return {
            "features": [feature.as_dict() for feature in self.features],
            "categories": {name: list(values) for name, values in self.categories.items()},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FeatureSet:
        """Return what :meth:`as_dict` was made of."""
        return cls(
            tuple(Feature.from_dict(one) for one in plain["features"]),
            {name: tuple(values) for name, values in plain["categories"].items()},
        )

    @cached_property
    def digest(self) -> str:
        """Return a short digest of the definition: equal definitions give equal digests."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What occurs in the events that a model is trained on: activities (step, status), participants, workers."""

    activities: tuple[tuple[str, str], ...]
    participants: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()

    @property
    def steps(self) -> list[str]:
        """Return the steps in order of their names."""
        return sorted({step for step, _ in self.activities})

    @property
    def worked(self) -> list[str]:
        """Return the steps with a start and an end of their own: they have a duration."""
        known = set(self.activities)
        return [
            step
            for step in self.steps
            if (step, "started") in known and any((step, status) in known for status in ENDED)
        ]

    @property
    def fails(self) -> bool:
        """Return whether any step fails or times out."""
        return any(status in FAILED for _, status in self.activities)


def feature_set(vocabulary: Vocabulary, *, recent: Iterable[tuple[str, Recent]] = ()) -> FeatureSet:
    """Return the features of a saga type whose events use ``vocabulary``; ``recent`` adds load figures by name."""
    activities = [f"{step}:{status}" for step, status in vocabulary.activities]
    now = Aggregate("last")
    features = [
        Feature("position", Aggregate("count")),
        Feature("since start", Aggregate("first"), "elapsed"),
        Feature("gap 1", Aggregate("lag", back=1), "elapsed"),
        Feature("gap 2", Aggregate("lag", back=2), "elapsed"),
        Feature("gap 4", Aggregate("lag", back=4), "elapsed"),
        Feature("hour", now, "hour"),
        Feature("weekday", now, "weekday"),
        Feature("amount", Aggregate("last", "amount", Where(kind="started"))),
        Feature("workers", Aggregate("distinct", "worker")),
        Feature("worker", Aggregate("last", "worker")),
        Feature("first worker", Aggregate("first", "worker")),
        Feature("work last", Aggregate("last", "work_us"), "seconds"),
        Feature("work max", Aggregate("max", "work_us"), "seconds"),
        Feature("work total", Aggregate("sum", "work_us"), "seconds"),
        *(Feature(f"activity {back}", Aggregate("lag", "activity", back=back)) for back in range(3)),
        *(
            Feature(f"{_COUNT}{step}:{status}", Aggregate("count", where=Where(step, (status,))))
            for step, status in vocabulary.activities
        ),
    ]
    for step in vocabulary.steps:
        where = Where(step)
        features += [
            Feature(f"since last {step}", Aggregate("last", where=where), "elapsed"),
            Feature(f"first {step}", Aggregate("first", where=where), "after_start"),
        ]
    features += [
        Feature(f"work {step}", Aggregate("sum", "work_us", Where(step)), "seconds") for step in vocabulary.worked
    ]
    if vocabulary.fails:
        features += [
            Feature("failures", Aggregate("count", where=Where(status=FAILED))),
            Feature("attempt", Aggregate("last", "attempt")),
            Feature("attempt max", Aggregate("max", "attempt")),
            Feature("load", Aggregate("last", "load")),
            Feature("load max", Aggregate("max", "load")),
            Feature("duration last", Aggregate("last", "duration_ms")),
            Feature("duration total", Aggregate("sum", "duration_ms")),
        ]
    features += [Feature(name, node) for name, node in recent]
    categories = {
        feature.name: tuple(sorted(activities)) for feature in features if feature.name.startswith("activity")
    }
    categories |= dict.fromkeys(("worker", "first worker"), tuple(sorted(vocabulary.workers)))
    return FeatureSet(tuple(features), categories)


def recent_load(vocabulary: Vocabulary, seconds: Sequence[int] = (300, 1800)) -> list[tuple[str, Recent]]:
    """Return load figures for services that can fail: recent work and recent failures at each participant."""
    found: list[tuple[str, Recent]] = []
    for window in seconds:
        found.append((f"sagas started in {window} s", Recent(window, Where(kind="started"))))
        for participant in vocabulary.participants:
            found += [
                (f"events at {participant} in {window} s", Recent(window, Where(participant=participant))),
                (f"failures at {participant} in {window} s", Recent(window, Where("", FAILED, participant))),
            ]
    return found


__all__ = ["ANY", "ENDED", "FAILED", "FeatureSet", "Vocabulary", "feature_set", "recent_load"]
