"""The benchmark of root cause: what it reads of a folder, whatever lies in it, and what it prints."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import root_cause
from benchmarks.blame.data import NoFaults, open_faults
from resources.settings import get_settings
from tests.small_system import MINUTE, SERVICES, Fault, traffic

START = 1_700_000_000_000_000


def pod(service: pd.Series) -> pd.Series:
    return service + "-5dc8d4f9fd-46997"


def words(us: pd.Series) -> pd.Series:
    return pd.to_datetime(us, unit="us").dt.strftime("%Y-%m-%d %H:%M:%S") + ".5 +0000 UTC m=+0.1"


def write(folder: Path, *, spans: bool = True, logs: bool = True, metrics: bool = True, nested: bool = False) -> Path:
    """Write an hour with two faults, in the form of the public sets."""
    folder.mkdir(exist_ok=True)
    faults = [(20, Fault(own_ms={"stock": 60}, cpu="stock"), "stock"), (40, Fault(fails="user", cpu="user"), "user")]
    parts = [traffic(seed=0, minutes=10)]
    for minute, fault, _ in faults:
        parts += [traffic(seed=minute, minutes=2, start=minute - 3), traffic(fault, minutes=3, start=minute)]
    frames: dict[str, Any] = {
        name: pd.concat([getattr(part, name) for part in parts]) for name in ("spans", "logs", "metrics")
    }
    if spans:
        table = frames["spans"]
        columns = {
            "TraceID": table["trace"],
            "SpanID": table["span"],
            "ParentID": table["parent"].mask(table["parent"] == "", "root"),
            "PodName": pod(table["service"]),
            "OperationName": table["operation"],
            "StartTimeUnixNano": table["start_us"] * 1000,
            "EndTimeUnixNano": table["end_us"] * 1000,
        }
        pd.DataFrame(columns).to_parquet(folder / "faulty_spans.parquet")
    if logs:
        table = frames["logs"]
        lines = [
            json.dumps({"log": f"10:00:00.1 {text}\n", "stream": "stdout", "time": f"{time[:10]}T{time[11:19]}.1Z"})
            for text, time in zip(table["text"], words(table["time_us"]), strict=True)
        ]
        lines = [line.replace('": "', '":"').replace('", "', '","') for line in lines]
        columns = {"TraceID": table["trace"], "SpanID": table["span"], "PodName": pod(table["service"]), "Log": lines}
        pd.DataFrame(columns).to_parquet(folder / "faulty_logs.parquet")
    if metrics:
        table = frames["metrics"]
        columns = {"Time": words(table["time_us"] + MINUTE // 2), "PodName": pod(table["service"])}
        columns |= {"CpuUsage(m)": table["cpu"], "PodServerLatencyP90(s)": table["latency"] / 1000}
        pd.DataFrame(columns).to_parquet(folder / "pod_metrics.parquet")
    rows = [
        {
            "inject_time": datetime.fromtimestamp((START + minute * MINUTE) / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            "inject_timestamp": "1",
            "inject_pod": f"{service}-5dc8d4f9fd-46997",
            "inject_type": "unknown",
        }
        for minute, _, service in faults
    ]
    (folder / "fault_list.json").write_text(json.dumps({"03": rows[:1], "04": rows[1:]} if nested else rows))
    (folder / "aside.json").write_text(json.dumps({"stock": {"return": "some line"}}))
    return folder


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["root_cause.py", *arguments])
    root_cause.main()
    line: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return line


@pytest.mark.parametrize(
    "there",
    [
        {},
        {"nested": True},
        {"logs": False},
        {"metrics": False},
        {"spans": False, "logs": False},
        {"spans": False, "nested": True},
    ],
)
def test_a_folder_is_scored_with_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, there: dict[str, bool]
) -> None:
    line = run(capsys, monkeypatch, "--data", str(write(tmp_path / "set", **there)), "--quick", "--faults")
    assert line["faults"] == 2
    assert line["top1"] == line["top3"] == 1.0
    for peer in root_cause.PEERS:
        assert 0.0 <= line[f"baseline_{peer}_top1"] <= line[f"baseline_{peer}_top3"] <= 1.0
    assert line["top1_exact_low"] == pytest.approx(0.1581, abs=1e-3)


def test_windows_and_reference_have_no_row_in_common_and_no_type(tmp_path: Path) -> None:
    folder = open_faults(write(tmp_path / "set"))
    assert [fault.service for fault in folder.faults] == ["stock", "user"]
    assert not hasattr(folder.faults[0], "type")
    usual = folder.traces_reference()
    assert usual.spans is not None
    assert usual.logs is not None
    for fault in folder.faults:
        window, near = folder.window(fault), folder.metrics_reference(fault)
        assert window.spans is not None
        assert window.metrics is not None
        assert near.metrics is not None
        assert window.spans["trace"].nunique() == 45
        assert not set(window.spans["trace"]) & set(usual.spans["trace"])
        assert not set(window.metrics["time_us"]) & set(near.metrics["time_us"])
        assert set(window.spans["service"]) == set(SERVICES)
    assert usual.logs["text"].str.startswith("INFO").all()


def test_a_folder_without_what_is_needed_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoFaults, match="is not a folder"):
        open_faults(tmp_path / "nowhere")
    folder = write(tmp_path / "set", spans=False, logs=False, metrics=False)
    with pytest.raises(NoFaults, match="no Parquet file with the columns"):
        open_faults(folder)
    (folder / "fault_list.json").unlink()
    with pytest.raises(NoFaults, match="no JSON file lists faults"):
        open_faults(folder)
    with pytest.raises(SystemExit):
        run(capsys, monkeypatch, "--data", str(folder))


def test_a_window_without_data_is_a_miss_and_not_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "set")
    faults = json.loads((folder / "fault_list.json").read_text())
    faults.append({"inject_time": "2024-05-01 00:00:00", "inject_pod": "shop-5dc8d4f9fd-46997"})
    (folder / "fault_list.json").write_text(json.dumps(faults))
    line = run(capsys, monkeypatch, "--data", str(folder), "--quick", "--faults")
    assert line["top1"] == pytest.approx(2 / 3, abs=1e-3)


def test_the_faults_of_onlineboutique_are_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = get_settings().data / root_cause.SETS[1]
    if not folder.is_dir():
        pytest.skip(f"no data set at {folder} (ISTHMUS_DATA names the folder of the data sets)")
    monkeypatch.setattr(root_cause, "PEERS", ("deviation",))  # the cheapest: the others take seconds
    line = run(capsys, monkeypatch, "--data", str(folder), "--quick")
    assert line["faults"] == 24
    assert line["top1"] >= 0.9
    assert line["top1"] > line["baseline_deviation_top1"]
