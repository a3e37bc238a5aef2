"""``python -m services.embedded.warehouse --path DIR --port N``: serve until SIGTERM or SIGINT, then exit with 0."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from resources.settings import get_settings
from services.embedded.warehouse.request import User

if TYPE_CHECKING:
    from services.embedded.warehouse.app import WarehouseApp

# A stop that takes longer than this ends the process: what was acknowledged is on disk already.
_STOP_SECONDS = 20.0


class _Server(uvicorn.Server):
    """Says ``ready`` when it listens, cancels what runs on a signal, and exits with 0 (uvicorn would re-raise it)."""

    def __init__(self, config: uvicorn.Config, app: WarehouseApp) -> None:
        super().__init__(config)
        self._app = app
        self._expiry: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to :func:`main`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._expiry = asyncio.create_task(self._app.expire_sessions())
        if self.started:
            print(f"ready http://{self.config.host}:{self.config.port}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cancel queries first: uvicorn waits for their answers."""
        if self._expiry is not None:
            self._expiry.cancel()
        await self._app.stop()
        await super().shutdown(sockets)


def _parser() -> argparse.ArgumentParser:
    settings = get_settings()
    parser = argparse.ArgumentParser(prog="python -m services.embedded.warehouse", description=__doc__)
    parser.add_argument("--path", type=Path, default=settings.home / "warehouse", help="data directory")
    parser.add_argument("--port", type=int, default=settings.warehouse_port, help="port on 127.0.0.1")
    parser.add_argument("--slots", type=int, default=12, help="statements that run at once")
    parser.add_argument("--slot-wait", type=float, default=30.0, help="seconds that a statement waits for a slot")
    parser.add_argument("--memory-ratio", type=float, default=0.5, help="share of the memory that queries may take")
    parser.add_argument("--keep-free-mb", type=int, default=256, help="disk space that writes leave free")
    return parser


def _users() -> dict[str, User]:
    settings = get_settings()
    given = settings.warehouse_password
    password = given.get_secret_value() if given else settings.secret("warehouse-password")
    both = (
        User("isthmus", password, read_only=False),
        User("reader", settings.secret("reader-password"), read_only=True),
    )
    return {user.name: user for user in both}


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def main() -> int:
    """Run the server; return 0 after a signal, 2 where it cannot start, with the reason on stderr."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # The zone of a DateTime without one: a laptop's own must not change results. chDB reads it when it is loaded.
    os.environ["TZ"] = "UTC"
    from services.embedded.warehouse.app import WarehouseApp
    from services.embedded.warehouse.engine import DirectoryInUseError, Engine
    from services.embedded.warehouse.errors import EngineFault

    try:
        listener = _listen(arguments.port)
    except OSError as error:
        print(f"isthmus warehouse: cannot listen on 127.0.0.1:{arguments.port}: {error.strerror}", file=sys.stderr)
        return 2
    try:
        engine = Engine(
            arguments.path.resolve(), memory_ratio=arguments.memory_ratio, keep_free=arguments.keep_free_mb << 20
        )
    except DirectoryInUseError as error:
        print(f"isthmus warehouse: {error}", file=sys.stderr)
        return 2
    except (OSError, EngineFault) as error:
        print(f"isthmus warehouse: cannot start on {arguments.path}: {error}", file=sys.stderr)
        return 2
    app = WarehouseApp(engine, _users(), arguments.slots, arguments.slot_wait)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, app)

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True
        watchdog = threading.Timer(_STOP_SECONDS, os._exit, (0,))
        watchdog.daemon = True
        watchdog.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run([listener])
    app.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
