"""``python -m tests.integration.compliance.killed REQUEST CALL N``: carry a request out, killed before the Nth call."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from assets.compliance import processing
from assets.compliance.requests import requests, ring
from assets.compliance.stores import bus, stores
from resources.kafka import KafkaResource
from resources.settings import get_settings
from resources.warehouse import WarehouseResource

PLACES: dict[str, tuple[Any, str]] = {
    "command": (WarehouseResource, "command"),
    "insert": (WarehouseResource, "insert_rows"),
    "remove": (bus, "remove_before"),
    "behind": (bus, "write_behind"),
    "settle": (processing, "_settle"),
    "state": (processing, "set_state"),
}


def main() -> None:
    number, name, nth = sys.argv[1], sys.argv[2], int(sys.argv[3])
    owner, attribute = PLACES[name]
    real, calls = getattr(owner, attribute), 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(owner, attribute, counted)
    settings, warehouse = get_settings(), WarehouseResource()
    (request,) = [one for one in requests(warehouse) if one.id == number]
    processing.process(
        warehouse, stores(settings, warehouse, KafkaResource()), ring(settings), request, run_id="killed"
    )


if __name__ == "__main__":
    main()
