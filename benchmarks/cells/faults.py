"""Faults that are put into clean tables, each of a class that real tables show (as BART and its successors inject).

What belongs here: functions from clean text to wrong text, and how many faults a table gets. A fault that leaves the
text as it was is no fault. What does not: tables (``worlds``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.cells.worlds import World

Rng = np.random.Generator
Cells = np.ndarray
"""Objects (rows,) of one column."""
MARKERS = ("", "", "", "N/A", "NULL", "nan", "-", "unknown", "None", "?", "999", "0", "empty", "missing", "TBD")


def corrupt(world: World, rng: Rng) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (dirty, clean) of a world with one to seven random faults."""
    clean = world.frame.astype(str)
    dirty = clean.copy()
    if world.reported and rng.random() < 0.85:
        _conflicts(dirty, world, rng)
    level = float(np.exp(rng.uniform(np.log(0.003), np.log(0.25))))
    names = list(FAULTS)
    weights = np.array([FAULTS[name][1] for name in names], dtype=float)
    one_everywhere = rng.random() < 0.25
    for _ in range(int(rng.integers(1, 7)) if not one_everywhere else 1):
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        fault = FAULTS[name][0]
        width = clean.shape[1]
        many = int(rng.integers(1, max(2, width // 2 + 1))) if not one_everywhere else max(1, width - 2)
        for place in rng.choice(width, many, replace=False):
            rate = float(np.clip(level * rng.lognormal(0, 0.5), 0.002, 0.6))
            _apply(dirty, int(place), fault, rate, rng)
    if rng.random() < 0.3:
        _whole_column(dirty, rng)
    if rng.random() < 0.12:
        _marker_everywhere(dirty, rng)
    return dirty, clean


def _apply(dirty: pd.DataFrame, place: int, fault: Callable[..., Any], rate: float, rng: Rng) -> None:
    """Put a fault into a share of a column's rows: drawn singly, by the value of another column, or in a run."""
    n = len(dirty)
    way = rng.random()
    if way < 0.8:
        rows = np.flatnonzero(rng.random(n) < rate)
    elif way < 0.92:
        other = dirty.iloc[:, int(rng.integers(dirty.shape[1]))]
        groups = other.unique()
        chosen = set(rng.permutation(groups)[: max(1, int(rate * len(groups)))])
        rows = np.flatnonzero(other.isin(chosen).to_numpy())
        if len(rows) > n * 0.7:
            return
    else:
        size = max(2, int(rate * n))
        start = int(rng.integers(0, max(n - size, 1)))
        rows = np.arange(start, min(start + size, n))
    fault(dirty, place, rows, rng)


def _each(change: Callable[[str, Rng, Any], str], setup: Callable[[Rng], Any] = lambda _: None) -> Callable[..., None]:
    """Return a fault that changes one value after the other in the same manner (``setup`` draws it once)."""

    def fault(dirty: pd.DataFrame, place: int, rows: np.ndarray, rng: Rng) -> None:
        manner = setup(rng)
        column = dirty.iloc[:, place].to_numpy(dtype=object, copy=True)
        for row in rows:
            if column[row]:
                column[row] = change(str(column[row]), rng, manner)
        dirty.isetitem(place, column)

    return fault


_NEAR = {
    "a": "qsz",
    "e": "wrd",
    "i": "uok",
    "o": "ipl",
    "n": "bm",
    "s": "adw",
    "t": "ry",
    "r": "et",
    "l": "kp",
    "m": "n",
}


def _typo(value: str, rng: Rng, manner: tuple[int, str]) -> str:
    kind, letter = manner
    chars = list(value)
    for _ in range(1 if len(chars) < 5 else int(rng.integers(1, 3))):
        at = int(rng.integers(len(chars)))
        how = int(rng.integers(4)) if kind == 0 else kind
        if how == 1:  # substitute
            near = _NEAR.get(chars[at].lower(), "abcdefghijklmnopqrstuvwxyz")
            chars[at] = letter or near[int(rng.integers(len(near)))]
        elif how == 2 and len(chars) > 1:
            del chars[at]
        elif how == 3:
            chars.insert(at, letter or "abcdefghijklmnopqrstuvwxyz1"[int(rng.integers(27))])
        elif len(chars) > 1:
            at = min(at, len(chars) - 2)
            chars[at], chars[at + 1] = chars[at + 1], chars[at]
    return "".join(chars)


def _typo_manner(rng: Rng) -> tuple[int, str]:
    fixed = rng.random() < 0.25
    return (1 if fixed else int(rng.integers(4)), "xqz*#_~"[int(rng.integers(7))] if fixed else "")


def _replace_letter(value: str, rng: Rng, manner: str) -> str:
    """Every occurrence of one character of the value becomes the same other one."""
    char = value[int(rng.integers(len(value)))]
    return value.replace(char, manner)


def _digit(value: str, rng: Rng, _: Any) -> str:
    places = [i for i, char in enumerate(value) if char.isdigit()]
    if not places:
        return value
    at = places[int(rng.integers(len(places)))]
    return value[:at] + str(int(rng.integers(10))) + value[at + 1 :]


def _missing(dirty: pd.DataFrame, place: int, rows: np.ndarray, rng: Rng) -> None:
    column = dirty.iloc[:, place].to_numpy(dtype=object, copy=True)
    column[rows] = MARKERS[int(rng.integers(len(MARKERS)))]
    dirty.isetitem(place, column)


def _other_row(dirty: pd.DataFrame, place: int, rows: np.ndarray, rng: Rng) -> None:
    column = dirty.iloc[:, place].to_numpy(dtype=object, copy=True)
    distinct = np.unique(column.astype(str)) if rng.random() < 0.5 else column
    column[rows] = distinct[rng.integers(len(distinct), size=len(rows))]
    dirty.isetitem(place, column)


def _swap(dirty: pd.DataFrame, place: int, rows: np.ndarray, rng: Rng) -> None:
    other = int(rng.integers(dirty.shape[1]))
    left, right = (dirty.iloc[:, c].to_numpy(dtype=object, copy=True) for c in (place, other))
    left[rows], right[rows] = right[rows].copy(), left[rows].copy()
    dirty.isetitem(place, left)
    dirty.isetitem(other, right)


def _join(dirty: pd.DataFrame, place: int, rows: np.ndarray, rng: Rng) -> None:
    """Two columns of a row run into one; the other is empty, or not."""
    other = int(rng.integers(dirty.shape[1])) if rng.random() < 0.4 else min(place + 1, dirty.shape[1] - 1)
    if other == place:
        return
    left, right = (dirty.iloc[:, c].to_numpy(dtype=object, copy=True) for c in (place, other))
    between = [" ", ", ", "-", "", "/"][int(rng.integers(5))]
    left[rows] = [f"{a}{between}{b}" if b else a for a, b in zip(left[rows], right[rows], strict=True)]
    if rng.random() < 0.75:
        right[rows] = ""
    dirty.isetitem(place, left)
    dirty.isetitem(other, right)


def _scaled(value: str, rng: Rng, manner: float) -> str:
    found = re.fullmatch(r"(\D*?)(-?\d+(?:\.\d+)?)(\D*)", value)
    if not found:
        return value
    number = float(found.group(2)) * manner
    text = f"{number:.{len(found.group(2).partition('.')[2])}f}" if manner >= 1 or manner < 0 else f"{number:.4g}"
    return f"{found.group(1)}{text}{found.group(3)}"


def _outlier(value: str, rng: Rng, _: Any) -> str:
    return _scaled(value, rng, float([10, 100, 1000, -1, 0.01, 37.5, 5][int(rng.integers(7))]))


def _rewritten(value: str, rng: Rng, manner: int) -> str:  # noqa: PLR0911 -- one return for each kind of value
    """One other way to write the same value: numbers, dates, times, words."""
    date = re.fullmatch(r"(\d{4})-(\d\d?)-(\d\d?)(.*)", value)
    if date:
        y, m, d, rest = date.groups()
        return [
            f"{m}/{d}/{y}{rest}",
            f"{d}.{m}.{y}{rest}",
            f"{y}{m}{d}{rest}",
            f"{int(m)}/{int(d)}/{y[2:]}{rest}",
            f"{y}/{m}/{d}{rest}",
        ][manner % 5]
    slashed = re.fullmatch(r"(\d\d?)[/.](\d\d?)[/.](\d{2,4})", value)
    if slashed:
        a, b, y = slashed.groups()
        return [f"{y}-{a}-{b}", f"{a}-{b}-{y}", f"{b}/{a}/{y}", f"{a}/{b}/{y[-2:]}", f"{y}"][manner % 5]
    time = re.fullmatch(r"(\d\d?):(\d\d)( ?[APap]\.?[Mm]\.?)?", value)
    if time:
        h, m, half = time.groups()
        half = (half or "").strip().replace(".", "").lower()
        return [
            f"{h}:{m}:00 {half}".strip(),
            f"{h}{m}{half}",
            f"12/02/2011 {value}",
            f"{value} (estimated)",
            f"{h}.{m} {half.upper()}".strip(),
        ][manner % 5]
    pages = re.fullmatch(r"(\d+)-(\d+)", value)
    if pages:
        a, b = pages.groups()
        months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        return [
            f"{b}-{months[int(a) % 12]}",
            f"{a}--{b}",
            f"{months[int(a) % 12]}-{b[-2:]}",
            f"pp. {a}-{b}",
            f"{a}/{b}/2001",
        ][manner % 5]
    if re.fullmatch(r"-?\d+(\.\d+)?", value):
        return [
            f"{value}.0" if "." not in value else value + "0",
            f"{value}%",
            f"${value}",
            value.replace(".", ","),
            f"{float(value):.3e}",
        ][manner % 5]
    if re.fullmatch(r"[\d,]+", value):
        return value.replace(",", "") if manner % 2 else value.replace(",", ".")
    return [value.upper(), value.lower(), value.title(), value.swapcase(), value.replace(" ", "_")][manner % 5]


_UNITS = [
    ("oz", "oz.", "ounce", "OZ", "ounces"),
    ("min", "minutes", "mins", "min."),
    ("kg", "KG", "kilo", "kgs"),
    ("%", " percent", "pct"),
    ("USD", "$", "dollars"),
    ("cm", "CM", "centimeter"),
    ("hrs", "h", "hours"),
    ("pts", "points", "pt."),
]


def _affix(value: str, rng: Rng, manner: tuple[int, str]) -> str:
    how, text = manner
    return [f"{value} {text}", f"{text} {value}", f" {value}", f"{value} ", f'"{value}"', f"{value}{text}"][how]


def _affix_manner(rng: Rng) -> tuple[int, str]:
    texts = ["(approx)", "*", "see note", "[1]", "est.", "old", "copy", "Mr.", "the", "ca.", "!", ".", "Inc"]
    unit = _UNITS[int(rng.integers(len(_UNITS)))][0]
    return int(rng.integers(6)), unit if rng.random() < 0.4 else texts[int(rng.integers(len(texts)))]


def _mojibake(value: str, rng: Rng, manner: int) -> str:
    broken = value.encode("utf-8").decode("latin-1", "replace")
    if broken != value:
        return broken
    at = int(rng.integers(len(value)))
    return value[:at] + ["Ã©", "\ufffd", "&amp;", "&#39;", "â€™"][manner] + value[at + (manner != 2) :]


def _cut(value: str, rng: Rng, _: Any) -> str:
    words = value.split(" ")
    return (
        " ".join(words[:-1])
        if len(words) > 1 and rng.random() < 0.5
        else value[: max(1, int(len(value) * rng.uniform(0.4, 0.9)))]
    )


def _doubled(value: str, rng: Rng, _: Any) -> str:
    words = value.split(" ")
    at = int(rng.integers(len(words)))
    return " ".join([*words[: at + 1], *words[at:]])


def _short(value: str, rng: Rng, manner: int) -> str:
    words = value.split(" ")
    if len(words) < 2:
        return value[:3] + ("." if manner % 2 else "")
    return "".join(word[:1].upper() for word in words) if manner % 2 else " ".join([f"{words[0][:1]}.", *words[1:]])


def _wrong_kind(value: str, rng: Rng, manner: int) -> str:
    return [str(int(rng.integers(10**6))), "abc", "true", "1900-01-01", "#REF!", "test", "{}", value * 3][manner]


def _draw(size: int) -> Callable[[Rng], int]:
    return lambda rng: int(rng.integers(size))


FAULTS: dict[str, tuple[Callable[..., None], float]] = {
    "typo": (_each(_typo, _typo_manner), 3.0),
    "letter": (_each(_replace_letter, lambda rng: "x*?-_0e"[int(rng.integers(7))]), 0.7),
    "digit": (_each(_digit), 0.7),
    "missing": (_missing, 3.0),
    "other_row": (_other_row, 2.5),
    "swap": (_swap, 0.6),
    "join": (_join, 0.8),
    "outlier": (_each(_outlier), 1.0),
    "unit_change": (
        _each(_scaled, lambda rng: float([2.54, 0.4536, 1000, 0.001, 1.609, 60][int(rng.integers(6))])),
        0.7,
    ),
    "rewritten": (_each(_rewritten, _draw(5)), 3.0),
    "affix": (_each(_affix, _affix_manner), 1.5),
    "mojibake": (_each(_mojibake, _draw(5)), 0.5),
    "cut": (_each(_cut), 0.7),
    "doubled": (_each(_doubled), 0.3),
    "short": (_each(_short, _draw(2)), 0.6),
    "wrong_kind": (_each(_wrong_kind, _draw(8)), 0.5),
}
"""Each class with its weight in the draw."""


def _whole_column(dirty: pd.DataFrame, rng: Rng) -> None:
    """A column of plain numbers is written with several spellings of one unit: all of it is to be repaired."""
    plain = [i for i in range(dirty.shape[1]) if dirty.iloc[:, i].str.fullmatch(r"\d+(\.\d+)?").mean() > 0.9]
    plain = [i for i in plain if dirty.iloc[:, i].nunique() < 0.9 * len(dirty)]
    if not plain:
        return
    place = plain[int(rng.integers(len(plain)))]
    units = _UNITS[int(rng.integers(len(_UNITS)))]
    space = " " if rng.random() < 0.7 else ""
    share = 1.0 if rng.random() < 0.5 else rng.uniform(0.2, 0.7)
    point = ".0" if rng.random() < 0.5 else ""
    column = dirty.iloc[:, place].to_numpy(dtype=object, copy=True)
    for row in np.flatnonzero(rng.random(len(column)) < share):
        if column[row]:
            column[row] = (
                f"{column[row]}{'' if '.' in column[row] else point}{space}{units[int(rng.integers(len(units)))]}"
            )
    dirty.isetitem(place, column)


def _marker_everywhere(dirty: pd.DataFrame, rng: Rng) -> None:
    """What is empty is written as a marker in a column: wrong, where the table says nothing for nothing."""
    holed = [i for i in range(dirty.shape[1]) if 0.005 < (dirty.iloc[:, i] == "").mean() < 0.95]
    if holed:
        place = holed[int(rng.integers(len(holed)))]
        marker = ("N/A", "NaN", "NULL", "-", "unknown", "?")[int(rng.integers(6))]
        dirty.isetitem(place, dirty.iloc[:, place].replace("", marker).to_numpy(dtype=object))


def _conflicts(dirty: pd.DataFrame, world: World, rng: Rng) -> None:
    """Sources differ in how often they are right, leave values out, and copy each other's mistakes."""
    sources, keys = dirty[world.source].to_numpy(), dirty[world.key].to_numpy()
    names = np.unique(sources.astype(str))
    wrong = dict(zip(names, rng.beta(rng.uniform(0.4, 2), rng.uniform(2, 6), len(names)), strict=True))
    silent = dict(zip(names, rng.beta(0.3, rng.uniform(1, 5), len(names)), strict=True))
    odd = set(rng.permutation(names)[: int(rng.integers(0, max(2, len(names) // 3)))])
    manner = int(rng.integers(5))
    for name in world.reported:
        column = dirty[name].to_numpy(dtype=object, copy=True)
        pool = np.unique(column.astype(str))
        common: dict[Any, str] = {}
        writes_otherwise, leaves_out = rng.random() < 0.5, rng.random() < 0.7
        for row in range(len(column)):
            source, value = sources[row], str(column[row])
            if rng.random() < wrong[source]:
                value = _near_value(value, pool, rng)
                # A mistake about a thing is often shared by those who copy it.
                if rng.random() < 0.3:
                    value = common.setdefault(keys[row], value)
            if leaves_out and rng.random() < silent[source]:
                value = ""
            elif writes_otherwise and source in odd and value:
                value = _rewritten(value, rng, manner)
            column[row] = value
        dirty[name] = column


def _near_value(value: str, pool: Sequence[str] | np.ndarray, rng: Rng) -> str:
    found = re.search(r"(\d\d?):(\d\d)", value)
    if found and rng.random() < 0.8:
        minutes = (int(found.group(1)) * 60 + int(found.group(2)) + int(rng.integers(-40, 41))) % 720
        return f"{value[: found.start()]}{max(minutes // 60, 1)}:{minutes % 60:02d}{value[found.end() :]}"
    return str(pool[int(rng.integers(len(pool)))])
