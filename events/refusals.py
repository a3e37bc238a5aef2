"""Refusals: why an event cannot be accepted, as a code for machines and a sentence for people.

What belongs here: the reasons, the exceptions that carry them, and how a validator's error becomes one. What does not:
deciding (:mod:`events.validation`), and where a refused event goes (``services/router``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

import jsonschema_rs

ENVELOPE_URN: Final = "urn:isthmus:envelope"
MAX_DETAIL: Final = 500
NAMELESS: Final = "(a name that is withheld)"
"""Stands for a field's name that is no identifier, or holds a long number: it may be personal data."""
_PLAIN: Final = re.compile(r"(?!.*\d{6})[A-Za-z0-9_$][A-Za-z0-9_$.-]{0,63}")


class Validator(Protocol):
    """What is needed of a validator: jsonschema-rs has it."""

    def is_valid(self, instance: Any) -> bool:
        """Return whether the event is accepted."""

    def iter_errors(self, instance: Any) -> Iterator[jsonschema_rs.ValidationError]:
        """Yield what is wrong with it; raises ValueError beyond some depth."""


class Reason(StrEnum):
    """Why an event is refused."""

    EMPTY = "empty"
    MALFORMED = "malformed-json"
    ENVELOPE = "invalid-envelope"
    UNKNOWN_TYPE = "unknown-type"
    UNKNOWN_VERSION = "unknown-version"
    UNKNOWN_SCHEMA = "unknown-schema"
    """Its schema id is not in the registry."""
    UNUSABLE_SCHEMA = "unusable-schema"
    """Its schema id names what cannot be used: no JSON Schema, a reference that leads outside, another type."""
    DATA = "invalid-data"
    UPCAST = "upcast-failed"
    """It is valid, and what its upcast makes of it is not."""
    TIME_AHEAD = "time-in-future"
    TIME_TOO_OLD = "time-before-1990"
    TOO_LARGE = "too-large"
    NO_ROUTE = "no-route"
    """It is valid, and nothing says which topic it goes to."""


class InvalidEvent(ValueError):
    """An event that cannot be accepted.

    ``detail`` is a sentence without any value of the event, nor a field's name that may be one; ``schema_path`` names
    the keyword that refused it, and ``instance_path`` the place in the event (both empty where no schema was reached).
    """

    def __init__(self, reason: Reason, detail: str, *, schema_path: str = "", instance_path: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
        self.schema_path = schema_path
        self.instance_path = instance_path


class SchemaUnavailable(Exception):
    """Whether an event can be accepted cannot be said now: its schema may exist, and cannot be fetched.

    Nothing is known against the event, so it must wait: try it again after ``retry_after`` seconds.
    """

    def __init__(self, detail: str, retry_after: float) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


def explained(validator: Validator, document: Mapping[str, Any], payload_urn: str) -> InvalidEvent:
    """Return why ``validator`` refuses ``document``; ``payload_urn`` names the schema of ``data``, empty for none."""
    try:
        error = next(validator.iter_errors(document))
    except ValueError:
        return too_deep()
    # The path as it was walked: it leads through each $ref.
    schema_path, instance_path = list(map(str, error.evaluation_path)), list(map(str, error.instance_path))
    in_data = schema_path[:2] == ["properties", "data"] and bool(payload_urn)
    schema_urn, path = (payload_urn, schema_path[2:]) if in_data else (ENVELOPE_URN, schema_path)
    message = error.message
    for name in _unspeakable(document, error.instance_path):
        message = message.replace(name, NAMELESS)
    instance_path = [part if _PLAIN.fullmatch(part) else NAMELESS for part in instance_path]
    place = "/" + "/".join(instance_path) if instance_path else ""
    return InvalidEvent(
        Reason.DATA if in_data else Reason.ENVELOPE,
        f"{place or 'the event'}: {message}"[:MAX_DETAIL],
        schema_path=f"{schema_urn}#/{'/'.join(path)}"[:MAX_DETAIL],
        instance_path=place[:MAX_DETAIL],
    )


def _unspeakable(document: Mapping[str, Any], path: Iterable[str | int]) -> list[str]:
    """Return the names at ``path`` that may be somebody's, longest first: a producer can use an address as a key."""
    node: Any = document
    try:
        for part in path:
            node = node[part]
    except (KeyError, IndexError, TypeError):  # the path leads to a name, not to its value
        pass
    names = node if isinstance(node, Mapping) else ()
    return sorted((name for name in names if name and not _PLAIN.fullmatch(name)), key=len, reverse=True)


def too_deep() -> InvalidEvent:
    """Return the refusal of an event for which a validator says whether it is valid, but not why, so deep it is."""
    return InvalidEvent(Reason.MALFORMED, "not valid, and nested too deeply for it to be said where")
