"""A folder of injected faults with traces, logs and metrics, told by the columns of its files.

What belongs here: reading, what counts as a fault's window and what as its reference. What does not: any method.

- A window is a fault's first three minutes: traces that begin in it, and metrics of minutes whose middle lies in it.
- The reference is what lies outside of all faults' windows, from ten seconds before an injection to six minutes after
  it (a fault lasts about three). A file named ``normal…`` is reference whatever its time.
- Of metrics, the reference is what lies within 90 minutes of the fault, either side, since load changes with the hour.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from examples.datasets.traces import POD_SUFFIX, SPAN_NEEDS
from ml.root_cause import Observed
from ml.root_cause.types import MetricKind

WINDOW_US, BEFORE_US, AFTER_US, NEAR_US = 180_000_000, 10_000_000, 360_000_000, 5_400_000_000
_GAP_US = 30_000_000
_LOG_NEEDS = {"TraceID", "SpanID", "PodName", "Log"}
_WRAPPED = re.compile(r'^\{"log":"(.*?)(?:\\n)?","stream":"[a-z]+","time":"([^"]*)"', re.DOTALL)
#: A line's own time of day, trace and span say nothing of its kind.
_CLOCK, _OWN_NAMES = re.compile(r"^[0-9][0-9:.,T /-]*"), re.compile(r"\b(?:TraceID|SpanID): ?\S+ ?")
_ROOTS = ("root", "", "0", "0000000000000000")


class NoFaults(ValueError):
    """A folder lacks what the benchmark needs; says what."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An injected fault: when, and the service to blame. Its type is not here, so that no method can see it."""

    name: str
    start_us: int
    service: str


@dataclass(frozen=True, slots=True)
class Folder:
    """All of a folder, in the forms of :class:`ml.root_cause.Observed`; ``free`` marks each frame's reference rows."""

    name: str
    faults: tuple[Fault, ...]
    everything: Observed
    normal_traces: frozenset[str]
    front: pd.DataFrame | None

    def window(self, fault: Fault) -> Observed:
        """Return what was seen of a fault."""
        return self._cut(fault.start_us, fault.start_us + WINDOW_US)

    def traces_reference(self) -> Observed:
        """Return the traces and logs of the reference: the same for all faults."""
        spans, logs = self.everything.spans, self.everything.logs
        traces: set[str] | None = None
        if spans is not None:
            ends = spans.groupby("trace").agg(start=("start_us", "min"), end=("end_us", "max"))
            free = self._free(ends["start"].to_numpy(), ends["end"].to_numpy())
            traces = set(ends.index[free]) | self.normal_traces
            spans = spans[spans["trace"].isin(traces)]
        if logs is not None:
            kept = logs["trace"].isin(traces) if traces is not None else self._free(logs["time_us"], logs["time_us"])
            logs = logs[kept]
        return Observed(spans=spans, logs=logs)

    def metrics_reference(self, fault: Fault) -> Observed:
        """Return the metrics of the reference that are near a fault in time."""
        low, high = fault.start_us - NEAR_US, fault.start_us + NEAR_US
        frames = {}
        for name in ("metrics", "links"):
            frame = getattr(self.everything, name)
            if frame is not None:
                time = frame["time_us"].to_numpy()
                frame = frame[self._free(time, time) & (time >= low) & (time < high)]
            frames[name] = frame
        return Observed(**frames, kinds=self.everything.kinds)

    def _free(self, start: Any, end: Any) -> np.ndarray[Any, Any]:
        start, end = np.asarray(start), np.asarray(end)
        free = np.ones(len(start), dtype=bool)
        for fault in self.faults:
            free &= (end < fault.start_us - BEFORE_US) | (start >= fault.start_us + AFTER_US)
        return free

    def _cut(self, low: int, high: int) -> Observed:
        spans, logs = self.everything.spans, self.everything.logs
        if spans is not None:
            begin = spans.groupby("trace")["start_us"].transform("min")
            spans = spans[(begin >= low) & (begin < high)]
        if logs is not None:
            if spans is not None and len(spans):
                logs = logs[logs["trace"].isin(set(spans["trace"]))]
            else:
                logs = logs[(logs["time_us"] >= low) & (logs["time_us"] < high)]
        rest = {}
        for name in ("metrics", "links"):
            frame = getattr(self.everything, name)
            rest[name] = None if frame is None else frame[(frame["time_us"] >= low) & (frame["time_us"] < high)]
        return Observed(spans=spans, logs=logs, **rest, kinds=self.everything.kinds)


