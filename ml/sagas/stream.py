"""Saga events as columns: from a table shaped like staging to what features and labels are computed on.

What belongs here: reading such a table into events, a vocabulary, endings and prefixes. What does not: where the table
comes from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ml.sagas.features import FeatureSet, Vocabulary
from ml.sagas.labels import Labels, label_sagas
from ml.sagas.spec import NAN, SagaEvent
from ml.sagas.state import prefixes
from ml.sagas.types import SagaType

PREFIX = "isthmus.saga."
#: The order of events of one time: a saga's start, its steps, its ending.
RANK = {f"{PREFIX}started": 0, f"{PREFIX}step": 1, f"{PREFIX}completed": 2, f"{PREFIX}aborted": 2}


def saga_events(table: pa.Table) -> list[SagaEvent]:
    """Return a staging-shaped table's rows (one saga type, ordered) as events; a time may be a timestamp or ``us``."""

    def column(name: str, missing: Any) -> list[Any]:
        if name not in table.column_names:
            return [missing] * len(table)
        return [missing if value is None else value for value in table[name].to_pylist()]

    if "us" in table.column_names:
        times = table["us"].to_pylist()
    else:
        times = table["event_time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
    kinds = (
        column("kind", "")
        if "kind" in table.column_names
        else [text.removeprefix(PREFIX) for text in column("event_type", "")]
    )
    return [
        SagaEvent(*values)
        for values in zip(
            column("saga_id", ""), kinds, times, column("step", ""), column("participant", ""), column("status", ""),
            column("attempt", 0), column("worker", ""), column("duration_ms", NAN), column("load", NAN),
            column("amount", NAN), column("reason", ""), strict=True,
        )
    ]  # fmt: skip


def vocabulary(events: Iterable[SagaEvent], *, least: int = 20, workers: int = 200) -> Vocabulary:
    """Return what occurs at least ``least`` times among step events, and the most frequent workers."""
    activities, participants, who = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
    for event in events:
        if event.kind == "step":
            activities[event.step, event.status] += 1
            participants[event.participant] += 1
            if event.worker:
                who[event.worker] += 1

    def kept(counts: Counter[Any]) -> tuple[Any, ...]:
        return tuple(sorted(value for value, count in counts.items() if count >= least))

    common = [worker for worker, count in who.most_common(workers) if count >= least]
    return Vocabulary(kept(activities), kept(participants), tuple(sorted(common)))


def endings(events: Iterable[SagaEvent]) -> dict[str, tuple[str, int]]:
    """Return each ended saga's first ending: ``completed`` or the reason of its abort, and its time."""
    found: dict[str, tuple[str, int]] = {}
    for event in events:
        if event.kind in ("completed", "aborted"):
            found.setdefault(event.saga_id, (event.reason or event.kind, event.us))
    return found


@dataclass(frozen=True)
class Prefixes:
    """Prefixes of sagas: row i is the prefix of ``saga_ids[i]`` that ends with its step event ``position[i]``.

    Rows of one saga stand together, in order. ``x`` has a column for each feature, ``us`` is the time of the last
    event; ``label`` is the outcome's name, empty where unknown; ``known_us`` is when the label was known and
    ``start_us`` when the saga began. ``strict`` says whether the prefix ends before its saga's fate is sealed.
    """

    saga_ids: NDArray[np.object_]
    position: NDArray[np.int64]
    us: NDArray[np.int64]
    x: NDArray[np.float64]
    label: NDArray[np.object_]
    start_us: NDArray[np.int64]
    known_us: NDArray[np.int64]
    strict: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.position)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Prefixes:
        """Return the rows that ``chosen`` (a mask or positions) names."""
        return Prefixes(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @property
    def labelled(self) -> Prefixes:
        """Return the strict prefixes of labelled sagas: what models learn from and are scored on."""
        return self.where(self.strict & (self.label != ""))


def with_labels(
    kind: SagaType,
    features: FeatureSet,
    columns: Mapping[str, Any],
    ends: Mapping[str, tuple[str, int]],
) -> Prefixes:
    """Return the prefixes of a features query's result: ``saga_id``, ``position``, ``us``, ``step``, ``status``, f0….

    Every step event of a saga must be there, so that its label can be told; prefixes longer than the type's longest
    are dropped afterwards.
    """
    ids = np.asarray(columns["saga_id"], dtype=object)
    us, position = np.asarray(columns["us"], dtype=np.int64), np.asarray(columns["position"], dtype=np.int64)
    labels: Labels = label_sagas(
        kind, saga_ids=ids, steps=columns["step"], statuses=columns["status"], us=us, endings=ends
    )
    of = np.cumsum(position == 1) - 1
    x = features.matrix({name: columns[f"f{place}"] for place, name in enumerate(features.names)})
    every = _attach(labels, of, position, us, x)
    return every.where(position <= kind.longest)


def in_process(
    kind: SagaType, features: FeatureSet, events: Sequence[SagaEvent], *, labelled: bool = False
) -> Prefixes:
    """Return the prefixes of ``events`` (all of one type, in order), computed as serving does.

    With ``labelled`` only the strict prefixes of labelled sagas are computed, which is what training needs.
    """
    labels = labels_of(kind, events)
    place = {saga: row for row, saga in enumerate(labels.saga_ids)}
    sagas = {saga for saga, label in zip(labels.saga_ids, labels.label, strict=True) if label} if labelled else None
    rows = [
        (place[event.saga_id], position, event.us, values)
        for event, position, values in prefixes(events, features, longest=kind.longest, sagas=sagas)
    ]
    rows.sort(key=lambda row: row[:2])
    of = np.array([row[0] for row in rows], dtype=np.int64)
    columns = zip(*(row[3] for row in rows), strict=True)
    x = features.matrix(dict(zip(features.names, columns, strict=True))) if rows else np.empty((0, len(features.names)))
    every = _attach(
        labels,
        of,
        np.array([row[1] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.int64),
        x,
    )
    return every.labelled if labelled else every


def labels_of(kind: SagaType, events: Iterable[SagaEvent]) -> Labels:
    """Return the labels of the sagas among ``events``, which are in order, by saga id."""
    events = list(events)
    steps = sorted((event for event in events if event.kind == "step"), key=lambda event: event.saga_id)
    return label_sagas(
        kind,
        saga_ids=[event.saga_id for event in steps],
        steps=[event.step for event in steps],
        statuses=[event.status for event in steps],
        us=np.array([event.us for event in steps], dtype=np.int64),
        endings=endings(events),
    )


def _attach(
    labels: Labels,
    of: NDArray[np.int64],
    position: NDArray[np.int64],
    us: NDArray[np.int64],
    x: NDArray[np.float64],
) -> Prefixes:
    return Prefixes(
        labels.saga_ids[of],
        position,
        us,
        x,
        labels.label[of],
        labels.start_us[of],
        labels.end_us[of],
        position < labels.cut[of],
    )
