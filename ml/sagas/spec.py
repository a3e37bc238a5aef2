"""The language of features: what may be said about a saga's prefix, once, for the warehouse and for serving.

What belongs here: conditions on an event, aggregates over the events of a prefix, and arithmetic on them. Each node
says the same thing twice, as ClickHouse SQL and as Python; a test holds both equal on every prefix. What does not:
which features a saga type has (``features``), how a query is put together (``sql``), how a running saga is kept
(``state``).

An aggregate sees the events of one saga up to and including the prefix's last one, never a later one; a
:class:`Recent` sees the events of all sagas of the type that happened strictly before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

NAN = math.nan
#: Values that the state keeps for a column of an event; ``us`` is microseconds since 1970, UTC.
Column = Literal["us", "amount", "attempt", "duration_ms", "load", "work_us", "worker", "activity"]
_TEXT = frozenset({"worker", "activity"})


@dataclass(frozen=True, slots=True)
class SagaEvent:
    """One event of a saga, as the features see it.

    ``kind`` is ``started``, ``step``, ``completed`` or ``aborted``; ``us`` is microseconds since 1970, UTC. ``step``,
    ``participant`` and ``status`` are empty, ``attempt`` is 0 where the event is no step.
    """

    saga_id: str
    kind: str
    us: int
    step: str = ""
    participant: str = ""
    status: str = ""
    attempt: int = 0
    worker: str = ""
    duration_ms: float = NAN
    load: float = NAN
    amount: float = NAN
    reason: str = ""

    @property
    def activity(self) -> str:
        """What happened: step and status."""
        return f"{self.step}:{self.status}" if self.kind == "step" else ""


def literal(text: str) -> str:
    """Return ``text`` as a ClickHouse string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@dataclass(frozen=True, slots=True)
class Where:
    """A condition on an event; an empty field accepts any. Events other than steps match only ``kind``."""

    step: str = ""
    status: tuple[str, ...] = ()
    participant: str = ""
    kind: str = "step"

    def sql(self) -> str:
        """Return the condition over the columns of the compiled query."""
        parts = [f"kind = {literal(self.kind)}"]
        if self.step:
            parts.append(f"step = {literal(self.step)}")
        if self.status:
            parts.append(f"status IN ({', '.join(literal(one) for one in self.status)})")
        if self.participant:
            parts.append(f"participant = {literal(self.participant)}")
        return " AND ".join(parts)

    def matches(self, kind: str, step: str, status: str, participant: str) -> bool:
        """Return whether an event of this shape fulfils the condition."""
        return (
            kind == self.kind
            and self.step in ("", step)
            and (not self.status or status in self.status)
            and self.participant in ("", participant)
        )


ANY = Where()


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A running figure over the events of a prefix that fulfil ``where``; a value that is missing does not count.

    ``count`` of events, ``first``, ``last``, ``max`` or ``sum`` of a column, ``distinct`` values of one, or ``lag``:
    the column of the ``back``-th step event before the prefix's last (``where`` is not looked at).
    """

    how: Literal["count", "first", "last", "max", "sum", "distinct", "lag"]
    column: Column = "us"
    where: Where = ANY
    back: int = 0

    @property
    def is_text(self) -> bool:
        """Whether its value is a text; the missing one is empty then, else NaN."""
        return self.column in _TEXT and self.how in ("first", "last", "lag")

    def window(self) -> str:
        """Return the window expression; ``prefix`` is the saga's events so far, ``steps`` those of them of its kind."""
        column, condition = self.column, self.where.sql()
        present = f"{column} != ''" if column in _TEXT else f"isNotNull({column})"
        match self.how:
            case "count":
                return f"countIf({condition}) OVER prefix"
            case "lag":
                value = f"{column}, {self.back}, ''" if column in _TEXT else f"toNullable({column}), {self.back}"
                return f"lagInFrame({value}) OVER steps"
            case "distinct":
                return f"uniqExactIf({column}, {condition} AND {present}) OVER prefix"
            case "sum":
                # Without a value a sum is 0, also where the column may be NULL.
                return f"ifNull(sumIf({column}, {condition} AND {present}) OVER prefix, 0)"
            case "max":
                return f"maxIf(toNullable({column}), {condition} AND {present}) OVER prefix"
            case _:
                choose = "argMinIf" if self.how == "first" else "argMaxIf"
                value = column if self.is_text else f"toNullable({column})"
                return f"{choose}({value}, seq, {condition} AND {present}) OVER prefix"