def service_of(pod: pd.Series) -> pd.Series:
    """Return the service that a pod belongs to: its name without the two parts that its replica set gave it."""
    code, pods = pd.factorize(pod)
    names = pd.Series(pods, dtype=object).astype(str).str.replace(POD_SUFFIX, r"\g<service>", regex=True)
    return pd.Series(names.to_numpy(object)[code], index=pod.index)


def open_faults(folder: Path) -> Folder:
    """Read a folder. Raises :class:`NoFaults` where it has no list of faults, or nothing to rank by."""
    if not folder.is_dir():
        raise NoFaults(f"{folder} is not a folder")
    faults = _faults(folder)
    spans: list[pd.DataFrame] = []
    logs: list[pd.DataFrame] = []
    pods: list[pd.DataFrame] = []
    fronts: list[pd.DataFrame] = []
    sides: list[tuple[str, pd.DataFrame]] = []
    normal: set[str] = set()
    for file in sorted(folder.glob("*.parquet")):
        names = set(pq.read_schema(file).names)
        if names >= SPAN_NEEDS:
            spans.append(_spans(pd.read_parquet(file, columns=sorted(SPAN_NEEDS))))
            if file.name.startswith("normal"):
                normal |= set(spans[-1]["trace"])
        elif names >= _LOG_NEEDS:
            logs.append(_logs(pd.read_parquet(file)))
        elif names >= {"Time", "PodName"}:
            pods.append(pd.read_parquet(file))
        elif names >= {"Time", "ServiceName"} and any("Latency" in name for name in names):
            fronts.append(_front(pd.read_parquet(file)))
        elif "time" in names and any("_" in name for name in names):
            sides.append((file.name, pd.read_parquet(file)))
    if not spans and not logs and not pods:
        raise NoFaults(f"{folder}: no Parquet file with the columns of spans, logs or pod metrics")
    metrics, kinds = _metrics(pods)
    every = _without_cut(pd.concat(spans, ignore_index=True)) if spans else None
    services = set(every["service"]) if every is not None else set()
    services |= set(metrics["service"]) if metrics is not None else set()
    observed = Observed(
        spans=every,
        logs=pd.concat(logs, ignore_index=True) if logs else None,
        metrics=metrics,
        links=_links(sides, services),
        kinds=kinds,
    )
    front = pd.concat(fronts, ignore_index=True) if fronts else None
    return Folder(folder.resolve().name, faults, observed, frozenset(normal), front)


def _faults(folder: Path) -> tuple[Fault, ...]:
    """Return the faults of a JSON file of them: a list of objects, or an object of such lists."""

    def objects(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, list):
            for one in node:
                yield from objects(one)
        elif isinstance(node, dict):
            if {"inject_time", "inject_pod"} <= node.keys():
                yield node
            else:
                for one in node.values():
                    yield from objects(one)

    for file in sorted(folder.glob("*.json")):
        rows = list(objects(json.loads(file.read_text())))
        if rows:
            # `inject_timestamp` is wrong in some rows as published; the time in words is right, and UTC.
            times = _micros(pd.Series([row["inject_time"] for row in rows]))
            services = service_of(pd.Series([row["inject_pod"] for row in rows]))
            names = [str(row.get("fault_id") or f"{row['inject_time']}") for row in rows]
            return tuple(
                Fault(name, int(time), service) for name, time, service in zip(names, times, services, strict=True)
            )
    raise NoFaults(f"{folder}: no JSON file lists faults with inject_time and inject_pod")


def _micros(texts: pd.Series) -> pd.Series:
    """Return times in words, UTC, as microseconds; only the first 19 characters are of one form."""
    code, seconds = pd.factorize(texts.astype(str).str.slice(0, 19))
    times = pd.Series(pd.to_datetime(pd.Series(seconds).str.replace("T", " "), format="%Y-%m-%d %H:%M:%S"))
    times = times.iloc[code].set_axis(texts.index)
    return times.astype("datetime64[us]").astype("int64")


