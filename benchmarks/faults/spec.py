"""``faults.json``: which faults are injected, and how often.

What belongs here: its form, read strictly. What does not: what an edit does (``edits``).

    {"rate": 0.05, "incidents": 4,
     "classes": [
       {"name": "cents", "rate": 0.2, "table": "isthmus.sagas", "where": {"event_type": ["isthmus.saga.started"]},
        "edits": [{"edit": "column.scale", "column": "amount", "by": 100}]},
       {"name": "late copies", "edits": [{"edit": "row.duplicate"}, {"edit": "time.delay", "by": "6h"}]}]}

A class is one or more edits, applied one after the other to the same rows: ``rate`` of those that qualify in an hour,
and at least three. ``table`` and ``column`` are drawn anew for each incident where they are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Every edit with its options: name -> default; a default of None must be given where the option is not a column.
EDITS: dict[str, dict[str, Any]] = {
    "column.null": {},
    "column.set": {"value": None},
    "column.scale": {"by": None},
    "column.add": {"by": None},
    "column.noise": {"by": 0.5},
    "column.negate": {},
    "column.round": {"digits": 0},
    "column.swap": {"with": ""},
    "column.permute": {},
    "column.freeze": {},
    "column.truncate": {"length": 3},
    "column.case": {"to": "swap"},
    "column.pad": {"with": " "},
    "column.typo": {},
    "column.garble": {},
    "column.other": {},
    "column.unknown": {},
    "column.text": {"style": "comma"},
    "row.drop": {},
    "row.cut": {},
    "row.duplicate": {"times": 1},
    "row.copy": {"times": 1},
    "row.orphan": {},
    "row.splice": {},
    "time.shift": {"by": None},
    "time.delay": {"by": None},
    "time.freeze": {},
    "time.truncate": {"to": "minute"},
    "schema.drop": {},
    "schema.rename": {"to": ""},
    "schema.add": {"to": ""},
    "schema.text": {},
    "schema.swap": {"with": ""},
}
_UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_TRUNCATE = ("second", "minute", "hour", "day")
_CLASS_KEYS = {"name", "edits", "rate", "table", "where", "incidents", "hours", "held_back", "description"}


class FaultsError(ValueError):
    """A ``faults.json`` that cannot be used; the text names the class and what to change."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: ``kind`` is column, row, time or schema."""

    kind: str
    verb: str
    column: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FaultClass:
    """A class of faults; empty ``table`` means any. ``where`` is {column: values}."""

    name: str
    edits: tuple[Edit, ...]
    rate: float
    table: str = ""
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    incidents: int = 4
    hours: int = 1
    held_back: bool = False


def read_faults(path: Path) -> tuple[FaultClass, ...]:
    """Return the classes of ``path`` (the file, or its folder). Raises :class:`FaultsError`."""
    file = path / "faults.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text())
    except OSError as error:
        raise FaultsError(f"{file} cannot be read: {error.strerror}; --data is a folder with faults.json") from error
    except ValueError as error:
        raise FaultsError(f"{file} is not JSON: {error}") from error
    return parse_faults(content)


def parse_faults(content: Any) -> tuple[FaultClass, ...]:
    """Return the classes of a parsed ``faults.json``: a list, or an object with ``classes`` and defaults for them."""
    defaults: dict[str, Any] = {}
    if isinstance(content, dict):
        listed = next((content[key] for key in ("classes", "faults") if key in content), None)
        defaults = {key: content[key] for key in ("rate", "incidents", "hours") if key in content}
        if isinstance(listed, dict):
            listed = [{"name": name, **(entry if isinstance(entry, dict) else {})} for name, entry in listed.items()]
        content = listed
    if not isinstance(content, list) or not content:
        raise FaultsError('faults.json needs "classes": a list of {"name", "edits", "rate"}')
    classes = tuple(_class(entry, number, defaults) for number, entry in enumerate(content))
    names = [one.name for one in classes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FaultsError(f"two classes have one name: {', '.join(twice)}")
    return classes


def _class(entry: Any, number: int, defaults: Mapping[str, Any]) -> FaultClass:
    if not isinstance(entry, dict):
        raise FaultsError(f"class {number} is not an object")
    name = str(entry.get("name") or f"class {number}")
    if unknown := sorted(set(entry) - _CLASS_KEYS):
        raise FaultsError(f"{name}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(_CLASS_KEYS))}")
    edits = entry.get("edits")
    edits = [edits] if isinstance(edits, (dict, str)) else edits
    if not isinstance(edits, list) or not edits:
        raise FaultsError(f'{name}: needs "edits", a list of edits such as {{"edit": "column.null"}}')
    merged = {**defaults, **entry}
    rate = _number(merged.get("rate", 0.05), f"{name}: rate")
    if not 0 < rate <= 1:
        raise FaultsError(f"{name}: rate is a share above 0 and at most 1, not {rate}")
    where = entry.get("where") or {}
    if not isinstance(where, dict):
        raise FaultsError(f'{name}: "where" is {{column: value or values}}')
    counts = {}
    for key, default in (("incidents", 4), ("hours", 1)):
        counts[key] = int(_number(merged.get(key, default), f"{name}: {key}"))
        if counts[key] < 1:
            raise FaultsError(f"{name}: {key} is at least 1")
    return FaultClass(
        name,
        tuple(_edit(one, name) for one in edits),
        rate,
        str(entry.get("table") or ""),
        {str(key): tuple(value) if isinstance(value, list) else (value,) for key, value in where.items()},
        counts["incidents"],
        counts["hours"],
        bool(entry.get("held_back", False)),
    )


def _edit(entry: Any, name: str) -> Edit:
    entry = {"edit": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict):
        raise FaultsError(f"{name}: an edit is an object or a name such as column.null")
    options = dict(entry)
    word = options.pop("edit", None)
    if word is None:  # the two halves by themselves
        kind, verb = options.pop("kind", ""), options.pop("do", options.pop("op", ""))
        word = f"{kind}.{verb}"
    column = str(options.pop("column", "") or "")
    if word not in EDITS:
        raise FaultsError(f"{name}: no edit {word!r}; known are {', '.join(EDITS)}")
    known = EDITS[word]
    if unknown := sorted(set(options) - set(known)):
        raise FaultsError(f"{name}: {word} takes {', '.join(known) or 'no options'}, not {', '.join(unknown)}")
    merged = {**known, **options}
    if missing := [key for key, value in merged.items() if value is None and key not in options]:
        raise FaultsError(f"{name}: {word} needs {', '.join(missing)}")
    kind, verb = word.split(".")
    if kind == "time" and "by" in merged:
        merged["by"] = duration_us(merged["by"], name)
    elif "by" in merged:
        merged["by"] = _number(merged["by"], f"{name}: by")
    for key in ("digits", "times", "length"):
        if key in merged:
            merged[key] = int(_number(merged[key], f"{name}: {key}"))
    if word == "time.truncate" and merged["to"] not in _TRUNCATE:
        raise FaultsError(f"{name}: time.truncate goes to one of {', '.join(_TRUNCATE)}")
    return Edit(kind, verb, column, merged)


def duration_us(value: Any, name: str) -> int:
    """Return a duration in µs: a number of seconds, or a text such as ``-90m`` (us, ms, s, m, h, d)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(value * 1e6)
    found = re.fullmatch(r"\s*([+-]?\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)\s*", str(value))
    if not found:
        raise FaultsError(f"{name}: {value!r} is no duration; write 90, 500ms, 15m, 6h or -1d")
    return round(float(found[1]) * _UNITS[found[2]])


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FaultsError(f"{what} is a number, not {value!r}")
    return float(value)
