"""The service around the pump: topics first, then the pump, made anew as often as its clients fail.

What belongs here: start, restart, stop. What does not: the loop itself (:mod:`services.router.pump`).
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, Producer

from events.catalogue import DOMAIN_TOPICS
from events.compiled import CATALOGUE, Schemas
from resources.errors import KafkaError
from resources.kafka import KafkaResource
from services.router.clients import Clients, ClientsFailed, Fenced
from services.router.health import Health
from services.router.pump import Pump, Work
from services.router.tables import Tables
from services.router.transactions import TransactionalPump

if TYPE_CHECKING:
    from services.router.tracing import Tracing

log = logging.getLogger("isthmus.router")

FIRST_DELAY: Final = 0.2
LONGEST_DELAY: Final = 10.0
TWIN_SECONDS: Final = 60.0
"""Within which a router must be fenced twice to believe that another one has its name."""


def run(
    kafka: KafkaResource,
    health: Health,
    hash_key: bytes,
    stop: Event,
    *,
    schemas: Schemas = CATALOGUE,
    table: Path | None = None,
    instance: str = "",
    transactional: bool = False,
    tracing: Tracing | None = None,
    on_routing: Callable[[], None] = lambda: None,
    drain_seconds: float = 10.0,
) -> None:
    """Route until ``stop`` is set; whatever the broker does meanwhile, wait for it and go on at the last commit.

    ``table`` is the routing table's file, ``instance`` the router's name in its group. Raises what waiting would not
    mend: KafkaException where librdkafka does not take its configuration,
    :class:`~services.router.table.BadTable`, and :class:`~services.router.clients.Fenced` where another router runs
    under the same name: a broker that was killed may forget who joined last, and fence the only one there is, but it
    does not do so again and again.
    """
    # The librdkafka options hold what is needed to log in: they go to the clients and nowhere else.
    made: list[Any] = []

    def kept(client: Any) -> Any:
        made.append(client)
        return client

    clients = Clients(
        consumer=lambda options: kept(Consumer({**kafka.config(), **options})),
        producer=lambda options: kept(Producer({**kafka.config(), **options})),
        instance=instance,
    )
    tables = Tables(table, health.metrics, ensure_topics=kafka.ensure_topics)
    work = Work(tables, hash_key, schemas, tracing=tracing)
    pump = TransactionalPump if transactional else Pump
    delay = FIRST_DELAY
    commits = -1
    twin, fenced_at = "", -math.inf
    while not stop.is_set():
        try:
            kafka.ensure_topics(work.tables.current.topics)
            topics = [*DOMAIN_TOPICS, *work.tables.current.topics]
            clients = replace(clients, batch_bytes=min(kafka.message_limits(topics).values()))
            pump(clients, health, work, on_routing=on_routing).run(stop.is_set, drain_seconds=drain_seconds)
            return
        except (ClientsFailed, KafkaError) as error:
            # Progress is a commit: what is delivered and not committed comes again, and must not come ever faster.
            delay = FIRST_DELAY if health.metrics.commits > commits else min(LONGEST_DELAY, delay * 2)
            commits = health.metrics.commits
            health.state = "waiting for the broker"
            health.metrics.restarts += 1
            log.warning("begins anew in %.1f s: %s", delay, error)
        except Fenced as error:
            twin = str(error) if time.monotonic() - fenced_at < TWIN_SECONDS else ""
            fenced_at = time.monotonic()
            log.warning("another router has this one's name, or the broker has forgotten this one: %s", error)
        let_go(made)
        if twin:
            raise Fenced(twin)
        for _ in range(max(1, round(delay / 0.2))):
            health.turned()
            if stop.wait(0.2):
                break


def let_go(made: list[Any]) -> None:
    """Let go of clients that have failed, without waiting for them; ``made`` is empty afterwards.

    A client ends when its last reference goes, and ending waits for what the broker has not answered, the end of a
    transaction above all. So the last reference goes in a thread of its own. Callbacks tie what the clients hold into
    cycles, and the collector seldom looks by itself: it is called here, while the references below keep the clients.
    """
    left, made[:] = list(made), []
    gc.collect()
    Thread(target=left.clear, name="clients-end", daemon=True).start()
