"""Decisions as assets: what the platform proposes, with the evidence that it rests on."""

from assets.decisions.outcomes import outcomes
from assets.decisions.saga_policy import saga_policy

__all__ = ["outcomes", "saga_policy"]
