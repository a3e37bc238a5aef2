"""What a registry told, kept on disk: a router that starts while the registry is down still knows its schemas.

What belongs here: the file. What does not: when it is read and written (:mod:`services.router.registry`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import orjson

from services.router.registry.client import Stored

log = logging.getLogger("isthmus.router")

MAX_BYTES: Final = 32_000_000
"""The file grows no further: what was heard last is left out first."""


class RegistryCache:
    """Schemas by key, of one registry; a damaged file is an empty one."""

    def __init__(self, folder: Path, url: str) -> None:
        self._url = url
        # By registry: the ids of another one mean other schemas.
        self._path = folder / f"{sha256(url.encode()).hexdigest()[:16]}.json"

    def load(self) -> dict[str, Stored]:
        """Return what was kept."""
        try:
            content = orjson.loads(self._path.read_bytes())
            if content["url"] != self._url:
                return {}
            return {key: _stored(entry) for key, entry in content["schemas"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("the cache of the schema registry cannot be read (%s); it begins anew", type(error).__name__)
            return {}

    def save(self, schemas: Mapping[str, Stored]) -> None:
        """Keep these schemas; where the disk does not take them, the router goes on without."""
        kept: dict[str, Any] = {}
        size = 0
        for key, stored in schemas.items():
            size += len(stored.text) + sum(map(len, stored.references.values()))
            if size > MAX_BYTES:
                break
            kept[key] = asdict(stored)
        draft = self._path.with_name(f".{self._path.name}-{token_hex(4)}")
        try:
            draft.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_bytes(orjson.dumps({"url": self._url, "schemas": kept}))
            os.replace(draft, self._path)
        except OSError as error:
            log.warning("the cache of the schema registry cannot be written: %s", error.strerror)
            draft.unlink(missing_ok=True)


def _stored(entry: Any) -> Stored:
    references, subjects = dict(entry["references"]), dict(entry["subjects"])
    texts = [entry["text"], *references, *references.values(), *subjects]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    return Stored(entry["text"], references, {name: int(version) for name, version in subjects.items()}, entry["id"])
