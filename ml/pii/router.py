"""The router: what way a column is read, decided by its profile.

What belongs here: the profile of a sample and the choice it leads to. What does not: reading either way (``fast``,
``engine``).

A column of numbers, times, identifiers or a handful of words is never shown to the model: it holds nothing that the
fast
path would not find, and the model is a thousand times slower. What goes to the model is what reads as language, or what
its name says is a name or an address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

Route = Literal["skip", "fast", "prose"]

#: An identifier: without a space, and with a digit, a mark that names do not have, or a capital within (OutOfStock).
_CODE: Final = r"^(?:[A-Za-z0-9_.:/@+=#-]*[0-9_:/@=#][A-Za-z0-9_.:/@+=#-]*|[A-Z]?[a-z]+(?:[A-Z][a-z]+)+)$"
#: At most so many different values are a code list, in a sample that could hold more.
_ENUMERATION: Final = 24
_SAYS_NAME: Final = re.compile(
    r"\b(?:name|names|person|customer|client|contact|owner|author|recipient|sender|employee|patient|passenger|street|"
    r"address|city|town|notes?|comments?|message|description|remarks?|text|body|subject|title|company)\b"
)
_SAYS_CODE: Final = re.compile(r"\b(?:id|uuid|hash|key|code|status|type|topic|version|checksum|token)$")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a sample of a column looks like: shares are of its values that are not null or empty."""

    values: int
    distinct: int
    coded: float
    """Share without a space, and with a digit or a mark that names do not have."""
    words: float
    """Words a value, on average."""
    lettered: float
    """Share with two letters in a row."""


def profile(values: pa.Array[Any]) -> Profile:
    """Return the profile of strings; nulls and empty ones do not count."""
    import pyarrow.compute as pc

    texts = values.cast("string").drop_null()
    texts = texts.filter(pc.not_equal(texts, ""))
    count = len(texts)
    if not count:
        return Profile(0, 0, 1.0, 0.0, 0.0)

    def share(regex: str) -> float:
        return float(pc.mean(pc.match_substring_regex(texts, regex).cast("float64")).as_py())

    spaces = pc.mean(pc.count_substring_regex(texts, r"\s+")).as_py()
    return Profile(
        values=count,
        distinct=int(pc.count_distinct(texts).as_py()),
        coded=share(_CODE),
        words=float(spaces) + 1.0,
        lettered=share(r"\pL\pL"),
    )


def prose_of(values: pa.Array[Any]) -> pa.Array[Any]:
    """Return the values that are neither null, nor empty, nor an identifier."""
    import pyarrow.compute as pc

    texts = values.cast("string").drop_null()
    return texts.filter(pc.invert(pc.or_(pc.equal(texts, ""), pc.match_substring_regex(texts, _CODE))))


def route(seen: Profile, context: str = "") -> Route:
    """Return the way to read a column: ``context`` is its name as words (``customer phone``).

    ``skip`` is for a column without a value, ``prose`` includes the fast path.
    """
    if not seen.values:
        return "skip"
    if seen.lettered < 0.02 or seen.coded > 0.98:
        return "fast"
    if (seen.words < 1.1 and not _SAYS_NAME.search(context)) or (_SAYS_CODE.search(context) and seen.coded > 0.9):
        return "fast"
    enumerated = seen.distinct <= _ENUMERATION and seen.values >= 4 * seen.distinct
    if enumerated and not _SAYS_NAME.search(context):
        return "fast"
    return "prose" if seen.words >= 1.5 or _SAYS_NAME.search(context) else "fast"


def sample(values: pa.Array[Any], most: int, seed: int) -> pa.Array[Any]:
    """Return at most ``most`` of ``values``, drawn without replacement."""
    if len(values) <= most:
        return values
    chosen = np.random.default_rng(seed).choice(len(values), most, replace=False)
    chosen.sort()
    return values.take(chosen)
