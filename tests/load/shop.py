"""The shop's saga events as the oracle's frame: retries, failures, time-outs and compensations, which loans lack."""

from __future__ import annotations

import numpy as np
import orjson
import polars as pl

from examples.source import Source
from tests.oracle.marts import COLUMNS


def events(source: Source) -> pl.DataFrame:
    """Return one row a saga event, in the oracle's columns, from the bytes that are sent."""
    rows = []
    for message in source.render(np.arange(len(source))):
        event = orjson.loads(message.value)
        if event["type"].startswith("isthmus.saga."):
            data = event["data"]
            attributes = data.get("attributes")
            rows.append(
                {
                    **{name: data.get(name) for name in COLUMNS},
                    "saga_id": event["subject"],
                    "source": event["source"],
                    "event_id": event["id"],
                    "event_type": event["type"],
                    "event_time": event["time"],
                    "currency": data.get("currency", ""),
                    "outcome": data.get("outcome", data.get("detail")),
                    "attributes": orjson.dumps(attributes).decode() if attributes else "{}",
                }
            )
    schema = {**COLUMNS, "event_time": pl.String}
    return pl.DataFrame(rows, schema=schema).with_columns(
        pl.col("event_time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.6fZ", time_unit="us", time_zone="UTC")
    )
