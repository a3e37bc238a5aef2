"""``python -m services.router``: the router as a process; settings from the environment (``ISTHMUS_*``).

It prints one line that starts with ``ready`` when it routes. SIGTERM and SIGINT stop it within seconds, exit code 0.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
from contextlib import ExitStack, closing
from threading import Event
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException, Producer

from events.compiled import Schemas
from resources.kafka import KafkaResource
from resources.settings import Settings, get_settings
from services.doors import listen
from services.logs import configure
from services.router.clients import Fenced
from services.router.health import Health
from services.router.ingest import Ingest, Limits
from services.router.ingest.sender import Sender
from services.router.metrics import Metrics
from services.router.registry import schemas_of
from services.router.registry.client import RegistryError
from services.router.service import run
from services.router.standstill import watch
from services.router.table import BadTable
from services.router.web import serving

if TYPE_CHECKING:
    from services.router.tracing import Tracing

log = logging.getLogger("isthmus.router")

SWITCH_SECONDS: Final = 0.0005
"""How long one thread may keep Python to itself while another waits; see ADR 36."""


_COLLECT_FROM: Final = 50_000


def _spare_the_loop() -> None:
    """Keep the garbage collector off what is there for good, and off records that are on their way.

    These are free of cycles and go by themselves; each batch of them would make the collector walk them, now and then
    together with every module that was ever imported, while events wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_FROM, 20, 20)


def main() -> int:
    """Run the router; return the process's exit code."""
    settings = get_settings()
    configure(settings.log_format)
    sys.setswitchinterval(SWITCH_SECONDS)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # One short attempt: run() tries again by itself, and a stop must not wait for a broker that is not there.
    kafka = KafkaResource(attempts=1, timeout=5.0)
    health = Health(Metrics())
    try:
        schemas = schemas_of(settings, lambda topic: kafka.ensure_topics([topic]))
    except RegistryError as error:
        print(str(error), file=sys.stderr)
        return 1
    try:
        listener = listen(settings.router_host, settings.router_port)
    except OSError as error:
        print(
            f"The router cannot listen at {settings.router_host}, port {settings.router_port}: {error.strerror}. "
            "Set ISTHMUS_ROUTER_PORT to a free port.",
            file=sys.stderr,
        )
        return 1
    try:
        with ExitStack() as stack:
            # Closed in the opposite order: requests in flight are answered before their producer goes.
            tracing = _tracing(settings, health)
            if tracing is not None:
                stack.callback(tracing.close)
            sender = stack.enter_context(closing(_sender(kafka, settings, health)))
            address = stack.enter_context(serving(health, listener, _ingest(sender, settings, health, stop, schemas)))
            watch(health)
            announced = Event()

            def announce() -> None:
                sender.open()
                if not announced.is_set():  # each rebalance assigns anew
                    announced.set()
                    _spare_the_loop()
                    print(f"ready {address}", flush=True)

            run(
                kafka,
                health,
                settings.pii_secret(),
                stop,
                schemas=schemas,
                table=settings.router_table,
                instance=settings.router_instance,
                transactional=settings.router_transactional,
                tracing=tracing,
                on_routing=announce,
            )
    except BadTable as error:
        print(f"The routing table (ISTHMUS_ROUTER_TABLE) cannot be used:\n{error}", file=sys.stderr)
        return 1
    except Fenced as error:
        print(
            f"Another router runs under the name {settings.router_instance!r} ({error}). "
            "Give each its own ISTHMUS_ROUTER_INSTANCE.",
            file=sys.stderr,
        )
        return 1
    except KafkaException as error:
        # The name alone: the text may repeat a value, and that may be a password.
        name = error.args[0].name()
        print(f"librdkafka refuses its configuration ({name}): look at ISTHMUS_KAFKA_SECURITY.", file=sys.stderr)
        return 1
    return 0


def _sender(kafka: KafkaResource, settings: Settings, health: Health) -> Sender:
    return Sender(
        lambda options: Producer({**kafka.config(), **options}),
        health.metrics.ingest,
        max_in_flight=settings.ingest_max_in_flight,
        timeout=settings.ingest_timeout_seconds,
    )


def _tracing(settings: Settings, health: Health) -> Tracing | None:
    if settings.otlp_endpoint is None:
        return None
    # Here, so that who does not trace does not pay for it: half a second and the memory.
    from services.router.tracing import Tracing, exporter

    headers = {name: value.get_secret_value() for name, value in settings.otlp_headers.items()}
    return Tracing(
        exporter(settings.otlp_endpoint, headers),
        health.metrics.spans,
        per_second=settings.traces_per_second,
        instance=settings.router_instance,
    )


def _ingest(sender: Sender, settings: Settings, health: Health, stop: Event, schemas: Schemas) -> Ingest:
    limits = Limits(settings.ingest_max_body_bytes, settings.ingest_max_events, settings.ingest_timeout_seconds)
    tokens = settings.ingest_secrets()
    log.info("events are taken by HTTP from %s", ", ".join(sorted(tokens)))
    return Ingest(sender, tokens, limits, health.metrics.ingest, stop.is_set, schemas=schemas)


if __name__ == "__main__":
    sys.exit(main())
