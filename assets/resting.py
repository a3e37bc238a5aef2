"""What a decision rests on, said on the asset that makes it: metadata that Dagster's UI shows and a test walks.

What belongs here: the form of the declaration. What does not: which checks these are (each asset says), and reading
their evaluations (``assets.decisions.evidence``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import dagster as dg

#: Kinds of decision that the asset makes, and the checks that these rest on.
DECIDES: Final = "isthmus/decides"
RESTS_ON: Final = "isthmus/rests_on"


def decides(*kinds: str, rests_on: Iterable[dg.AssetCheckKey], because: str = "") -> dict[str, Any]:
    """Return the metadata of an asset that makes decisions of ``kinds``; ``because`` says what else is looked at.

    Raises ValueError without a kind or without a check: what rests on nothing is no decision of this platform.
    """
    checks = sorted({_text(key) for key in rests_on})
    if not kinds or not checks:
        raise ValueError("an asset that decides names its kinds and at least one check that they rest on")
    words = {"isthmus/gate": because} if because else {}
    return {DECIDES: list(kinds), RESTS_ON: checks, **words}


def declared(metadata: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[dg.AssetCheckKey, ...]]:
    """Return what an asset's metadata declares: its kinds and the checks; both empty where it decides nothing."""
    kinds, checks = (_values(metadata.get(name)) for name in (DECIDES, RESTS_ON))
    return tuple(kinds), tuple(_key(text) for text in checks)


def _values(value: Any) -> list[str]:
    found = getattr(value, "value", value)  # Dagster wraps what it was given
    return [str(one) for one in found] if found else []


def _text(key: dg.AssetCheckKey) -> str:
    return f"{key.asset_key.to_user_string()}:{key.name}"


def _key(text: str) -> dg.AssetCheckKey:
    asset, _, name = text.rpartition(":")
    return dg.AssetCheckKey(dg.AssetKey(asset.split("/")), name)
