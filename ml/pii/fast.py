"""The fast path: columns and payloads, whole arrays at a time.

What belongs here: which values of an Arrow array are personal data of a structured form, by RE2 and NumPy over all of
them at once. What does not: the forms themselves (``patterns``) and names in prose (``prose``).

Three sieves, each for what the one before left: distinct values only; values that are one thing as a whole, by
vectorised checks; and, value by value, the few of the rest that could hold something.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ml.pii import patterns
from ml.pii.checksums import IBAN_LENGTHS
from ml.pii.findings import Finding, settle

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

#: A value without any of these holds nothing structured.
MAYBE: Final = (
    r"@|://|(?:\d[ ()+./x:-]{0,3}){5}\d|[0-9a-fA-F]{1,4}:[0-9a-fA-F:]{2,}|\d\.\d{1,3}\.\d|0x[0-9a-fA-F]{40}|bc1|BC1"
    r"|[A-Za-z0-9-]{2,}\.[A-Za-z]{2,}|(?i:zip|post|licen|passport)"
)

_UUID: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_STAMP: Final = r"^(19|20)\d\d-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$"
_WHOLE: Final = (
    ("EMAIL_ADDRESS", r"^[\pL\pN_.!#$%&'*+/=?^{|}~-]+@[\pL\pN_-]+(\.[\pL\pN_-]+)*\.\pL{2,24}$"),
    ("URL", r"^(https?|ftp)://[^\s<>\"'`|]+$"),
    ("IP_ADDRESS", r"^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$"),
    ("MAC_ADDRESS", r"^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$"),
    ("PHONE_NUMBER", r"^\+\d{1,3}[ .-]?(\(\d{1,4}\)[ .-]?)?\d{1,4}([ .-]?\d{2,4}){1,5}$"),
)


def counts(values: pa.Array[Any] | pa.ChunkedArray[Any], context: str = "") -> tuple[Counter[str], int]:
    """Return how many of ``values`` (strings) hold each entity, and how many are not null or empty.

    ``context`` is the column's name as words (:func:`context_of`): ``phone`` makes a telephone number of seven
    digits. Dates count only where the name says that they are somebody's (``birth``).
    """
    import pyarrow.compute as pc

    found: Counter[str] = Counter()
    tally = pc.value_counts(values.cast("string").drop_null())
    distinct, times = tally.field("values"), tally.field("counts").to_numpy()
    total = int(times[pc.not_equal(distinct, "").to_numpy(zero_copy_only=False)].sum())
    whole = whole_entities(distinct)
    for entity in np.unique(whole[whole != ""]):
        if entity != _HARMLESS:
            found[str(entity)] += int(times[whole == entity].sum())
    maybe = pc.match_substring_regex(distinct, MAYBE).to_numpy(zero_copy_only=False)
    for at in np.flatnonzero(maybe & (whole == "")):
        for entity in {f.entity for f in settle(patterns.find(distinct[int(at)].as_py(), context))}:
            found[entity] += int(times[at])
    stamps = int(times[whole == _HARMLESS].sum()) if _births(context) else 0
    if not _births(context):
        found.pop("DATE_TIME", None)
    elif stamps:
        found["DATE_TIME"] += stamps
    return found, total


def scan(values: pa.Array[Any] | pa.ChunkedArray[Any], context: str = "") -> list[list[Finding]]:
    """Return the structured findings in each value, in order; a null has none. Dates are as in :func:`counts`."""
    import pyarrow.compute as pc

    array = values.cast("string")
    found: list[list[Finding]] = [[] for _ in range(len(array))]
    maybe = pc.fill_null(pc.match_substring_regex(array, MAYBE), False).to_numpy(zero_copy_only=False)
    for at in np.flatnonzero(maybe):
        found[at] = settle(patterns.find(array[int(at)].as_py(), context))
        if not _births(context):
            found[at] = [one for one in found[at] if one.entity != "DATE_TIME"]
    return found


def _births(context: str) -> bool:
    return "birth" in context or "dob" in context.split()


_HARMLESS: Final = "-"
_FEW, _CHANCE = 20, 0.3


def whole_entities(distinct: pa.Array[Any]) -> NDArray[np.str_]:
    """Return, a value, the entity that it is as a whole, ``-`` where it is a UUID, a time or only looks it, or
    nothing."""
    import pyarrow.compute as pc

    kind = np.full(len(distinct), "", dtype="U16")

    def matches(regex: str) -> NDArray[np.bool_]:
        return np.asarray(pc.fill_null(pc.match_substring_regex(distinct, regex), False).to_numpy(zero_copy_only=False))

    for regex in (_UUID, _STAMP):
        kind[matches(regex)] = _HARMLESS
    for entity, regex in _WHOLE:
        kind[(kind == "") & matches(regex)] = entity
    plain = pc.replace_substring_regex(distinct, r"[ -]", "")
    for entity, regex, check in (
        ("CREDIT_CARD", r"^[1-6]\d{11,18}$", luhn),
        ("IBAN_CODE", r"^[A-Za-z]{2}\d{2}[A-Za-z0-9]{11,30}$", iban),
    ):
        open_ = (kind == "") & pc.fill_null(pc.match_substring_regex(plain, regex), False).to_numpy(
            zero_copy_only=False
        )
        at = np.flatnonzero(open_)
        if len(at):
            good = _by_length(plain.take(at), check)
            # Any number has one chance in ten to end in its check digit: a column of order numbers is none of cards.
            if len(at) < _FEW or good.mean() > _CHANCE:
                kind[at[good]] = entity
            else:
                kind[at] = _HARMLESS
    return kind


def _by_length(values: pa.Array[Any], check: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Apply ``check`` to the values of each length as a matrix of bytes, shape (values, length)."""
    texts = np.array(values.to_pylist(), dtype="S")
    lengths = np.char.str_len(texts)
    good = np.zeros(len(texts), dtype=bool)
    for length in np.unique(lengths):
        at = np.flatnonzero(lengths == length)
        good[at] = check(texts[at].astype(f"S{length}").view(np.uint8).reshape(len(at), int(length)))
    return good


