"""Labels: what became of each saga, told by its own events, and from which event on its fate was sealed.

What belongs here: reading labels off events. What does not: what a type's labels are (``types``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.sagas.types import SagaType


@dataclass(frozen=True, slots=True)
class Labels:
    """What became of each saga: arrays of one length, in the order of ``saga_ids``.

    ``label`` is an outcome's name, empty where the saga is not labelled (yet); ``cut`` is the position (from 1) of the
    event that seals it, so that strict prefixes are shorter; ``start_us`` and ``end_us`` are the times of its first
    and last event (its ending included): a label is known from ``end_us`` on.
    """

    saga_ids: NDArray[np.object_]
    label: NDArray[np.object_]
    cut: NDArray[np.int64]
    start_us: NDArray[np.int64]
    end_us: NDArray[np.int64]


def label_sagas(
    kind: SagaType,
    *,
    saga_ids: Sequence[str] | NDArray[np.object_],
    steps: Sequence[str] | NDArray[np.object_],
    statuses: Sequence[str] | NDArray[np.object_],
    us: NDArray[np.int64],
    endings: Mapping[str, tuple[str, int]],
) -> Labels:
    """Return the labels of sagas from their step events, which stand saga by saga in order.

    Where the ending labels, no prefix reaches it: a step of the ending's time or later is not part of one.

    ``endings`` has for each ended saga its key (see :class:`SagaType`) and its time in microseconds.
    """
    ids = np.asarray(saga_ids, dtype=object)
    if not len(ids):
        empty = np.zeros(0, dtype=np.int64)
        return Labels(ids, ids.copy(), empty, empty.copy(), empty.copy())
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    if len(set(ids[first])) != len(first):
        raise ValueError("the events of a saga must stand together")
    last = np.concatenate([first[1:], [len(ids)]])
    names, states = np.asarray(steps, dtype=object), np.asarray(statuses, dtype=object)
    shapes = dict.fromkeys(zip(names, states, strict=True))
    sealing = {shape for shape in shapes if any(w.matches("step", shape[0], shape[1], "") for w in kind.sealed_by)}
    label, cut, end = np.empty(len(first), dtype=object), last - first + 1, us[last - 1].copy()
    for saga, (begin, stop) in enumerate(zip(first, last, strict=True)):
        key, (ending, ended_us) = "", endings.get(ids[begin], ("", 0))
        for row in range(begin, stop):
            if (names[row], states[row]) in sealing:
                cut[saga] = row - begin + 1
                break
        if kind.label_by == "ending":
            key = ending
            if ending:
                # A step of the ending's own microsecond is the one that ended it.
                cut[saga] = min(cut[saga], np.searchsorted(us[begin:stop], ended_us, "left") + 1)
        else:
            for row in range(stop - 1, begin - 1, -1):
                if names[row].startswith(kind.label_by):
                    key, cut[saga] = names[row], min(cut[saga], row - begin + 1)
                    break
        label[saga] = kind.labels.get(key, "")
        end[saga] = max(end[saga], ended_us)
    return Labels(ids[first], label, cut.astype(np.int64), us[first].copy(), end)
