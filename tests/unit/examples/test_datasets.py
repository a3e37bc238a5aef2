"""The adapters: the files' columns decide, and every row becomes the event that the data set's description says."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from events.codec import Event, decode
from events.validation import validate
from examples.datasets import UnknownData, open_folder
from examples.source import Source
from resources.settings import get_settings

START = datetime(2012, 1, 1, 10, tzinfo=UTC)


def data_set(name: str) -> Path:
    folder = get_settings().data / name
    if not folder.is_dir():
        pytest.skip(f"no data set at {folder} (ISTHMUS_DATA names the folder of the data sets)")
    return folder


def events_of(source: Source) -> list[Event]:
    messages = source.render(np.arange(len(source)))
    for message in messages[:: max(1, len(messages) // 2_000)]:
        validate(message.value)
    return [decode(message.value) for message in messages]


def loan_log(folder: Path, rows: list[tuple[str, str, str, float]], **columns: object) -> Path:
    """Write a log of (case, activity, lifecycle, minutes after the start)."""
    times = [START + timedelta(minutes=minutes) for *_, minutes in rows]
    table = {
        "event_index": pa.array(range(100, 100 + len(rows)), pa.uint32()),
        "case:concept:name": [row[0] for row in rows],
        "case:REG_DATE": pa.array([START] * len(rows), pa.timestamp("us", tz="UTC")),
        "case:AMOUNT_REQ": [5000] * len(rows),
        "concept:name": [row[1] for row in rows],
        "lifecycle:transition": [row[2] for row in rows],
        "org:resource": pa.array([None] * len(rows), pa.string()),
        "time:timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
        **columns,
    }
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(table), folder / "any name.parquet")
    return folder


def test_work_has_attempts_by_its_starts(tmp_path: Path) -> None:
    work = "W_Valideren aanvraag"
    lifecycles = ["SCHEDULE", "START", "COMPLETE", "START", "COMPLETE", "COMPLETE", "SCHEDULE", "START"]
    rows = [("1", work, lifecycle, float(minute)) for minute, lifecycle in enumerate(lifecycles)]
    steps = [event.data for event in events_of(open_folder(loan_log(tmp_path / "a", rows))) if "step" in event.data]
    assert [(step["status"], step["attempt"]) for step in steps] == [
        ("scheduled", 1),
        ("started", 1),
        ("completed", 1),
        ("started", 2),
        ("completed", 2),
        ("completed", 2),
        ("scheduled", 3),
        ("started", 3),
    ]
    assert {step["participant"] for step in steps} == {"workforce"}


def test_a_case_starts_once_and_ends_at_its_last_terminal_state(tmp_path: Path) -> None:
    rows = [
        ("7", "A_SUBMITTED", "COMPLETE", 0.0),
        ("8", "A_SUBMITTED", "COMPLETE", 0.0),
        ("7", "O_CANCELLED", "COMPLETE", 1.0),
        ("7", "A_APPROVED", "COMPLETE", 2.0),
        ("7", "A_REGISTERED", "COMPLETE", 2.0),
        ("7", "A_ACTIVATED", "COMPLETE", 2.0),
        ("7", "W_Valideren aanvraag", "COMPLETE", 3.0),
        ("9", "A_SUBMITTED", "COMPLETE", 4.0),
        ("9", "A_DECLINED", "COMPLETE", 5.0),
    ]
    events = events_of(open_folder(loan_log(tmp_path / "a", rows)))
    assert [event.type.rpartition(".")[2] for event in events if event.subject == "7"] == [
        *["started", "step", "step", "step", "step", "step", "completed", "step"]
    ]
    by_id = {event.id: event for event in events}
    assert by_id["7/started"].data == {"saga_type": "loan_application", "amount": 5000.0}
    assert by_id["7/102"].data["status"] == "compensated"
    assert by_id["7/ended"].time == START + timedelta(minutes=2)
    assert by_id["9/ended"].data == {"saga_type": "loan_application", "reason": "business", "detail": "declined"}
    assert "8/ended" not in by_id
    assert len(by_id) == len(events) == len(rows) + 3 + 2


def test_a_log_without_its_index_column_is_numbered(tmp_path: Path) -> None:
    folder = loan_log(tmp_path / "a", [("1", "A_SUBMITTED", "COMPLETE", 0.0)])
    file = next(folder.iterdir())
    pq.write_table(pq.read_table(file).drop(["event_index"]), file)
    assert {event.id for event in events_of(open_folder(folder))} == {"1/started", "1/0"}


def test_what_a_row_lacks_is_for_the_router_to_say(tmp_path: Path) -> None:
    folder = loan_log(tmp_path / "a", [("1", "A_SUBMITTED", "COMPLETE", 0.0)], **{"concept:name": [""]})
    messages = open_folder(folder).render(np.arange(2))
    assert [decode(message.value).data.get("step") for message in messages] == [None, ""]
    with pytest.raises(ValueError, match="step"):
        validate(messages[1].value)


def test_bpic_2012_gives_every_row_once() -> None:
    source = open_folder(data_set("saga_bpic2012"))
    rows = np.arange(len(source))
    kinds = Counter({part.type: len(part.times) for part in source.parts})
    assert kinds["isthmus.saga.step"] == 187_389
    assert (kinds["isthmus.saga.started"], kinds["isthmus.saga.completed"], kinds["isthmus.saga.aborted"]) == (
        *(9_233, 1_639, 7_583),
    )
    assert source.distinct(rows) == len(source) == 205_844
    assert source.sagas(rows) == 9_233
    for message in source.render(rows[::997]):
        validate(message.value)


def test_bpic_2013_is_told_by_tickets_without_names() -> None:
    source = open_folder(data_set("incidents_bpic2013"))
    events = events_of(source)
    assert Counter(event.type.rpartition(".")[2] for event in events) == {
        "started": 4_646,
        "step": 47_878,
        "completed": 4_645,
        "aborted": 1,
    }
    assert all(event.data["worker"].startswith("person-") for event in events if "worker" in event.data)
    assert source.distinct(np.arange(len(source))) == len(source)


@pytest.mark.parametrize(("name", "sagas"), [("traces_nezha_onlineboutique", 684)])
def test_traces_are_steps_with_load_and_natural_duplicates(name: str, sagas: int) -> None:
    source = open_folder(data_set(name))
    events = events_of(source)
    assert source.sagas(np.arange(len(source))) == sagas
    same: dict[tuple[str, str], set[str]] = {}
    for event in events:
        same.setdefault((event.source, event.id), set()).add(repr(event.data))
    assert all(len(contents) == 1 for contents in same.values()), "one id, two contents"
    assert source.distinct(np.arange(len(source))) == len(same) < len(events)
    steps = [event for event in events if event.type == "isthmus.saga.step"]
    assert max(step.data["load"] for step in steps) > 3
    assert {"checkoutservice", "paymentservice"} <= {step.data["participant"] for step in steps}
    metrics = [event for event in events if event.type == "isthmus.service.metrics"]
    assert {"cartservice", "frontend"} <= {event.subject for event in metrics}


def test_spans_open_at_a_spans_start_are_its_load(tmp_path: Path) -> None:
    second = 1_000_000_000
    spans = [("t", "a", "root", 0, 10), ("t", "b", "a", 1, 4), ("t", "c", "a", 2, 3), ("t", "d", "a", 4, 5)]
    spans.append(spans[1])  # collected twice
    table = {
        "TraceID": [span[0] for span in spans],
        "SpanID": [span[1] for span in spans],
        "ParentID": [span[2] for span in spans],
        "PodName": ["cart-5f6585d649-fnmft"] * len(spans),
        "OperationName": ["op"] * len(spans),
        "StartTimeUnixNano": [(1_700_000_000 + span[3]) * second for span in spans],
        "EndTimeUnixNano": [(1_700_000_000 + span[4]) * second for span in spans],
    }
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    events = events_of(open_folder(tmp_path))
    steps = {event.id: event.data for event in events if event.type == "isthmus.saga.step"}
    # Span b ends in the instant in which d begins: it is not open any more.
    assert {name: step["load"] for name, step in steps.items()} == {"t/a": 0, "t/b": 1, "t/c": 2, "t/d": 1}
    assert steps["t/b"]["participant"] == "cart"
    assert steps["t/b"]["duration_ms"] == 3000
    assert [event.type.rpartition(".")[2] for event in events if event.type != "isthmus.saga.step"] == [
        *["started", "completed"]
    ]


def test_an_unknown_folder_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(UnknownData, match="not a folder"):
        open_folder(tmp_path / "nothing")
    with pytest.raises(UnknownData, match="no Parquet file"):
        open_folder(tmp_path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(UnknownData, match=r"x\.parquet \(a\)"):
        open_folder(tmp_path)
