"""Wrong cells: what is found in tables made here, what bad input says, and that arithmetic of the trees is right."""

from __future__ import annotations

import numpy as np
import pytest

from assets.quality.cell_model import shipped
from ml.cells.detector import Detector, Model, threshold
from ml.cells.features import evidence
from ml.cells.table import BadTable, Table, table
from ml.cells.trees import Trees


def shop(seed: int = 0, n: int = 300) -> tuple[Table, np.ndarray]:
    """Towns with their code and tariff; some are misspelt, left out, or contradict their code."""
    rng = np.random.default_rng(seed)
    towns = ["Northwick", "Eastbourne", "Westerham", "Southgate", "Middleton", "Kirkwall"]
    which = rng.integers(len(towns), size=n)
    columns = {
        "code": [f"{1000 + w * 37}" for w in which],
        "town": [towns[w] for w in which],
        "tariff": [f"{w + 2}.50 EUR" for w in which],
        "count": [str(v) for v in rng.integers(1, 60, n)],
    }
    wrong = np.zeros((n, 4), dtype=bool)
    for place, row in enumerate(rng.choice(n, n // 10, replace=False)):
        value = columns["town"][row]
        columns["town"][row] = [value[:2] + "q" + value[3:], "", towns[(which[row] + 1) % len(towns)]][place % 3]
        wrong[row, 1] = True
    return table(list(columns.items())), wrong


def test_typos_gaps_and_contradictions_are_found_without_labels() -> None:
    coded, wrong = shop()
    p = Detector(coded, shipped()).unlabelled
    said = p >= threshold(p)
    assert p.shape == wrong.shape
    assert ((p >= 0) & (p <= 1)).all()
    assert (said & wrong).sum() >= 24
    assert (said & ~wrong).sum() <= 15


def test_labels_are_taken_over_and_do_no_harm() -> None:
    coded, wrong = shop(1)
    detector = Detector(coded, shipped())
    p, asked = detector.learn(lambda rows: wrong[rows], rows=12, seed=3)
    assert len(set(asked.tolist())) == 12
    np.testing.assert_array_equal(p[asked], wrong[asked])
    rest, truth = np.delete(p, asked, axis=0), np.delete(wrong, asked, axis=0)
    said = rest >= threshold(rest)
    assert 2 * (said & truth).sum() / (said.sum() + truth.sum()) > 0.8


def test_the_same_seed_asks_and_says_the_same() -> None:
    coded, wrong = shop(2, 120)
    first, second = (Detector(coded, shipped()).learn(lambda rows: wrong[rows], rows=6, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_array_equal(first[0], second[0])


def test_every_row_may_be_asked_and_none() -> None:
    coded, wrong = shop(3, 12)
    detector = Detector(coded, shipped())
    p, asked = detector.learn(lambda rows: wrong[rows], rows=40)
    assert sorted(asked.tolist()) == list(range(12))
    np.testing.assert_array_equal(p, wrong)
    none = detector.labelled(np.zeros(0, dtype=np.int64), np.zeros((0, 4), dtype=bool))
    np.testing.assert_array_equal(none, detector.unlabelled)


@pytest.mark.parametrize(
    "columns",
    [
        [("a", ["x"])],
        [("a", ["", "", ""])],
        [("a", ["same"] * 50)],
        [("a", [str(i) for i in range(60)])],
        [("a", ["x", "y"] * 20), ("a", ["1", "2"] * 20)],
        [
            ("a", ["é" * 5000, "日本語", "\U0001f600", "\x00", "a\nb"] * 8),
            ("b", [None, float("nan"), "", 1, "n/a"] * 8),
        ],
        [("a", ["1e309", "-inf", "٣٤", "1,000", "0x1"] * 8), ("b", ["1"] * 40)],
    ],
    ids=["one cell", "empty", "constant", "keys", "same header twice", "unicode, long, null", "odd numbers"],
)
def test_odd_tables_are_looked_at(columns: list[tuple[str, list[object]]]) -> None:
    coded = table(columns)
    found = evidence(coded)
    assert np.isfinite(found.matrix).all()
    detector = Detector(coded, shipped())
    assert detector.unlabelled.shape == coded.shape
    wrong = np.zeros(coded.shape, dtype=bool)
    p, _ = detector.learn(lambda rows: wrong[rows], rows=min(4, coded.shape[0]))
    assert np.isfinite(p).all()


@pytest.mark.parametrize(
    ("columns", "words"),
    [([], "no column"), ([("a", [])], "no row"), ([("a", ["1"]), ("b", ["1", "2"])], "differ in length")],
)
def test_what_is_no_table_is_refused(columns: list[tuple[str, list[str]]], words: str) -> None:
    with pytest.raises(BadTable, match=words):
        table(columns)


def test_labels_of_another_shape_are_refused() -> None:
    coded, wrong = shop(4, 20)
    with pytest.raises(BadTable, match="shape"):
        Detector(coded, shipped()).labelled(np.array([0, 1]), wrong[:2, :3])


def test_the_cells_to_be_called_wrong_maximise_the_expected_f1() -> None:
    assert threshold(np.array([0.99, 0.98, 0.02, 0.01])) == pytest.approx(0.98)
    assert threshold(np.array([0.3, 0.3, 0.3])) == pytest.approx(0.3)


def test_trees_as_arrays_say_what_scikit_learn_says() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(400, 3)).astype(np.float32)
    fitted = HistGradientBoostingClassifier(max_iter=8).fit(matrix, matrix[:, 0] * matrix[:, 1] > 0)
    trees = Trees.from_sklearn(fitted, ("a", "b", "c"))
    again = Trees.from_arrays(trees.arrays("x_"), "x_")
    np.testing.assert_allclose(again.logit(matrix), fitted.decision_function(matrix), rtol=1e-5, atol=1e-6)


def test_the_model_that_ships_fits_the_code() -> None:
    coded, _ = shop(5, 30)
    names = evidence(coded).names
    model = shipped()
    assert isinstance(model, Model)
    assert all(trees.names == names for trees in model.first)
    assert all(trees.names[: len(names)] == names for trees in (*model.second, *model.third))
    assert len(model.scale) == len(model.second[0].names)
