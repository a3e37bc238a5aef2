"""Erasure over every store: the bytes are gone, everybody else's are there, and the proof says so."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from typing import Any

import dagster as dg
import pytest

from assets.compliance.access import collect
from assets.compliance.erasures import erasures
from assets.compliance.processing import Count, look, process
from assets.compliance.requests import file, proofs, requests
from assets.quality.pii_vault import Vault
from events.catalogue import DEAD_LETTER, SAGAS
from ml.privacy.matching import Found, Matcher
from resources.kafka import KafkaResource
from resources.ranges import Span
from resources.removal import Message, messages
from tests.integration.compliance.bytes_of import forms, found
from tests.integration.compliance.world import ANN, JOANN, KEYS, World, started, subject
from tests.integration.router.bus import producer

#: What stands in no value of Joann's.
HERS = (
    "mail ann@x.io",
    '"ann@x.io',
    "<ann@x.io",
    ">ann@x.io",
    ANN["name"],
    ANN["other"],
    ANN["account"],
    *KEYS.candidates(ANN["id"]),
)


#: Before which call the work is killed; in this order, for topics come before the warehouse.
KILLS = (("behind", 1), ("remove", 1), ("remove", 2), ("insert", 3), ("command", 9), ("command", 16), ("state", 1))


def counts(world: World, values: dict[str, str]) -> dict[str, int]:
    matcher = Matcher(subject(values), KEYS)
    return {store.name: Count.of(store, matcher).found for store in world.stores() if not store.absent}


def places(world: World, values: dict[str, str]) -> Counter[str]:
    """Items by store and place; of topics the dead letters, whose offsets change."""
    matcher = Matcher(subject(values), KEYS)
    found = (
        (store.name, item.place)
        for store in world.stores()
        if not store.absent
        for item in store.items(matcher)
        if not item.near
    )
    named = Counter(f"{name} {place.split('/')[0] if name == 'kafka' else place}" for name, place in found)
    return Counter(
        {
            name: n
            for name, n in named.items()
            if name.startswith(f"kafka {DEAD_LETTER}") or not name.startswith("kafka ")
        }
    )


def run(world: World) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [erasures],
            resources={"warehouse": world.warehouse, "kafka": world.kafka},
            instance=instance,
            raise_on_error=False,
        )


def test_nothing_of_a_person_remains_and_all_of_everybody_else(
    world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    matcher = Matcher(subject(ANN), KEYS)
    before, others = counts(world, ANN), places(world, JOANN)
    rows = world.rows()
    assert all(before.values()), before
    assert found(world.home, forms(HERS))
    held = collect(world.stores(), matcher)
    assert not held["not_read"] or set(held["not_read"]) <= {"source/theirs"}
    assert JOANN["email"] not in json.dumps(
        [one for store, items in held["stores"].items() if store != "sqlite" for one in items]
    )

    request = file(world.warehouse, KEYS, subject(ANN), kind="erasure", actor="officer", reference="L-1")
    with caplog.at_level(logging.DEBUG):
        result = run(world)
    (state,) = requests(world.warehouse)
    made = {row["store"]: row for row in proofs(world.warehouse, KEYS, request.id)}
    assert state["state"] == "completed", (state["detail"], made)
    assert all(row["genuine"] for row in made.values())
    assert {row["state"] for row in made.values()} <= {"erased", "absent", "kept", "not_ours"}
    for name, count in before.items():
        if made[name]["state"] == "erased":
            assert (made[name]["erased"], made[name]["remaining"]) == (count, 0), (name, made[name])
    assert (state["sealed"], state["nonce"]) == ("", "")

    # The bytes: every file, ClickHouse's and the broker's unpacked.
    assert found(world.home, forms(HERS)) == []
    # One page of a copy that was cut off is gone: it would have gone on from Ann's key. A statement's row in the
    # server's log may name both.
    ignored = "clickhouse system.query_log"
    del others[ignored]
    assert others - places(world, JOANN) == {"clickhouse raw.source_pages": 1}
    assert set(places(world, JOANN) - others) <= {ignored}
    lost = {table: n - world.rows().get(table, 0) for table, n in rows.items() if n > world.rows().get(table, 0)}
    assert lost == {
        "marts.people": 20,
        "ops.pii_vault": 1,
        "quality.cell_labels": 1,
        "raw.source_pages": 2,
        **copied(world),
    }

    tokens = Vault(world.warehouse, KEYS).tokens("EMAIL_ADDRESS", [JOANN["email"]])
    vault = Vault(world.warehouse, KEYS).reveal("EMAIL_ADDRESS", list(tokens.values()), actor="test", because="test")
    assert list(vault.values()) == [JOANN["email"]]
    # Nothing said her name on the way.
    captured = capfd.readouterr()
    told = [captured.out, captured.err, caplog.text, *(str(event) for event in result.all_events)]
    for table in ("privacy_requests", "erasure_proofs", "erased_subjects", "audit"):
        told += [json.dumps(row, default=str) for row in world.warehouse.query_rows(f"SELECT * FROM ops.{table}")]
    for text in told:
        assert matcher.find(text) is not Found.PERSON, text[:300]


def copied(world: World) -> dict[str, int]:
    """Rows that the copies of sources lose: Ann's of every table of PostgreSQL and MongoDB."""
    tables = [table for source in world.settings.sources.values() for table in source.tables]
    return {"raw.source_rows": len(tables)} if tables else {}


