"""HTTP connections for code that runs in several event loops: a connection belongs to the loop it was opened in.

What belongs here: one client a loop. What does not: what is asked over it.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

import httpx


class Connections:
    """An ``httpx.AsyncClient`` for each loop, made at first use with ``options``."""

    def __init__(self, **options: Any) -> None:
        self._options = {"trust_env": False, **options}
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def here(self) -> httpx.AsyncClient:
        """Return the client of the running loop."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = httpx.AsyncClient(**self._options)
        return client

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
