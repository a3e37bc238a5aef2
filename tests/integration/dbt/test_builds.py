"""Incremental builds give what a full refresh gives, whatever arrived when, how often, and where a build was killed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from events.codec import encode
from services.router.routing import Routed, route
from tests.integration.dbt.harness import EPOCH, World, saga_event, traffic


def shuffled(events: list[bytes], source: random.Random, *, duplicates: float, late: float) -> list[bytes]:
    """Return the events with some sent twice and some sent late."""
    placed = [
        (number + (source.uniform(0, len(events)) if source.random() < late else 0), event)
        for number, event in enumerate(events)
    ]
    placed += [(place + source.uniform(0, 50), event) for place, event in placed if source.random() < duplicates]
    return [event for _, event in sorted(placed, key=lambda pair: pair[0])]


def cut(events: list[bytes], source: random.Random, pieces: int) -> list[list[bytes]]:
    bounds = sorted(source.sample(range(1, len(events)), pieces - 1))
    return [events[low:high] for low, high in zip([0, *bounds], [*bounds, len(events)], strict=True)]


@pytest.mark.parametrize("seed", [1])
def test_increments_equal_a_full_refresh(world: World, seed: int) -> None:
    increments_equal_a_full_refresh(world, seed, pieces=3)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 12))
def test_increments_equal_a_full_refresh_for_many_orders(world: World, seed: int) -> None:
    increments_equal_a_full_refresh(world, seed, pieces=8)


def increments_equal_a_full_refresh(world: World, seed: int, pieces: int) -> None:
    source = random.Random(seed)
    events = traffic(source, 25)
    for number, piece in enumerate(cut(shuffled(events, source, duplicates=0.1, late=0.2), source, pieces)):
        low, high = world.land(piece, partition=number % 2)
        if number % 2:  # the same offsets landed again, cut differently
            world.commit(low, (low + high) // 2, partition=number % 2)
            world.commit((low + high) // 2, high, partition=number % 2)
        world.build()
        assert world.pending() == 0
    incremental = world.marts()
    assert len(incremental["staging.stg_saga_events"]) == len(set(events))
    world.build()  # nothing is pending: nothing changes
    assert world.marts() == incremental
    world.build("--full-refresh")
    assert world.marts() == incremental
    assert world.one("SELECT sum(events) FROM marts.fct_sagas") == len(set(events))


def test_a_late_event_moves_a_saga_between_hours(world: World) -> None:
    end = saga_event("completed", "late", timedelta(hours=5, minutes=30), id="end")
    world.land([saga_event("started", "late", timedelta(hours=3), id="start", amount=10), end])
    world.build()
    assert world.one("SELECT min(hour) FROM marts.kpi_hourly").hour == 3
    world.land(
        [
            saga_event(
                "step", "late", timedelta(hours=1), id="early", step="a", participant="p", attempt=1, status="completed"
            ),
            saga_event("aborted", "late", timedelta(hours=4), id="first end", reason="technical"),
        ]
    )
    world.build()
    rows = world.warehouse.query_rows(
        "SELECT toHour(hour) AS hour, sagas_started, sagas_completed, aborted_technical, money_in_flight"
        " FROM marts.kpi_hourly ORDER BY hour"
    )
    assert [tuple(row.values()) for row in rows] == [
        (1, 1, 0, 0, 10),
        (2, 0, 0, 0, 10),
        (3, 0, 0, 0, 10),
        (4, 0, 0, 1, 0),
    ]


STATEFUL = ("stg_saga_event_log", "fct_saga_steps", "fct_sagas", "int_saga_hours")


def test_a_build_killed_in_each_stateful_model_loses_nothing(world: World) -> None:
    killed_builds(world, [(model, 0.02) for model in STATEFUL])


@pytest.mark.soak
def test_many_killed_builds_lose_nothing(world: World) -> None:
    source = random.Random(9)
    killed_builds(world, [(source.choice(STATEFUL), source.uniform(0, 0.4)) for _ in range(25)])


def killed_builds(world: World, kills: list[tuple[str, float]]) -> None:
    """Kill a build (-9) just after it began a model, after each of several landings; then one complete build."""
    source = random.Random(7)
    pieces = cut(shuffled(traffic(source, 20), source, duplicates=0.1, late=0.2), source, len(kills) + 2)
    world.land(pieces[0])
    world.build()
    for number, (model, seconds) in enumerate(kills):
        world.land(pieces[number + 1])
        build = world.start_build()
        assert build.stdout is not None
        begun = any(b"START" in line and f".`{model}`".encode() in line for line in build.stdout)
        time.sleep(seconds)
        assert begun
        assert build.poll() is None, "the build ended before it was killed"
        build.kill()
        build.wait()
        build.stdout.close()
        assert world.pending() == number + 1
    world.land(pieces[-1])
    world.build()
    assert world.pending() == 0
    incremental = world.marts()
    world.build("--full-refresh")
    assert world.marts() == incremental


def test_a_part_of_the_models_or_a_dropped_table_leaves_nothing_out(world: World) -> None:
    world.land(traffic(random.Random(5), 6))
    world.build("--select", "staging", "int_touched_sagas")
    assert world.pending() == 1
    world.build()
    assert world.pending() == 0
    before = world.rows("marts.fct_sagas")
    world.warehouse.command("DROP TABLE marts.fct_sagas")
    world.land([saga_event("started", "s0", timedelta(minutes=1), id="another")])
    world.build()
    assert len(world.rows("marts.fct_sagas")) == len(before)


def test_what_a_burst_builds_is_built_again_with_its_hours_by_the_next_whole_build(world: World) -> None:
    """The part that ``policy_after_burst`` builds moves a saga's hour; the table of hours is not in it."""
    end = saga_event("completed", "late", timedelta(hours=5, minutes=30), id="end")
    world.land([saga_event("started", "late", timedelta(hours=3), id="start", amount=10), end])
    world.build()
    early = saga_event("aborted", "late", timedelta(hours=4), id="first end", reason="technical")
    world.land([early, *traffic(random.Random(6), 5)])
    world.build("--select", "+fct_sagas", "+fct_saga_steps", "dim_participant", "dim_saga_type")
    assert world.pending() == 1
    assert world.one("SELECT count() FROM marts.fct_sagas") == 6
    world.build()
    assert world.pending() == 0
    built = world.marts()
    world.build("--full-refresh")
    assert world.marts() == built


