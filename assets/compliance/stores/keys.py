"""Redis: the keys that the platform writes.

What belongs here: looking through them. What does not: what they are for (``services.orchestrator``), which writes a
policy that is in force anew within seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from assets.compliance.stores import Item, Notes
from ml.privacy.matching import Found, Matcher
from resources.redis import RedisResource, typed
from resources.settings import Settings

OURS: Final = "isthmus:*"


@dataclass
class KeyStore:
    """Keys with the platform's prefix; others in the same database are not ours to look at."""

    settings: Settings
    name: str = "redis"
    foreign: str = ""
    absent: str = field(init=False)

    def __post_init__(self) -> None:
        self.absent = "" if self.settings.redis_url else "no Redis is configured"

    def items(self, matcher: Matcher) -> Iterator[Item]:
        """Yield the keys that mention the person, in name or value."""
        with typed(), RedisResource().client() as client:
            for key in client.scan_iter(match=OURS, count=1000):
                value = _value(client, key)
                found = matcher.find(f"{key}\n{value}")
                if found is not Found.NOTHING:
                    yield Item(key, value, found is Found.NEAR)

    def erase(self, matcher: Matcher, request_id: str) -> Notes:
        """Delete these keys; of a set only the members that mention the person."""
        chosen = [item.place for item in self.items(matcher) if not item.near]
        with typed(), RedisResource().client() as client:
            for key in chosen:
                if client.type(key) == "set" and matcher.find(key) is not Found.PERSON:
                    theirs = [one for one in client.sscan_iter(key) if matcher.find(str(one)) is Found.PERSON]
                    client.srem(key, *theirs)
                else:
                    client.delete(key)
        return Notes(
            "keys deleted; a snapshot or append-only file of the server holds them until it is written anew",
            {"keys": len(chosen)},
        )


def _value(client: Any, key: str) -> str:
    kind = client.type(key)
    if kind == "string":
        return str(client.get(key))
    if kind == "hash":
        return str(client.hgetall(key))
    if kind == "set":
        return str(client.smembers(key))
    if kind == "list":
        return str(client.lrange(key, 0, -1))
    if kind == "zset":
        return str(client.zrange(key, 0, -1))
    return str(client.xrange(key)) if kind == "stream" else ""
