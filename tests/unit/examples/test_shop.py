"""The shop: the same seed gives the same bytes, sagas keep the rules of a saga, and load has its price."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import numpy as np
import pytest

from events.codec import Event, decode
from events.validation import InvalidEvent, validate
from examples.shop import malformed, traffic
from examples.shop.broken import MISTAKES
from examples.shop.model import SERVICES
from examples.source import Source

END = datetime(2026, 11, 23, 3, tzinfo=UTC)
COMPLETED, ABORTED = "isthmus.saga.completed", "isthmus.saga.aborted"


def digest(source: Source) -> str:
    return sha256(b"".join(message.value for message in source.render(np.arange(len(source))))).hexdigest()


@pytest.fixture(scope="module")
def source() -> Source:
    return traffic(seed=5, days=0.5, brownouts_per_day=10, end=END)


@pytest.fixture(scope="module")
def events(source: Source) -> list[Event]:
    return [decode(message.value) for message in source.render(np.arange(len(source)))]


@pytest.fixture(scope="module")
def sagas(events: list[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event.type.startswith("isthmus.saga."):
            found[event.subject].append(event)
    return found


def steps(saga: list[Event]) -> Iterator[tuple[str, str, int]]:
    for event in saga:
        if event.type == "isthmus.saga.step":
            yield event.data["step"], event.data["status"], event.data["attempt"]


def test_equal_seeds_give_equal_bytes() -> None:
    first, again, other = (traffic(seed=seed, days=0.1, end=END) for seed in (1, 1, 2))
    assert digest(first) == digest(again) != digest(other)


def test_two_runs_never_share_an_order(source: Source) -> None:
    later = traffic(seed=5, days=0.1, end=END + timedelta(seconds=1))
    ids = {name for part in source.parts for name in part.ids}
    assert not ids & {name for part in later.parts for name in part.ids}


def test_every_event_is_valid(source: Source) -> None:
    for message in source.render(np.arange(0, len(source), 7)):
        validate(message.value)
    rare = [part for part in source.parts if part.type not in ("isthmus.saga.step", "isthmus.saga.started")]
    for part in rare:
        for message in part.render(np.arange(len(part.times))):
            validate(message.value)


def test_time_goes_forward_and_ends_now(events: list[Event]) -> None:
    times = [event.time for event in events]
    assert times == sorted(times)
    assert END - timedelta(hours=12) <= times[0] <= times[-1] <= END
    assert END - times[-1] < timedelta(minutes=2)


def test_a_saga_begins_once_and_ends_once_at_most(sagas: dict[str, list[Event]]) -> None:
    ended = 0
    for saga in sagas.values():
        kinds = [event.type for event in saga]
        assert kinds[0] == "isthmus.saga.started"
        assert kinds.count("isthmus.saga.started") == 1
        if COMPLETED in kinds or ABORTED in kinds:
            ended += 1
            assert kinds[-1] in (COMPLETED, ABORTED)
            assert kinds.count(COMPLETED) + kinds.count(ABORTED) == 1
    assert 0 < len(sagas) - ended < 20, "a few orders are under way when the clock stops"


def test_steps_go_in_order_and_attempts_count_up(sagas: dict[str, list[Event]]) -> None:
    names = [service.step for service in SERVICES]
    most = {service.step: service.attempts for service in SERVICES}
    for saga in sagas.values():
        done: list[str] = []
        attempts: Counter[str] = Counter()
        for step, status, attempt in steps(saga):
            if status == "scheduled":
                assert names[len(done)] == step, "a step begins when the one before it is done"
                attempts[step] += 1
            if status != "compensated":
                assert attempt == attempts[step] <= most[step]
            if status == "completed":
                done.append(step)


def test_what_was_done_is_undone_mostly_in_reverse(sagas: dict[str, list[Event]]) -> None:
    orders: Counter[bool] = Counter()
    for saga in sagas.values():
        if saga[-1].type == ABORTED:
            done = [step for step, status, _ in steps(saga) if status == "completed"]
            undone = [step for step, status, _ in steps(saga) if status == "compensated"]
            assert sorted(undone) == sorted(done)
            if len(undone) > 1:
                orders[undone == done[::-1]] += 1
    assert orders[True] > orders[False] > 0, "both orders occur over more than one step"


def test_an_undo_tells_its_way_fee_tries_and_the_chance_of_its_order(sagas: dict[str, list[Event]]) -> None:
    fees: dict[str, list[float]] = defaultdict(list)
    undos = 0
    for saga in sagas.values():
        charged = None
        told = []
        for event in saga:
            if event.data.get("step") == "charge_payment" and event.data["status"] == "completed":
                charged = event.time
            if event.data.get("status") == "compensated":
                told.append(event)
        for event in told:
            more = event.data["attributes"]
            undos += 1
            assert more["tries"] >= 1
            assert round(more["propensity"], 6) in (
                {0.7, 0.3} if len(told) == 1 and more["way"] in ("release", "let_expire") else {0.49, 0.21, 0.09}
            )
            assert ("by_hand" in more) <= (more["tries"] == 4)
            fees[more["way"]].append(more["fee"])
            if more["way"] == "void":
                assert charged is not None
                assert event.time - charged <= timedelta(seconds=45)
    assert undos > 300
    assert set(fees) == {"release", "let_expire", "void", "refund"}
    assert np.mean(fees["refund"]) > 5 * np.mean(fees["void"])
    assert np.mean(fees["let_expire"]) > 5 * np.median(fees["release"])


def test_declines_are_business_and_failures_technical(sagas: dict[str, list[Event]]) -> None:
    reasons: Counter[tuple[str, str]] = Counter()
    for saga in sagas.values():
        last = saga[-1]
        if last.type == ABORTED:
            errors = [event.data["error"] for event in saga if event.data.get("status") in ("failed", "timed_out")]
            business = errors[-1] in ("OutOfStock", "CardDeclined")
            assert last.data["reason"] == ("business" if business else "technical")
            reasons[last.data["reason"], last.data["detail"]] += 1
    assert {detail for reason, detail in reasons if reason == "business"} == {"OutOfStock", "CardDeclined"}
    assert sum(count for (reason, _), count in reasons.items() if reason == "technical") > 50


def test_load_slows_steps_and_makes_them_fail(sagas: dict[str, list[Event]]) -> None:
    runs: dict[bool, list[float]] = {False: [], True: []}
    failed: dict[bool, list[bool]] = {False: [], True: []}
    for saga in sagas.values():
        load: dict[tuple[str, int], float] = {}
        for event in saga:
            data = event.data
            if data.get("participant") != "payment":
                continue
            at = data["step"], data["attempt"]
            if data["status"] == "started":
                load[at] = data["load"]
            elif data["status"] in ("completed", "failed") and at in load:
                busy = load[at] >= 6
                failed[busy].append(data.get("error") not in (None, "CardDeclined"))
                if data["status"] == "completed":
                    runs[busy].append(data["duration_ms"])
    assert min(len(runs[True]), len(runs[False])) > 100
    assert np.quantile(runs[True], 0.9) > 1.1 * np.quantile(runs[False], 0.9)
    assert np.mean(failed[True]) > 2 * np.mean(failed[False])


def test_metrics_agree_with_the_steps(events: list[Event]) -> None:
    metrics = [event for event in events if event.type == "isthmus.service.metrics" and event.subject == "payment"]
    assert len(metrics) == 720
    begun = [
        event
        for event in events
        if event.data.get("participant") == "payment" and event.data.get("status") == "started"
    ]
    ended = sum(event.data["requests"] for event in metrics)
    assert len(begun) <= ended <= 1.5 * len(begun), "every attempt that began arrived; some were turned away"
    busiest = max(metrics, key=lambda event: event.data["in_flight"])
    assert busiest.data["latency_ms"]["p50"] <= busiest.data["latency_ms"]["p99"] <= busiest.data["latency_ms"]["max"]
    assert 0 < busiest.data["cpu_cores"] <= busiest.data["cpu_limit_cores"]


def test_demand_follows_the_day(events: list[Event]) -> None:
    by_hour = Counter(event.time.hour for event in events if event.type == "isthmus.saga.started")
    assert by_hour[20] > 2 * by_hour[1]


def test_more_orders_a_day_come_with_more_workers() -> None:
    source = traffic(seed=1, days=0.05, orders_per_day=80_000, end=END.replace(hour=21))
    replicas = {part.source: part.data["replicas"][0] for part in source.parts if "replicas" in part.data}
    assert replicas["/shop/payment"] == 4 * SERVICES[1].workers


def test_every_malformed_record_is_refused() -> None:
    records = malformed(seed=3)
    assert len(records) == len(MISTAKES)
    for record in records:
        with pytest.raises(InvalidEvent):
            validate(record.value)
