"""What was found: spans of text with the entity that they are.

What belongs here: the record and how overlapping findings are settled. What does not: finding anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Finding(NamedTuple):
    """A span ``text[start:end]`` that is an ``entity`` (Presidio's names), with a confidence of 0 to 1."""

    start: int
    end: int
    entity: str
    score: float


def settle(findings: Iterable[Finding]) -> list[Finding]:
    """Return ``findings`` without overlaps, by position: the surer one stays, then the longer, then the earlier."""
    kept: list[Finding] = []
    for one in sorted(findings, key=lambda f: (-f.score, f.start - f.end, f.start)):
        if all(one.end <= other.start or one.start >= other.end for other in kept):
            kept.append(one)
    return sorted(kept)
