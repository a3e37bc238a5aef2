"""A table of text as arrays: the distinct values of each column, and which row has which.

What belongs here: coding, and what is known of a value's text alone (shape, parts, missing markers). What does not:
any judgement.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Texts = NDArray[np.object_]

LONGEST: Final = 400
"""Characters of a value that are looked at; two values that differ later only are one."""
MISSING: Final = frozenset(
    [
        "n/a",
        "na",
        "nan",
        "null",
        "none",
        "nil",
        "-",
        "--",
        "---",
        "?",
        "??",
        "unknown",
        "empty",
        "missing",
        "tbd",
        "not available",
        "not applicable",
        "undefined",
        "#n/a",
        "n.a.",
        ".",
        "nat",
        "<na>",
        "(null)",
        "\\n",
        "",
    ]
)
"""What people and programs write for no value, in lower case."""
_RUN: Final = re.compile(r"(.)\1+", re.DOTALL)
_WORDS: Final = re.compile(r"[Aa]+(?: [Aa]+)*")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_NUMERIC: Final = re.compile(r"^[^\d\w]*?([+-]?\d+(?:[.,]\d{3})*(?:\.\d+)?(?:[eE][+-]?\d+)?)")
_TOKEN: Final = re.compile(r"\w+")


class BadTable(ValueError):
    """The table cannot be looked at; the message says what to change."""


@dataclass(frozen=True)
class Column:
    """One column: ``values`` (d,) distinct texts, ``codes`` (n,) the row's value, ``counts`` (d,) rows of a value."""

    name: str
    values: list[str]
    codes: Ints
    counts: Ints

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.codes)

    @cached_property
    def empty(self) -> NDArray[np.bool_]:
        """Return which distinct values are nothing but space, (d,)."""
        return np.array([not value.strip() for value in self.values], dtype=bool)

    @cached_property
    def marker(self) -> NDArray[np.bool_]:
        """Return which distinct values stand for no value, (d,)."""
        return np.array([value.strip().lower() in MISSING for value in self.values], dtype=bool)

    @cached_property
    def shapes(self) -> list[list[str]]:
        """Return five generalisations of each value: classes, runs of them, words, kinds, text around numbers."""
        table = str.maketrans({char: _kind(char) for char in set().union(*map(set, self.values), " ")})
        fine = [value.translate(table) for value in self.values]
        runs = [_RUN.sub(r"\1", shape) for shape in fine]
        words = [_WORDS.sub("w", shape) for shape in runs]
        kinds = ["".join(sorted(set(shape))) for shape in fine]
        around = [_NUMBER.sub("#", value) for value in self.values]
        return [fine, runs, words, kinds, around]

    @cached_property
    def keys(self) -> list[str]:
        """Return each value without case, accents, space and punctuation."""
        return [
            "".join(c for c in unicodedata.normalize("NFKD", value.casefold()) if c.isalnum()) for value in self.values
        ]

    @cached_property
    def numbers(self) -> Floats:
        """Return the number that a value begins with (currency before it, a unit after it), NaN where none."""
        return np.array([_number(value) for value in self.values], dtype=np.float64)

    @cached_property
    def plain(self) -> NDArray[np.bool_]:
        """Return which values are a number and nothing else, (d,)."""
        return np.array([_plain(value) for value in self.values], dtype=bool)

    @cached_property
    def tokens(self) -> list[list[str]]:
        """Return the words of each value."""
        return [_TOKEN.findall(value)[:40] for value in self.values]


@dataclass(frozen=True)
class Table:
    """Columns of equal length, known by position: two may have one name."""

    columns: tuple[Column, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows and columns."""
        return self.columns[0].rows, len(self.columns)


def table(columns: Sequence[tuple[str, Sequence[Any]]]) -> Table:
    """Code named columns of text; None and NaN are the empty text.

    Raises:
        BadTable: no column, no row, or columns that differ in length.
    """
    if not columns:
        raise BadTable("the table has no column")
    lengths = {len(values) for _, values in columns}
    if len(lengths) > 1:
        raise BadTable(f"columns differ in length: {sorted(lengths)}")
    if lengths == {0}:
        raise BadTable("the table has no row")
    return Table(tuple(_column(name, values) for name, values in columns))


def _column(name: str, values: Sequence[Any]) -> Column:
    import pandas as pd

    texts = pd.Series(np.asarray(values, dtype=object)).fillna("").astype(str).str.slice(0, LONGEST)
    codes, distinct = pd.factorize(texts)
    codes = codes.astype(np.int64)
    return Column(str(name), [str(value) for value in distinct], codes, np.bincount(codes, minlength=len(distinct)))


def _kind(char: str) -> str:
    if char.isupper():
        return "A"
    if char.isalpha():
        return "a"
    if char.isdigit():
        return "9"
    return " " if char.isspace() else char if ord(char) < 128 else "¤"


def _number(value: str) -> float:
    found = _NUMERIC.match(value)
    if not found:
        return np.nan
    try:
        return float(found.group(1).replace(",", ""))
    except ValueError:
        return np.nan


def _plain(value: str) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except ValueError:
        return False
