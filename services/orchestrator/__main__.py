"""``python -m services.orchestrator``: the advice service as a process; settings from the environment (``ISTHMUS_*``).

It prints one line that starts with ``ready`` when it answers. SIGTERM and SIGINT stop it; requests in flight are
answered first.
"""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from typing import Final

import uvicorn

from resources.decisions import DecisionStore
from resources.errors import RedisError
from resources.kafka import KafkaResource
from resources.redis import RedisResource
from resources.registry import RegistryResource
from resources.settings import Settings, get_settings
from resources.warehouse import WarehouseResource
from services.doors import listen
from services.logs import configure
from services.orchestrator.keys import PolicyKeys
from services.orchestrator.live import Live
from services.orchestrator.past import Past
from services.orchestrator.standing import Keeper
from services.orchestrator.stream import Stream
from services.orchestrator.web import application

SWITCH_SECONDS: Final = 0.0005
"""How long the stream's thread may keep Python to itself while a question waits; see ADR 36."""


class _Server(uvicorn.Server):
    """Says when it serves."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            print(f"ready http://{host}:{port}", flush=True)


def main() -> int:
    """Run the service; return the process's exit code."""
    settings = get_settings()
    configure(settings.log_format)
    sys.setswitchinterval(SWITCH_SECONDS)
    host, port = settings.orchestrator_host, settings.orchestrator_port
    try:
        listener = listen(host, port)
    except OSError as error:
        print(
            f"The advice service cannot listen at {host}, port {port}: {error.strerror}. "
            "Set ISTHMUS_ORCHESTRATOR_PORT to a free port.",
            file=sys.stderr,
        )
        return 1
    # One short attempt: it asks again by itself, and a stop must not wait for a store that is not there.
    warehouse = WarehouseResource(attempts=1)
    keeper = Keeper(warehouse, DecisionStore(warehouse), RegistryResource(), seconds=settings.advice_refresh_seconds)
    try:
        live = _live(keeper, settings)
    except RedisError as error:
        print(f"The advice service cannot write to Redis: {error}.", file=sys.stderr)
        return 1
    paths = settings.knowledge_paths
    past = Past(warehouse, paths.get("runbooks", []), paths.get("incidents", []))
    config = uvicorn.Config(
        application(keeper, settings.advice_secrets(), live, past, most_waiting=settings.advice_max_waiting),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    with closing(keeper), listener:
        keeper.start()
        with live, past:
            _Server(config).run([listener])
    return 0


def _live(keeper: Keeper, settings: Settings) -> Live:
    stream, keys = None, None
    if settings.advice_stream:
        # One short attempt: the stream tries again by itself.
        stream = Stream(
            KafkaResource(attempts=1, timeout=5.0),
            keeper,
            most_sagas=settings.advice_sagas,
            read_back=settings.advice_read_back,
            instance=settings.advice_instance,
        )
    if settings.redis_url is not None:
        keys = PolicyKeys(RedisResource(), keeper, seconds=settings.advice_refresh_seconds)
    return Live(stream, keys)


if __name__ == "__main__":
    sys.exit(main())
