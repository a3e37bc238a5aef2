"""Retrieval on the public sets: it ranks better than plain BM25, and stays silent where the answer was taken out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks._knowledge_confidence import whole
from benchmarks._knowledge_sets import BadFolder, Questions, from_documents, read
from benchmarks.knowledge import SETS, PlainBM25, ranks
from ml.knowledge.confidence import FITTED
from ml.knowledge.evaluation import measure
from ml.knowledge.index import Index
from resources.settings import get_settings


@pytest.fixture(scope="module", params=SETS)
def asked(request: pytest.FixtureRequest) -> Questions:
    folder = get_settings().data / request.param
    if not folder.is_dir():
        pytest.skip(f"no data set at {folder} (ISTHMUS_DATA names the folder of the data sets)")
    return read(folder)


def test_it_ranks_better_than_bm25_with_its_usual_constants(asked: Questions) -> None:
    for questions in (asked, from_documents(asked)):
        ours = measure(ranks(Index(questions.documents).scores(questions.questions), questions))
        bm25 = measure(ranks(PlainBM25(questions).scores(1.2, 0.75), questions))
        assert ours["mrr"] > bm25["mrr"]
        assert ours["hit1"] > bm25["hit1"]


def test_it_is_surer_where_the_answer_is_there(asked: Questions) -> None:
    cases = whole(asked)
    confidence = np.array([FITTED.probability(one) for one in cases.evidence])
    right, there = np.array(cases.right), np.array(cases.there)
    assert np.mean(right[confidence >= 0.5]) > np.mean(right) + 0.2
    assert np.mean(confidence[~there] < 0.5) > 0.6


def test_a_folder_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match=r"docs\.parquet and one file of questions"):
        read(tmp_path)
