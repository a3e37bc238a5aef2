"""The shop's events as tables that arrive: one frame a topic, every column that the events carry.

What belongs here: columns of the source to frames, and when each row comes in. What does not: faults.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from events.catalogue import TYPES
from examples.shop import traffic
from examples.source import Part
from ml.verdicts.types import Layout

#: CloudEvents' own columns: the same for every topic.
LAYOUT = Layout(key=("source", "event_id"), entity="subject", time="event_time", arrival="appended_at")
END = datetime(2026, 6, 1, tzinfo=UTC)


def tables(*, seed: int, days: float, orders_per_day: float) -> dict[str, pd.DataFrame]:
    """Return {topic: rows in order of arrival}; numbers are float64, texts objects, times datetime64 (µs, UTC)."""
    source = traffic(seed=seed, days=days, orders_per_day=orders_per_day, end=END)
    random = np.random.default_rng([seed, 7])
    by_topic: dict[str, list[pd.DataFrame]] = {}
    for part in source.parts:
        by_topic.setdefault(TYPES[part.type].topic, []).append(_frame(part))
    found = {}
    for topic, frames in by_topic.items():
        columns = list(dict.fromkeys(name for frame in frames for name in frame.columns))
        frame = pd.concat([frame.reindex(columns=columns) for frame in frames], ignore_index=True)
        for name in columns:
            if frame[name].dtype == object:
                there = frame[name].dropna()
                number = len(there) and not there.map(lambda value: isinstance(value, str)).any()
                frame[name] = frame[name].astype(np.float64) if number else frame[name].where(frame[name].notna(), None)
        # On the way: mostly a fifth of a second, now and then some seconds.
        seconds = 0.05 + random.lognormal(np.log(0.15), 0.6, len(frame))
        frame[LAYOUT.arrival] = frame[LAYOUT.time] + (seconds * 1e6).round().astype("timedelta64[us]")
        found[topic] = frame.sort_values(LAYOUT.arrival, kind="stable").reset_index(drop=True)
    return found


def _frame(part: Part) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "event_type": [part.type] * len(part.times),
        "source": [part.source] * len(part.times),
        LAYOUT.name: list(part.ids),
        LAYOUT.entity: list(part.subjects),
        LAYOUT.time: part.times.view("datetime64[us]"),
    }
    for name, values in (part.data | part.attributes).items():
        if any(isinstance(value, dict) for value in values):
            fields = list(dict.fromkeys(key for value in values if value for key in value))
            for key in fields:
                columns[f"{name}.{key}"] = _column([(value or {}).get(key) for value in values])
        else:
            columns[name] = _column(list(values))
    return pd.DataFrame(columns)


def _column(values: list[Any]) -> Any:
    """Return numbers as float64 with NaN, everything else as text with None."""
    there = [value for value in values if value is not None]
    if there and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in there):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    texts = [
        None if value is None else str(value).lower() if isinstance(value, bool) else str(value) for value in values
    ]
    return np.array(texts, object)
