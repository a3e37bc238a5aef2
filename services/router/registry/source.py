"""What is known of a registry's schemas, and when it is asked: the memory between the router and a registry.

What belongs here: what is kept and for how long, attempts after a failure, what is refused. What does not: which schema
an event is checked by (:mod:`services.router.registry`), requests (:mod:`services.router.registry.client`).

A key is ``id:<id>``, ``guid:<guid>`` or ``type:<subject>``. What the first two mean never changes, so a known one is
never asked for again, and is kept on disk. A subject's latest version is looked at anew in the background, and stays in
force while the registry does not answer. What the registry says it does not have is refused, and believed for a minute.
If it does not answer, the event waits: :class:`~events.validation.SchemaUnavailable`; attempts come ever more seldom.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import RLock
from typing import Final

from events.refusals import ENVELOPE_URN, InvalidEvent, Reason, SchemaUnavailable
from services.router.registry.cache import RegistryCache
from services.router.registry.client import NotThere, RegistryClient, RegistryError, Rejected, Stored, Unusable
from services.router.registry.schema import Usable, compile_stored

log = logging.getLogger("isthmus.router")

BELIEVED_SECONDS: Final = 60.0
"""How long it is believed that something does not exist, and that a subject's latest version is what it was."""
FIRST_DELAY: Final = 0.2
LONGEST_DELAY: Final = 30.0
MAX_REFUSED: Final = 10_000
"""Most ids and types that are remembered as refused: anybody can make them up."""
MAX_ID: Final = 2**31 - 1
"""Largest id that a registry gives."""


class RegistrySource:
    """A registry's schemas by key, compiled. Safe for several threads."""

    def __init__(
        self, client: RegistryClient, cache: RegistryCache, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._cache = cache
        self._clock = clock
        self._lock = RLock()
        self._stored: dict[str, Stored] = cache.load()
        self._usable: dict[str, Usable] = {}
        self._refused: dict[str, tuple[float, Reason, str]] = {}
        self._stale_from: dict[str, float] = {key: 0.0 for key in self._stored if key.startswith("type:")}
        self._delay = FIRST_DELAY
        self._silent_until = 0.0
        self._background = ThreadPoolExecutor(1, thread_name_prefix="registry")

    def close(self) -> None:
        """Stop what runs in the background and close the connections."""
        self._background.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def usable(self, key: str) -> Usable:
        """Return the schema of a key; raises InvalidEvent where it is refused, SchemaUnavailable where none can say."""
        found = self._usable.get(key)
        if found is None:
            with self._lock:
                found = self._usable.get(key) or self._made_usable(key)
        if self._stale_from.get(key, float("inf")) <= self._clock():
            self._stale_from[key] = self._clock() + BELIEVED_SECONDS
            self._background.submit(self._look_anew, key)
        return found

    def _made_usable(self, key: str) -> Usable:
        until, reason, detail = self._refused.get(key, (0.0, Reason.UNKNOWN_SCHEMA, ""))
        if self._clock() < until:
            raise _refusal(key, reason, detail)
        try:
            stored = self._stored.get(key) or self._asked(key)
            usable = compile_stored(stored, key)
        except NotThere:
            reason = Reason.UNKNOWN_TYPE if key.startswith("type:") else Reason.UNKNOWN_SCHEMA
            raise self._refuse(key, reason, "neither the catalogue nor the schema registry knows it") from None
        except Unusable as error:
            raise self._refuse(key, Reason.UNUSABLE_SCHEMA, str(error)) from None
        self._usable[key] = usable
        return usable

    def _refuse(self, key: str, reason: Reason, detail: str) -> InvalidEvent:
        while len(self._refused) >= MAX_REFUSED:
            self._refused.pop(next(iter(self._refused)))
        # The schema of an id is unusable for ever; all else may be mended.
        for_ever = reason is Reason.UNUSABLE_SCHEMA and not key.startswith("type:")
        self._refused[key] = (float("inf") if for_ever else self._clock() + BELIEVED_SECONDS, reason, detail)
        if not for_ever:
            self._stored.pop(key, None)
        return _refusal(key, reason, detail)

    def _asked(self, key: str) -> Stored:
        now = self._clock()
        if now < self._silent_until:
            raise SchemaUnavailable("the schema registry does not answer", self._silent_until - now)
        try:
            stored = self._fetch(key)
        except (NotThere, Unusable):
            self._delay = FIRST_DELAY
            raise
        except RegistryError as error:
            wait = self._delay * random.uniform(0.75, 1.25)  # noqa: S311 (so that routers do not ask in step)
            self._silent_until = self._clock() + wait
            self._delay = min(LONGEST_DELAY, self._delay * 2)
            log.warning("%s; next attempt in %.1f s", error, wait)
            raise SchemaUnavailable(str(error), wait) from None
        self._delay = FIRST_DELAY
        self._keep(key, stored)
        return stored

    def _fetch(self, key: str) -> Stored:
        kind, _, name = key.partition(":")
        try:
            if kind == "id":
                if int(name) > MAX_ID:
                    raise NotThere(key)
                return self._client.by_id(int(name))
            return self._client.by_guid(name) if kind == "guid" else self._client.latest(name)
        except Rejected:  # no such thing can be
            raise NotThere(key) from None

    def _keep(self, key: str, stored: Stored) -> None:
        self._stored[key] = stored
        if key.startswith("type:"):
            self._stale_from[key] = self._clock() + BELIEVED_SECONDS
        self._cache.save(self._stored)

    def _look_anew(self, key: str) -> None:
        """Ask for a subject's latest version; runs in the background, so that no event waits for it."""
        try:
            stored = self._fetch(key)
            usable = None if stored == self._stored.get(key) else compile_stored(stored, key)
        except NotThere:
            log.warning("%s is gone from the schema registry", key)
            with self._lock:
                for table in (self._usable, self._stored, self._stale_from):
                    table.pop(key, None)
            return
        except RegistryError as error:
            log.warning("%s: %s; what was known stays in force", key, error)
            return
        if usable is not None:
            with self._lock:
                self._usable[key] = usable
                self._keep(key, stored)
            log.info("%s: a new version of its schema is in force", key)


def _refusal(key: str, reason: Reason, detail: str) -> InvalidEvent:
    if reason is Reason.UNKNOWN_TYPE:
        return InvalidEvent(reason, detail, schema_path=ENVELOPE_URN, instance_path="/type")
    return InvalidEvent(reason, detail, schema_path=key)
