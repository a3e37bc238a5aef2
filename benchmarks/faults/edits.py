"""What each edit does to rows and to tables.

What belongs here: the edits. What does not: which rows and when (``inject``).
"""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.faults.spec import Edit, FaultsError
from benchmarks.faults.stream import LAYOUT

Column = pd.Series
Random = np.random.Generator

#: Hidden columns of an injected row: the clean row that it comes from, and whether it is one too many.
ORIGIN, COPY, LATE = "__origin", "__copy", "__late"
HIDDEN = (ORIGIN, COPY, LATE)
#: Edits that only make sense on numbers, and on texts.
NUMBERS = {"scale", "add", "noise", "negate", "round", "text"}
TEXTS = {"truncate", "case", "pad", "typo", "garble"}
#: Edits that do nothing to a column that has one value only.
VARIES = {"permute", "freeze", "other", "swap"}


def apply(edit: Edit, rows: pd.DataFrame, window: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    """Return ``rows`` after an edit of columns, rows or times; ``window`` has all rows of the table in that time."""
    rows = rows.copy()
    if edit.kind == "time":
        return _time(edit, rows, random)
    if edit.kind == "row":
        return _row(edit, rows, window, random)
    values = rows[column]
    if edit.verb == "swap":
        other = str(edit.options["with"]) or _partner(window, column, random)
        rows[column], rows[other] = rows[other].astype(object).to_numpy(), values.astype(object).to_numpy()
        return rows
    if edit.verb in NUMBERS and edit.verb != "text":
        numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
        rows[column] = _NUMBER[edit.verb](numbers, edit, random)
    elif edit.verb in TEXTS:
        there = values.notna()
        texts = values.astype(object).copy()
        texts[there] = _TEXT[edit.verb](values[there].astype(str), edit, random)
        rows[column] = texts
    else:
        rows[column] = _ANY[edit.verb](values, edit, window[column], random)
    return rows


_NUMBER: dict[str, Callable[[Column, Edit, Random], Column]] = {
    "scale": lambda values, edit, _: values * edit.options["by"],
    "add": lambda values, edit, _: values + edit.options["by"],
    "noise": lambda values, edit, random: values * (1 + edit.options["by"] * random.standard_normal(len(values))),
    "negate": lambda values, _, __: -values,
    "round": lambda values, edit, _: values.round(edit.options["digits"]),
}


def _typo(texts: Column, _: Edit, random: Random) -> Column:
    places, letters = random.random(len(texts)), random.choice(list(string.ascii_lowercase), len(texts))
    return pd.Series(
        [
            text[: (at := int(place * len(text)))] + str(letter) + text[at + 1 :]
            for text, place, letter in zip(texts, places, letters, strict=True)
        ],
        index=texts.index,
        dtype=object,
    )


def _case(texts: Column, edit: Edit, _: Random) -> Column:
    return {"upper": texts.str.upper, "lower": texts.str.lower}.get(str(edit.options["to"]), texts.str.swapcase)()


_TEXT: dict[str, Callable[[Column, Edit, Random], Column]] = {
    "truncate": lambda texts, edit, _: texts.str[: -edit.options["length"]].where(
        texts.str.len() > edit.options["length"], texts.str[:1]
    ),
    "case": _case,
    "pad": lambda texts, edit, _: texts + str(edit.options["with"]),
    "typo": _typo,
    # UTF-8 read as Latin-1, as a wrongly configured reader would.
    "garble": lambda texts, _, __: texts.map(lambda text: (text[:1] + "é" + text[1:]).encode().decode("latin-1")),
}


def _set(values: Column, edit: Edit, _: Column, __: Random) -> Column:
    return pd.Series([edit.options["value"]] * len(values), index=values.index, dtype=object)


def _permute(values: Column, _: Edit, window: Column, random: Random) -> Column:
    if len(values) < 2:
        return values
    order = random.permutation(len(values))
    shifted = np.empty(len(values), np.int64)
    shifted[order] = np.roll(order, 1)
    return pd.Series(values.to_numpy()[shifted], index=values.index, dtype=values.dtype)


def _freeze(values: Column, _: Edit, __: Column, ___: Random) -> Column:
    return pd.Series([values.iloc[0]] * len(values), index=values.index, dtype=values.dtype)


def _other(values: Column, _: Edit, window: Column, random: Random) -> Column:
    known = window.dropna().unique()
    if len(known) < 2:
        return values
    drawn = known[random.integers(0, len(known), len(values))]
    again = known[random.integers(0, len(known), len(values))]
    return pd.Series(np.where(drawn == values.to_numpy(), again, drawn), index=values.index)


def _unknown(values: Column, _: Edit, window: Column, random: Random) -> Column:
    if pd.api.types.is_numeric_dtype(window):
        top = float(np.nanmax(np.abs(window.to_numpy(np.float64)))) if window.notna().any() else 1.0
        return pd.Series(np.round(top + 1 + 8 * random.random(len(values)), 0), index=values.index)
    return pd.Series(
        [f"unknown-{word}" for word in random.integers(0, 9, len(values))], index=values.index, dtype=object
    )


def _as_text(values: Column, edit: Edit, _: Column, __: Random) -> Column:
    texts = values.map(lambda value: None if pd.isna(value) else f"{value:.12g}").astype(object)
    if edit.options["style"] == "comma":
        return texts.str.replace(".", ",", regex=False).astype(object)
    return texts if edit.options["style"] == "plain" else (texts + f" {edit.options['style']}").astype(object)


_ANY: dict[str, Callable[[Column, Edit, Column, Random], Column]] = {
    "null": lambda values, _, __, ___: pd.Series([None] * len(values), index=values.index, dtype=object),
    "set": _set,
    "permute": _permute,
    "freeze": _freeze,
    "other": _other,
    "unknown": _unknown,
    "text": _as_text,
}


def _partner(window: pd.DataFrame, column: str, random: Random) -> str:
    """Return another column of the same kind."""
    kind = pd.api.types.is_numeric_dtype(window[column])
    names = [
        str(name)
        for name in window.columns
        if name != column
        and name not in HIDDEN
        and name not in (LAYOUT.time, LAYOUT.arrival)
        and pd.api.types.is_numeric_dtype(window[name]) == kind
        and window.loc[window[column].notna(), name].notna().any()
    ]
    if not names:
        raise FaultsError(f"nothing to swap {column} with")
    return str(random.choice(names))


def _row(edit: Edit, rows: pd.DataFrame, window: pd.DataFrame, random: Random) -> pd.DataFrame:
    if edit.verb in ("drop", "cut"):
        return rows.iloc[:0]
    if edit.verb in ("duplicate", "copy"):
        found = [rows]
        for number in range(edit.options["times"]):
            more = rows.copy()
            more[COPY] = True
            if edit.verb == "copy":
                more[LAYOUT.name] = more[LAYOUT.name].astype(str) + f"-{number + 2}"
            seconds = 1 + 20 * random.random(len(more))
            more[LAYOUT.arrival] += pd.to_timedelta(seconds, unit="s").round("us")
            found.append(more)
        return pd.concat(found)
    if edit.verb == "orphan":
        strange = [
            f"{text}{number:04d}"
            for text, number in zip(rows[LAYOUT.entity], random.integers(0, 9999, len(rows)), strict=True)
        ]
        rows[LAYOUT.entity] = np.array(strange, object)
        return rows
    # Splice: half of the columns are another row's.
    names = [name for name in rows.columns if name not in (*HIDDEN, LAYOUT.time, LAYOUT.arrival)]
    taken = list(random.choice(names, max(1, len(names) // 2), replace=False))
    others = window.iloc[random.integers(0, len(window), len(rows))]
    for name in taken:
        rows[name] = others[name].to_numpy()
    return rows


def _time(edit: Edit, rows: pd.DataFrame, random: Random) -> pd.DataFrame:
    if edit.verb == "delay":
        # Not all at once: what was held up comes in over some minutes.
        more = edit.options["by"] + 120e6 * random.random(len(rows))
        rows[LAYOUT.arrival] += pd.to_timedelta(more.round(), unit="us")
        rows[LATE] = True
    elif edit.verb == "shift":
        rows[LAYOUT.time] += pd.Timedelta(edit.options["by"], unit="us")
    elif edit.verb == "freeze":
        rows[LAYOUT.time] = rows[LAYOUT.time].iloc[0]
    else:
        rows[LAYOUT.time] = rows[LAYOUT.time].dt.floor(
            {"second": "s", "minute": "min", "hour": "h", "day": "D"}[edit.options["to"]]
        )
    return rows


def reshape(edit: Edit, batch: pd.DataFrame, column: str, random: Random) -> pd.DataFrame:
    """Return a batch after an edit of its schema."""
    batch = batch.copy()
    if edit.verb == "drop":
        return batch.drop(columns=column)
    if edit.verb == "rename":
        return batch.rename(columns={column: str(edit.options["to"]) or f"{column}_v2"})
    if edit.verb == "add":
        batch[str(edit.options["to"]) or "extra"] = random.random(len(batch))
        return batch
    if edit.verb == "text":
        batch[column] = batch[column].map(lambda value: None if pd.isna(value) else str(value)).astype(object)
        return batch
    other = str(edit.options["with"]) or _partner(batch, column, random)
    return batch.rename(columns={column: other, other: column})