def test_an_older_build_stops_where_a_newer_one_began(world: World) -> None:
    world.land(traffic(random.Random(8), 4))
    world.build()
    hold_by_another = "INSERT INTO intermediate.build_fence (invocation_id, began_at) VALUES ('newer', now64(6) + 3600)"
    world.warehouse.command(hold_by_another)
    world.land([saga_event("started", "new", timedelta(minutes=1), id="new")])
    done = world.dbt("run")
    assert not done.success
    assert any("newer dbt build" in (result.message or "") for result in done.result)
    assert world.pending() == 1


BAD: list[tuple[str, Callable[[], bytes]]] = [
    ("not JSON", lambda: b"not json"),
    ("no id", lambda: b'{"source": "/x", "type": "isthmus.saga.step", "subject": "s", "time": "2026-03-01T00:00:00Z"}'),
    ("a clock never set", lambda: saga_event("started", "bad", timedelta(days=-20_000), id="1970")),
    ("a clock ahead", lambda: saga_event("started", "bad", timedelta(days=30), id="ahead")),
    (
        "no step",
        lambda: saga_event("step", "bad", timedelta(0), id="no step", participant="p", attempt=1, status="started"),
    ),
    (
        "unknown status",
        lambda: saga_event(
            "step", "bad", timedelta(0), id="status", step="a", participant="p", attempt=1, status="resting"
        ),
    ),
    ("no reason", lambda: saga_event("aborted", "bad", timedelta(0), id="no reason")),
    (
        "wrong types",
        lambda: saga_event("step", "bad", timedelta(0), id="types", step=["a"], participant={}, attempt="x", status=7),
    ),
]


def test_what_is_no_event_is_shown_and_builds_nothing(world: World) -> None:
    world.land([payload() for _, payload in BAD])
    world.land([saga_event("started", "good", timedelta(0), id="good", amount="much", currency=7)], partition=1)
    world.build()
    assert world.one("SELECT count() FROM staging.stg_raw_events") == len(BAD) + 1
    assert world.one("SELECT count() FROM staging.stg_saga_events") == 1
    assert world.one("SELECT count() FROM raw.quarantine") + world.one(
        "SELECT count() FROM staging.stg_saga_rejects"
    ) == len(BAD)
    assert world.rows("marts.dim_saga_type")[0].startswith("('order', 1, 1, 0, 0")


def test_component_health_has_the_same_figures_in_each_version(world: World) -> None:
    """As version 2, as version 1 that the router upcast, and as version 1 that landed before there was a second."""
    world.reset()
    common = {"component_type": "disk", "readings": {"smart_5": 0}}
    old = {**common, "age": 13211.5, "age_unit": "hours"}

    def sent(subject: str, data: dict[str, Any], version: int = 2) -> bytes:
        name = "isthmus.component.health"
        return encode(name, data, subject=subject, source="/test", time=EPOCH, version=version)

    routed = route(sent("upcast", old, 1), b"", None, EPOCH, b"key")
    assert isinstance(routed, Routed)
    new = sent("new", {**common, "usage": {"hours": 13211.5}})
    world.land([sent("before", old, 1), routed.value, new, sent("unknown", common)], topic="isthmus.components")
    world.build("--select", "+stg_component_health")
    rows = world.warehouse.query_rows("SELECT component, usage FROM staging.stg_component_health")
    assert {row["component"]: row["usage"] for row in rows} == {
        "before": {"hours": 13211.5},
        "upcast": {"hours": 13211.5},
        "new": {"hours": 13211.5},
        "unknown": {},
    }
