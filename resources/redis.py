"""Redis, as a Dagster resource that works without Dagster too.

What belongs here: the client, and its errors as ours. What does not: which keys there are.

The client comes with the extra ``sources``; it is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from resources.errors import RedisError, RedisUnavailable
from resources.settings import get_settings

if TYPE_CHECKING:
    import redis


class RedisResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Redis, or what speaks its protocol: one server, not a cluster."""

    url: str = Field(default="", description="URL, with user and password where there are any; empty: the settings'.")
    timeout: float = Field(default=2.0, description="Seconds to wait for a connection, or for an answer.")

    def client(self) -> redis.Redis:
        """Return a new client, the caller's own to close; it connects at its first command.

        Raises :class:`RedisError` where no server is configured, its URL is none, or the library is missing.
        """
        url = self.url or get_settings().redis_dsn()
        if url is None:
            raise RedisError("no Redis is configured: set ISTHMUS_REDIS_URL")
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise RedisError("the Redis client is not installed: install isthmus[sources]") from None
        try:
            return redis.Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=self.timeout,
                socket_connect_timeout=self.timeout,
                # One short attempt: who calls tries again by itself.
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:
            # Its text may hold the URL, and so a password.
            raise RedisError("ISTHMUS_REDIS_URL is not a Redis URL (redis://host:port/0)") from None


@contextmanager
def typed() -> Iterator[None]:
    """Turn the library's errors into ours; their texts, which may hold an address, are left out."""
    import redis

    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise RedisUnavailable(type(error).__name__) from None
    except redis.RedisError as error:
        raise RedisError(type(error).__name__) from None
