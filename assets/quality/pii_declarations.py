"""What is declared of personal data: ``pii.yml``, and the field rules of the event schemas.

What belongs here: reading and checking declarations. What does not: what a declaration means (``ml.pii.inventory``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, get_args

from events.catalogue import TYPES
from events.compiled import resolve
from events.fields import EACH, compile_rules
from events.schemas import schema
from ml.pii.inventory import Declaration
from ml.pii.redaction import Action

FILE: Final = Path(__file__).with_name("pii.yml")
#: Where events land, as the inventory names it; the path of a payload's field follows.
LANDED: Final = "raw.events.value"
_KEYS: Final = {"column", "entities", "owner", "lawful_basis", "retention", "action", "because"}
_REQUIRED: Final = ("column", "entities", "owner", "lawful_basis", "retention")


class DeclarationError(ValueError):
    """A declaration that cannot be used; the text names the file and the place."""


@lru_cache
def declarations(path: Path = FILE) -> tuple[Declaration, ...]:
    """Return all declarations, a person's first. Raises :class:`DeclarationError` for a file that is not one."""
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(path.read_text()) or {}
        entries = content.get("declarations") or []
        return (*(_declaration(entry, number) for number, entry in enumerate(entries, 1)), *_of_schemas())
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise DeclarationError(f"{path.name}: {error}") from error


def _declaration(entry: Mapping[str, Any], number: int) -> Declaration:
    if unknown := set(entry) - _KEYS:
        raise ValueError(f"entry {number} has unknown keys {sorted(unknown)}")
    if missing := [name for name in _REQUIRED if not entry.get(name)]:
        raise ValueError(f"entry {number} says nothing of {', '.join(missing)}")
    if entry.get("action") not in {None, *get_args(Action)}:
        raise ValueError(f"entry {number}: action is one of {', '.join(get_args(Action))}")
    return Declaration(**{**entry, "entities": tuple(entry["entities"])})


def _of_schemas() -> list[Declaration]:
    """Return a declaration for each field that a schema marks with ``x-pii``, of every version."""
    found: dict[str, Declaration] = {}
    for name, kind in TYPES.items():
        for version in kind.versions:
            for rule in compile_rules(schema(name, version), resolve):
                path = "".join("[]" if part == EACH else f".{part}" for part in rule.path)
                column = f"{LANDED}$.data{path}"
                found[column] = Declaration(
                    column,
                    ("*",),
                    "team:platform",
                    "contract (Article 6 (1) b)",
                    "400 days",
                    rule.rule,
                    f"x-pii of {name}",
                )
    return list(found.values())
