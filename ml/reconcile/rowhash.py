"""A hash of a row that PostgreSQL computes with functions of its own and another store can compute too.

What belongs here: which columns go into the hash, in which form and order. What does not: its text in a dialect
(``postgres.py``, ``clickhouse.py``).

The hash is a chain: each link is one of PostgreSQL's extended hash functions (Jenkins' lookup3), whose seed is the link
before, with at most one whole number XORed into the seed. A column costs PostgreSQL some ten nanoseconds that way; a
text of the row and MD5 over it cost two microseconds. The functions may be relied on: hash-partitioned tables are
stored by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

#: int4: 32 bits; int8: 64 bits; time: microseconds; float: a double's bits; text: UTF-8 bytes.
Kind = Literal["int4", "int8", "time", "float", "text"]

#: Where a chain begins: never a value, so that no seed is zero, which lookup3 treats apart.
START: Final = 0x1E37_79B9_7F4A_7C15

_KINDS: Final[Mapping[str, Kind]] = {
    "smallint": "int4",
    "integer": "int4",
    "boolean": "int4",
    "date": "int4",
    "bigint": "int8",
    "real": "float",
    "double precision": "float",
    "timestamp without time zone": "time",
    "timestamp with time zone": "time",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column that both sides have. ``source_type`` is PostgreSQL's ``format_type``, ``scale`` a numeric's.

    A type that is not known is compared by its text; a ``long`` text is hashed by its MD5, and one of
    ``few`` values comes first.
    """

    name: str
    source_type: str
    nullable: bool = False
    scale: int | None = None
    long: bool = False
    few: bool = False

    @property
    def kind(self) -> Kind:
        """Form in which it is hashed."""
        return _KINDS.get(self.source_type.split("(")[0].strip(), "text")


@dataclass(frozen=True, slots=True)
class Link:
    """One step: ``xor`` a column (None: the flags of nulls) into the seed, or ``hash`` one (None: nothing) with it."""

    step: Literal["xor", "hash"]
    column: Column | None


def chain(columns: Sequence[Column]) -> list[Link]:
    """Return the links of a row's hash; the same columns in any order give the same chain.

    Between two hashes at most one number is XORed in: two would cancel where they are swapped. 64-bit numbers are
    always XORed, for PostgreSQL folds them to 32 bits before it hashes them.
    """
    ordered = sorted(columns, key=lambda column: column.name)
    numbers: list[Column | None] = [column for column in ordered if column.kind == "int8"]
    if any(column.nullable for column in ordered):
        numbers.insert(0, None)
    others = [column for column in ordered if column.kind != "int8"]
    # Texts first: the first link has a seed that is always the same, and is computed once a value where they are few.
    others.sort(key=lambda column: (column.kind != "text", not column.few, column.kind == "int4"))
    links: list[Link] = []
    if others and others[0].kind == "text":
        links.append(Link("hash", others.pop(0)))
    while numbers or others:
        if numbers:
            links.append(Link("xor", numbers.pop(0)))
        elif len(others) > 1 and others[-1].kind == "int4":
            links.append(Link("xor", others.pop()))
        links.append(Link("hash", others.pop(0) if others else None))
        if (column := links[-1].column) is not None and column.kind == "float":
            links.append(Link("hash", None))  # PostgreSQL hands a zero's seed on as it is
    return links


def flags(columns: Sequence[Column]) -> list[tuple[Column, int]]:
    """Return the nullable columns, each with its bit."""
    nullable = sorted((column for column in columns if column.nullable), key=lambda column: column.name)
    return [(column, 1 << at) for at, column in enumerate(nullable)]