def test_dead_letters_of_others_are_kept_in_order_and_once(world: World) -> None:
    items = list(world.by_name("kafka").items(Matcher(subject(JOANN), KEYS)))
    letters = [item for item in items if item.place.startswith(DEAD_LETTER)]
    # Two that were refused, and one in two parts.
    assert len(letters) == 4
    assert [item.content for item in letters if item.content.startswith("xx")] == ["xx joan"]


def test_what_is_left_of_a_landed_event_is_what_its_schema_says_is_not_personal(world: World) -> None:
    kept = world.warehouse.query_rows(
        "SELECT topic, offset, key, value, headers FROM raw.events FINAL"
        " WHERE topic IN ('isthmus.sagas', 'isthmus.changes')"
    )
    by_key = {row["key"]: row for row in kept}
    event = json.loads(by_key["saga-1"]["value"])
    assert event["data"] == {"saga_type": "order"}
    assert json.loads(by_key["saga-2"]["value"])["data"]["customer"] == KEYS.hash(JOANN["id"])
    (gone,) = [row for row in kept if row["topic"] == "isthmus.changes" and row["offset"] == 0]
    assert (gone["key"], gone["value"]) == ("", "")
    assert "Only street 0" not in json.dumps(kept, default=str)


def test_what_lands_late_does_not_bring_her_back(world: World) -> None:
    sender = producer(world.kafka.bootstrap)
    for number, who in (("11", ANN), ("12", JOANN)):
        sender.produce(SAGAS, started(f"saga-{number}", customer=KEYS.hash(who["id"])), f"saga-{number}")
        sender.produce(
            SAGAS,
            started(f"late-{number}", attributes={"to": who["email"].upper()}),
            who["id"],
            headers=[("h", who["id"])],
        )
    sender.flush(10)
    world.land()
    warehouse = world.by_name("clickhouse")
    assert Count.of(warehouse, Matcher(subject(ANN), KEYS)).found == 0
    landed = world.warehouse.query_rows(
        "SELECT count() AS n, countIf(value = '') AS held FROM raw.events"
        " WHERE partition < 7 AND topic = 'isthmus.sagas' AND offset >= 0"
    )
    assert landed[0]["held"] == 2
    late = [item for item in warehouse.items(Matcher(subject(JOANN), KEYS)) if "late-12" in str(item.content)]
    assert late


@pytest.mark.services
def test_a_source_that_still_holds_her_does_not_bring_her_back(world: World) -> None:
    from assets.sources import copy_table

    source = world.settings.sources["theirs"]
    assert counts(world, ANN)["source/theirs"] == 1
    copy_table(world.warehouse, "theirs", source, "public.theirs_people", run_id="again")
    rows = world.warehouse.query_rows("SELECT payload FROM raw.source_current WHERE source = 'theirs'")
    assert [json.loads(row["payload"])["id"] for row in rows] == [JOANN["id"]]
    assert Count.of(world.by_name("clickhouse"), Matcher(subject(ANN), KEYS)).found == 0


@pytest.mark.embedded
def test_of_a_person_whom_nobody_knows_there_is_a_proof_of_nothing(world: World) -> None:
    request = file(world.warehouse, KEYS, subject({"email": "nobody@nowhere.example"}), kind="erasure", actor="officer")
    result = run(world)
    assert {row["state"] for row in proofs(world.warehouse, KEYS, request.id)} <= {"nothing", "absent", "not_ours"}
    assert all(one.passed for one in result.get_asset_check_evaluations())


@pytest.mark.embedded
def test_a_store_that_is_down_keeps_the_request_open_and_is_named(world: World) -> None:
    request = file(world.warehouse, KEYS, subject({"id": "customer-down"}), kind="erasure", actor="officer")
    down = World(
        world.home, world.warehouse, KafkaResource(bootstrap="127.0.0.1:1", attempts=1, timeout=1.0), world.settings
    )
    made = process(world.warehouse, down.stores(), KEYS, request, run_id="one")
    assert {row["store"] for row in made if row["state"] == "waiting"} == {"kafka"}
    (state,) = requests(world.warehouse, states=("waiting",))
    assert state["detail"].startswith("kafka: not reached")
    assert isinstance(look(down.stores(), Matcher(subject({"id": "customer-down"}), KEYS))["kafka"], str)
    process(world.warehouse, world.stores(), KEYS, state, run_id="two")
    assert requests(world.warehouse, states=("open", "waiting")) == []


