"""Publishing the catalogue's schemas at a registry: each is there afterwards, or it is said why not.

What belongs here: the order of requests, and their outcome. What does not: what is published
(:mod:`events.publication`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from events.publication import publications
from services.router.registry.client import RegistryClient, Rejected

Outcome = Literal["unchanged", "registered", "would register", "incompatible", "refused"]
FAILED: tuple[Outcome, ...] = ("incompatible", "refused")


@dataclass(frozen=True, slots=True)
class Published:
    """What became of one schema; ``id`` is None where it is not registered."""

    subject: str
    outcome: Outcome
    id: int | None = None
    detail: str = ""


def publish(
    client: RegistryClient, *, check_only: bool = False, compatibility: str = "BACKWARD"
) -> Iterator[Published]:
    """Register what is not registered yet, and yield what became of each schema; done twice it changes nothing.

    A new subject is told to stay ``compatibility``, so that the registry holds everybody to it. ``check_only``
    registers nothing. Raises :class:`~services.router.registry.client.RegistryError` without an answer.
    """
    versions: dict[str, int] = {}
    for one in publications():
        if any(subject not in versions for subject in one.references.values()):
            # Nothing can be asked about what refers to a schema that is not there.
            outcome: Outcome = "would register" if check_only else "refused"
            yield Published(one.subject, outcome, detail="refers to one that is not registered")
            continue
        body: dict[str, Any] = {"schema": one.text, "schemaType": "JSON"}
        if one.references:
            body["references"] = [
                {"name": uri, "subject": subject, "version": versions[subject]}
                for uri, subject in one.references.items()
            ]
        done = _one(client, one.subject, body, check_only, compatibility)
        if done.id is not None and (found := client.find(one.subject, body)) is not None:
            versions[one.subject] = found[1]
        yield done


def _one(client: RegistryClient, subject: str, body: dict[str, Any], check_only: bool, compatibility: str) -> Published:
    try:
        if (found := client.find(subject, body)) is not None:
            return Published(subject, "unchanged", found[0])
        is_new = not client.exists(subject)
        if not is_new and (objections := client.objections(subject, body)):
            return Published(subject, "incompatible", detail="; ".join(objections)[:1000])
        detail = "a new subject" if is_new else "compatible with the latest version"
        if check_only:
            return Published(subject, "would register", detail=detail)
        number = client.register(subject, body)
        if is_new:
            client.require(subject, compatibility)
        return Published(subject, "registered", number, detail)
    except Rejected as error:
        return Published(subject, "refused", detail=str(error)[:1000])