def _spans(table: pd.DataFrame) -> pd.DataFrame:
    parent = table["ParentID"].astype(str)
    return pd.DataFrame(
        {
            "trace": table["TraceID"].astype(str),
            "span": table["SpanID"].astype(str),
            "parent": parent.mask(parent.isin(_ROOTS), ""),
            "service": service_of(table["PodName"]),
            "operation": table["OperationName"].astype(str),
            "start_us": table["StartTimeUnixNano"].astype("int64") // 1000,
            "end_us": table["EndTimeUnixNano"].astype("int64") // 1000,
        }
    )


def _without_cut(spans: pd.DataFrame) -> pd.DataFrame:
    """Return the spans without those of traces that the end of a collected stretch may have cut."""
    start = np.sort(spans["start_us"].to_numpy())
    last = start[np.r_[np.diff(start) > _GAP_US, True]]
    ends = spans.groupby("trace")["end_us"].max()
    begins = spans.groupby("trace")["start_us"].min()
    until = last[np.minimum(np.searchsorted(last, begins.to_numpy()), len(last) - 1)]
    cut = set(ends.index[ends.to_numpy() > until + 1_000_000])
    return spans[~spans["trace"].isin(cut)].reset_index(drop=True)


def _logs(table: pd.DataFrame) -> pd.DataFrame:
    """Return log lines out of the JSON that a container runtime put around them."""
    stamps = table["Timestamp"].astype(str).to_list() if "Timestamp" in table else [""] * len(table)
    lines, times = [], []
    for text, stamp in zip(table["Log"].astype(str), stamps, strict=True):
        wrapped = _WRAPPED.match(text)
        line, time = wrapped.groups() if wrapped else (text, stamp)
        lines.append(_OWN_NAMES.sub("", _CLOCK.sub("", line, count=1)))
        times.append(time)
    return pd.DataFrame(
        {
            "trace": table["TraceID"].astype(str),
            "span": table["SpanID"].astype(str),
            "service": service_of(table["PodName"]),
            "text": lines,
            "time_us": _micros(pd.Series(times, index=table.index)),
        }
    )


def _metrics(pods: list[pd.DataFrame]) -> tuple[pd.DataFrame | None, dict[str, MetricKind]]:
    """Return pod metrics by service, and what each column means: by the words of its name."""
    if not pods:
        return None, {}
    table = pd.concat(pods, ignore_index=True)
    kinds: dict[str, MetricKind] = {}
    for name in table.columns:
        low = name.lower()
        if low.startswith("node"):
            continue
        if "cpu" in low or "memory" in low:
            kinds[name] = "use"
        elif "serverlatency" in low:
            kinds[name] = "served"
    # A value stands for the minute before its time: its middle is where it belongs.
    middle = _micros(table["Time"]) - 30_000_000
    frame = table[list(kinds)].apply(pd.to_numeric, errors="coerce")
    return frame.assign(time_us=middle, service=service_of(table["PodName"])), kinds


def _front(table: pd.DataFrame) -> pd.DataFrame:
    """Return the front's latency (seconds, the highest median first column) over time."""
    name = sorted(name for name in table.columns if "Latency" in name)[0]
    return pd.DataFrame({"time_us": _micros(table["Time"]) - 30_000_000, "latency": pd.to_numeric(table[name])})


def _links(sides: list[tuple[str, pd.DataFrame]], services: set[str]) -> pd.DataFrame | None:
    """Return latencies per pair of services, of which one file has the source's view and one the target's."""
    views: dict[str, pd.DataFrame] = {}
    for file, table in sides:
        side = "at_source" if "source" in file else "at_target" if "destination" in file else ""
        pairs = {
            name: (source, target)
            for name in table.columns
            for source, _, target in [name.partition("_")]
            if source in services and target in services
        }
        if not side or not pairs:
            continue
        long = table.assign(time_us=_micros(table["time"]) - 30_000_000).melt(
            ["time_us"], list(pairs), var_name="pair", value_name=side
        )
        long[side] = pd.to_numeric(long[side]) * 1000
        long["source"], long["target"] = ([pairs[name][at] for name in long["pair"]] for at in (0, 1))
        # The two files were written some seconds apart.
        long["minute"] = long["time_us"] // 60_000_000
        views[side] = long.groupby(["minute", "source", "target"], as_index=False)[[side]].mean()
    if len(views) < 2:
        return None
    both = views["at_source"].merge(views["at_target"], on=["minute", "source", "target"])
    both["time_us"] = both.pop("minute") * 60_000_000 + 30_000_000
    return both.dropna()
