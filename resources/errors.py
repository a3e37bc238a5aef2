"""The errors of every connection, permanent apart from retryable, and the one bounded retry that all of them share.

What belongs here: the taxonomy and the retry loop. What does not: any client library; each connection's module maps
its client's errors onto these.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class ResourceError(Exception):
    """A connection refused for good: the same call fails again however often it is repeated."""


class Unavailable(ResourceError):
    """A connection is not there now: the same call may succeed later.

    ``sent`` is False where the request certainly never reached the other side, so that repeating it is safe even for
    a call that is not idempotent.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class WarehouseError(ResourceError):
    """The warehouse refused a statement; ``code`` is ClickHouse's own error code, None where it gave none."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class WarehouseUnavailable(WarehouseError, Unavailable):
    """The warehouse cannot be reached or is overloaded, out of memory or out of disk: try again later."""

    def __init__(self, message: str, code: int | None = None, *, sent: bool = True) -> None:
        WarehouseError.__init__(self, message, code)
        self.sent = sent


class KafkaError(ResourceError):
    """The broker refused a request for good."""


class KafkaUnavailable(KafkaError, Unavailable):
    """The broker cannot be reached, or did not answer in time."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        Unavailable.__init__(self, message, sent=sent)


class RedisError(ResourceError):
    """Redis refused a command, or cannot be used as it is configured."""


class RedisUnavailable(RedisError, Unavailable):
    """Redis cannot be reached, or did not answer in time."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        Unavailable.__init__(self, message, sent=sent)


class SourceError(ResourceError):
    """An operational source refused a request, or cannot be used as it is configured."""


class SourceUnavailable(SourceError, Unavailable):
    """An operational source cannot be reached, or the connection was lost."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        Unavailable.__init__(self, message, sent=sent)


class RangeGone(KafkaError):
    """Offsets that were asked for are not on the broker any more: aged out, or the topic was made anew."""


def retrying(
    call: Callable[[], T],
    *,
    attempts: int,
    idempotent: bool = True,
    first_delay: float = 0.1,
    longest_delay: float = 3.0,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return ``call()``, repeated at most ``attempts`` times while it raises :class:`Unavailable`.

    The delay (seconds) doubles from ``first_delay`` up to ``longest_delay``, with jitter so that clients which lost a
    server together do not come back together. A call that is not idempotent is repeated only where the request never
    left. Any other error, and the last :class:`Unavailable`, goes to the caller.
    """
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except Unavailable as error:
            if attempt == attempts or (error.sent and not idempotent):
                raise
            delay = min(longest_delay, first_delay * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 (jitter, no secret)
            log.warning("attempt %d of %d failed (%s); again in %.1f s", attempt, attempts, error, delay)
            sleep(delay)
    raise AssertionError("unreachable: the last attempt returns or raises")
