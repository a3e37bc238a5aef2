"""What launcher and pool say to each other: one JSON object a line over a Unix socket, a request and its reply.

What belongs here: the socket's place, framing and errors. What does not: what a request does (``pool``).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

#: A Unix socket's path holds 107 bytes; a deep DAGSTER_HOME would not fit, so the socket lives in a short folder.
_FOLDER = Path(tempfile.gettempdir()) / f"isthmus-{os.getuid()}"


class PoolUnavailable(ConnectionError):
    """Nothing answers at the pool's socket."""


class PoolBusy(PoolUnavailable):
    """A pool holds the socket but has not answered yet: it is starting, or starting anew."""


def socket_path(home: str) -> Path:
    """Return the socket of the pool that serves the Dagster instance in ``home``; its folder is this user's alone."""
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    info = _FOLDER.stat()
    if info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise PermissionError(f"{_FOLDER} must belong to this user and be closed to others (chmod 700)")
    return _FOLDER / f"pool-{hashlib.sha256(os.path.realpath(home).encode()).hexdigest()[:16]}.sock"


def read_message(connection: socket.socket) -> dict[str, Any]:
    """Read one message; raise PoolUnavailable where the peer closed before its end."""
    parts = []
    while True:
        part = connection.recv(1 << 16)
        if not part:
            raise PoolUnavailable("the connection ended before the message did")
        parts.append(part)
        if part.endswith(b"\n"):
            message: dict[str, Any] = json.loads(b"".join(parts))
            return message


def write_message(connection: socket.socket, message: dict[str, Any]) -> None:
    """Write one message."""
    connection.sendall(json.dumps(message).encode() + b"\n")


def ask(path: Path, message: dict[str, Any], timeout: float = 10.0) -> dict[str, Any]:
    """Send a message to the pool at ``path`` and return its reply.

    Raises:
        PoolBusy: a pool is there, and did not answer within ``timeout`` seconds.
        PoolUnavailable: nothing listens there, or it went away before it answered.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            write_message(connection, message)
            return read_message(connection)
        except TimeoutError as error:
            raise PoolBusy(f"the run pool at {path} is not ready yet") from error
        except OSError as error:
            raise PoolUnavailable(f"the run pool at {path} does not answer: {error}") from error
