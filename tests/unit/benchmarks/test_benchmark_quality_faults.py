"""The benchmark of faults: its file is read strictly, every edit changes what it says, and the truth is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.faults.inject import Faulty
from benchmarks.faults.score import verdict_right
from benchmarks.faults.spec import EDITS, FaultsError, parse_faults, read_faults
from benchmarks.faults.stream import LAYOUT
from ml.verdicts.types import COLLAPSED, QUARANTINED, REPAIRED, SERVED, Judged


def stream(hours: int = 40) -> dict[str, pd.DataFrame]:
    rows = hours * 60
    at = np.datetime64("2026-03-02", "us") + (np.arange(rows) * 60_000_000).astype("timedelta64[us]")
    frame = pd.DataFrame(
        {
            "event_type": np.tile(["a", "b"], rows // 2).astype(object),
            "source": np.array(["/s"] * rows, object),
            LAYOUT.name: [f"id-{n}" for n in range(rows)],
            LAYOUT.entity: [f"thing-{n % 7}" for n in range(rows)],
            LAYOUT.time: at,
            "x": np.arange(rows) + 0.25,
            "y": np.arange(rows) * 2.5 + 1,
            "word": [f"word-{n % 5} Long" for n in range(rows)],
        }
    )
    frame[LAYOUT.arrival] = at + np.timedelta64(1_000_000, "us")
    return {"t": frame}


OPTIONS = {
    "column.set": {"value": -1}, "column.scale": {"by": 10}, "column.add": {"by": 3}, "time.shift": {"by": "1h"},
    "time.delay": {"by": "90m"}, "time.truncate": {"to": "hour"},
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_does_something_and_the_truth_says_what(name: str) -> None:
    edit = {"edit": name, **OPTIONS.get(name, {})}
    classes = parse_faults([{"name": "f", "edits": [edit], "rate": 0.1, "incidents": 2}])
    faulty = Faulty(stream(), classes, seed=3)
    assert len(faulty.incidents) == 2
    clean = faulty.clean["t"]
    rows, odd = 0, 0
    for batch in faulty.batches():
        rows += len(batch.frame)
        odd += int(batch.touched.sum()) + (list(batch.frame.columns) != list(clean.columns))
        assert len(batch.frame) == len(batch.origin) == len(batch.copy) == len(batch.late)
    changed = {"row.drop": -12, "row.cut": -12, "row.duplicate": 12, "row.copy": 12}.get(name, 0)
    # The last hour holds what was on its way, and is left out.
    assert rows == len(clean) - 60 + changed
    if name not in ("row.drop", "row.cut", "schema.text", "schema.swap", "schema.add"):
        assert odd


def test_edits_compose_on_the_same_rows() -> None:
    classes = parse_faults(
        [
            {
                "name": "f",
                "incidents": 1,
                "rate": 0.1,
                "edits": [{"edit": "row.duplicate"}, {"edit": "time.delay", "by": "2h"}],
            }
        ]
    )
    faulty = Faulty(stream(), classes, seed=1)
    late = sum(int(batch.late.sum()) for batch in faulty.batches())
    copies = sum(int(batch.copy.sum()) for batch in faulty.batches())
    assert (late, copies) == (12, 6)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, '"classes"'),
        ([{"name": "a"}], '"edits"'),
        ([{"name": "a", "edits": [{"edit": "column.explode"}]}], "known are column.null"),
        ([{"name": "a", "edits": [{"edit": "column.scale"}]}], "needs by"),
        ([{"name": "a", "edits": [{"edit": "column.null", "by": 2}]}], "no options"),
        ([{"name": "a", "edits": "column.null", "rate": 2}], "rate is a share"),
        ([{"name": "a", "edits": "column.null", "rate": "often"}], "rate is a number"),
        ([{"name": "a", "edits": "column.null", "speed": 1}], "unknown keys speed"),
        ([{"name": "a", "edits": [{"edit": "time.shift", "by": "soon"}]}], "no duration"),
        ([{"name": "a", "edits": "column.null"}] * 2, "one name"),
        ([{"name": "a", "edits": "column.null", "incidents": 0}], "at least 1"),
    ],
)
def test_a_wrong_file_says_what_to_change(content: object, words: str) -> None:
    with pytest.raises(FaultsError, match=words):
        parse_faults(content)


def test_the_file_is_found_or_missed_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(FaultsError, match=r"faults\.json"):
        read_faults(tmp_path)
    (tmp_path / "faults.json").write_text("{")
    with pytest.raises(FaultsError, match="not JSON"):
        read_faults(tmp_path)
    (tmp_path / "faults.json").write_text(json.dumps({"rate": 0.5, "faults": {"a": {"edits": "row.drop"}}}))
    (one,) = read_faults(tmp_path)
    assert (one.name, one.rate) == ("a", 0.5)


def test_the_shipped_classes_are_enough_and_some_were_not_seen() -> None:
    classes = read_faults(Path(__file__).resolve().parents[3] / "benchmarks" / "faults")
    assert len(classes) >= 12
    assert sum(one.held_back for one in classes) >= 4


def test_what_cannot_be_placed_says_so() -> None:
    with pytest.raises(FaultsError, match="hours"):
        Faulty(stream(5), parse_faults([{"name": "a", "edits": "column.null", "incidents": 40}]), seed=1)
    with pytest.raises(FaultsError, match="no table"):
        Faulty(stream(), parse_faults([{"name": "a", "table": "u", "edits": "column.null"}]), seed=1)
    with pytest.raises(FaultsError, match="no column 'z' in t; there are appended_at"):
        Faulty(stream(), parse_faults([{"name": "a", "edits": [{"edit": "column.null", "column": "z"}]}]), seed=1)
    nowhere = {"name": "a", "edits": "column.null", "where": {"event_type": "c"}}
    with pytest.raises(FaultsError, match="in no table does a row qualify"):
        Faulty(stream(), parse_faults([nowhere]), seed=1)


def test_a_verdict_is_right_only_where_the_row_is() -> None:
    faulty = Faulty(
        stream(),
        parse_faults([{"name": "f", "edits": [{"edit": "column.scale", "column": "x", "by": 9}], "incidents": 1}]),
        seed=2,
    )
    batch = next(batch for batch in faulty.batches() if batch.touched.any())
    clean = faulty.clean["t"].iloc[batch.origin]
    names = [name for name in clean.columns if name != LAYOUT.arrival]
    bad = batch.touched
    for verdict, right in ((SERVED, ~bad), (QUARANTINED, bad), (COLLAPSED, np.zeros(len(bad), bool)), (REPAIRED, ~bad)):
        judged = Judged(batch.frame, np.full(len(bad), verdict, np.int8), np.zeros(len(bad), np.bool_))
        assert (verdict_right(judged, clean, names, batch, bad) == right).all()
