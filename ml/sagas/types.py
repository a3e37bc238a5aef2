"""What failure is, for each saga type: outcomes, what labels a saga, and when its fate is sealed.

What belongs here: the registry of saga types, light enough for the code location. What does not: labelling
(``labels``), features and estimators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

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
    and before the event or the ending that labels: what comes after, or with it, gives the answer away.

    ``blend`` is how ours is put together: the penalty's C of its linear part and the share of its boosted part.
    ``calibration`` is ``platt`` where the share of failures moves with what fails, ``none`` where sagas last so long
    that out-of-time predictions rest on the quick ones alone, whose share is not that of all.
    """

    name: str
    outcomes: tuple[Outcome, ...]
    labels: Mapping[str, str]
    label_by: str = "ending"
    sealed_by: tuple[Where, ...] = ()
    longest: int = 40
    load: Literal["none", "participants"] = "none"
    blend: tuple[float, float] = (0.003, 0.5)
    calibration: Literal["none", "platt"] = "platt"


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
    blend=(0.0005, 0.25),
    calibration="none",
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


def model_name(saga_type: str, outcome: str) -> str:
    """Return the registered name of the model of an outcome."""
    return f"saga_failure.{saga_type}.{outcome}"
