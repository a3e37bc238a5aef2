"""Traffic made by hand whose drift is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from ml.drift.monitor import HOUR_US, Rows


def world(seed: int, *, shift: float = 0.0, concept: bool = False, hours: int = 120) -> Rows:
    """Sixty sagas an hour with a daily pattern; from hour 84 on shifted. Failure follows the amount."""
    random = np.random.default_rng(seed)
    start = np.sort(random.integers(0, hours * HOUR_US, hours * 60))
    late = start >= 84 * HOUR_US
    amount = random.normal(0, 1, len(start)) + np.sin(start / HOUR_US / 24 * 2 * np.pi) + shift * late
    p = 1 / (1 + np.exp(2 - amount))
    truth = np.where(late & concept, 1 / (1 + np.exp(0.8 - 0.2 * amount)), p)
    y = (random.random(len(start)) < truth).astype(float)
    columns: dict[str, Any] = {"amount": amount, "channel": random.choice(["web", "app"], len(start))}
    return Rows(columns, p, y, start)


LEARNED, JUDGED, NOW = 24 * HOUR_US, 72 * HOUR_US, 120 * HOUR_US
