"""Traces and metrics of a microservice testbed (Nezha): a trace is a saga, a span a step that has ended.

A span table becomes one step event a span, at the span's end, with the service's other open spans at its start as
`load`, and a start and an end of the trace from its entry spans. Spans that two collection minutes both hold are sent
twice, as they were collected: producers' duplicates, with one id. Pod metrics and the entry's latency become service
metrics. Logs and the list of injected faults are no events: the first have no type on the bus, the second is the
answer.
"""

from __future__ import annotations

from math import isnan

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from examples import columns
from examples.source import Ints, Part, Source

SPAN_NEEDS = {"TraceID", "SpanID", "ParentID", "PodName", "OperationName", "StartTimeUnixNano", "EndTimeUnixNano"}
POD_NEEDS = {"Time", "PodName", "CpuUsage(m)", "CpuUsageRate(%)", "MemoryUsage(Mi)"}
ENTRY_NEEDS = {"Time", "ServiceName", "LatencyP50(s)", "LatencyP90(s)"}
SOURCE = "/datasets/nezha"
POD_SUFFIX = r"^(?P<service>.+)-[0-9a-f]{6,10}-[0-9a-z]{5}$"


def read_spans(table: pa.Table) -> Source:
    """Return the step, start and end events of a span table; the saga type is the service that the traces enter by."""
    trace_of, span_of = columns.codes(table["TraceID"]), columns.codes(table["SpanID"])
    traces, spans = columns.names(table["TraceID"]), columns.names(table["SpanID"])
    services = columns.names(_service(table["PodName"]))
    start, end = (table[name].cast(pa.int64()).to_numpy() for name in ("StartTimeUnixNano", "EndTimeUnixNano"))
    identity = columns.grouped(trace_of, span_of)
    load = _open_spans(columns.codes(_service(table["PodName"])), start, end, identity)

    entries = np.flatnonzero([parent == "root" for parent in columns.texts(table["ParentID"])])
    by_start, by_end = (
        entries[np.argsort(start[entries], kind="stable")],
        entries[np.argsort(end[entries], kind="stable")],
    )
    first, last = by_start[columns.first_of(trace_of[by_start])], by_end[columns.last_of(trace_of[by_end])]
    entered = dict(zip(columns.pick(traces, first), columns.pick(services, first), strict=True))
    saga_types = [entered.get(trace) or "trace" for trace in traces]
    place = np.arange(len(table), dtype=np.int64)
    return Source(
        "spans",
        [
            Part(
                "isthmus.saga.started",
                SOURCE,
                start[first] // 1000,
                ids=[f"{trace}/started" for trace in columns.pick(traces, first)],
                subjects=columns.pick(traces, first),
                data={"saga_type": columns.pick(saga_types, first)},
                order=np.full(len(first), -1, np.int64),
            ),
            Part(
                "isthmus.saga.step",
                SOURCE,
                end // 1000,
                ids=[f"{trace}/{span}" for trace, span in zip(traces, spans, strict=True)],
                subjects=traces,
                data={
                    "saga_type": saga_types,
                    "step": columns.texts(table["OperationName"]),
                    "participant": services,
                    "attempt": [1] * len(table),
                    "status": ["completed"] * len(table),
                    "worker": columns.texts(table["PodName"]),
                    "duration_ms": ((end - start) / 1e6).round(6).tolist(),
                    "load": load.tolist(),
                },
                order=place,
            ),
            Part(
                "isthmus.saga.completed",
                SOURCE,
                end[last] // 1000,
                ids=[f"{trace}/ended" for trace in columns.pick(traces, last)],
                subjects=columns.pick(traces, last),
                data={"saga_type": columns.pick(saga_types, last)},
                order=np.full(len(last), len(table), np.int64),
            ),
        ],
    )


