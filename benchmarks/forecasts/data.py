"""Series for ``forecast.py``: many of a competition, or one of requests a second, as a panel.

What belongs here: recognising the form of a folder's files by their columns. What does not: any forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ml.load.panel import Floats, Ints, Panel

#: An hour without one request beside days with thousands of them was no quiet hour.
_DEAD = 3600


@dataclass(frozen=True)
class Competition:
    """Hourly series and what came after them. ``known`` (series,) steps may be learned from."""

    source: str
    panel: Panel
    known: Ints
    horizon: int
    official: bool


def competitions(folders: list[Path], test: Path | None, horizon: int = 48) -> list[Competition]:
    """Return the folders' wide tables (id, then values): with ``test`` scored on it, else on their own last steps."""
    found = []
    for file in sorted(one for folder in folders for one in folder.glob("*.csv*") if "test" not in one.name.lower()):
        table = pd.read_csv(file)
        if table.shape[1] < 10 or not np.issubdtype(table.dtypes.iloc[1], np.number):
            continue
        names = table.iloc[:, 0].astype(str).to_list()
        rows = [_known(row) for row in table.iloc[:, 1:].to_numpy(dtype=np.float64)]
        if test is not None:
            after = _tests(test)
            if missing := [name for name in names if name not in after]:
                raise SystemExit(f"{test} has no row for {len(missing)} series, {missing[0]} first")
            horizon = min(len(after[name]) for name in names)
            panel = Panel.of(
                {n: np.concatenate([row, after[n][:horizon]]) for n, row in zip(names, rows, strict=True)}, (24, 168)
            )
        else:
            panel = Panel.of(dict(zip(names, rows, strict=True)), (24, 168))
        found.append(Competition(file.name, panel, panel.lengths - horizon, horizon, test is not None))
    return found


def _tests(folder: Path) -> dict[str, Floats]:
    files = [folder] if folder.is_file() else sorted(folder.glob("*[tT]est*.csv*"))
    if not files:
        raise SystemExit(f"{folder} holds no file like Hourly-test.csv: id, then the values that came")
    table = pd.read_csv(files[0])
    return {str(row[0]): _known(np.asarray(row[1:], dtype=np.float64)) for row in table.itertuples(index=False)}


def _known(row: Floats) -> Floats:
    """Return a row without the empty cells at its end."""
    known = np.flatnonzero(np.isfinite(row))
    return row[: known[-1] + 1] if len(known) else row[:0]


def requests(folders: list[Path]) -> dict[str, pd.Series]:
    """Return requests a second by file, indexed by time; what the folders hold in another form is left out."""
    found = {}
    for file in sorted(one for folder in folders for one in folder.glob("*.parquet")):
        table = pd.read_parquet(file)
        when = next((name for name in table if pd.api.types.is_datetime64_any_dtype(table[name])), None)
        if when is None or "requests" not in table:
            continue
        found[file.stem] = pd.Series(table["requests"].to_numpy(dtype=np.float64), pd.DatetimeIndex(table[when]))
    return found


def binned(counts: pd.Series, seconds: int) -> Panel:
    """Return a series of requests a bin. Bins without a record, and of an outage, are NaN.

    An outage is an hour or more without a request in a trace whose hours have requests.
    """
    bins = counts.resample(f"{seconds}s").sum(min_count=1)
    bins = bins.reindex(pd.date_range(bins.index[0].floor("D"), bins.index[-1], freq=f"{seconds}s"))
    silent = counts[counts > 0].index.to_series()
    gap = silent.diff().dt.total_seconds()
    for end, length in gap[gap > _DEAD].items():
        bins[(bins.index > end - pd.Timedelta(seconds=length + seconds)) & (bins.index <= end)] = np.nan
    day = 86_400 // seconds
    return Panel.of({"requests": bins.to_numpy(dtype=np.float64)}, (day, 7 * day))
