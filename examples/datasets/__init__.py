"""Adapters that turn public data sets into the platform's events, chosen by the columns of the files in a folder.

What belongs here: one module per form of data, each a pure function from an Arrow table to a `Source`. What does not:
anything about a particular file or folder name, and sending (``examples.replay``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from examples.datasets import incidents, loans, traces
from examples.source import Part, Source

# The first adapter whose columns a file has reads it, so the more particular ones come first.
ADAPTERS: tuple[tuple[set[str], Callable[[pa.Table], Source]], ...] = (
    (loans.NEEDS, loans.read),
    (incidents.NEEDS, incidents.read),
    (traces.SPAN_NEEDS, traces.read_spans),
    (traces.POD_NEEDS, traces.read_pods),
    (traces.ENTRY_NEEDS, traces.read_entry),
)


class UnknownData(ValueError):
    """A folder holds no file that an adapter can read."""


def open_folder(folder: str | Path) -> Source:
    """Return the events of all Parquet files of ``folder`` that an adapter knows, as one source in time order.

    Files without known columns are left out. Raises ``UnknownData``, naming what was found, where none is left.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UnknownData(f"{folder} is not a folder")
    parts: list[Part] = []
    seen = []
    for file in sorted(folder.glob("*.parquet")):
        schema = pq.read_schema(file)
        reader = next((read for needs, read in ADAPTERS if needs <= set(schema.names)), None)
        seen.append(f"{file.name} ({', '.join(schema.names[:6])}{', …' if len(schema.names) > 6 else ''})")
        if reader is not None:
            parts += reader(pq.read_table(file)).parts
    if not parts:
        found = "; ".join(seen) or "no Parquet file"
        raise UnknownData(f"{folder}: no data set that has an adapter; found {found}")
    return Source(folder.resolve().name, parts)
