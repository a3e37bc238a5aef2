"""The champion of a saga type, and where its predicted risk makes the fallback the cheaper way.

What belongs here: asking the registry. What does not: training or promoting (``assets.sagas``).
"""

from dataclasses import dataclass
from typing import Any

from ml.decisions import ModelRead
from ml.policy import Risk


@dataclass(frozen=True, slots=True)
class Champion:
    """A registered model as a decision needs it: which one, and its operating point."""

    model: ModelRead
    risk: Risk


def champion_of(registry: Any, saga_type: str) -> Champion | None:
    """Return the champion of a saga type; None where none was promoted: a rule decides then."""
    return None
