"""The form that examples give their events in: bytes as the codec writes them, one time order, stable repetition."""

from __future__ import annotations

import numpy as np

from events.codec import decode, encode
from events.validation import validate
from examples.columns import first_of, grouped, last_of, running_count
from examples.source import Part, Source


def part(times: list[int], **changes: object) -> Part:
    count = len(times)
    given: dict[str, object] = {
        "type": "isthmus.saga.step",
        "source": "/a",
        "times": np.array(times, dtype=np.int64),
        "ids": [f"{number}" for number in range(count)],
        "subjects": ["saga ä"] * count,
        "data": {
            "saga_type": ["order"] * count,
            "step": ["s"] * count,
            "participant": ["p"] * count,
            "attempt": [1] * count,
            "status": ["completed"] * count,
            "worker": [None if number % 2 else "w" for number in range(count)],
        },
    }
    return Part(**{**given, **changes})  # type: ignore[arg-type]


def test_the_bytes_are_those_of_the_codec() -> None:
    events = part([1_700_000_000_123_456, 1_700_000_000_123_457], attributes={"x": [1, None]}, traced=True)
    for message in events.render(np.array([0, 1])):
        event = validate(message.value)
        again = encode(
            event.type,
            event.data,
            subject=event.subject,
            source=event.source,
            id=event.id,
            time=event.time,
            traceparent=event.traceparent,
        )
        assert again == message.value
        assert (message.topic, message.key) == ("isthmus.sagas", "saga ä".encode())


def test_none_leaves_a_field_out() -> None:
    first, second = (decode(message.value) for message in part([1, 2]).render(np.array([0, 1])))
    assert first.data["worker"] == "w"
    assert "worker" not in second.data


def test_a_trace_belongs_to_a_saga_and_a_span_to_an_event() -> None:
    traces = [decode(message.value).traceparent for message in part([1, 2], traced=True).render(np.array([0, 1]))]
    first, second = (trace.split("-") for trace in traces if trace)
    assert first[1] == second[1]
    assert first[2] != second[2]


def test_parts_merge_into_one_time_order() -> None:
    early = part([10, 30], source="/b", order=np.array([5, 5]))
    late = part([10, 20], source="/a", order=np.array([4, 4]))
    source = Source("both", [early, late])
    events = [decode(message.value) for message in source.render(np.arange(4))]
    assert source.times.tolist() == [10, 10, 20, 30]
    assert [event.source for event in events] == ["/a", "/b", "/a", "/b"]
    assert [event.id for event in events] == ["0", "0", "1", "1"]


def test_any_rows_in_any_order_give_the_same_bytes() -> None:
    source = Source("one", [part([3, 1, 2]), part([2, 1], source="/b")])
    whole = source.render(np.arange(5))
    rows = np.array([4, 0, 0, 3])
    assert source.render(rows) == [whole[row] for row in rows.tolist()]


def test_distinct_events_and_sagas_are_counted_once() -> None:
    source = Source("one", [part([1, 2], ids=["same", "same"]), part([3], source="/b", ids=["same"])])
    assert source.distinct(np.array([0, 1, 1, 2])) == 2
    assert source.sagas(np.arange(3)) == 1


def test_a_source_may_be_empty() -> None:
    source = Source("none", [part([])])
    assert len(source) == 0
    assert source.render(np.arange(0)) == []


def test_running_counts_begin_anew_in_each_group() -> None:
    groups = np.array([2, 1, 2, 2, 1])
    assert running_count(groups).tolist() == [1, 1, 2, 3, 2]
    assert running_count(groups, np.array([False, True, True, False, True])).tolist() == [0, 1, 1, 1, 2]
    assert (first_of(groups).tolist(), last_of(groups).tolist()) == ([1, 0], [4, 3])
    assert running_count(np.empty(0, np.int64)).tolist() == []


def test_grouped_tells_rows_apart_in_every_column() -> None:
    joint = grouped(np.array([1, 1, 2, 2]), np.array([1, 2, 1, 1]))
    assert joint[2] == joint[3]
    assert len(set(joint.tolist())) == 3
