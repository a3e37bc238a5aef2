"""Wrong cells of dirty tables: precision, recall and F1 without labels and with 20 labelled rows, beside two baselines.

``python benchmarks/quality_cells.py [--data PATH] [--seeds N] [--quick]``: PATH (default ``dq_raha``) is a folder with
``dirty.csv`` and ``clean.csv`` (``.gz`` too), or a folder of such folders. A cell is wrong where the texts at its
position differ. With labels: the method chooses the rows (its groups are drawn anew each time), the 20 rows are left
out of the score; mean over N draws (10). The baselines know the same: rules of Great Expectations' vocabulary set up
from the column's own profile, and an isolation forest over each column's plain features. Their settings without
labels are those that did best on made tables; with labels, those that do best on the labelled rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table as Printed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from assets.quality.cell_model import shipped
from benchmarks.cells.baselines import forest_scores, rule_sets
from ml.cells.detector import ROWS, Detector, threshold
from ml.cells.table import BadTable, table
from resources.settings import get_settings

PUBLISHED = {"hospital": 0.72, "beers": 0.99, "flights": 0.81, "rayyan": 0.79}
"""Raha's F1 with 20 labelled rows (Mahdavi et al., SIGMOD 2019): printed beside a table of that name, used nowhere."""
MEANS = "Raha 0.85, Rotom 0.90, ETSB-RNN 0.91 (means of five tables without flights; with it Raha 0.85, ETSB-RNN 0.88)"
_QUICK_ROWS = 3_000


class BadData(ValueError):
    """The folder is none that can be scored; the message says what to change."""


def tables_of(folder: Path) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    """Return per table its dirty form and which of its cells are wrong (rows, columns).

    A table whose two forms cannot be compared is left out, and said; raises :class:`BadData` where none is left.
    """
    if not folder.is_dir():
        raise BadData(f"{folder} is no folder")
    places = (
        [folder] if _file(folder, "dirty") else sorted(p for p in folder.iterdir() if p.is_dir() and _file(p, "dirty"))
    )
    if not places:
        raise BadData(f"{folder} has no dirty.csv, and no folder in it has one")
    found, problems = {}, []
    for place in places:
        try:
            dirty, clean = _read(place, "dirty"), _read(place, "clean")
        except BadData as error:
            problems.append(str(error))
            continue
        if dirty.shape != clean.shape:
            problems.append(
                f"{place.name}: dirty has {dirty.shape} rows and columns, clean {clean.shape}; both need the same"
            )
            continue
        found[place.name] = dirty, dirty.to_numpy() != clean.to_numpy()
    if not found:
        raise BadData("; ".join(problems))
    for problem in problems:
        sys.stderr.write(f"left out: {problem}\n")
    return found


def _file(place: Path, name: str) -> Path | None:
    return next((path for path in sorted(place.glob(f"{name}.csv*"))), None)


def _read(place: Path, name: str) -> pd.DataFrame:
    path = _file(place, name)
    if path is None:
        raise BadData(f"{place} has no {name}.csv")
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_filter": False, "header": 0}
    try:
        found = pd.read_csv(path, encoding="utf-8", **options)
    except UnicodeDecodeError:
        found = pd.read_csv(path, encoding="latin-1", **options)
    return pd.DataFrame(found)


def scored(wrong: np.ndarray, said: np.ndarray, left_out: np.ndarray | None = None) -> tuple[float, float, float]:
    """Return precision, recall and F1 over all cells, those of the rows ``left_out`` apart."""
    keep = np.ones(len(wrong), dtype=bool)
    if left_out is not None:
        keep[left_out] = False
    wrong, said = wrong[keep], said[keep]
    hit = int((wrong & said).sum())
    precision, recall = hit / max(int(said.sum()), 1), hit / max(int(wrong.sum()), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-12)


