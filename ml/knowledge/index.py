"""The index: documents in, ranked documents with their best passage, scores and reasons out.

What belongs here: fields, weights, both views of a question and their sum. What does not: what a term is (``text``),
how sure an answer is (``confidence``), and reading documents: a caller brings their text. No Python loop runs over
documents for a question: a view is one product with a sparse matrix.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields
from itertools import chain

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from ml.knowledge.confidence import FITTED, Calibration, Evidence
from ml.knowledge.text import Passage, first_heading, front_title, passages, terms

Floats = NDArray[np.float64]
#: Reasons that a hit names.
REASONS = 6


@dataclass(frozen=True, slots=True)
class Document:
    """An incident write-up or a runbook.

    ``text`` is Markdown or plain; ``tags`` are further names that it goes by (product, company, alert). Where the title
    is empty, front matter and then the first heading give one.
    """

    id: str
    title: str
    text: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """How a field counts: its weight, and how far its length divides the count of a term in it (BM25's b, 0 to 1)."""

    weight: float
    length: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The constants of the score; docs/architecture/knowledge.md says how they were chosen."""

    title: Field = Field(6.0, 0.75)
    headings: Field = Field(1.0, 0.75)
    body: Field = Field(1.0, 0.75)
    #: The same commands stand in many runbooks.
    code: Field = Field(0.1, 0.75)
    tags: Field = Field(1.0, 0.75)
    #: How slowly a term that occurs again stops to count (BM25's k1).
    saturation: float = 3.0
    #: Weight of the second view, the likeness of question and title by runs of characters.
    names: float = 0.15


FIELDS = tuple(one.name for one in fields(Ranking) if one.name not in ("saturation", "names"))


@dataclass(frozen=True, slots=True)
class Reason:
    """A term that question and document share: its share of the document's score, and the fields that hold it."""

    term: str
    share: float
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that may fit, with its best passage.

    ``score`` orders hits of one question and means nothing across questions; ``Answer.confidence`` does.
    """

    document_id: str
    title: str
    heading: str
    passage: str
    score: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of a question, best first, and the probability that the first of them fits."""

    question: str
    hits: tuple[Hit, ...]
    confidence: float

    def best(self, *, at_least: float = 0.5) -> Hit | None:
        """Return the first hit where it fits with that probability, else None: nothing fitting was found."""
        return self.hits[0] if self.hits and self.confidence >= at_least else None


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions as the index sees them: term weights (questions by terms), their whole information, title likeness."""

    weights: sp.csr_matrix
    whole: Floats
    likeness: Floats


class Index:
    """A fixed set of documents, made once and asked many times; safe to share between threads."""

    def __init__(
        self, documents: Sequence[Document], ranking: Ranking | None = None, calibration: Calibration = FITTED
    ) -> None:
        """Index the documents; ValueError where two have the same id."""
        twice = [name for name, count in Counter(one.id for one in documents).items() if count > 1]
        if twice:
            raise ValueError(f"{len(twice)} document ids occur more than once, the first is {twice[0]!r}")
        self.documents = tuple(documents)
        self._calibration = calibration
        self._passages = [passages(one.text) or [Passage("", "", "", "")] for one in documents]
        self._titles = [_title(one) for one in documents]
        cut = [_fields(*parts) for parts in zip(documents, self._titles, self._passages, strict=True)]
        # Documents of one title (the same alert in two collections) do not compete for being the answer.
        _, self._title_group = np.unique([" ".join(sorted(set(of["title"]))) for of in cut], return_inverse=True)
        self._count(cut)
        self._name(cut)
        self._ranking = ranking or Ranking()
        self._fields = self._weighed(self._ranking)

    def __len__(self) -> int:
        return len(self.documents)

    def reranked(self, ranking: Ranking) -> Index:
        """Return an index of the same documents with other constants; what was counted is shared."""
        other = copy(self)
        vars(other).update(_ranking=ranking, _fields=self._weighed(ranking))
        return other

    def _count(self, cut: list[dict[str, list[str]]]) -> None:
        """Count terms by field and by passage."""
        self._terms = sorted({term for of in cut for field in of.values() for term in field})
        self._vocabulary = {term: at for at, term in enumerate(self._terms)}
        self._counts = {name: self._counted([of[name] for of in cut]) for name in FIELDS}
        total = sp.csr_matrix((len(cut), len(self._terms)))
        for counts in self._counts.values():
            total = total + counts
        holding = np.asarray((total > 0).sum(axis=0)).ravel()
        self._idf = np.log1p((len(cut) - holding + 0.5) / (holding + 0.5))
        self._idf_unknown = float(np.log1p((len(cut) + 0.5) / 0.5))
        self._first_passage = np.cumsum([0, *(len(found) for found in self._passages)])
        pieces = self._counted(
            [terms(f"{one.heading} {one.prose} {one.code}") for found in self._passages for one in found]
        )
        # What chooses the passage to show: plain BM25 over passages.
        self._pieces = sp.csr_matrix(_saturated(_by_length(pieces, 0.75), 1.5) @ sp.diags(self._idf))

    def _counted(self, rows: list[list[str]]) -> sp.csr_matrix:
        """Return rows by terms; terms that no document has are left out."""
        found = [[self._vocabulary[term] for term in row if term in self._vocabulary] for row in rows]
        starts = np.cumsum([0, *(len(row) for row in found)])
        columns = np.fromiter(chain.from_iterable(found), dtype=np.int64, count=int(starts[-1]))
        counts = sp.csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(rows), len(self._terms)))
        counts.sum_duplicates()
        return counts

    def _name(self, cut: list[dict[str, list[str]]]) -> None:
        """Build the second view: titles by runs of three to five characters, which forgives endings and joints."""
        titles = [" ".join(of["title"]) for of in cut]
        self._namer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
        self._names = self._namer.fit_transform(titles) if any(titles) else None

    def _weighed(self, ranking: Ranking) -> sp.csr_matrix:
        """Return the first view: BM25 over weighted fields (Robertson, Zaragoza and Taylor 2004).

        A document's count of a term is the weighted sum of its fields' counts, each divided by the field's relative
        length; only then it saturates. So a word in the title is worth some in the text, not a second full score.
        """
        weighted = sp.csr_matrix((len(self), len(self._terms)))
        for name, counts in self._counts.items():
            how: Field = getattr(ranking, name)
            weighted = weighted + how.weight * _by_length(counts, how.length)
        return sp.csr_matrix(_saturated(weighted, ranking.saturation) @ sp.diags(self._idf))

    def ask(self, questions: Sequence[str]) -> Asked:
        """Return questions in the index's terms, for :meth:`scores`."""
        found = [terms(question) for question in questions]
        weights = self._counted(found)
        weights.data = 1 + np.log(weights.data)
        unknown = [
            sum(1 + math.log(count) for term, count in Counter(row).items() if term not in self._vocabulary)
            for row in found
        ]
        whole = weights @ self._idf + np.array(unknown) * self._idf_unknown
        likeness = np.zeros((len(found), len(self)))
        if self._names is not None and found:
            likeness = (self._namer.transform([" ".join(row) for row in found]) @ self._names.T).toarray()
        return Asked(weights, np.maximum(whole, 1e-9), likeness)

    def scores(self, questions: Sequence[str] | Asked) -> Floats:
        """Return questions by documents, in the order of ``documents``."""
        asked = questions if isinstance(questions, Asked) else self.ask(questions)
        return self._covered(asked) + self._ranking.names * asked.likeness

    def _covered(self, asked: Asked) -> Floats:
        """Return the first view: the share of a question's information (its terms' idf) that a document accounts for.

        A term that no document has counts in the whole, so that a question about something else scores low everywhere.
        """
        shares = (asked.weights @ self._fields.T).toarray() / asked.whole[:, None]
        return np.asarray(shares, dtype=np.float64)

    def search(self, question: str, *, limit: int = 5) -> Answer:
        """Return the documents that fit a question best, at most ``limit``; none where no term is shared."""
        asked = self.ask([question])
        covered = self._covered(asked)[0]
        scores = covered + self._ranking.names * asked.likeness[0]
        order = [int(at) for at in np.argsort(-scores, kind="stable")[:limit] if covered[at] > 0]
        if not order:
            return Answer(question, (), 0.0)
        weights = np.zeros(len(self._terms))
        weights[asked.weights.indices] = asked.weights.data
        pieces = self._pieces @ weights
        hits = tuple(self._hit(at, float(scores[at]), weights, pieces) for at in order)
        return Answer(question, hits, self._calibration.probability(self._evidence(question, covered, scores)))

    def evidence(self, question: str) -> tuple[int, Evidence] | None:
        """Return the first hit's position and what its confidence rests on; None where no term is shared."""
        if not len(self):
            return None
        asked = self.ask([question])
        covered = self._covered(asked)[0]
        scores = covered + self._ranking.names * asked.likeness[0]
        top = int(np.argmax(scores))
        return (top, self._evidence(question, covered, scores)) if covered[top] > 0 else None

    def _evidence(self, question: str, covered: Floats, scores: Floats) -> Evidence:
        top = int(np.argmax(scores))
        others = scores[self._title_group != self._title_group[top]]
        margin = 1.0 - float(others.max()) / float(scores[top]) if len(others) else 1.0
        return Evidence(float(covered[top]), margin, len(set(terms(question))), len(self))

    def _hit(self, at: int, score: float, weights: Floats, pieces: Floats) -> Hit:
        first, last = int(self._first_passage[at]), int(self._first_passage[at + 1])
        passage = self._passages[at][int(np.argmax(pieces[first:last]))]
        shared, values = _row(self._fields, at)
        parts = values * weights[shared]
        whole = max(float(parts.sum()), 1e-9)
        best = [int(one) for one in np.argsort(-parts, kind="stable")[:REASONS] if parts[one] > 0]
        holding = {name: set(_row(counts, at)[0].tolist()) for name, counts in self._counts.items()}
        reasons = tuple(
            Reason(
                self._terms[int(shared[one])],
                float(parts[one]) / whole,
                tuple(name for name in FIELDS if int(shared[one]) in holding[name]),
            )
            for one in best
        )
        return Hit(self.documents[at].id, self._titles[at], passage.heading, passage.text, score, reasons)


def _row(matrix: sp.csr_matrix, at: int) -> tuple[NDArray[np.int32], Floats]:
    """Return the columns and the values of one row."""
    span = slice(matrix.indptr[at], matrix.indptr[at + 1])
    return matrix.indices[span], matrix.data[span]


def _title(document: Document) -> str:
    return document.title or front_title(document.text) or first_heading(document.text)


def _fields(document: Document, title: str, found: list[Passage]) -> dict[str, list[str]]:
    """Return the terms of each field. A front-matter title says in words what an alert's name says in one."""
    return {
        "title": terms(f"{title} {front_title(document.text)}"),
        "headings": terms(" ".join(dict.fromkeys(one.heading for one in found))),
        "body": terms("\n".join(one.prose for one in found)),
        "code": terms("\n".join(one.code for one in found)),
        "tags": terms(" ".join(document.tags)),
    }


def _by_length(counts: sp.csr_matrix, strength: float) -> sp.csr_matrix:
    """Return counts divided by the row's length relative to the mean, as far as ``strength`` says."""
    length = np.asarray(counts.sum(axis=1)).ravel()
    mean = length.mean() if len(length) and length.any() else 1.0
    return sp.csr_matrix(sp.diags(1 / np.maximum(1 - strength + strength * length / mean, 1e-9)) @ counts)


def _saturated(counts: sp.csr_matrix, saturation: float) -> sp.csr_matrix:
    counts = sp.csr_matrix(counts, copy=True)
    counts.data = counts.data / (counts.data + saturation)
    return counts
