"""Evidence in a value itself, against the other values of its column: how rare is its form, how far is its number.

What belongs here: features of a distinct value, (d,) each, leaving the value itself out of what it is compared with.
What does not: other columns (``context``) and similar spellings (``spelling``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.cells.table import Column, Floats, Ints

Features = dict[str, Floats]
_GRAMS = (1, 2, 3)
_SHAPES = ("fine", "runs", "words", "kinds", "around")


def value_features(column: Column) -> Features:
    """Return evidence for each distinct value of a column."""
    found: Features = {}
    present = ~column.empty
    rows = float(column.counts[present].sum())
    distinct = float(present.sum())
    n = float(column.rows)
    found["share"] = np.log(column.counts / n)
    found["count"] = np.log(column.counts)
    found["share_to_top"] = np.log(column.counts / column.counts.max())
    found["empty"] = column.empty.astype(float)
    found["marker"] = (column.marker & present).astype(float)
    found["spaces"] = np.array([value != value.strip() or "  " in value for value in column.values], dtype=float)
    kinds = len(
        {value.strip().lower() for value, is_marker in zip(column.values, column.marker, strict=True) if is_marker}
    )
    found["column_markers"] = np.full(len(column.values), float(kinds))
    found["column_empty"] = np.full(len(column.values), 1 - rows / n)
    found["column_marker"] = np.full(len(column.values), column.counts[column.marker & present].sum() / n)
    for name, shapes in zip(_SHAPES, column.shapes, strict=True):
        _, codes = np.unique(np.array(shapes, dtype=object).astype(str), return_inverse=True)
        by_row = np.bincount(codes, column.counts * present)
        by_value = np.bincount(codes, present.astype(float))
        found[f"{name}_rows"] = _rarity(by_row[codes] - column.counts, rows - column.counts)
        found[f"{name}_values"] = _rarity(by_value[codes] - 1, distinct - 1)
        top = by_row.max() / max(rows, 1)
        found[f"{name}_to_top"] = found[f"{name}_rows"] - np.log(max(top, 1e-9))
        if name in {"runs", "kinds", "around"}:
            shares = by_row[by_row > 0] / max(rows, 1)
            found[f"column_{name}_top"] = np.full(len(codes), top)
            found[f"column_{name}_entropy"] = np.full(len(codes), float(-(shares * np.log(shares)).sum()))
            found[f"column_{name}_common"] = np.full(len(codes), float((shares > 0.03).sum()))
    found |= _grams(column, present, rows, distinct)
    found |= _numbers(column, present)
    lengths = np.array([len(value) for value in column.values], dtype=float)
    found["length"] = np.log1p(lengths)
    found["length_far"] = _far(lengths, column.counts * present)
    words = np.array([len(tokens) for tokens in column.tokens], dtype=float)
    found["words_far"] = _far(words, column.counts * present)
    shares = column.counts / n
    found["column_distinct"] = np.full(len(shares), len(shares) / n)
    found["column_values"] = np.full(len(shares), np.log(len(shares)))
    found["column_entropy"] = np.full(len(shares), float(-(shares * np.log(shares)).sum() / np.log(max(n, 2))))
    found["column_length"] = np.full(len(shares), float(np.log1p((lengths * shares).sum())))
    found["column_top"] = np.full(len(shares), float(shares.max()))
    return found


def _rarity(others: NDArray[Any], of: NDArray[Any] | float) -> Floats:
    """Return the log share that others have of something, smoothed by half an observation."""
    return np.asarray(np.log((np.maximum(others, 0) + 0.5) / (np.maximum(of, 0) + 1.0)))


def _far(numbers: Floats, weights: Ints | Floats) -> Floats:
    """Return how many robust deviations a number is from the weighted median, signed, within ±20."""
    order = np.argsort(numbers, kind="stable")
    mass = np.cumsum(weights[order])
    if mass[-1] <= 0:
        return np.zeros(len(numbers))
    low, middle, high = (numbers[order][np.searchsorted(mass, mass[-1] * q)] for q in (0.25, 0.5, 0.75))
    tails = (numbers[order][np.searchsorted(mass, mass[-1] * q)] for q in (0.05, 0.95))
    scale = (high - low) / 1.35 or -np.subtract(*tails) / 3.3 or 1.0
    return np.asarray(np.clip((numbers - middle) / max(float(scale), 1e-12), -20, 20))


def _numbers(column: Column, present: NDArray[np.bool_]) -> Features:
    """Return how far a value's number is out, and how numbers are written in the column."""
    found: Features = {}
    numeric = np.isfinite(column.numbers)
    weights = column.counts * (numeric & present)
    share = weights.sum() / max((column.counts * present).sum(), 1)
    plain = (column.counts * (column.plain & present)).sum() / max((column.counts * present).sum(), 1)
    filled = np.where(numeric, column.numbers, 0.0)
    found["far"] = np.where(numeric, np.abs(_far(filled, weights)), 0.0)
    found["far_log"] = np.where(numeric, _far(np.sign(filled) * np.log1p(np.abs(filled)), weights), 0.0)
    found["plain"] = column.plain.astype(float)
    found["numeric"] = numeric.astype(float)
    found["column_plain"] = np.full(len(numeric), plain)
    found["column_numeric"] = np.full(len(numeric), share)
    decimals = np.array(
        [len(v) - v.rfind(".") - 1 if p and "." in v else 0 for v, p in zip(column.values, column.plain, strict=True)]
    )
    places = np.bincount(decimals, column.counts * column.plain)
    found["decimals_rare"] = np.where(
        column.plain, _rarity(places[decimals] - column.counts, float(places.sum()) - column.counts), 0.0
    )
    found["zero_led"] = np.array([len(v) > 1 and v[0] == "0" and v[1].isdigit() for v in column.values], dtype=float)
    found["one_digit"] = np.array([len(v) > 2 and len(set(v)) == 1 for v in column.values], dtype=float)
    found["negative"] = (filled < 0).astype(float)
    found["zero"] = (numeric & (filled == 0)).astype(float)
    return found


