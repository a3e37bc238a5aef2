"""The schemas of a registry beside those of the catalogue: which of them an event is checked by.

What belongs here: how a record names its schema, and what is asked of its event. What does not: what is known of the
registry (:mod:`services.router.registry.source`), and compiling (:mod:`services.router.registry.schema`).

===================================== ========================================================================
a record                              is checked by
===================================== ========================================================================
with a schema id or GUID              the schema of that id; for a type of the catalogue by the catalogue's too
without, of a type of the catalogue   the catalogue; the registry is not asked
without, of another type              the latest version of the subject that is named as the type
===================================== ========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import orjson

from events.catalogue import TOPICS, TYPES
from events.compiled import CATALOGUE, Compiled, Headers, Schemas, compiled_types
from events.publication import publications
from events.refusals import ENVELOPE_URN, InvalidEvent, Reason, SchemaUnavailable
from events.schemas import urn
from resources.errors import ResourceError
from resources.settings import Settings
from services.router.registry.cache import RegistryCache
from services.router.registry.client import RegistryClient
from services.router.registry.schema import Usable
from services.router.registry.source import RegistrySource

HEADER: Final = "__value_schema_id"
"""Header that may name the schema, in place of five bytes before the value."""

_SUBJECT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_TOPIC_RETRY_SECONDS: Final = 5.0


class RegistrySchemas:
    """Schemas of the catalogue and of a registry; ``make_topic`` is called for each topic that a schema names."""

    def __init__(self, source: RegistrySource, *, make_topic: Callable[[str], object] = lambda _topic: None) -> None:
        self._source = source
        self._make_topic = make_topic
        self._topics = set(TOPICS)
        self._combined: dict[tuple[str, str, str | None], tuple[Usable, Compiled]] = {}

    def close(self) -> None:
        """Close what the source holds."""
        self._source.close()

    def compiled(self, document: Mapping[str, Any], value: bytes, headers: Headers | None) -> Compiled:
        """Return what an event is checked by; raises InvalidEvent, or SchemaUnavailable while nobody can say."""
        name = document.get("type")
        key = schema_key(value, headers)
        if key is None:
            if name in TYPES or not isinstance(name, str) or not _SUBJECT.fullmatch(name):
                return CATALOGUE.compiled(document, value, headers)
            key = f"type:{name}"
        elif not isinstance(name, str):
            return CATALOGUE.compiled(document, value, headers)  # which says what is wrong with the envelope
        usable = self._source.usable(key)
        said = document.get("dataschema") if name in TYPES else None
        place = (key, name, said if isinstance(said, str) else None)
        known = self._combined.get(place)
        # A subject's latest version may have been replaced since.
        if known is not None and known[0] is usable:
            return known[1]
        found = self._combine(usable, name, document)
        self._combined[place] = (usable, found)
        return found

    def _combine(self, usable: Usable, name: str, document: Mapping[str, Any]) -> Compiled:
        if name not in usable.types:
            raise InvalidEvent(
                Reason.UNUSABLE_SCHEMA,
                "the schema is not for events of this type",
                schema_path=usable.label,
                instance_path="/type",
            )
        if name not in TYPES:
            found = usable.alone(name)
            if found.topic is not None:
                self._ensure(found.topic)
            return found
        ours = _published().get(_canonical(usable.document))
        if ours is None:
            return usable.beside(CATALOGUE.compiled(document, b"", None))
        if document.get("dataschema", ours.dataschema) != ours.dataschema:
            raise InvalidEvent(
                Reason.UNKNOWN_VERSION,
                "dataschema names another version than the schema id",
                schema_path=ENVELOPE_URN,
                instance_path="/dataschema",
            )
        return ours

    def _ensure(self, topic: str) -> None:
        if topic in self._topics:
            return
        try:
            self._make_topic(topic)
        except ResourceError as error:
            raise SchemaUnavailable(f"topic {topic} cannot be made: {error}", _TOPIC_RETRY_SECONDS) from None
        self._topics.add(topic)


def schemas_of(settings: Settings, make_topic: Callable[[str], object]) -> Schemas:
    """Return the schemas that the settings name: the catalogue's, and those of a registry where there is one.

    Raises :class:`~services.router.registry.client.RegistryError` for settings that cannot be meant. The registry is
    not asked yet: it may be down.
    """
    if settings.schema_registry_url is None:
        return CATALOGUE
    client = RegistryClient.of(settings)
    cache = RegistryCache(settings.home / "router" / "schemas", client.url)
    return RegistrySchemas(RegistrySource(client, cache), make_topic=make_topic)


def schema_key(value: bytes, headers: Headers | None) -> str | None:
    """Return how a record names its schema, ``id:…`` or ``guid:…``; None where it does not.

    The header goes before the five bytes, as with Confluent's own clients. Raises InvalidEvent for a header of neither
    form; the bytes always have a form, and what they name need not exist.
    """
    for name, content in reversed(headers or ()):
        if name == HEADER:
            if content and content[0] == 0 and len(content) == 5:
                return f"id:{int.from_bytes(content[1:])}"
            if content and content[0] == 1 and len(content) == 17:
                digits = content[1:].hex()
                return "guid:" + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
            raise InvalidEvent(Reason.UNKNOWN_SCHEMA, f"the header {HEADER} holds neither a schema id nor a GUID")
    return f"id:{int.from_bytes(value[1:5])}" if value[:1] == b"\0" else None


@lru_cache(maxsize=1)
def _published() -> Mapping[bytes, Compiled]:
    """Return what is compiled already, by the document that we publish of it: an id of ours costs nothing more."""
    return {
        # Its id says the version, so no older one is tried.
        _canonical(one.document): replace(compiled_types()[urn(one.type, one.version)][one.type], older=())
        for one in publications()
        if one.type is not None
    }


def _canonical(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
