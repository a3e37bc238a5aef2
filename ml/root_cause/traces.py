"""Traces taken apart: who spent the time of each call, and what each visit to a service consisted of.

What belongs here: the geometry of span trees, without a reference. What does not: what is unusual (``latency``,
``behaviour``).

A **visit** is a service's part of one call: the span that another service (or the front) caused, and the spans of the
same service below it. A span's **own time** is when it is the one of its trace that began last: every instant of a
trace belongs to one span. Own time of a span that calls another service is the way there and back, and belongs to the
pair of both; the rest belongs to the service.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.root_cause.robust import Floats, Ints

#: Columns of a frame of spans; times in microseconds since 1970; ``parent`` is empty at the front.
SPAN_COLUMNS = ("trace", "span", "parent", "service", "operation", "start_us", "end_us")

#: A tree deeper than this is no call tree.
DEEPEST = 200


@dataclass(frozen=True, slots=True)
class Visits:
    """One row a visit, in the order of ``table``; ``parent`` is a row number, -1 at the front.

    ``table`` has ``trace``, ``service``, ``operation``, ``start_us``, ``duration_ms`` and ``whole`` (no span of its
    trace lacks its parent). ``parts`` has a row for each span: ``visit``, ``service``, ``operation``, ``own_ms`` and
    ``callee`` (empty: none, the time is the service's own). ``events`` has (visit, event) pairs, each once: calls
    out and inner steps. ``visit_of_span`` maps (trace, span) to the visit.
    """

    table: pd.DataFrame
    parent: Ints
    parts: pd.DataFrame
    events: pd.DataFrame
    visit_of_span: pd.Series


def visits_of(spans: pd.DataFrame) -> Visits:
    """Take a frame with :data:`SPAN_COLUMNS` apart. A span that occurs twice counts once."""
    missing = [name for name in SPAN_COLUMNS if name not in spans.columns]
    if missing:
        raise ValueError(f"spans lack the columns {', '.join(missing)}")
    spans = spans.drop_duplicates(["trace", "span"]).reset_index(drop=True)
    count = len(spans)
    keys = pd.MultiIndex.from_frame(spans[["trace", "span"]])
    above = pd.MultiIndex.from_arrays([spans["trace"], spans["parent"]])
    parent = keys.get_indexer(above).astype(np.int64)
    rows = np.arange(count)
    parent[parent == rows] = -1
    root = (spans["parent"] == "").to_numpy()
    start, end = (spans[name].to_numpy(np.float64) / 1000 for name in ("start_us", "end_us"))
    service = spans["service"].to_numpy(object)

    enters = (parent < 0) | (service != service[parent])
    entry = np.where(enters, rows, parent)
    for _ in range(DEEPEST):
        further = entry[entry]
        if np.array_equal(further, entry):
            break
        entry = further
    number = np.cumsum(enters) - 1
    visit = number[entry]

    own = _own_times(pd.factorize(spans["trace"])[0].astype(np.int64), parent, start, end)
    callee = np.full(count, "", dtype=object)
    called = np.flatnonzero(enters & (parent >= 0))
    # With more children than the call it does work of its own between them.
    children = np.bincount(parent[parent >= 0], minlength=count)
    lone = called[children[parent[called]] == 1]
    callee[parent[lone]] = service[lone]

    lost = spans["trace"].to_numpy(object)[(parent < 0) & ~root]
    operation = spans["operation"].to_numpy(object)
    first = np.flatnonzero(enters)
    table = pd.DataFrame(
        {
            "trace": spans["trace"].to_numpy(object)[first],
            "service": service[first],
            "operation": operation[first],
            "start_us": spans["start_us"].to_numpy(np.int64)[first],
            "duration_ms": np.maximum(end - start, 0.0)[first],
        }
    )
    table["whole"] = ~table["trace"].isin(set(lost))
    parts = pd.DataFrame({"visit": visit, "service": service, "operation": operation, "own_ms": own, "callee": callee})
    inner = ~enters
    events = pd.concat(
        [
            pd.DataFrame({"visit": visit[inner], "event": "step " + pd.Series(operation[inner], dtype=object)}),
            pd.DataFrame(
                {
                    "visit": visit[parent[called]],
                    "event": "call "
                    + pd.Series(service[called], dtype=object)
                    + " "
                    + pd.Series(operation[called], dtype=object),
                }
            ),
        ]
    ).drop_duplicates(ignore_index=True)
    return Visits(
        table=table,
        parent=np.where(parent[first] >= 0, visit[parent[first]], -1),
        parts=parts,
        events=events,
        visit_of_span=pd.Series(visit, index=keys),
    )


def _own_times(trace: Ints, parent: Ints, start: Floats, end: Floats) -> Floats:
    """Return each span's own time, ms: the instants at which it is the one of its trace that began last.

    So an instant counts once, also where spans run side by side (a handler beside the call that it waits for). What a
    span does after its parent has ended is waited for by no one, and does not count.
    """
    depth = np.zeros(len(parent), dtype=np.int64)
    end, above = end.copy(), parent.copy()
    for _ in range(DEEPEST):
        has = above >= 0
        if not has.any():
            break
        depth[has] += 1
        end[has] = np.minimum(end[has], end[above[has]])
        above[has] = parent[above[has]]
    own = [0.0] * len(parent)
    order = np.lexsort((depth, start, trace))
    starts, ends, traces = start.tolist(), end.tolist(), trace.tolist()
    open_spans: list[int] = []
    now, current = 0.0, -1

    def run_to(until: float) -> None:
        nonlocal now
        while open_spans and now < until:
            top = open_spans[-1]
            stop = min(ends[top], until)
            if stop > now:
                own[top] += stop - now
                now = stop
            if ends[top] <= until:
                open_spans.pop()
        now = until

    for row in order.tolist():
        if traces[row] != current:
            run_to(np.inf)
            current, now = traces[row], starts[row]
        run_to(starts[row])
        open_spans.append(row)
    run_to(np.inf)
    return np.asarray(own)
