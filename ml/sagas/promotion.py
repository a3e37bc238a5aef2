"""Whether a trained model may become the champion: better than what stands on later sagas, and calibrated.

What belongs here: the rule and its evidence. What does not: moving an alias or recording the decision
(``assets.sagas``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.sagas.evaluation import Draws, Interval, auc_by_length, calibration_error, interval

#: Expected calibration error above which a probability is not to be relied on.
MOST_CALIBRATION_ERROR = 0.03


@dataclass(frozen=True, slots=True)
class Promotion:
    """The verdict: ``reasons`` is empty exactly where ``promoted``; ``gains`` is the AUC gained over each rival."""

    promoted: bool
    reasons: tuple[str, ...]
    gains: dict[str, Interval]
    calibration_error: float


def judge(
    y: NDArray[Any],
    p: NDArray[np.float64],
    length: NDArray[Any],
    rivals: dict[str, NDArray[np.float64]],
    draws: Draws,
    *,
    most_error: float = MOST_CALIBRATION_ERROR,
) -> Promotion:
    """Compare predictions with each rival's on the same later prefixes, over the same draws of sagas.

    The rivals are the champion, or the baselines where there is none. The interval of the gain over each must lie
    above zero, and the calibration error must be at most ``most_error``.
    """
    own, own_draws, gains, reasons = auc_by_length(y, p, length), draws.auc(y, p, length), {}, []
    for name, rival in rivals.items():
        gain = interval(own - auc_by_length(y, rival, length), own_draws - draws.auc(y, rival, length))
        gains[name] = gain
        if not gain.above_zero:
            reasons.append(
                f"the gain in AUC over the {name} is {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]: "
                "its interval does not lie above zero"
            )
    error = calibration_error(y, p)
    if not error <= most_error:
        reasons.append(f"the calibration error is {error:.3f}, more than {most_error:.3f}")
    return Promotion(not reasons, tuple(reasons), gains, error)
