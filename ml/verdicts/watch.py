"""From the rows that broke checks to p-values of alarms: how likely good rows break each check so often.

What belongs here: p-values of one table's checks in one batch. What does not: which of them are alarms
(``ml.monitors.rounds``), the checks (``rulebook``).
"""

from __future__ import annotations

from ml.monitors.rounds import combined, count_p
from ml.verdicts.rulebook import Rulebook
from ml.verdicts.types import Judged

#: Kinds of checks that are one check a table: they are about several columns at once.
TOGETHER = frozenset({"together", "implied", "numbers"})


def p_values(book: Rulebook, judged: Judged) -> dict[str, float]:
    """Return the p-value of each check of a table's batch, without those where one row is enough (``judged.hard``)."""
    found = {}
    for check, looked in judged.looked.items():
        if check in judged.hard or check in book.muted:
            continue
        rate, most = book.rates.get(check, 1e-5), book.most.get(check, 0)
        found[check] = count_p(judged.broken[check], looked, rate, most, book.clumps.get(check, 0.0))
    return combined(found, TOGETHER)