@pytest.mark.embedded
def test_two_requests_at_once_of_two_persons_and_of_the_same(world: World) -> None:
    rows: list[dict[str, Any]] = [
        {"id": n, "who": who, "facts": {}, "tags": [], "blob": ""} for n, who in enumerate(("pat-1", "pat-2", "pat-12"))
    ]
    world.warehouse.insert_rows("marts.people", rows)
    filed = [
        file(world.warehouse, KEYS, subject({"id": who}), kind="erasure", actor="officer")
        for who in ("pat-1", "pat-2", "pat-1")
    ]
    run(world)
    states = {one.id: one["state"] for one in requests(world.warehouse)}
    assert [states[one.id] for one in filed] == ["completed"] * 3
    left = world.warehouse.query_rows("SELECT who FROM marts.people WHERE who LIKE 'pat-%'")
    assert [row["who"] for row in left] == ["pat-12"]
    erased = [
        next(row for row in proofs(world.warehouse, KEYS, one.id) if row["store"] == "clickhouse") for one in filed
    ]
    assert [row["erased"] for row in erased] == [1, 1, 0]


@pytest.mark.embedded
def test_killed_anywhere_it_is_taken_up_again_and_nothing_is_lost_or_doubled(world: World) -> None:
    kim = {"id": "customer-kim-77", "email": "kim77@x.io"}
    sender = producer(world.kafka.bootstrap)
    for partition in range(3):
        for text in ("before", f"kim {kim['email']}", "after"):
            value = f"{text} {partition}".encode()
            sender.produce(DEAD_LETTER, value, b"k", headers=[("h", None), ("i", b"")], partition=partition)
    sender.produce(SAGAS, started("saga-kim", customer=KEYS.hash(kim["id"])), "saga-kim")
    sender.flush(10)
    world.land()
    world.warehouse.insert_rows(
        "ops.audit", [{"actor": "a", "action": "x", "subject": kim["email"], "details": json.dumps({"with": "pat-12"})}]
    )
    world.warehouse.insert_rows(
        "marts.people",
        [{"id": 1, "who": who, "facts": {}, "tags": [], "blob": ""} for who in (kim["id"], "customer-kim-770")],
    )
    audited = world.warehouse.query_rows("SELECT count() AS n FROM ops.audit WHERE action = 'x'")
    request = file(world.warehouse, KEYS, subject(kim), kind="erasure", actor="officer")
    for place, nth in KILLS:
        ended = subprocess.run(
            [sys.executable, "-m", "tests.integration.compliance.killed", request.id, place, str(nth)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == -9, (
            place,
            nth,
            ended.stderr[-2000:],
            [(r["store"], r["state"], r["found"], r["how"]) for r in proofs(world.warehouse, KEYS, request.id)],
        )
        assert [one["state"] for one in requests(world.warehouse) if one.id == request.id] == ["open"]
    run(world)
    (state,) = [one for one in requests(world.warehouse) if one.id == request.id]
    assert state["state"] == "completed", state["detail"]
    assert found(world.home, forms([kim["email"], kim["id"] + '"', KEYS.hash(kim["id"])])) == []
    letters = [message for message, _ in _letters(world)]
    for partition in range(3):
        texts = [one.value for one in letters if one.partition == partition and one.key == b"k"]
        assert texts == [f"before {partition}".encode(), f"after {partition}".encode()]
    assert {tuple(one.headers) for one in letters if one.key == b"k"} == {(("h", None), ("i", b""))}
    assert world.warehouse.query_rows("SELECT count() AS n FROM ops.audit WHERE action = 'x'") == audited
    assert (
        world.warehouse.query_rows("SELECT count() AS n FROM marts.people WHERE who = 'customer-kim-770'")[0]["n"] == 1
    )
    assert not world.warehouse.query_rows("SELECT name FROM system.tables WHERE name LIKE 'erasure_draft%'")
    proof = {row["store"]: row for row in proofs(world.warehouse, KEYS, request.id)}
    assert (proof["clickhouse"]["state"], proof["kafka"]["state"]) == ("erased", "erased")


def _letters(world: World) -> list[tuple[Message, int]]:
    marks = world.kafka.watermarks_of(world.kafka.topics([DEAD_LETTER]).values())
    return [
        (message, low)
        for (topic, partition), (low, high) in sorted(marks.items())
        for message in messages(world.kafka, Span(topic, partition, low, high))
    ]
