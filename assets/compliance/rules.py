"""Rules of erasure: which tables lose values instead of rows, and what the law wants kept.

What belongs here: reading ``erasure.yml`` and the installation's own file. What does not: erasing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, Field, ValidationError

from resources.errors import ResourceError
from resources.settings import get_settings

OWN = Path(__file__).with_name("erasure.yml")


class RulesError(ResourceError):
    """The rules cannot be read; the message says where."""


class Kept(BaseModel):
    """A table that keeps its rows though a person asks: why, and until when."""

    model_config = {"extra": "forbid"}

    basis: Annotated[str, Field(min_length=10, description="The law that wants it, as a proof quotes it.")]
    until: Annotated[str, Field(min_length=1, description="How long.")]


class Rules(BaseModel):
    """What erasure does apart from deleting."""

    model_config = {"extra": "forbid"}

    redact: list[str] = Field(default_factory=list, description="Warehouse tables whose rows stay without the values.")
    kept: dict[str, Kept] = Field(
        default_factory=dict, description="Table (`marts.invoices`, or `source/schema.table`) → duty to keep."
    )


@lru_cache
def rules() -> Rules:
    """Return the rules: the platform's, and those of ``ISTHMUS_ERASURE_RULES`` beside them."""
    own = _read(OWN)
    path = get_settings().erasure_rules
    more = _read(path) if path else Rules()
    return Rules(redact=[*own.redact, *more.redact], kept={**own.kept, **more.kept})


def _read(path: Path) -> Rules:
    try:
        given: Mapping[str, object] = yaml.safe_load(path.read_text()) or {}
        return Rules.model_validate(given)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise RulesError(f"the rules of erasure in {path} cannot be read: {error}") from None
