"""``python -m services.router``: the router as a process; settings from the environment (``ISTHMUS_*``).

It prints one line that starts with ``ready`` when it routes. SIGTERM and SIGINT stop it within seconds, exit code 0.
"""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import ExitStack
from threading import Event

from confluent_kafka import KafkaException

from resources.kafka import KafkaResource
from resources.settings import get_settings
from services.router.health import Health, serving
from services.router.metrics import Metrics
from services.router.service import run


def main() -> int:
    """Run the router; return the process's exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings, health = get_settings(), Health(Metrics())
    with ExitStack() as stack:
        try:
            address = stack.enter_context(serving(health, settings.router_port))
        except OSError as error:
            print(
                f"The router cannot serve its health on port {settings.router_port}: {error.strerror}. "
                "Set ISTHMUS_ROUTER_PORT to a free port.",
                file=sys.stderr,
            )
            return 1
        announced = Event()

        def announce() -> None:
            if not announced.is_set():  # each rebalance assigns anew
                announced.set()
                print(f"ready {address}", flush=True)

        # One short attempt: run() tries again by itself, and a stop must not wait for a broker that is not there.
        kafka = KafkaResource(attempts=1, timeout=5.0)
        try:
            run(kafka, health, settings.pii_secret(), stop, on_routing=announce)
        except KafkaException as error:
            # The name alone: the text may repeat a value, and that may be a password.
            name = error.args[0].name()
            print(f"librdkafka refuses its configuration ({name}): look at ISTHMUS_KAFKA_SECURITY.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
