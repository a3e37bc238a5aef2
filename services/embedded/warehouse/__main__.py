"""``python -m services.embedded.warehouse --path DIR --port N``: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

from resources.settings import get_settings
from services.embedded.warehouse.config import write_configuration


class _Server(uvicorn.Server):
    """Says ``ready`` when it listens, and exits with 0 on a signal (uvicorn would raise it again)."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            print(f"ready http://{self.config.host}:{self.config.port}", flush=True)


def main() -> int:
    """Run the server and return its exit code."""
    settings = get_settings()
    parser = argparse.ArgumentParser(prog="python -m services.embedded.warehouse", description=__doc__)
    parser.add_argument("--path", type=Path, default=settings.home / "warehouse", help="data directory")
    parser.add_argument("--port", type=int, default=settings.warehouse_port)
    parser.add_argument("--slots", type=int, default=12, help="statements that run at once")
    parser.add_argument("--memory-ratio", type=float, default=0.5, help="share of the machine's memory")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # The engine's default for DateTime without a zone; a laptop's own zone must not change results.
    os.environ["TZ"] = "UTC"
    from services.embedded.warehouse.app import WarehouseApp
    from services.embedded.warehouse.engine import Engine
    from services.embedded.warehouse.request import User

    password = os.environ.get("ISTHMUS_WAREHOUSE_PASSWORD") or settings.secret("warehouse-password")
    users = {
        user.name: user
        for user in (
            User("isthmus", password, read_only=False),
            User("reader", settings.secret("reader-password"), read_only=True),
        )
    }
    path: Path = arguments.path.resolve()
    path.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="isthmus-warehouse-") as folder:
        engine = Engine(path, write_configuration(Path(folder), memory_ratio=arguments.memory_ratio))
        stop = threading.Event()

        def expire() -> None:
            while not stop.wait(5):
                engine.expire_sessions()

        threading.Thread(target=expire, name="sessions", daemon=True).start()
        config = uvicorn.Config(
            WarehouseApp(engine, users, arguments.slots),
            host="127.0.0.1",
            port=arguments.port,
            loop="uvloop",
            http="httptools",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
        )
        server = _Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        server.run()
        stop.set()
    return 0


if __name__ == "__main__":
    sys.exit(main())
