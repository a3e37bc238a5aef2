"""What failure is, for each saga type: outcomes, how a saga's own events label it, and when its fate is sealed.

What belongs here: the registry of saga types. What does not: features (``features``) and estimators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml.sagas.spec import Where


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome that is predicted against the rest, and what errors cost.

    ``missed`` is the cost of a saga that ends so without an alarm, ``false_alarm`` that of an alarm without such an
    end, in one unit: only their ratio matters, it sets the operating point.
    """

    name: str
    missed: float = 1.0
    false_alarm: float = 1.0
    is_failure: bool = True


@dataclass(frozen=True, slots=True)
class SagaType:
    """A saga type's outcomes.

    ``label_by``: ``ending`` labels a saga by its ending (the key ``completed``, ``business`` or ``technical``), any
    other text by its last step whose name begins so. ``labels`` maps that to an outcome's name; a saga whose key is
    not there is left out. ``sealed_by``: a prefix that counts ends before the first event that fulfils one of these,
    and before the event that labels: what comes after gives the answer away.
    """

    name: str
    outcomes: tuple[Outcome, ...]
    labels: Mapping[str, str]
    label_by: str = "ending"
    sealed_by: tuple[Where, ...] = ()
    longest: int = 40
    load: Literal["none", "participants"] = "none"


ORDER = SagaType(
    "order",
    # A lost order costs about ten needless fallbacks.
    outcomes=(Outcome("technical", missed=10.0, false_alarm=1.0),),
    labels={"technical": "technical", "business": "business", "completed": "completed"},
    # Compensation starts when the orchestrator has given up.
    sealed_by=(Where(status=("compensated",)),),
    load="participants",
)
LOAN_APPLICATION = SagaType(
    "loan_application",
    outcomes=(
        Outcome("accepted", is_failure=False),
        Outcome("declined", missed=3.0, false_alarm=1.0),
        Outcome("cancelled", missed=2.0, false_alarm=1.0),
    ),
    labels={"O_ACCEPTED": "accepted", "O_DECLINED": "declined", "O_CANCELLED": "cancelled"},
    label_by="O_",
    sealed_by=tuple(Where(step) for step in ("A_APPROVED", "A_ACTIVATED", "A_REGISTERED", "A_CANCELLED", "A_DECLINED")),
)
#: The types with an outcome of their own; any other is judged by :func:`default_type`.
TYPES: Mapping[str, SagaType] = {one.name: one for one in (ORDER, LOAN_APPLICATION)}


def saga_type(name: str) -> SagaType:
    """Return the declared saga type, or the default: failure is a technical abort."""
    return TYPES.get(name) or SagaType(
        name,
        outcomes=(Outcome("technical", missed=10.0, false_alarm=1.0),),
        labels={"technical": "technical", "business": "business", "completed": "completed"},
        sealed_by=(Where(status=("compensated",)),),
        load="participants",
    )


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
        else:
            for row in range(stop - 1, begin - 1, -1):
                if names[row].startswith(kind.label_by):
                    key, cut[saga] = names[row], min(cut[saga], row - begin + 1)
                    break
        label[saga] = kind.labels.get(key, "")
        end[saga] = max(end[saga], ended_us)
    return Labels(ids[first], label, cut.astype(np.int64), us[first].copy(), end)
