"""Features of a running saga: what each says, that no prefix knows its future, that a definition survives storage."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.sagas.features import FeatureSet, Vocabulary, feature_set, recent_load
from ml.sagas.labels import label_sagas
from ml.sagas.spec import Aggregate, Feature, Recent, SagaEvent, Where, literal
from ml.sagas.state import Layout, RecentEvents, SagaState, prefixes
from ml.sagas.stream import in_process, vocabulary
from ml.sagas.types import LOAN_APPLICATION, ORDER, saga_type

SECOND = 1_000_000
MONDAY_NOON = 1_700_481_600 * SECOND  # 2023-11-20T12:00:00Z


def step(name: str, at: float, *, status: str = "completed", saga: str = "a", **more: object) -> SagaEvent:
    return SagaEvent(saga, "step", MONDAY_NOON + int(at * SECOND), name, "desk", status, 1, **more)  # type: ignore[arg-type]


def values(events: list[SagaEvent], features: FeatureSet) -> dict[str, object]:
    state, recent = SagaState(Layout(features)), RecentEvents(features)
    for event in events:
        recent.add(event)
        state.update(event)
    return dict(zip(features.names, state.values(recent), strict=True))


COURSE = [
    SagaEvent("a", "started", MONDAY_NOON, amount=250.0),
    step("check", 0, status="scheduled"),
    step("check", 10, status="started", worker="ann"),
    step("check", 40, worker="ann"),
    step("offer", 100, worker="bob", load=3.0),
]
SEEN = Vocabulary(
    (("check", "completed"), ("check", "scheduled"), ("check", "started"), ("offer", "completed"), ("offer", "failed")),
    ("desk",),
    ("ann", "bob"),
)
FEATURES = feature_set(SEEN, recent=[("events in 60 s", Recent(60))])


def test_each_figure_says_what_its_name_says() -> None:
    seen = values(COURSE, FEATURES)
    expected = {
        "position": 4.0,
        "since start": 100.0,
        "gap 1": 60.0,
        "gap 2": 90.0,
        "hour": 12.0 + 100 / 3600,
        "weekday": 1.0,
        "amount": 250.0,
        "workers": 2.0,
        "worker": "bob",
        "first worker": "ann",
        "work last": 30.0,
        "work total": 30.0,
        "work check": 30.0,
        "activity 0": "offer:completed",
        "activity 2": "check:started",
        "count check:completed": 1.0,
        "since last check": 60.0,
        "first offer": 100.0,
        "load": 3.0,
        "failures": 0.0,
        "events in 60 s": 1.0,  # of 40, at the far end of the window; its own is left out
    }
    assert {name: seen[name] for name in expected} == pytest.approx(expected)
    assert math.isnan(seen["gap 4"])  # type: ignore[arg-type]


def test_a_saga_without_a_start_event_has_no_amount() -> None:
    assert math.isnan(values(COURSE[1:], FEATURES)["amount"])  # type: ignore[arg-type]


def test_load_counts_strictly_earlier_events_whatever_their_order() -> None:
    others = [step("check", at, saga="b") for at in (0, 5, 10)]
    late_first = sorted(others, key=lambda event: -event.us)
    for order in (others, late_first):
        recent = RecentEvents(FEATURES)
        for event in order:
            recent.add(event)
        assert recent.count(Recent(60), MONDAY_NOON + 10 * SECOND) == 2
        assert recent.count(Recent(60), MONDAY_NOON + 61 * SECOND) == 2
        assert recent.count(Recent(60), MONDAY_NOON) == 0


def test_what_no_window_reaches_is_forgotten() -> None:
    recent = RecentEvents(FEATURES)
    for at in range(0, 100_000, 10):
        recent.add(step("check", at))
    held = recent._times[Recent(60).where]
    assert len(held) < 400
    assert recent.count(Recent(60), MONDAY_NOON + 99_991 * SECOND) == 6


events = st.builds(
    lambda saga, gap, name, status, worker: (saga, gap, name, status, worker),
    st.sampled_from("abc"),
    st.integers(0, 5),
    st.sampled_from(["check", "offer"]),
    st.sampled_from(["scheduled", "started", "completed", "failed"]),
    st.sampled_from(["", "ann", "bob"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(events, min_size=2, max_size=30), st.integers(0, 28))
def test_no_prefix_knows_its_future(course: list[tuple[str, int, str, str, str]], cut: int) -> None:
    at, stream = 0, []
    for saga, gap, name, status, worker in course:
        at += gap
        stream.append(step(name, at, status=status, saga=saga, worker=worker))
    whole = [row for _, _, row in prefixes(stream, FEATURES)]
    part = [row for _, _, row in prefixes(stream[: cut + 1], FEATURES)]
    assert repr(whole[: len(part)]) == repr(part)


def test_a_definition_survives_storage() -> None:
    features = feature_set(SEEN, recent=recent_load(SEEN))
    again = FeatureSet.from_dict(json.loads(json.dumps(features.as_dict())))
    assert again == features
    assert again.digest == features.digest
    assert replace(features, categories={}).digest != features.digest


def test_an_unknown_category_has_a_code_of_its_own() -> None:
    row = values([*COURSE, step("surprise", 200, worker="eve")], FEATURES)
    encoded = FEATURES.encode(list(row.values()))
    at = FEATURES.names.index
    assert encoded[at("worker")] == -1.0
    assert encoded[at("activity 0")] == -1.0
    assert encoded[at("activity 1")] >= 0
    matrix = FEATURES.matrix({name: np.array([value], dtype=object) for name, value in row.items()})
    np.testing.assert_array_equal(matrix[0], np.array(encoded))


def test_literals_are_escaped() -> None:
    assert literal("it's a \\ test") == "'it\\'s a \\\\ test'"
    assert "\\'" in Where("o'clock").sql()


def test_every_form_has_sql() -> None:
    for form in ("value", "elapsed", "after_start", "seconds", "hour", "weekday"):
        assert "a0" in Feature("x", Aggregate("last"), form).sql("a0")  # type: ignore[arg-type]


def test_a_loan_is_labelled_by_its_last_offer_and_cut_before_the_verdict() -> None:
    steps = ["A_SUBMITTED", "O_SENT", "O_CANCELLED", "O_SENT", "A_APPROVED", "O_ACCEPTED", "W_CALL"]
    labels = label_sagas(
        LOAN_APPLICATION,
        saga_ids=["x"] * 7 + ["y"] * 2,
        steps=[*steps, "A_SUBMITTED", "O_SENT"],
        statuses=["completed"] * 9,
        us=np.arange(9, dtype=np.int64),
        endings={},
    )
    assert labels.label.tolist() == ["accepted", ""]
    assert labels.cut.tolist() == [5, 2]
    assert labels.end_us.tolist() == [6, 8]


def test_an_order_is_labelled_by_its_ending_and_cut_before_compensation() -> None:
    labels = label_sagas(
        ORDER,
        saga_ids=["x"] * 4 + ["y"],
        steps=["reserve", "pay", "reserve", "pay", "reserve"],
        statuses=["completed", "failed", "compensated", "failed", "started"],
        us=np.arange(5, dtype=np.int64),
        endings={"x": ("technical", 9)},
    )
    assert labels.label.tolist() == ["technical", ""]
    assert labels.cut.tolist() == [3, 2]
    assert labels.end_us.tolist() == [9, 4]


def test_a_step_of_the_endings_own_time_is_no_prefix() -> None:
    labels = label_sagas(
        ORDER,
        saga_ids=["x"] * 3 + ["y"] * 3,
        steps=["reserve", "pay", "notify"] * 2,
        statuses=["completed"] * 6,
        us=np.array([1, 2, 3] * 2, dtype=np.int64),
        endings={"x": ("completed", 3)},
    )
    assert labels.cut.tolist() == [3, 4]  # x ended with its third step; y still runs


def test_events_of_one_saga_must_stand_together() -> None:
    with pytest.raises(ValueError, match="stand together"):
        label_sagas(ORDER, saga_ids=["x", "y", "x"], steps=[""] * 3, statuses=[""] * 3, us=np.arange(3), endings={})


def test_an_undeclared_type_fails_by_technical_abort() -> None:
    kind = saga_type("parcel")
    assert [outcome.name for outcome in kind.outcomes] == ["technical"]
    assert kind.name == "parcel"


def test_prefixes_in_process_are_cut_and_labelled() -> None:
    stream = [*COURSE, SagaEvent("a", "aborted", MONDAY_NOON + 200 * SECOND, reason="technical")]
    rows = in_process(ORDER, feature_set(vocabulary(stream, least=1)), stream)
    assert rows.position.tolist() == [1, 2, 3, 4]
    assert rows.label.tolist() == ["technical"] * 4
    assert rows.strict.all()
    assert set(rows.known_us.tolist()) == {MONDAY_NOON + 200 * SECOND}
