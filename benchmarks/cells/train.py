"""Train the trees that ``ml/cells`` ships, on made faults in clean tables; ``dq_raha`` is never read.

``uv run --with faker python benchmarks/cells/train.py --tables 470 --out model.npz`` (about half an hour on two cores).
Tables are dealt into two halves. The first look is fitted on each half; the second, and then the third with 20
simulated labelled rows, on what the other half's trees said of this half, so that no look learns from its own answers.
Both halves' trees are shipped and averaged. Prints the F1 of each half's trees on tables of the other half.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.cells.faults import corrupt
from benchmarks.cells.worlds import world
from ml.cells.detector import FEATURES, ROWS, Detector, Model, probability, threshold
from ml.cells.features import SECOND, evidence, second_look
from ml.cells.table import table
from ml.cells.trees import Trees
from resources.settings import get_settings

#: Cells of one table that train a look: right ones, wrong ones. They are weighted back to the table's own shares.
_PICKED = (1_100, 600)
_ROUNDS = {"first": 160, "second": 160, "third": 200}
Picked = tuple[np.ndarray, np.ndarray, np.ndarray]


def fitted(parts: list[Picked], names: tuple[str, ...], rounds: int) -> Trees:
    """Return trees fitted to (matrix, labels, weights) of many tables; each table weighs the same."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    matrix, label, weight = (np.concatenate([part[place] for part in parts]) for place in range(3))
    model = HistGradientBoostingClassifier(
        max_iter=rounds, learning_rate=0.08, max_leaf_nodes=24, min_samples_leaf=60, l2_regularization=5,
        random_state=0, max_features=0.3,
    )  # fmt: skip
    return Trees.from_sklearn(model.fit(matrix, label, sample_weight=weight / weight.mean()), names)


def picked(matrix: np.ndarray, wrong: np.ndarray, rng: np.random.Generator, among: np.ndarray | None = None) -> Picked:
    """Return some cells of a table with weights that restore their shares."""
    places, weights = [], []
    for side, most in zip((False, True), _PICKED, strict=True):
        here = np.flatnonzero((wrong == side) & (True if among is None else among))
        some = here if len(here) <= most else rng.choice(here, most, replace=False)
        places.append(some)
        weights.append(np.full(len(some), len(here) / max(len(some), 1) / len(wrong)))
    place = np.concatenate(places)
    return matrix[place].astype(np.float32), wrong[place], np.concatenate(weights)


def make(seed: int, folder: Path) -> None:
    """Keep the evidence and the truth of one dirty table."""
    rng = np.random.default_rng([8, seed])
    dirty, clean = corrupt(world(rng, Path(get_settings().data)), rng)
    wrong = dirty.to_numpy() != clean.to_numpy()
    coded = table([(str(name), dirty.iloc[:, place].tolist()) for place, name in enumerate(dirty.columns)])
    with (folder / f"{seed:04d}.pkl").open("wb") as file:
        pickle.dump((evidence(coded), wrong), file, -1)


def _tables(folder: Path, half: int) -> list[tuple[int, Any, np.ndarray]]:
    found = []
    for path in sorted(folder.glob("*.pkl")):
        if int(path.stem) % 2 == half:
            with path.open("rb") as file:
                found.append((int(path.stem), *pickle.load(file)))
    return found


def first(folder: Path, half: int) -> Trees:
    """Fit the first look of a half."""
    rng = np.random.default_rng(half)
    tables = _tables(folder, half)
    parts = [picked(found.matrix, wrong.T.ravel(), rng) for _, found, wrong in tables]
    return fitted(parts, tables[0][1].names, _ROUNDS["first"])


def second(folder: Path, half: int, other: Trees) -> tuple[Trees, np.ndarray]:
    """Fit the second look of a half on what the other half's first look says of it; return the evidence's scale too."""
    rng = np.random.default_rng(half)
    parts = []
    tables = _tables(folder, half)
    for _, found, wrong in tables:
        p = probability(other.logit(found.matrix)).reshape(wrong.shape[::-1]).T
        both = np.concatenate([found.matrix, second_look(found, p)], axis=1)
        parts.append(picked(both, wrong.T.ravel(), rng))
    names = (*tables[0][1].names, *SECOND)
    return fitted(parts, names, _ROUNDS["second"]), np.concatenate([part[0] for part in parts]).std(axis=0)


def third(folder: Path, half: int, other: Model) -> Trees:
    """Fit the third look of a half: 20 rows of each table are asked, the other half's looks come before."""
    parts = []
    tables = _tables(folder, half)
    for seed, found, wrong in tables:
        rng = np.random.default_rng([half, seed])
        detector = Detector(found.table, other)
        asked, answers = detector.questions(_oracle(wrong), min(ROWS, len(wrong) // 2), seed)
        rest = np.ones(len(wrong), dtype=bool)
        rest[asked] = False
        matrix = detector.labelled_matrix(asked, answers, seed)
        parts.append(picked(matrix, wrong.T.ravel(), rng, np.tile(rest, wrong.shape[1])))
    return fitted(parts, (*tables[0][1].names, *FEATURES), _ROUNDS["third"])


def _oracle(wrong: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: wrong[rows]


def held_out(folder: Path, half: int, model: Model) -> list[tuple[float, float]]:
    """Return F1 without labels and with 20 rows on some tables that ``model`` has not seen."""
    figures = []
    for seed, found, wrong in _tables(folder, half)[::5]:
        if not wrong.any() or len(wrong) <= 2 * ROWS:
            continue
        detector = Detector(found.table, model)
        p = detector.unlabelled
        labelled, asked = detector.learn(_oracle(wrong), seed=seed)
        rest, truth = np.delete(labelled, asked, axis=0), np.delete(wrong, asked, axis=0)
        figures.append((_f1(wrong, p >= threshold(p)), _f1(truth, rest >= threshold(rest))))
    return figures


def _f1(wrong: np.ndarray, said: np.ndarray) -> float:
    return float(2 * (wrong & said).sum() / max(wrong.sum() + said.sum(), 1))


def main() -> None:
    """Make tables, fit, write, and tell what was reached on tables of the other half."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=470)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(2) as pool:
        folder = Path(name)
        list(pool.map(make, range(arguments.tables), [folder] * arguments.tables))
        firsts = list(pool.map(first, [folder] * 2, (0, 1)))
        seconds = list(pool.map(second, [folder] * 2, (0, 1), firsts[::-1]))
        scale = np.maximum((seconds[0][1] + seconds[1][1]) / 2, 1e-3)
        before = [Model((firsts[half],), (seconds[half][0],), (), scale) for half in (0, 1)]
        thirds = list(pool.map(third, [folder] * 2, (0, 1), before[::-1]))
        model = Model(tuple(firsts), tuple(trees for trees, _ in seconds), tuple(thirds), scale)
        np.savez_compressed(arguments.out, **model.arrays())
        alone = [Model((firsts[h],), (seconds[h][0],), (thirds[h],), scale) for h in (0, 1)]
        figures = np.array([pair for half in (0, 1) for pair in held_out(folder, half, alone[1 - half])])
    without, labelled = figures.mean(axis=0)
    print(f"{len(figures)} held-out tables, mean F1: {without:.3f} without labels, {labelled:.3f} with {ROWS} rows")


if __name__ == "__main__":
    main()
