"""Log lines as kinds of lines: what stays when the values are taken out.

What belongs here: from a line's text to its kind. What does not: which kinds are unusual (``behaviour``).

A kind is the words that many lines have, in order (Vaarandi 2003, SLCT): a word that few lines of the reference have is
a value. Identifiers, numbers and times are values whatever their frequency.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

#: So much of a line is looked at, characters and words: its beginning says what it is, the rest are values.
_CHARACTERS, _WORDS = 300, 16
_SPLIT = re.compile(r"[\s\[\](){}<>,;=\"'\\|/?&：]+|:(?!:)")
_VALUE = re.compile(
    r"[-+]?\d[\d.,:TZ+-]*[a-zA-Z%]{0,2}|(0x)?[0-9a-fA-F]{8,}|[0-9a-fA-F]{6,}(-[0-9a-fA-F]{3,})+"
    r"|(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*|(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
)


def words_of(text: str) -> list[str]:
    """Return the words of a line that may tell its kind, in order."""
    parts = _SPLIT.split(text[:_CHARACTERS])
    return [part for part in parts if part and not _VALUE.fullmatch(part)][:_WORDS]


@dataclass(frozen=True, slots=True)
class Kinds:
    """The words that are no values."""

    frequent: frozenset[str]

    @classmethod
    def learn(cls, texts: Iterable[str], least: int = 20) -> Kinds:
        """Learn from lines: a word belongs to a kind where at least ``least`` of them, and 1 in 2,000, have it."""
        counts: Counter[str] = Counter()
        lines = 0
        for text, times in Counter(text[:_CHARACTERS] for text in texts).items():
            for word in set(words_of(text)):
                counts[word] += times
            lines += times
        bound = max(min(least, lines // 10), lines / 2000)
        return cls(frozenset(word for word, count in counts.items() if count >= bound))

    def of(self, text: str) -> str:
        """Return the line's kind; lines of words never seen are one kind a first word."""
        words = words_of(text)
        kept = [word for word in words if word in self.frequent]
        return " ".join(kept) if kept else f"new: {words[0] if words else ''}"
