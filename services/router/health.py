"""Health: what the router says of itself, whether it lives and whether it routes.

What belongs here: the state and what follows from it. What does not: HTTP (:mod:`services.router.web`) and the figures
(:mod:`services.router.metrics`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from services.router.metrics import Metrics

STALLED_AFTER: Final = 60.0
"""Seconds without a turn of the loop after which the router counts as stuck."""


class Health:
    """What the router says of itself; each field is written by one thread and read by another."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.state = "starting"
        self.probe: Callable[[], str] | None = None
        self._turned = time.monotonic()

    def turned(self) -> None:
        """Note that the loop went round."""
        self._turned = time.monotonic()

    @property
    def loop_age(self) -> float:
        """Seconds since the loop last went round."""
        return time.monotonic() - self._turned

    @property
    def alive(self) -> bool:
        """Whether the loop still goes round."""
        return self.loop_age < STALLED_AFTER

    @property
    def routing(self) -> bool:
        """Whether it routes, as far as can be told without asking the broker."""
        return self.alive and self.state == "routing"

    def problem(self) -> str:
        """Return why events that come now are not routed now; empty where they are. Asks the broker."""
        if not self.alive:
            return "the loop does not turn"
        probe = self.probe
        if self.state != "routing" or probe is None:
            return f"the router is {self.state}"
        return probe()