def _grams(column: Column, present: NDArray[np.bool_], rows: float, distinct: float) -> Features:
    """Return the rarest and the mean run of 1, 2 and 3 characters of each value; digits are alike in the longer."""
    found: Features = {}
    texts = [f"\x02{value[:120]}\x03" for value in column.values]
    flat = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    for size in _GRAMS:
        chars = flat if size == 1 else np.where((flat >= 48) & (flat <= 57), 48, flat)
        _, small = np.unique(chars, return_inverse=True)
        width = int(small.max()) + 1
        grams, inside = small.astype(np.int64), np.ones(len(small), dtype=bool)
        for step in range(1, size):
            grams = grams[:-1] * width + small[step:]
            inside = inside[:-1] & (owner[step:] == owner[: len(owner) - step])
        _, codes = np.unique(grams[inside], return_inverse=True)
        pair, back = np.unique(
            owner[: len(grams)][inside] * np.int64(codes.max(initial=0) + 1) + codes, return_inverse=True
        )
        of, gram = np.divmod(pair, np.int64(codes.max(initial=0) + 1))
        by_row = np.bincount(gram, (column.counts * present)[of])
        by_value = np.bincount(gram, present[of].astype(float))
        in_rows = _rarity(by_row[gram] - column.counts[of], rows - column.counts[of])
        in_values = _rarity(by_value[gram] - 1, distinct - 1)
        for name, rarity in (("rows", in_rows), ("values", in_values)):
            lowest = np.zeros(len(texts))
            np.minimum.at(lowest, of, rarity)
            found[f"gram{size}_{name}"] = lowest
        del back
        totals = np.bincount(of, in_values, minlength=len(texts))
        found[f"gram{size}_mean"] = totals / np.maximum(np.bincount(of, minlength=len(texts)), 1)
        usual = found[f"gram{size}_values"]
        found[f"gram{size}_odd"] = _far(usual, column.counts * present)
    return found