@dataclass(frozen=True, slots=True)
class Recent:
    """How many events of all sagas of the type fulfilled ``where`` in the ``seconds`` before the prefix's last one.

    Half-open: from ``seconds`` before, inclusive, to the event's own microsecond, exclusive, so that the order of
    equal times does not matter.
    """

    seconds: int
    where: Where = ANY


Node = Aggregate | Recent


@dataclass(frozen=True, slots=True)
class Feature:
    """A named figure about a prefix.

    ``value`` is of ``node``; ``elapsed``: seconds from it (a time) to the prefix's last event; ``after_start``: seconds
    from the saga's first step to it; ``seconds``: it (microseconds) in seconds; ``hour`` (0 to 24) and ``weekday``
    (1 is Monday) of it, UTC.
    """

    name: str
    node: Node
    form: Literal["value", "elapsed", "after_start", "seconds", "hour", "weekday"] = "value"

    @property
    def is_text(self) -> bool:
        """Whether it is a category rather than a number."""
        return isinstance(self.node, Aggregate) and self.node.is_text

    def sql(self, column: str) -> str:
        """Return its value given the name of the column that holds the node's; NULL where it is missing."""
        match self.form:
            case "value":
                return column if self.is_text else f"toFloat64({column})"
            case "elapsed":
                return f"(us - {column}) / 1000000"
            case "after_start":
                return f"({column} - start_us) / 1000000"
            case "seconds":
                return f"{column} / 1000000"
            case "hour":
                return f"{column} % 86400000000 / 3600000000"
            case "weekday":
                return f"toFloat64(toDayOfWeek(fromUnixTimestamp64Micro({column}, 'UTC')))"

    def reader(self) -> Callable[[Any, int, int], Any]:  # noqa: PLR0911
        """Return the same in Python: a function of the node's value (never None), ``us`` and the start's ``us``."""
        if self.is_text:
            return lambda held, us, start_us: held
        match self.form:
            case "value":
                return lambda held, us, start_us: float(held)
            case "elapsed":
                return lambda held, us, start_us: (us - held) / 1_000_000
            case "after_start":
                return lambda held, us, start_us: (held - start_us) / 1_000_000
            case "seconds":
                return lambda held, us, start_us: held / 1_000_000
            case "hour":
                return lambda held, us, start_us: held % 86_400_000_000 / 3_600_000_000
            case "weekday":
                # 1 January 1970 was a Thursday.
                return lambda held, us, start_us: float((held // 86_400_000_000 + 3) % 7 + 1)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, as a model keeps it."""
        node = self.node
        where = node.where
        plain: dict[str, Any] = {
            "name": self.name,
            "form": self.form,
            "where": [where.step, list(where.status), where.participant, where.kind],
        }
        if isinstance(node, Recent):
            return {**plain, "seconds": node.seconds}
        return {**plain, "how": node.how, "column": node.column, "back": node.back}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Feature:
        """Return what :meth:`as_dict` was made of."""
        step, status, participant, kind = plain["where"]
        where = Where(step, tuple(status), participant, kind)
        node: Node = (
            Recent(plain["seconds"], where)
            if "seconds" in plain
            else Aggregate(plain["how"], plain["column"], where, plain["back"])
        )
        return cls(plain["name"], node, plain["form"])
