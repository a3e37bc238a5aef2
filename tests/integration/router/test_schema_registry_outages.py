"""A schema registry that does not answer, or has something new: who waits, and what stays in force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from events.codec import encode
from events.refusals import SchemaUnavailable
from services.router.registry.source import BELIEVED_SECONDS, LONGEST_DELAY
from tests.integration.router import registry_server as server
from tests.integration.router.registry_server import serving
from tests.integration.router.registry_world import NOW, ORDER, STEP, World, framed, order, order_schema

pytestmark = pytest.mark.embedded

# No answer


FAULTS: dict[str, Callable[[Any], None]] = {
    "500": server.status(500, b'{"error_code":50001,"message":"store"}', server.CONTENT),
    "503 of a proxy": server.status(503, b"<html>"),
    "429": server.status(429),
    "401": server.status(401, b'{"error_code":40101,"message":"no"}', server.CONTENT),
    "403": server.status(403),
    "404 of a proxy": server.status(404, b"<html>nothing here"),
    "404 in JSON, not of a registry": server.status(404, b'{"detail":"Not Found"}', "application/json"),
    "301": server.status(301),
    "a page": server.status(200, b"<html>welcome", "text/html"),
    "another object": server.status(200, b'{"hello":1}', "application/json"),
    "an array": server.status(200, b"[]", "application/json"),
    "schema of another type": server.status(200, b'{"schema":5,"schemaType":"JSON"}', server.CONTENT),
    "no references": server.status(200, b'{"schema":"{}","schemaType":"JSON","references":[3]}', server.CONTENT),
    "not JSON": server.status(200, b"{", server.CONTENT),
    "no content": server.status(204),
    "hanging up": server.hanging_up,
    "slow": server.slow(0.6),
    "dripping": server.dripping,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_without_an_answer_an_event_waits_and_is_routed_once_there_is_one(world: World, fault: str) -> None:
    number = world.registry.add(ORDER, order_schema())
    world.registry.fault = FAULTS[fault]
    if fault in ("slow", "dripping"):
        world.restart(read_seconds=0.3)
    for value in (framed(number, order()), order()):
        with pytest.raises(SchemaUnavailable) as caught:
            world.fate(value)
        assert caught.value.retry_after > 0
        world.clock.now += LONGEST_DELAY * 2
    world.registry.fault = None
    if fault in ("slow", "dripping"):
        world.restart()
    assert world.routed(framed(number, order())).topic == "acme.orders"
    assert world.routed(order()).topic == "acme.orders"


def test_attempts_come_ever_more_seldom_and_none_is_made_meanwhile(world: World) -> None:
    number = world.registry.add(ORDER, order_schema())
    world.registry.fault = server.status(500)
    waits = []
    for attempt in range(1, 11):
        for _ in range(3):
            with pytest.raises(SchemaUnavailable) as caught:
                world.fate(framed(number, order()))
        assert world.asked(f"/schemas/ids/{number}") == attempt
        waits.append(caught.value.retry_after)
        world.clock.now += caught.value.retry_after
    assert waits[-1] > 10 * waits[0]
    assert max(waits) <= LONGEST_DELAY * 1.25


def test_with_the_registry_down_known_schemas_go_on_and_after_a_restart_too(world: World) -> None:
    number = world.registry.add(ORDER, order_schema())
    world.routed(framed(number, order()))
    world.routed(order())
    world.registry.stop()
    for _ in range(2):
        assert world.routed(framed(number, order())).topic == "acme.orders"
        assert world.routed(order()).topic == "acme.orders"
        with pytest.raises(SchemaUnavailable):
            world.fate(framed(number + 1, order()))
        world.schemas.close()
        world.restart()
    step = encode("isthmus.saga.step", STEP, subject="s", source="/t", time=NOW)
    assert world.routed(step).value == step


def test_with_the_registry_down_from_the_start_the_catalogue_works(tmp_path: Path) -> None:
    with serving() as registry:
        pass
    made = World(registry, tmp_path / "cache")
    step = encode("isthmus.saga.step", STEP, subject="s", source="/t", time=NOW)
    assert made.routed(step).value == step
    with pytest.raises(SchemaUnavailable):
        made.fate(framed(1, step))
    made.schemas.close()


def test_what_was_refused_while_it_answered_waits_when_it_no_longer_does(world: World) -> None:
    """The id may have been given since: only an answer may refuse it again."""
    assert world.refused(framed(1, order())).reason == "unknown-schema"
    world.registry.fault = server.status(500)
    world.clock.now += BELIEVED_SECONDS
    with pytest.raises(SchemaUnavailable):
        world.fate(framed(1, order()))


# The latest version of a subject


def refreshed(world: World) -> None:
    world.source._background.submit(lambda: None).result(timeout=20)


def test_a_new_latest_version_comes_into_force_without_making_an_event_wait(world: World) -> None:
    world.registry.add(ORDER, order_schema())
    assert world.routed(order()).topic == "acme.orders"
    world.registry.add(ORDER, order_schema(**{"x-topic": "acme.orders.v2"}))
    assert world.routed(order()).topic == "acme.orders"
    world.clock.now += BELIEVED_SECONDS
    assert world.routed(order()).topic == "acme.orders", "asked in the background"
    refreshed(world)
    assert world.routed(order()).topic == "acme.orders.v2"


@pytest.mark.parametrize("trouble", ["down", "unusable"])
def test_the_last_version_stays_in_force_while_there_is_no_better_one(world: World, trouble: str) -> None:
    world.registry.add(ORDER, order_schema())
    world.routed(order())
    if trouble == "down":
        world.registry.fault = server.status(500)
    else:
        world.registry.add(ORDER, {"type": 5})
    for _ in range(2):
        world.clock.now += BELIEVED_SECONDS
        assert world.routed(order()).topic == "acme.orders"
        refreshed(world)
    assert world.routed(order()).topic == "acme.orders"


def test_a_subject_that_was_deleted_is_unknown(world: World) -> None:
    world.registry.add(ORDER, order_schema())
    world.routed(order())
    del world.registry.subjects[ORDER]
    world.clock.now += BELIEVED_SECONDS
    world.routed(order())
    refreshed(world)
    assert world.refused(order()).reason == "unknown-type"