def look(dirty: pd.DataFrame, wrong: np.ndarray, draws: int) -> dict[str, Any]:
    """Return every figure of one table."""
    started = time.perf_counter()
    coded = table([(str(name), dirty.iloc[:, place].tolist()) for place, name in enumerate(dirty.columns)])
    detector = Detector(coded, shipped())
    p = detector.unlabelled
    out: dict[str, Any] = {"cells": wrong.size, "wrong": int(wrong.sum()), "seconds_0": time.perf_counter() - started}
    out["0"] = [scored(wrong, p >= threshold(p))]
    rules, default = rule_sets(coded)
    forest, cut = forest_scores(coded)
    out["rules_0"] = [scored(wrong, rules[default])]
    out["forest_0"] = [scored(wrong, forest >= cut)]
    out["20"], out["rules_20"], out["forest_20"] = [], [], []
    seconds = []
    for seed in range(draws):
        started = time.perf_counter()
        labelled, asked = detector.learn(lambda rows: wrong[rows], seed=seed)
        seconds.append(time.perf_counter() - started)
        rest = np.delete(labelled, asked, axis=0)
        cutoff = threshold(rest) if len(rest) else 0.5
        out["20"].append(scored(wrong, labelled >= cutoff, asked))
        truth = wrong[asked]
        best = max(rules, key=lambda name: (scored(truth, rules[name][asked])[2], name == default))
        out["rules_20"].append(scored(wrong, rules[best], asked))
        cuts = [cut, *np.quantile(forest, np.linspace(0.5, 0.999, 60))]
        out["forest_20"].append(
            scored(wrong, forest >= max(cuts, key=lambda c: scored(truth, forest[asked] >= c)[2]), asked)
        )
    out["seconds_20"] = float(np.mean(seconds))
    return out


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of one table, or of folders of tables")
    parser.add_argument("--seeds", type=int, default=10, help="draws of the labelled rows")
    parser.add_argument("--quick", action="store_true", help=f"two draws, tables cut to {_QUICK_ROWS} rows")
    arguments = parser.parse_args()
    folder = arguments.data or Path(get_settings().data) / "dq_raha"
    draws = 2 if arguments.quick else max(1, arguments.seeds)
    try:
        found = tables_of(folder)
    except BadData as error:
        parser.error(str(error))
    console = Console()
    figures: dict[str, Any] = {}
    for name, (dirty, wrong) in found.items():
        most = _QUICK_ROWS if arguments.quick else len(dirty)
        try:
            figures[name] = look(dirty.iloc[:most], wrong[:most], draws)
        except BadTable as error:
            console.print(f"[yellow]{name} is left out: {error}[/yellow]")
    if not figures:
        parser.error(f"no table of {folder} could be scored")
    last = summary(figures)
    show(console, figures, last, draws)
    print(json.dumps(last))


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the last line."""
    last: dict[str, Any] = {}
    for arm, key in (("", ""), ("rules_", "_rules"), ("forest_", "_isolation_forest")):
        for labels in ("0", "20"):
            means = [float(np.mean([draw[2] for draw in one[f"{arm}{labels}"]])) for one in figures.values()]
            last[f"f1_{labels}_labels_mean{key}"] = round(float(np.mean(means)), 4)
            for name, one in figures.items():
                for place, measure in enumerate(("precision", "recall", "f1")):
                    mean = float(np.mean([draw[place] for draw in one[f"{arm}{labels}"]]))
                    last[f"{name}_{measure}_{labels}_labels{key}"] = round(mean, 4)
    for name, one in figures.items():
        last[f"{name}_f1_20_labels_deviation"] = round(float(np.std([draw[2] for draw in one["20"]])), 4)
        last[f"{name}_seconds_0"], last[f"{name}_seconds_20"] = round(one["seconds_0"], 2), round(one["seconds_20"], 2)
    return last


def show(console: Console, figures: dict[str, Any], last: dict[str, Any], draws: int) -> None:
    """Print the table for people, and whether the aims are met."""
    printed = Printed(title=f"Wrong cells: precision / recall / F1; {ROWS} labelled rows: mean of {draws} draws")
    for heading in ("table", "labelled rows", "Isthmus", "rules", "isolation forest", "Raha, published", "seconds"):
        printed.add_column(heading)
    for name, one in figures.items():
        for labels in ("0", "20"):
            cells = [
                " / ".join(f"{last[f'{name}_{m}_{labels}_labels{key}']:.2f}" for m in ("precision", "recall", "f1"))
                for key in ("", "_rules", "_isolation_forest")
            ]
            spread = f" ± {last[f'{name}_f1_20_labels_deviation']:.2f}" if labels == "20" else ""
            peer = f"{PUBLISHED[name]:.2f}" if labels == "20" and name in PUBLISHED else ""
            what = f"{name} ({one['wrong']} of {one['cells']})" if labels == "0" else ""
            printed.add_row(what, labels, cells[0] + spread, *cells[1:], peer, f"{one[f'seconds_{labels}']:.1f}")
    console.print(printed)
    console.print(f"Published elsewhere, 20 labelled rows: {MEANS}.")
    console.print(f"Aim without labels, mean F1 0.6: {'met' if last['f1_0_labels_mean'] >= 0.6 else 'MISSED'}")
    for name in figures:
        if name in PUBLISHED:
            f1 = last[f"{name}_f1_20_labels"]
            verdict = "met" if f1 >= PUBLISHED[name] else "MISSED"
            console.print(f"Aim on {name} with {ROWS} rows, Raha's {PUBLISHED[name]:.2f}: {verdict} ({f1:.3f})")


if __name__ == "__main__":
    main()