def luhn(matrix: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which rows of ASCII digits end in Luhn's check digit and are not one digit over and over."""
    digits = matrix.astype(np.int64) - 48
    doubled = digits[:, -2::-2] * 2
    total = digits[:, ::-2].sum(axis=1) + (doubled - 9 * (doubled > 9)).sum(axis=1)
    return np.asarray((total % 10 == 0) & (digits != digits[:, :1]).any(axis=1))


def iban(matrix: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which rows of ASCII letters and digits are an IBAN: its country's length, remainder 1 modulo 97."""
    upper = np.where(matrix >= 97, matrix - 32, matrix)
    countries = np.ascontiguousarray(upper[:, :2]).view("S2").ravel()
    allowed = np.array([c.encode() for c, length in IBAN_LENGTHS.items() if length == matrix.shape[1]], dtype="S2")
    turned = np.concatenate([upper[:, 4:], upper[:, :4]], axis=1).astype(np.int64)
    rest = np.zeros(len(matrix), dtype=np.int64)
    for column in turned.T:
        letter = column >= 65
        rest = (rest * np.where(letter, 100, 10) + column - np.where(letter, 55, 48)) % 97
    return np.asarray(np.isin(countries, allowed) & (rest == 1))


def context_of(name: str) -> str:
    """Return the last part of a column's name or path as words: ``$.data.customerPhone_no`` is ``customer phone
    no``."""
    last = re.split(r"[.$]", name.removesuffix("[]"))[-1]
    return re.sub(r"[^A-Za-z]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", last)).lower().strip()


def leaves(payloads: Sequence[bytes | str], prefix: str = "$") -> dict[str, list[str]]:
    """Return the strings in JSON ``payloads`` by path (``$.data.customer``, ``[]`` for the items of an array).

    A payload that does not parse is one string at ``prefix`` itself.
    """
    import orjson

    found: dict[str, list[str]] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, str):
            found.setdefault(path, []).append(node)
        elif isinstance(node, dict):
            for name, child in node.items():
                walk(child, f"{path}.{name}")
        elif isinstance(node, list):
            for child in node:
                walk(child, f"{path}[]")

    for payload in payloads:
        try:
            walk(orjson.loads(payload), prefix)
        except orjson.JSONDecodeError:
            walk(payload.decode(errors="replace") if isinstance(payload, bytes) else payload, prefix)
    return found