def read_pods(table: pa.Table) -> Source:
    """Return a metrics event per pod and minute; the subject is the pod's service."""
    services, pods, times = columns.names(_service(table["PodName"])), columns.names(table["PodName"]), _time(table)
    return Source(
        "pod metrics",
        [
            Part(
                "isthmus.service.metrics",
                SOURCE,
                times,
                ids=[f"{pod}/{time}" for pod, time in zip(pods, times.tolist(), strict=True)],
                subjects=services,
                data={
                    "window_seconds": [60] * len(table),
                    "instance": pods,
                    "latency_ms": _latencies(table, "PodServerLatencyP{}(s)"),
                    "cpu_cores": _scaled(table, "CpuUsage(m)", 1e-3),
                    "memory_bytes": _scaled(table, "MemoryUsage(Mi)", 1 << 20),
                    "replicas": [1] * len(table),
                },
                attributes={
                    name: _scaled(table, column, 1.0)
                    for name, column in {
                        "workload": "PodWorkload(Ops)",
                        "network_receive": "NetworkReceiveBytes",
                        "network_transmit": "NetworkTransmitBytes",
                        "syscall_read": "SyscallRead",
                        "syscall_write": "SyscallWrite",
                        "node_cpu_percent": "NodeCpuUsageRate(%)",
                    }.items()
                    if column in table.column_names
                },
            )
        ],
    )


def read_entry(table: pa.Table) -> Source:
    """Return a metrics event per minute of the service that users see."""
    services, times = [(name or "entry").lower() for name in columns.texts(table["ServiceName"])], _time(table)
    return Source(
        "entry metrics",
        [
            Part(
                "isthmus.service.metrics",
                SOURCE,
                times,
                ids=[f"{service}/entry/{time}" for service, time in zip(services, times.tolist(), strict=True)],
                subjects=services,
                data={"window_seconds": [60] * len(table), "latency_ms": _latencies(table, "LatencyP{}(s)")},
                attributes={"success_percent": _scaled(table, "SuccessRate(%)", 1.0)},
            )
        ],
    )


def _service(pods: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the pods' names without a Deployment's two hash suffixes; other names stay as they are."""
    found = pc.struct_field(pc.extract_regex(pods, POD_SUFFIX), "service")
    return pc.if_else(pc.or_kleene(pc.is_null(found), pc.equal(found, "")), pods, found)


def _open_spans(services: Ints, start: Ints, end: Ints, identity: Ints) -> Ints:
    """Return for each span how many others of its service were open when it started; a span sent twice counts once."""
    once = np.unique(identity, return_index=True)[1]
    load = np.zeros(len(start), np.int64)
    for service in np.unique(services):
        own, counted = services == service, once[services[once] == service]
        begun = np.searchsorted(np.sort(start[counted]), start[own], side="left")
        ended = np.searchsorted(np.sort(end[counted]), start[own], side="right")
        load[own] = np.maximum(begun - ended, 0)
    return load


def _time(table: pa.Table) -> Ints:
    """Return the times of metric rows: `Time` is UTC in its first 19 characters, the rest is a clock's debug text."""
    heads = pc.utf8_slice_codeunits(table["Time"].cast(pa.string()), 0, 19)
    return columns.microseconds(pc.strptime(heads, format="%Y-%m-%d %H:%M:%S", unit="us"))


def _scaled(table: pa.Table, column: str, factor: float) -> list[float | None]:
    """Return a column times ``factor``; NaN, null and an absent column are None."""
    if column not in table.column_names:
        return [None] * len(table)
    values = table[column].cast(pa.float64()).to_numpy() * factor
    return [None if isnan(value) else value for value in values.tolist()]


def _latencies(table: pa.Table, column: str) -> list[dict[str, float] | None]:
    """Return the latency quantiles of each row in milliseconds; None where a row has none."""
    quantiles = {f"p{share}": _scaled(table, column.format(share), 1e3) for share in (50, 90, 95, 99)}
    rows = zip(*quantiles.values(), strict=True)
    return [{k: v for k, v in zip(quantiles, row, strict=True) if v is not None} or None for row in rows]
