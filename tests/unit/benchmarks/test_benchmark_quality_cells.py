"""The benchmark of wrong cells: which folders it reads, and what its last line says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import quality_cells
from benchmarks.cells.unseen import articles, departures
from benchmarks.quality_cells import BadData, scored, tables_of


def put(folder: Path, *, wrong: bool = True, packed: bool = False) -> None:
    folder.mkdir(parents=True)
    clean = pd.DataFrame({"k": [f"k{i % 4}" for i in range(60)], "v": [f"value {i % 4}" for i in range(60)]})
    dirty = clean.rename(columns={"v": "V"})
    if wrong:
        dirty.loc[[3, 30], "V"] = ["valxe 3", ""]
    end = ".csv.gz" if packed else ".csv"
    clean.to_csv(folder / f"clean{end}", index=False)
    dirty.to_csv(folder / f"dirty{end}", index=False)


def test_one_folder_or_many_are_read_by_position(tmp_path: Path) -> None:
    put(tmp_path / "one")
    put(tmp_path / "two", packed=True)
    assert list(tables_of(tmp_path)) == ["one", "two"]
    dirty, wrong = tables_of(tmp_path / "one")["one"]
    assert dirty.iloc[30, 1] == ""
    assert np.argwhere(wrong).tolist() == [[3, 1], [30, 1]]


def test_what_cannot_be_scored_is_explained(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no folder"):
        tables_of(tmp_path / "none")
    with pytest.raises(BadData, match=r"no dirty\.csv"):
        tables_of(tmp_path)
    put(tmp_path / "one")
    (tmp_path / "one" / "clean.csv").write_text("k,v\na,b\n")
    with pytest.raises(BadData, match="both need the same"):
        tables_of(tmp_path)
    (tmp_path / "one" / "clean.csv").unlink()
    with pytest.raises(BadData, match=r"no clean\.csv"):
        tables_of(tmp_path)


def test_labelled_rows_are_left_out_of_the_score() -> None:
    wrong = np.array([[True], [False], [True]])
    said = np.array([[True], [True], [False]])
    assert scored(wrong, said) == pytest.approx((0.5, 0.5, 0.5))
    assert scored(wrong, said, np.array([1, 2])) == pytest.approx((1, 1, 1))
    assert scored(wrong, ~wrong & False) == (0, 0, 0)


def test_the_last_line_has_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "one")
    monkeypatch.setattr("sys.argv", ["quality_cells.py", "--data", str(tmp_path), "--seeds", "1"])
    quality_cells.main()
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert {"f1_0_labels_mean", "f1_20_labels_mean", "f1_20_labels_mean_rules", "one_recall_0_labels"} <= set(last)
    assert 0 <= last["f1_20_labels_mean_isolation_forest"] <= 1


@pytest.mark.parametrize("make", [departures, articles])
def test_made_tables_are_seeded_and_wrong_in_a_tenth_to_a_third_of_their_cells(
    make: Callable[[np.random.Generator], tuple[dict[str, list[str]], dict[str, list[str]]]],
) -> None:
    dirty, clean = make(np.random.default_rng(1))
    assert (dirty, clean) == make(np.random.default_rng(1))
    wrong = np.array([[a != b for a, b in zip(dirty[name], clean[name], strict=True)] for name in dirty])
    assert 0.05 < wrong.mean() < 0.35
