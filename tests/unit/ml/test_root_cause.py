"""Root cause: faults of several kinds are put into the traffic of a small system, and each must be found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml.root_cause import NothingToRank, Observed, Ranking, Reference, learn, rank
from ml.root_cause.logs import Kinds
from ml.root_cause.slowness import delays, parts_of
from ml.root_cause.traces import visits_of
from tests.small_system import CALLS, KINDS, MINUTE, SERVICES, Fault, traffic


@pytest.fixture(scope="module")
def calm() -> Observed:
    return traffic(seed=0, minutes=12)


@pytest.fixture(scope="module")
def usual(calm: Observed) -> Reference:
    return learn(calm)


def found(usual: Reference, fault: Fault, seed: int = 1) -> Ranking:
    return rank(traffic(fault, seed=seed, start=100), usual)


FAULTS = {
    "a leaf that takes longer": (Fault(own_ms={"stock": 40}), "stock"),
    "a service in the middle that takes longer": (Fault(own_ms={"shop": 40}), "shop"),
    "the front itself": (Fault(own_ms={"front": 40}), "front"),
    "ways to a leaf": (Fault(way_ms={"cart": 60}), "cart"),
    "ways to a service in the middle": (Fault(way_ms={"price": 60}), "price"),
    "a leaf that fails": (Fault(fails="stock"), "stock"),
    "a service in the middle that fails before it calls": (Fault(fails="price"), "price"),
    "a service that lacks a line": (Fault(silent="rates"), "rates"),
    "a service that takes the processor": (Fault(cpu="user"), "user"),
    "a small delay below a large one of its callers' own": (Fault(own_ms={"stock": 30, "shop": 3}), "stock"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_service_at_fault_is_first(usual: Reference, name: str, seed: int) -> None:
    fault, service = FAULTS[name]
    ranking = found(usual, fault, seed)
    first, second = ranking.blames[:2]
    assert first.service == service
    assert first.score > 2 * second.score
    assert first.evidence[0].words


def test_without_a_fault_no_service_is_blamed_for_much(usual: Reference) -> None:
    for seed in range(5):
        assert found(usual, Fault(), seed).blames[0].score < 0.2


def test_a_callers_failure_is_accounted_for_by_its_callees(usual: Reference) -> None:
    ranking = {blame.service: blame.score for blame in found(usual, Fault(fails="stock")).blames}
    assert ranking["stock"] > 0.7
    assert max(ranking[name] for name in ("price", "shop", "front")) < 0.3


@pytest.mark.parametrize(
    ("fault", "gone", "service"),
    [
        (Fault(own_ms={"price": 40}), ("logs", "metrics"), "price"),
        (Fault(fails="price"), ("logs", "metrics"), "price"),
        (Fault(silent="cart"), ("metrics",), "cart"),
        (Fault(silent="cart"), ("spans", "metrics"), "cart"),
        (Fault(cpu="store"), ("spans", "logs"), "store"),
        (Fault(own_ms={"store": 40}), ("spans", "logs"), "store"),
    ],
)
def test_what_is_missing_is_done_without(calm: Observed, fault: Fault, gone: tuple[str, ...], service: str) -> None:
    nothing: dict[str, Any] = dict.fromkeys(gone)
    ranking = rank(replace(traffic(fault, start=100), **nothing), learn(replace(calm, **nothing)))
    assert ranking.services[0] == service


def test_no_data_is_no_ranking(calm: Observed, usual: Reference) -> None:
    with pytest.raises(NothingToRank, match="both the window and the reference"):
        rank(Observed(), usual)
    with pytest.raises(NothingToRank):
        rank(
            replace(calm, spans=calm.spans.iloc[:0] if calm.spans is not None else None, logs=None, metrics=None), usual
        )
    with pytest.raises(NothingToRank):
        rank(calm, learn(Observed()))


def test_columns_that_are_missing_are_named(calm: Observed) -> None:
    assert calm.spans is not None
    with pytest.raises(ValueError, match="lack the columns parent, end_us"):
        learn(Observed(spans=calm.spans.drop(columns=["parent", "end_us"])))


def test_names_do_not_matter(calm: Observed) -> None:
    fault = traffic(Fault(way_ms={"price": 60}), start=100)

    def renamed(observed: Observed) -> Observed:
        names = {name: f"{chr(122 - at)}-{at}" for at, name in enumerate(SERVICES)}
        frames: dict[str, Any] = {}
        for kind in ("spans", "logs", "metrics"):
            frame = getattr(observed, kind)
            frames[kind] = frame.assign(service=frame["service"].map(names))
        return replace(observed, **frames)

    plain, other = rank(fault, learn(calm)), rank(renamed(fault), learn(renamed(calm)))
    assert [blame.score for blame in plain.blames] == pytest.approx([blame.score for blame in other.blames], abs=1e-6)
    assert other.services[0] == f"{chr(122 - SERVICES.index('price'))}-{SERVICES.index('price')}"


def test_a_fault_that_lies_in_the_reference_is_outvoted() -> None:
    parts = [
        traffic(seed=0, minutes=10),
        traffic(Fault(fails="stock", own_ms={"cart": 50}), seed=9, minutes=1, start=50),
    ]
    frames: dict[str, Any] = {
        kind: pd.concat([getattr(part, kind) for part in parts]) for kind in ("spans", "logs", "metrics")
    }
    usual = learn(Observed(**frames, kinds=KINDS))
    assert found(usual, Fault(fails="stock")).services[0] == "stock"
    assert found(usual, Fault(own_ms={"cart": 50})).services[0] == "cart"


def test_latencies_per_pair_of_services_are_enough() -> None:
    random = np.random.default_rng(3)

    def links(slow: str, minutes: int, start: int) -> pd.DataFrame:
        rows = []
        for minute in range(start, start + minutes):
            answer: dict[str, float] = {}
            for source in ("price", "user", "shop", "front"):
                for target in CALLS[source]:
                    below = sum(answer[one] for one in CALLS.get(target, ()))
                    at_target = random.gamma(50, 0.1) + below
                    answer[target] = at_target + random.gamma(50, 0.02) + (80 if target == slow else 0)
                    rows.append((minute * MINUTE, source, target, answer[target], at_target))
        return pd.DataFrame(rows, columns=["time_us", "source", "target", "at_source", "at_target"])

    usual = learn(Observed(links=links("", 60, 0)))
    for service in ("price", "rates", "user"):
        assert rank(Observed(links=links(service, 3, 100)), usual).services[0] == service


def test_own_times_of_a_trace_add_up_to_its_duration(calm: Observed) -> None:
    assert calm.spans is not None
    visits = visits_of(calm.spans)
    entry = visits.table[visits.parent < 0]
    assert visits.parts["own_ms"].sum() == pytest.approx(entry["duration_ms"].sum(), rel=1e-6)
    assert len(visits.table) == 15 * 12 * len(SERVICES)


def spans(*rows: tuple[str, str, str, int, int]) -> pd.DataFrame:
    """Return spans of (span, parent, service, start ms, end ms) in one trace."""
    table = pd.DataFrame(rows, columns=["span", "parent", "service", "start_us", "end_us"])
    table[["start_us", "end_us"]] *= 1000
    return table.assign(trace="t", operation=table["span"])


def own_times(frame: pd.DataFrame) -> dict[str, float]:
    parts = visits_of(frame).parts
    return dict(zip(parts["operation"], parts["own_ms"], strict=True))


def test_a_span_beside_the_call_that_it_waits_for_has_no_time_of_its_own() -> None:
    frame = spans(
        ("root", "", "a", 0, 100),
        ("handler", "root", "a", 1, 99),
        ("call", "root", "a", 2, 98),
        ("b", "call", "b", 10, 90),
    )
    assert own_times(frame) == {"root": 2, "handler": 2, "call": 16, "b": 80}


def test_what_a_call_does_after_its_caller_has_ended_is_waited_for_by_no_one() -> None:
    assert own_times(spans(("root", "", "a", 0, 50), ("late", "root", "b", 40, 500))) == {"root": 40, "late": 10}


def test_a_span_that_lost_its_parent_makes_its_trace_not_whole_and_a_copy_counts_once() -> None:
    frame = spans(("root", "", "a", 0, 50), ("lost", "nowhere", "b", 10, 20))
    visits = visits_of(pd.concat([frame, frame]))
    assert len(visits.table) == 2
    assert not visits.table["whole"].any()


def test_a_common_delay_is_found_at_the_service_that_ways_share() -> None:
    source, target = np.array([0, 0, 0, 3, 4]), np.array([1, 2, 5, 0, 0])
    sends, receives = delays(source, target, np.array([50.0, 50, 50, 0, 0]), np.full(5, 10.0), 6)
    assert sends[0] == pytest.approx(50, rel=0.1)
    assert receives.max() < 5
    sends, receives = delays(source, target, np.array([0.0, 0, 0, 80, 80]), np.full(5, 10.0), 6)
    assert receives[0] == pytest.approx(80, rel=0.1)
    sends, receives = delays(np.array([0]), np.array([1]), np.array([30.0]), np.array([10.0]), 2)
    assert receives[1] > 10 * sends[0]


def test_kinds_of_lines_have_no_values() -> None:
    lines = [f"INFO Order#31 saved order {at} of user-{at}x at {at % 24}:10 on Mon 3 Jan" for at in range(200)]
    kinds = Kinds.learn(lines)
    assert {kinds.of(line) for line in lines} == {"INFO Order#31 saved order of at on"}
    assert kinds.of("FATAL nothing like this") == "new: FATAL"


def test_links_without_calls_of_the_target_are_all_its_own_time() -> None:
    links = pd.DataFrame({"time_us": [0], "source": ["a"], "target": ["b"], "at_source": [30.0], "at_target": [20.0]})
    own = {(row.service, row.callee): row.own_ms for row in parts_of(links).itertuples()}
    assert own == {("a", "b"): 10.0, ("b", ""): 20.0}
