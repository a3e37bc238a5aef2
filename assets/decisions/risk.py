"""The champion of a saga type, and where its predicted risk makes the fallback the cheaper way.

What belongs here: asking the registry. What does not: training or promoting (``assets.sagas``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml.decisions import ModelRead
from ml.sagas.types import model_name
from ml.sagas.types import saga_type as declared
from resources.registry import Registry

if TYPE_CHECKING:
    from ml.policy import Risk


@dataclass(frozen=True, slots=True)
class Champion:
    """A registered model as a decision needs it: which one, and its operating point."""

    model: ModelRead
    risk: Risk


def champion_of(registry: Registry, saga_type: str) -> Champion | None:
    """Return the champion for the outcome whose miss costs most; None where none was promoted: a rule decides then."""
    from ml.policy import Risk

    outcomes = [outcome for outcome in declared(saga_type).outcomes if outcome.is_failure]
    for outcome in sorted(outcomes, key=lambda one: -one.missed / one.false_alarm):
        found = registry.find(model_name(saga_type, outcome.name), "champion")
        if found is None:
            continue
        model = ModelRead(
            name=found.name,
            version=str(found.version),
            run_id=found.run_id,
            # Whatever does not say that it is calibrated is not: the gate refuses it.
            calibrated=found.tags.get("calibrated") == "true",
        )
        risk = Risk(_share(found.tags, "threshold"), found.tags.get("fallback"), f"{found.name}/{found.version}")
        return Champion(model, risk)
    return None


def _share(tags: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(tags[name])
    except (KeyError, ValueError):
        return None
    return value if 0.0 <= value <= 1.0 else None
