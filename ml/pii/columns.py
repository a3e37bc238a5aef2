"""Columns read: the router's choice carried out, for an inventory (how many) or for redaction (where).

What belongs here: the two readings of a column. What does not: getting its values, and what follows from what is found.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from ml.pii import fast, router
from ml.pii.findings import Finding
from ml.pii.inventory import Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

WITHOUT_MODEL = "reads as free text, and only forms were looked for: the extra `pii` is not installed"


class Prose(Protocol):
    """What reads free text (``engine.FreeText``)."""

    def find(self, texts: Sequence[str], batch_size: int = 128) -> list[list[Finding]]:
        """Return the findings in each text."""


def inspect(name: str, values: pa.Array[Any], prose: Prose | None = None, *, most: int = 500, seed: int = 0) -> Seen:
    """Return how many of ``values`` hold each entity; ``name`` is ``database.table.column`` with an optional JSON path.

    Forms are looked for in every value, by the fast path; at most ``most`` values of free text are shown to ``prose``,
    and what it finds is scaled to all of them. Without ``prose`` the note says what was not looked for.
    """
    context = fast.context_of(name)
    found, total = fast.counts(values, context)
    way = router.route(router.profile(router.sample(values, 2000, seed)), context)
    if way != "prose":
        return Seen(name, way, total, dict(found))
    if prose is None:
        return Seen(name, way, total, dict(found), WITHOUT_MODEL)
    said = router.prose_of(values)
    texts = router.sample(said, most, seed).to_pylist()
    times = Counter(texts)
    more: Counter[str] = Counter()
    for text, entities in _named(list(times), prose).items():
        more.update(dict.fromkeys(entities, times[text]))
    for entity, count in more.items():
        if entity not in found:
            found[entity] = max(1, round(count * len(said) / len(texts)))
    return Seen(name, way, total, dict(found))


#: A name in more than a fifth of so many different texts is a word of the trade (a product), and nobody's.
_MANY, _COMMON = 20, 0.2


def _named(texts: list[str], prose: Prose) -> dict[str, set[str]]:
    """Return the entities in each of ``texts``, all different, without names that are words of the trade."""
    found = dict(zip(texts, prose.find(texts), strict=True))
    held: Counter[str] = Counter()
    for text, findings in found.items():
        held.update({text[one.start : one.end] for one in findings})
    most = len(texts) * _COMMON if len(texts) >= _MANY else len(texts)
    return {
        text: {one.entity for one in findings if held[text[one.start : one.end]] <= most}
        for text, findings in found.items()
    }


def read(name: str, values: pa.Array[Any], prose: Prose | None = None) -> list[list[Finding]]:
    """Return the findings in each of ``values``, by the way that the column's profile calls for."""
    context = fast.context_of(name)
    if prose is None or router.route(router.profile(router.sample(values, 2000, 0)), context) != "prose":
        return fast.scan(values, context)
    return prose.find([text or "" for text in values.cast("string").to_pylist()])
