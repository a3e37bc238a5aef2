"""Stand-ins for the warehouse and the bus, for unit tests only: what needs the real engine runs against it.

What belongs here: state in memory behind the same methods. What does not: SQL; a test says what a query answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resources.errors import RangeGone
from resources.kafka import Topic
from resources.ranges import Records, Span

if TYPE_CHECKING:
    import pyarrow as pa

Answer = Callable[[Mapping[str, Any]], list[dict[str, Any]]]


@dataclass
class FakeWarehouse:
    """Keeps what was inserted and answers queries by a part of their text; an unknown query is an error."""

    answers: dict[str, Answer] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    _tokens: set[str] = field(default_factory=set)

    def on(self, part: str, answer: Answer) -> None:
        """Answer queries that contain ``part`` with what ``answer`` makes of their parameters."""
        self.answers[part] = answer

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the registered answer."""
        for part, answer in self.answers.items():
            if part in sql:
                return answer(parameters or {})
        raise AssertionError(f"no answer is registered for: {sql}")

    def query_arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the registered answer as a table."""
        import pyarrow as pa

        return pa.Table.from_pylist(self.query_rows(sql, parameters))

    def command(self, sql: str, parameters: Mapping[str, Any] | None = None, *, idempotent: bool = False) -> Any:
        """Note the statement."""
        self.commands.append(sql)

    def insert_arrow(
        self, table: str, data: pa.Table, *, token: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Keep the rows, once for a token."""
        self.insert_rows(table, data.to_pylist(), token=token)

    def insert_rows(self, table: str, rows: Sequence[Mapping[str, Any]], *, token: str | None = None) -> None:
        """Keep the rows, once for a token."""
        if token is not None and token in self._tokens:
            return
        self._tokens |= {token} if token is not None else set()
        self.rows.setdefault(table, []).extend(dict(row) for row in rows)


@dataclass
class FakeLog:
    """One partition: the records from ``low`` on."""

    values: list[bytes] = field(default_factory=list)
    low: int = 0


@dataclass
class FakeKafka:
    """Topics in memory, one list of values a partition."""

    logs: dict[tuple[str, int], FakeLog] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    cleanup: dict[str, str] = field(default_factory=dict)

    def send(self, topic: str, *values: bytes, partition: int = 0) -> None:
        """Append records; a topic is made by the first."""
        self.logs.setdefault((topic, partition), FakeLog()).values.extend(values)

    def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Return those of ``names`` that exist."""
        return {
            name: Topic(name, self.ids.get(name, ""), tuple(sorted(part for topic, part in self.logs if topic == name)))
            for name in names
            if any(topic == name for topic, _ in self.logs)
        }

    def watermarks_of(self, topics: Iterable[Topic]) -> dict[tuple[str, int], tuple[int, int]]:
        """Return (first offset, next offset) of each partition."""
        places = [(topic.name, partition) for topic in topics for partition in topic.partitions]
        return {at: (self.logs[at].low, len(self.logs[at].values)) for at in places if at in self.logs}

    def policies(self, names: Iterable[str]) -> dict[str, str]:
        """Return the clean-up policy of each topic."""
        return {name: self.cleanup.get(name, "delete") for name in names}

    def read_ranges(self, spans: Sequence[Span], *, batch: int = 5000) -> Iterator[tuple[int, Records]]:
        """Yield the records of each span, ``batch`` at a time."""
        import numpy as np

        for at, span in enumerate(spans):
            log = self.logs.get((span.topic, span.partition), FakeLog())
            if span.from_offset < log.low or span.to_offset > len(log.values):
                raise RangeGone(f"{span} is not there")
            for first in range(span.from_offset, span.to_offset, batch):
                values = log.values[first : min(first + batch, span.to_offset)]
                offsets = np.arange(first, first + len(values))
                sizes = np.array([len(value) for value in values])
                yield at, Records(offsets, np.full(len(values), 1), sizes, [b""] * len(values), values, {})
