"""Times of schedules that people give to benchmarks, in any form.

What belongs here: reading a column of times. What does not: what the times are of.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def in_seconds(column: pd.Series) -> Floats:
    """Return times as seconds; numbers that can only be an epoch's milli-, micro- or nanoseconds are read as such."""
    if not pd.api.types.is_numeric_dtype(column):
        moments = pd.to_datetime(column, utc=True)
        since = (moments - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
        return np.asarray(since, dtype=np.float64)
    numbers = column.to_numpy(dtype=np.float64)
    most = float(np.max(np.abs(numbers), initial=0.0))
    return numbers / next((unit for least, unit in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)) if most >= least), 1.0)
