"""The doors of our HTTP services: the socket that they listen on, and who may come in.

What belongs here: what every service with an HTTP side needs. What does not: routes, answers and limits of one service.
"""

from __future__ import annotations

import hmac
import socket
from collections.abc import Mapping
from hashlib import sha256


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises OSError where the port is taken or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


def bearer(authorization: str) -> str:
    """Return the token of an ``Authorization`` header; empty where it holds none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class Tokens:
    """Those who may come in, name → token; only digests are kept."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._digests = [sha256(token.encode()).digest() for token in tokens.values()]

    def know(self, token: str) -> bool:
        """Return whether ``token`` is one of them."""
        given = sha256(token.encode()).digest()
        # Each is compared, and in constant time, so that the answer's delay tells nothing.
        return bool(sum([hmac.compare_digest(given, digest) for digest in self._digests]))
