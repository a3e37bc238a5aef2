"""What a single column looks like when it is good, and a batch's columns brought into that form.

What belongs here: kinds, closed vocabularies, text patterns, decimals, signs, and repairs of form that are certain.
What does not: how columns go together (``relations``), how rows follow each other (``chain``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from ml.verdicts.types import Floats, Ints, Layout, Mask

Kind = Literal["category", "number", "text"]

#: Most distinct values of a category, and the share of rows that may yet bring an unseen one (Good and Turing's).
_VALUES = 64
UNSEEN = 1e-5
#: Rows of a column that its patterns and decimals are read from.
_SAMPLE = 100_000
_CLASSES = str.maketrans(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "9" * 10 + "a" * 26 + "A" * 26
)
NULL, UNKNOWN = 0, 1


def closed(codes: Ints, *, limit: float = UNSEEN) -> bool:
    """Return whether ``codes`` look like all there are: Good and Turing's share of unseen ones is below ``limit``.

    A value that was seen once says that another unseen one may come; few of them among many rows say that it is rare.
    """
    if not len(codes):
        return False
    _, counts = np.unique(codes, return_counts=True)
    return bool((counts == 1).sum() <= limit * len(codes))


@dataclass(frozen=True, slots=True)
class Column:
    """What a good column looks like. ``vocabulary`` is set for categories and for numbers of few values."""

    name: str
    kind: Kind
    nullable: bool
    vocabulary: pd.Index | None = None
    patterns: frozenset[str] = frozenset()
    exact: bool = True
    lower_only: bool = False
    decimals: int | None = None
    negative: bool = True


@dataclass(slots=True)
class Coded:
    """A batch in the form of its rulebook: n rows, every column an array of n.

    ``codes`` are categories (0 null, 1 unknown), ``numbers`` hold NaN for null, ``texts`` are objects with None,
    ``nulls`` masks; ``time`` and ``arrival`` are microseconds since the epoch. ``wrong`` marks values that have no
    good form, ``normalised`` those that were brought into it.
    """

    frame: pd.DataFrame
    codes: dict[str, Ints] = field(default_factory=dict)
    numbers: dict[str, Floats] = field(default_factory=dict)
    texts: dict[str, np.ndarray] = field(default_factory=dict)
    nulls: dict[str, Mask] = field(default_factory=dict)
    time: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    arrival: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    wrong: dict[str, Mask] = field(default_factory=dict)
    normalised: dict[str, Mask] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)


def shape_of(values: pd.Series, *, exact: bool) -> pd.Series:
    """Return the texts' character classes: ``Ab-12`` is ``Aa-99``, or ``Aa-9`` where runs count once."""
    shapes = values.str.translate(_CLASSES)
    return shapes if exact else shapes.str.replace(r"9+", "9", regex=True).str.replace(r"([aA])\1+", r"\1", regex=True)


