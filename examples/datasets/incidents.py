"""IT incident tickets (BPI Challenge 2013): one ticket is one saga, one row one step event, plus its start and its end.

The step is the sub-status (In Progress, Wait - User, …) and the participant the support group that holds the ticket, so
that hand-overs are changes of participant. A ticket ends with its last Completed row; Cancelled is an abort.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from examples import columns
from examples.source import Ints, Part, Source

NEEDS = {
    "case:concept:name",
    "concept:name",
    "lifecycle:transition",
    "time:timestamp",
    "org:group",
    "org:resource",
    "impact",
    "product",
}
SOURCE, SAGA_TYPE = "/datasets/bpic2013", "incident"
STATUS = {"Queued": "scheduled", "Accepted": "started", "Completed": "completed", "Unmatched": "failed"}
ATTRIBUTES = {
    "impact": "impact",
    "product": "product",
    "organization": "organization involved",
    "organization_country": "organization country",
    "resource_country": "resource country",
    "role": "org:role",
}


def read(table: pa.Table) -> Source:
    """Return the events of a ticket log in BPIC 2013's columns, in time order (the log's own among equal times)."""
    if "event_index" not in table.column_names:
        table = table.append_column("event_index", pa.array(np.arange(len(table))))
    table = table.sort_by("event_index")
    index = np.asarray(table["event_index"].cast(pa.int64()).to_numpy(), dtype=np.int64)
    ticket_of, times = columns.codes(table["case:concept:name"]), columns.microseconds(table["time:timestamp"])
    tickets, steps = columns.names(table["case:concept:name"]), columns.names(table["lifecycle:transition"])
    status = columns.mapped(table["concept:name"], STATUS, "started")
    attempt = columns.running_count(columns.grouped(ticket_of, columns.codes(table["lifecycle:transition"])))

    first = columns.first_of(ticket_of)
    completed = np.flatnonzero([value == "completed" for value in status])
    ends = completed[columns.last_of(ticket_of[completed])]
    cancelled = np.array([steps[row] == "Cancelled" for row in ends.tolist()], dtype=bool)
    resolved, aborted = ends[~cancelled], ends[cancelled]

    def bound(event_type: str, rows: Ints, suffix: str, shift: int, data: dict[str, list[str]]) -> Part:
        own = columns.pick(tickets, rows)
        return Part(
            event_type,
            SOURCE,
            times[rows],
            ids=[f"{ticket}/{suffix}" for ticket in own],
            subjects=own,
            data={"saga_type": [SAGA_TYPE] * len(rows), **data},
            order=index[rows] * 3 + shift,
        )

    return Source(
        "bpic2013",
        [
            bound("isthmus.saga.started", first, "started", -1, {}),
            Part(
                "isthmus.saga.step",
                SOURCE,
                times,
                ids=[f"{ticket}/{number}" for ticket, number in zip(tickets, index.tolist(), strict=True)],
                subjects=tickets,
                data={
                    "saga_type": [SAGA_TYPE] * len(table),
                    "step": steps,
                    "participant": columns.texts(table["org:group"]),
                    "attempt": attempt.tolist(),
                    "status": status,
                    "worker": [_pseudonym(name) for name in columns.texts(table["org:resource"])],
                },
                attributes={
                    name: columns.texts(table[column])
                    for name, column in ATTRIBUTES.items()
                    if column in table.column_names
                },
                order=index * 3,
            ),
            bound("isthmus.saga.completed", resolved, "ended", 1, {"outcome": columns.pick(steps, resolved)}),
            bound(
                "isthmus.saga.aborted",
                aborted,
                "ended",
                1,
                {"reason": ["business"] * len(aborted), "detail": columns.pick(steps, aborted)},
            ),
        ],
    )


@cache
def _pseudonym(name: str | None) -> str | None:
    """Return what stands for a person on the bus, where no name may: the same person, the same pseudonym."""
    return None if name is None else f"person-{blake2b(name.encode(), digest_size=4).hexdigest()}"
