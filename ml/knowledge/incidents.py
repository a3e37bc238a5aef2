"""A failing saga's facts as a question, and the past incidents and the runbook that answer it.

What belongs here: which facts are asked for, and in which words. What does not: where the facts, the incidents and the
runbooks come from (a caller brings them), and ranking (``index``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ml.knowledge.index import Answer, Hit, Index

#: Below this probability a hit is not shown as an answer.
FITS = 0.5

# What names one occurrence and no kind of fault: ids, addresses, hashes, times, amounts. Also keeps them out of logs.
_OCCURRENCE = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b"  # UUID
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"  # address
    r"|\b\d{4}-\d\d-\d\d(?:[T ][\d:.]+Z?)?\b"  # time
    r"|\b(?=\w*\d)[0-9a-f]{8,}\b"  # hash
    r"|(?<![\w.-])[\w.-]*-\d[\w.-]*"  # order-4711, inventory-7d9c
    r"|(?<![\w.])\d{4,}(?![\w.])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class FailingSaga:
    """What is known of a saga that fails or is likely to.

    ``error`` is the text of the last failed attempt; ``signals`` are alerts that fire or figures that stand out, by
    name (`IsthmusRouterLag`) or in words.
    """

    saga_type: str
    step: str
    participant: str
    error: str = ""
    signals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the past says: similar incidents, and the runbook to follow where one fits."""

    question: str
    incidents: Answer
    runbooks: Answer

    @property
    def runbook(self) -> Hit | None:
        """Return the runbook that fits, or None: nothing fitting was found."""
        return self.runbooks.best(at_least=FITS)

    @property
    def incident(self) -> Hit | None:
        """Return the past incident that fits, or None: nothing fitting was found."""
        return self.incidents.best(at_least=FITS)


def question(saga: FailingSaga) -> str:
    """Return the facts as a question. Ids, addresses and times are left out: they name an occurrence, not a fault."""
    parts = [saga.error, *saga.signals, f"{saga.participant} {saga.step}"]
    return ". ".join(text for part in parts if (text := _OCCURRENCE.sub(" ", part).strip(" .:")))


def explain(saga: FailingSaga, *, incidents: Index, runbooks: Index, limit: int = 3) -> Explanation:
    """Return the past incidents and the runbooks that fit a failing saga best, each with its reasons."""
    asked = question(saga)
    return Explanation(asked, incidents.search(asked, limit=limit), runbooks.search(asked, limit=limit))