def learn_column(name: str, values: pd.Series) -> Column:
    """Return what ``values``, all good, look like."""
    nullable, there = bool(values.isna().any()), values.dropna()
    sample = there if len(there) <= _SAMPLE else there.iloc[:: -(-len(there) // _SAMPLE)]
    if pd.api.types.is_numeric_dtype(values):
        numbers = sample.to_numpy(np.float64)
        few = there.nunique() <= _VALUES and not _counts(there) and closed(pd.factorize(there)[0])
        vocabulary = pd.Index(np.sort(there.astype(np.float64).unique())) if few and len(there) else None
        return Column(
            name,
            "number",
            nullable,
            vocabulary,
            decimals=_decimals(numbers),
            negative=bool((there.to_numpy(np.float64) < 0).any()) or len(there) < 500,
        )
    texts = there.astype(str)
    lower_only = not texts.str.contains(r"[A-Z]").any()
    if there.nunique() <= _VALUES and closed(pd.factorize(texts)[0]):
        return Column(name, "category", nullable, pd.Index(np.sort(texts.unique())), lower_only=lower_only)
    exactly, loosely = (shape_of(sample.astype(str), exact=exact) for exact in (True, False))
    # Lengths that vary may grow: a number at the end gets one more digit one day.
    exact = exactly.nunique() == loosely.nunique()
    shapes = exactly if exact else loosely
    if closed(pd.factorize(shapes)[0], limit=10 * UNSEEN):
        return Column(name, "text", nullable, patterns=frozenset(shapes), exact=exact, lower_only=lower_only)
    return Column(name, "text", nullable, lower_only=lower_only)


def _counts(numbers: pd.Series) -> bool:
    """Return whether the values are a run of whole numbers: a count has no last value, a code of a few may have."""
    values = np.sort(numbers.unique().astype(np.float64))
    return len(values) > 4 and bool((np.diff(values) == 1).all())


def _decimals(numbers: Floats) -> int | None:
    """Return how many decimals the numbers have at most, None where it is more than six."""
    for places in range(7):
        scaled = numbers * 10.0**places
        if np.all(np.abs(scaled - np.round(scaled)) <= 1e-9 * np.maximum(1.0, np.abs(scaled))):
            return places
    return None


def micros(values: pd.Series) -> Ints:
    """Return datetimes as microseconds; what is no time is the least integer."""
    if not pd.api.types.is_datetime64_any_dtype(values):
        values = pd.to_datetime(values, utc=True, errors="coerce", format="ISO8601")
    if getattr(values.dt, "tz", None) is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    return values.to_numpy("datetime64[us]").view(np.int64)


def encode(frame: pd.DataFrame, columns: Mapping[str, Column], layout: Layout) -> Coded:
    """Bring a batch into the rulebook's form. Every learned column must be there, with whatever it holds."""
    coded = Coded(frame.copy(deep=False))
    coded.time, coded.arrival = micros(frame[layout.time]), micros(frame[layout.arrival])
    for name, column in columns.items():
        values = frame[name]
        if column.kind == "number":
            _encode_numbers(coded, column, values)
        else:
            _encode_texts(coded, column, values)
    stem = pd.Series(coded.texts[layout.name], dtype="object").str.extract(r"(\d{1,15})$", expand=False)
    coded.numbers[ordinal(layout)] = pd.to_numeric(stem, errors="coerce").to_numpy(np.float64)
    return coded


def ordinal(layout: Layout) -> str:
    """Return the name of the number at the end of a key, which counts an entity's rows in many tables."""
    return f"{layout.name}#"


def _encode_numbers(coded: Coded, column: Column, values: pd.Series) -> None:
    name = column.name
    null = values.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(values):
        numbers, parsed = values.to_numpy(np.float64, na_value=np.nan), np.zeros(len(values), np.bool_)
    else:
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64).copy()
        text = values.map(lambda value: isinstance(value, str)).to_numpy(np.bool_) & ~null
        again = text & np.isnan(numbers)
        if again.any():
            # One comma and no point is a decimal comma.
            there = values[again].astype(str).str.strip()
            comma = (there.str.count(",") == 1) & ~there.str.contains(".", regex=False)
            there = there.where(~comma, there.str.replace(",", ".", regex=False))
            numbers[again] = pd.to_numeric(there, errors="coerce").to_numpy(np.float64)
        parsed = text & ~np.isnan(numbers)
    wrong = ~null & ~np.isfinite(numbers)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    if not column.negative:
        wrong |= numbers < 0
    if column.decimals is not None:
        scaled = numbers * 10.0**column.decimals
        with np.errstate(invalid="ignore"):
            wrong |= np.abs(scaled - np.round(scaled)) > 1e-6 * np.maximum(1.0, np.abs(scaled) * 1e-6)
    if column.vocabulary is not None:
        coded.codes[name] = np.where(null, NULL, column.vocabulary.get_indexer(pd.Index(numbers)) + 2)
        wrong |= coded.codes[name] == UNKNOWN
    coded.frame[name] = numbers
    coded.numbers[name], coded.nulls[name] = numbers, null
    coded.wrong[name], coded.normalised[name] = wrong, parsed & ~wrong


def _encode_texts(coded: Coded, column: Column, values: pd.Series) -> None:
    name = column.name
    null = values.isna().to_numpy()
    texts = values.astype(object).where(~null, None)
    if len(texts) and not null.all():
        texts = texts.where(null, texts.astype(str))
    if column.vocabulary is not None:
        codes = column.vocabulary.get_indexer(pd.Index(texts))
        bad = (codes < 0) & ~null
    else:
        codes = np.zeros(len(texts), np.int64)
        bad = ~null & ~_shaped(texts, column)
    normalised = np.zeros(len(texts), np.bool_)
    if bad.any():
        tidy: pd.Series = texts[bad].str.strip()
        if column.lower_only:
            tidy = tidy.str.lower()
        if column.vocabulary is not None:
            again = column.vocabulary.get_indexer(pd.Index(tidy))
            if (again < 0).any() and len(column.vocabulary.str.lower().unique()) == len(column.vocabulary):
                again = np.where(
                    again < 0, column.vocabulary.str.lower().get_indexer(pd.Index(tidy.str.lower())), again
                )
            good = again >= 0
            codes[bad] = again
            tidy = pd.Series(np.where(good, column.vocabulary[np.maximum(again, 0)], texts[bad]), index=tidy.index)
        else:
            good = _shaped(tidy, column)
        texts = texts.copy()
        texts[bad] = tidy.where(good, texts[bad])
        normalised[bad] = good
        bad[bad] = ~good
    coded.frame[name] = texts
    coded.texts[name], coded.nulls[name] = texts.to_numpy(object), null
    coded.wrong[name], coded.normalised[name] = bad, normalised
    if column.vocabulary is not None:
        coded.codes[name] = np.where(null, NULL, codes + 2)


def _shaped(texts: pd.Series, column: Column) -> Mask:
    """Return which texts have a known pattern; all, where the column has no pattern of its own."""
    if not column.patterns:
        # Blank at an end is no part of any good value that was learned by its pattern alone.
        return np.ones(len(texts), np.bool_)
    distinct = pd.Series(texts.dropna().unique(), dtype="object")
    good = distinct[shape_of(distinct, exact=column.exact).isin(column.patterns)] if len(distinct) else distinct
    return texts.isin(good).to_numpy()
