"""Persons who were erased, known again: what lands, is copied or repaired asks here first.

What belongs here: the list as a guard, for every capability that brings data in. What does not: how a value is compared
(``ml.privacy.guard``), and who is put on the list (``assets.compliance``).
"""

from __future__ import annotations

from typing import Final

from ml.privacy.guard import Guard
from resources.settings import Settings
from resources.warehouse import Warehouse

ERASED: Final = "ops.erased_subjects"


def guard(warehouse: Warehouse, settings: Settings) -> Guard:
    """Return what knows erased persons again; false where nobody was erased."""
    rows = warehouse.query_rows(f"SELECT DISTINCT hash, words FROM {ERASED}")  # noqa: S608 (a constant)
    if not rows:
        return Guard((), ())
    keys = (settings.pii_secret(), *settings.pii_secrets_previous())
    return Guard([(row["hash"], row["words"]) for row in rows], keys)
