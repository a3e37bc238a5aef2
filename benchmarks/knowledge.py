"""Retrieval over runbooks and incident write-ups: hit@1, hit@5 and MRR, beside BM25 and TF-IDF in the same run.

``python benchmarks/knowledge.py [--data PATH] [--quick] [--tune]``: asks ``rag_runbooks`` and ``rag_postmortems`` under
ISTHMUS_DATA, or PATH, a folder of their form. Our constants were chosen with both sets in view, so their figures are
those of developers; PATH's are not. ``--tune`` searches the constants anew and measures them on the set left out.
BM25 stands there twice: with k1 and b chosen by questions that the documents themselves ask, and with those that are
best on the scored questions. Confidence is measured with each question's answer there and once more with it taken out:
on the developers' sets fitted on the other one, elsewhere as shipped. Times are of the processor.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._knowledge_confidence import confidence_report, fitted
from benchmarks._knowledge_sets import BadFolder, Questions, from_documents, read
from benchmarks._knowledge_tuning import tune
from ml.knowledge.evaluation import measured, rank
from ml.knowledge.index import Index, Ranking
from ml.sagas.evaluation import Interval
from resources.settings import get_settings

Floats = NDArray[np.float64]
SETS = ("rag_runbooks", "rag_postmortems")
#: Settings of BM25, as many as the search for our own constants tries.
GRID = tuple(product((0.4, 0.8, 1.2, 1.6, 2.0, 3.0, 4.0, 6.0, 8.0), (0.0, 0.2, 0.4, 0.6, 0.75, 0.9, 1.0)))
KEYS = {
    "ours": "",
    "ours, first view": "fields_",
    "BM25": "baseline_bm25_",
    "BM25, best here": "baseline_bm25_best_",
    "TF-IDF": "baseline_tfidf_",
}


class PlainBM25:
    """BM25 over lower-case words of title and text (Robertson and Walker 1994), the usual baseline."""

    def __init__(self, asked: Questions) -> None:
        counter = CountVectorizer(token_pattern=r"(?u)\b\w+\b", dtype=np.float64)
        self._counts = sp.csr_matrix(counter.fit_transform(_plain(asked)))
        self._questions = sp.csr_matrix(counter.transform(asked.questions))
        count, holding = self._counts.shape[0], np.asarray((self._counts > 0).sum(axis=0)).ravel()
        self._idf = sp.diags(np.log1p((count - holding + 0.5) / (holding + 0.5)))
        length = np.asarray(self._counts.sum(axis=1)).ravel()
        self._length = length / length.mean()

    def scores(self, k1: float, b: float) -> Floats:
        """Return questions by documents."""
        weights = self._counts.tocoo()
        bound = k1 * (1 - b + b * self._length[weights.row])
        data = weights.data * (k1 + 1) / (weights.data + bound)
        matrix = sp.csr_matrix((data, (weights.row, weights.col)), shape=weights.shape)
        return np.asarray((self._questions @ (matrix @ self._idf).T).toarray(), dtype=np.float64)


def _plain(asked: Questions) -> list[str]:
    return [f"{one.title}\n{one.text}" for one in asked.documents]


def ranks(scores: Floats, asked: Questions) -> NDArray[np.int64]:
    """Return the rank of each question's right document."""
    return np.array([rank(row, right) for row, right in zip(scores, asked.right, strict=True)])


def tuned_bm25(asked: Questions) -> tuple[float, float]:
    """Return the k1 and b with the highest mean reciprocal rank."""
    model = PlainBM25(asked)
    return max(GRID, key=lambda setting: float(np.mean(1 / ranks(model.scores(*setting), asked))))


