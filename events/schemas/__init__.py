"""The schemas as files: ``<type>/<version>.json``, ``actions/<kind>.json``, and beside them ``../envelope.json`` and
``../upcasts/<type>/<version>.json``.

What belongs here: finding and reading a schema file. What does not: compiling (:mod:`events.validation`) and comparing
(:mod:`events.compatibility`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

Schema = dict[str, Any]

FOLDER = Path(__file__).parent
ENVELOPE = FOLDER.parent / "envelope.json"
UPCASTS = FOLDER.parent / "upcasts"


def urn(name: str, version: int) -> str:
    """Return the ``dataschema`` of a type's version: ``urn:isthmus:<type>:<version>``."""
    return f"urn:isthmus:{name}:{version}"


@lru_cache
def envelope() -> Schema:
    """Return the schema of the CloudEvents envelope; do not change it."""
    return _read(ENVELOPE)


@lru_cache
def schema(name: str, version: int) -> Schema:
    """Return the schema of a type's payload; do not change it. Raises FileNotFoundError where there is none."""
    return _read(FOLDER / name / f"{version}.json")


@lru_cache
def action_schema(kind: str) -> Schema:
    """Return the schema of ``action`` for a kind of decision; do not change it."""
    return _read(FOLDER / "actions" / f"{kind}.json")


@lru_cache
def upcast_steps(name: str, version: int) -> Schema:
    """Return the upcast of a type from ``version`` to the next; do not change it."""
    return _read(UPCASTS / name / f"{version}.json")


def _read(path: Path) -> Schema:
    document: Schema = orjson.loads(path.read_bytes())
    return document
