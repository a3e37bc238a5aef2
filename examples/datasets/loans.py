"""Loan applications (BPI Challenge 2012): one case is one saga, one row one step event, plus its start and its end.

A_* rows are the orchestrator's own states, O_* the offer's, W_* human work with a schedule, a start and a completion.
The end is the last of the case's A_APPROVED, A_REGISTERED, A_ACTIVATED (completed), A_DECLINED or A_CANCELLED
(aborted: a business decision); cases without one are still running. Rows after the end stay: they happened.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from examples import columns
from examples.source import Ints, Part, Source

NEEDS = {
    "case:concept:name",
    "case:REG_DATE",
    "case:AMOUNT_REQ",
    "concept:name",
    "lifecycle:transition",
    "org:resource",
    "time:timestamp",
}
SOURCE, SAGA_TYPE = "/datasets/bpic2012", "loan_application"
PARTICIPANTS = {"A": "orchestrator", "O": "offer", "W": "workforce"}
WORK_STATUS = {"SCHEDULE": "scheduled", "START": "started", "COMPLETE": "completed"}
COMPLETING = {"A_APPROVED": "approved", "A_REGISTERED": "approved", "A_ACTIVATED": "approved"}
ABORTING = {"A_DECLINED": "declined", "A_CANCELLED": "cancelled"}


def read(table: pa.Table) -> Source:
    """Return the events of a case log in BPIC 2012's columns, in time order (the log's own order among equal times)."""
    if "event_index" not in table.column_names:
        table = table.append_column("event_index", pa.array(np.arange(len(table))))
    table = table.sort_by("event_index")
    index = np.asarray(table["event_index"].cast(pa.int64()).to_numpy(), dtype=np.int64)
    case_of, times = columns.codes(table["case:concept:name"]), columns.microseconds(table["time:timestamp"])
    cases, steps = columns.names(table["case:concept:name"]), columns.names(table["concept:name"])
    lifecycle = columns.mapped(table["lifecycle:transition"], WORK_STATUS, "completed")
    kind = [step[:1] for step in steps]
    status = [
        at if letter == "W" else "compensated" if step == "O_CANCELLED" else "completed"
        for letter, step, at in zip(kind, steps, lifecycle, strict=True)
    ]

    # Work: an attempt begins with its start, so a schedule belongs to the attempt to come. Others: each row is one.
    is_work = np.array([letter == "W" for letter in kind])
    is_start = np.array([value == "started" for value in status])
    same_step = columns.grouped(case_of, columns.codes(table["concept:name"]))
    started = columns.running_count(same_step, is_start) + np.array([value == "scheduled" for value in status])
    attempt = np.where(is_work, np.maximum(started, 1), columns.running_count(same_step))

    first, ends = columns.first_of(case_of), _ends(case_of, steps)
    registered = columns.microseconds(table["case:REG_DATE"])
    amounts = table["case:AMOUNT_REQ"].cast(pa.float64()).to_pylist()
    aborted = np.array([steps[row] in ABORTING for row in ends.tolist()], dtype=bool)

    def ended(event_type: str, rows: Ints, data: dict[str, list[str]]) -> Part:
        own = columns.pick(cases, rows)
        return Part(
            event_type,
            SOURCE,
            times[rows],
            ids=[f"{case}/ended" for case in own],
            subjects=own,
            data={"saga_type": [SAGA_TYPE] * len(rows), **data},
            order=index[rows] * 3 + 1,  # right after the row that ended it
        )

    completing, aborting = ends[~aborted], ends[aborted]
    return Source(
        "bpic2012",
        [
            Part(
                "isthmus.saga.started",
                SOURCE,
                registered[first],
                ids=[f"{case}/started" for case in columns.pick(cases, first)],
                subjects=columns.pick(cases, first),
                data={
                    "saga_type": [SAGA_TYPE] * len(first),
                    "amount": columns.pick(amounts, first),
                },
                order=index[first] * 3 - 1,  # right before its first row
            ),
            Part(
                "isthmus.saga.step",
                SOURCE,
                times,
                ids=[f"{case}/{number}" for case, number in zip(cases, index.tolist(), strict=True)],
                subjects=cases,
                data={
                    "saga_type": [SAGA_TYPE] * len(table),
                    "step": steps,
                    "participant": [PARTICIPANTS.get(letter, "orchestrator") for letter in kind],
                    "attempt": attempt.tolist(),
                    "status": status,
                    "worker": columns.texts(table["org:resource"]),
                },
                order=index * 3,
            ),
            ended(
                "isthmus.saga.completed",
                completing,
                {"outcome": [COMPLETING[step] for step in columns.pick(steps, completing)]},
            ),
            ended(
                "isthmus.saga.aborted",
                aborting,
                {
                    "reason": ["business"] * len(aborting),
                    "detail": [ABORTING[step] for step in columns.pick(steps, aborting)],
                },
            ),
        ],
    )


def _ends(case_of: Ints, steps: list[str]) -> Ints:
    """Return the row that ends each case that has ended."""
    rows = np.flatnonzero([step in COMPLETING or step in ABORTING for step in steps])
    return np.asarray(rows[columns.last_of(case_of[rows])], dtype=np.int64)