def tfidf(asked: Questions) -> Floats:
    """Return the cosine of TF-IDF vectors, scikit-learn's defaults."""
    model = TfidfVectorizer()
    documents = model.fit_transform(_plain(asked))
    return np.asarray((model.transform(asked.questions) @ documents.T).toarray(), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Timing:
    """Processor time: seconds to index a set's documents, milliseconds of a question (median, 99th percentile)."""

    index_s: float
    question_ms: float
    question_p99_ms: float


def timed(asked: Questions) -> Timing:
    """Index a set anew and ask every question of it."""
    began = time.process_time()
    index = Index(asked.documents)
    indexed = time.process_time() - began
    taken = []
    for question in asked.questions:
        began = time.process_time()
        index.search(question)
        taken.append((time.process_time() - began) * 1000)
    return Timing(indexed, float(np.median(taken)), float(np.percentile(taken, 99)))


def compare(asked: Questions, *, draws: int) -> dict[str, dict[str, Interval]]:
    """Return each arm's measures on one set."""
    bm25, own = PlainBM25(asked), tuned_bm25(from_documents(asked))
    best = tuned_bm25(asked)
    print(f"{asked.name}: {len(asked.documents)} documents, {len(asked.questions)} questions")
    print(f"BM25 with k1, b = {own} by the documents' own questions; {best} is best on the scored ones")
    index = Index(asked.documents)
    arms = {
        "ours": index.scores(asked.questions),
        "ours, first view": index.reranked(Ranking(names=0.0)).scores(asked.questions),
        "BM25": bm25.scores(*own),
        "BM25, best here": bm25.scores(*best),
        "TF-IDF": tfidf(asked),
    }
    return {arm: measured(ranks(scores, asked), asked.groups(), draws=draws) for arm, scores in arms.items()}


def table(found: dict[str, dict[str, Interval]]) -> None:
    """Print one set's measures."""
    print(f"{'arm':<18} {'hit@1':>6} {'95 % interval':>16} {'hit@5':>6} {'MRR':>6} {'95 % interval':>16}")
    for arm, measures in found.items():
        one, five, mrr = (measures[name] for name in ("hit1", "hit5", "mrr"))
        spans = [f"{of.low:.3f} to {of.high:.3f}" for of in (one, mrr)]
        print(f"{arm:<18} {one.value:6.3f} {spans[0]:>16} {five.value:6.3f} {mrr.value:6.3f} {spans[1]:>16}")


def keyed(found: dict[str, dict[str, Interval]], suffix: str) -> dict[str, float]:
    """Return one set's measures as keys of the last line."""
    line = {}
    for arm, measures in found.items():
        for name, of in measures.items():
            for end, value in (("", of.value), ("_low", of.low), ("_high", of.high)):
                line[f"{KEYS[arm]}{name}{suffix}{end}"] = round(value, 4)
    return line


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print the tables, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="folder of the form of rag_runbooks or rag_postmortems")
    parser.add_argument("--quick", action="store_true", help="fewer draws: ends within a minute")
    parser.add_argument("--tune", action="store_true", help="search the constants again, and print them")
    options = parser.parse_args(arguments)
    began, draws = time.perf_counter(), 300 if options.quick else 4000
    home = get_settings().data
    folders = [options.data] if options.data else [home / name for name in SETS]
    try:
        sets = [read(folder) for folder in folders]
        known = [read(home / name) for name in SETS if (home / name).is_dir()]
    except BadFolder as error:
        raise SystemExit(str(error)) from None
    line: dict[str, Any] = {"benchmark": "knowledge", "quick": options.quick}
    if options.tune:
        line |= tune(known, [from_documents(asked) for asked in known])
        print(f"confidence, on all: {fitted(known)}\n")
    for asked in sets:
        # With --data the keys stand alone; without it each set has its own, by the last word of its name.
        suffix = "" if options.data else "_" + re.split(r"[_\W]", asked.name)[-1]
        found, taken = compare(asked, draws=draws), timed(asked)
        table(found)
        print(
            f"{taken.index_s:.2f} s to index; {taken.question_ms:.1f} ms a question, 99th percentile "
            f"{taken.question_p99_ms:.1f} ms\n"
        )
        line |= keyed(found, suffix)
        line |= {f"index_s{suffix}": round(taken.index_s, 3), f"question_ms{suffix}": round(taken.question_ms, 2)}
        ours = any(one.documents == asked.documents and one.questions == asked.questions for one in known)
        others = [one for one in known if one.name != asked.name] if ours else []
        line |= confidence_report(asked, others, suffix, draws=3 if options.quick else 12)
    line["seconds"] = round(time.perf_counter() - began, 1)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
