"""The index: documents in, ranked documents with their best passage, scores and reasons out.

What belongs here: fields, weights, both views of a question and their sum. What does not: what a term is (``text``),
how sure an answer is (``confidence``), and reading documents: a caller brings their text. No Python loop runs over
documents for a question: a view is one product with a sparse matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

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
    #: What stands before anything else: the meaning of an alert, the first passage of a write-up.
    lead: Field = Field(2.0, 0.75)
    body: Field = Field(1.0, 0.9)
    code: Field = Field(0.5, 0.9)
    tags: Field = Field(1.0, 0.75)
    #: How slowly a term that occurs again stops to count (BM25's k1).
    saturation: float = 4.0
    #: Weight of the second view, the likeness of question and title by runs of characters.
    names: float = 0.2


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
        self._ranking, self._calibration = ranking or Ranking(), calibration
        self._passages = [passages(one.text) or [Passage("", "", "", "")] for one in documents]
        self._titles = [_title(one) for one in documents]
        cut = [_fields(*parts) for parts in zip(documents, self._titles, self._passages, strict=True)]
        # Documents of one title (the same alert in two collections) do not compete for being the answer.
        keys = {" ".join(sorted(set(of["title"]))): None for of in cut}
        numbers = {key: number for number, key in enumerate(keys)}
        self._title_group = np.array([numbers[" ".join(sorted(set(of["title"])))] for of in cut], dtype=np.int64)
        self._count(cut)
        self._cut_passages()
        self._name(cut)

    def __len__(self) -> int:
        return len(self.documents)

    def _count(self, cut: list[dict[str, list[str]]]) -> None:
        """Build the first view: BM25 over weighted fields (Robertson, Zaragoza and Taylor 2004).

        A document's count of a term is the weighted sum of its fields' counts, each divided by the field's relative
        length; only then it saturates. So a word in the title is worth some in the text, not a second full score.
        """
        self._terms = sorted({term for of in cut for field in of.values() for term in field})
        self._vocabulary = {term: at for at, term in enumerate(self._terms)}
        self._counter = CountVectorizer(analyzer=_as_given, vocabulary=self._vocabulary, dtype=np.float64)
        shape = (len(cut), len(self._vocabulary))
        self._counts = {name: self._counted([of[name] for of in cut]) for name in FIELDS}
        total, weighted = sp.csr_matrix(shape), sp.csr_matrix(shape)
        for name in FIELDS:
            how: Field = getattr(self._ranking, name)
            total = total + self._counts[name]
            weighted = weighted + how.weight * _by_length(self._counts[name], how.length)
        holding = np.asarray((total > 0).sum(axis=0)).ravel()
        self._idf = np.log1p((len(cut) - holding + 0.5) / (holding + 0.5))
        self._idf_unknown = float(np.log1p((len(cut) + 0.5) / 0.5))
        self._fields = sp.csr_matrix(_saturated(weighted, self._ranking.saturation) @ sp.diags(self._idf))

    def _cut_passages(self) -> None:
        """Build what chooses the passage to show: the same terms, over passages."""
        self._first_passage = np.cumsum([0, *(len(found) for found in self._passages)])
        counts = self._counted(
            [terms(f"{one.heading} {one.prose} {one.code}") for found in self._passages for one in found]
        )
        self._pieces = sp.csr_matrix(_saturated(_by_length(counts, 0.75), 1.5) @ sp.diags(self._idf))

    def _name(self, cut: list[dict[str, list[str]]]) -> None:
        """Build the second view: titles by runs of three to five characters, which forgives endings and joints."""
        self._namer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
        titles = [" ".join(of["title"]) for of in cut]
        self._names = self._namer.fit_transform(titles) if any(titles) else None

    def _counted(self, rows: list[list[str]]) -> sp.csr_matrix:
        if not self._vocabulary or not rows:
            return sp.csr_matrix((len(rows), len(self._vocabulary)))
        return sp.csr_matrix(self._counter.transform(rows))

    def _views(self, question: list[str]) -> tuple[Floats, Floats, Floats]:
        """Return both views over documents, each 0 to 1, and the weights of the question's terms.

        The first is the share of the question's information (its terms' idf) that a document accounts for; a term that
        no document has counts in the whole, so that a question about something else scores low everywhere.
        """
        weights, whole = np.zeros(len(self._vocabulary)), 0.0
        for term, count in Counter(question).items():
            at, weight = self._vocabulary.get(term), 1 + np.log(count)
            whole += weight * (self._idf_unknown if at is None else float(self._idf[at]))
            if at is not None:
                weights[at] = weight
        covered = self._fields @ weights / max(whole, 1e-9)
        if self._names is None:
            return covered, np.zeros(len(self)), weights
        likeness = self._names @ self._namer.transform([" ".join(question)]).T
        return covered, likeness.toarray().ravel(), weights

    def scores(self, question: str) -> Floats:
        """Return each document's score, in the order of ``documents``."""
        covered, names, _ = self._views(terms(question))
        return np.asarray(covered + self._ranking.names * names, dtype=np.float64)

    def search(self, question: str, *, limit: int = 5) -> Answer:
        """Return the documents that fit a question best, at most ``limit``; none where no term is shared."""
        words = terms(question)
        covered, names, weights = self._views(words)
        scores = covered + self._ranking.names * names
        order = [int(at) for at in np.argsort(-scores, kind="stable")[:limit] if covered[at] > 0]
        if not order:
            return Answer(question, (), 0.0)
        evidence = self._evidence(covered, names, scores, len(set(words)))
        pieces = self._pieces @ weights
        hits = tuple(self._hit(at, float(scores[at]), weights, pieces) for at in order)
        return Answer(question, hits, self._calibration.probability(evidence))

    def evidence(self, question: str) -> tuple[int, Evidence] | None:
        """Return the first hit's position and what its confidence rests on; None where nothing is shared."""
        words = terms(question)
        covered, names, _ = self._views(words)
        scores = covered + self._ranking.names * names
        if not len(self) or covered.max() <= 0:
            return None
        return int(np.argmax(scores)), self._evidence(covered, names, scores, len(set(words)))

    def _evidence(self, covered: Floats, names: Floats, scores: Floats, count: int) -> Evidence:
        top = int(np.argmax(scores))
        others = scores[self._title_group != self._title_group[top]]
        margin = 1.0 - float(others.max()) / float(scores[top]) if len(others) else 1.0
        return Evidence(float(covered[top]), float(names[top]), margin, count, len(self))

    def _hit(self, at: int, score: float, weights: Floats, pieces: Floats) -> Hit:
        first, last = int(self._first_passage[at]), int(self._first_passage[at + 1])
        passage = self._passages[at][int(np.argmax(pieces[first:last]))]
        row = self._fields[[at]]
        parts = row.data * weights[row.indices]
        whole = max(float(parts.sum()), 1e-9)
        best = [int(one) for one in np.argsort(-parts, kind="stable")[:REASONS] if parts[one] > 0]
        reasons = tuple(
            Reason(
                self._terms[int(row.indices[one])],
                float(parts[one]) / whole,
                tuple(name for name in FIELDS if self._counts[name][at, int(row.indices[one])] > 0),
            )
            for one in best
        )
        document = self.documents[at]
        return Hit(document.id, self._titles[at], passage.heading, passage.text, score, reasons)


def _title(document: Document) -> str:
    return document.title or front_title(document.text) or first_heading(document.text)


def _fields(document: Document, title: str, found: list[Passage]) -> dict[str, list[str]]:
    """Return the terms of each field. A front-matter title says in words what an alert's name says in one."""
    return {
        "title": terms(f"{title} {front_title(document.text)}"),
        "headings": terms(" ".join(dict.fromkeys(one.heading for one in found))),
        "lead": terms(found[0].prose),
        "body": terms("\n".join(one.prose for one in found)),
        "code": terms("\n".join(one.code for one in found)),
        "tags": terms(" ".join(document.tags)),
    }


def _as_given(tokens: list[str]) -> list[str]:
    return tokens


def _by_length(counts: sp.csr_matrix, strength: float) -> sp.csr_matrix:
    """Return counts divided by the row's length relative to the mean, as far as ``strength`` says."""
    length = np.asarray(counts.sum(axis=1)).ravel()
    mean = length.mean() if len(length) and length.any() else 1.0
    return sp.csr_matrix(sp.diags(1 / np.maximum(1 - strength + strength * length / mean, 1e-9)) @ counts)


def _saturated(counts: sp.csr_matrix, saturation: float) -> sp.csr_matrix:
    counts = sp.csr_matrix(counts, copy=True)
    counts.data = counts.data / (counts.data + saturation)
    return counts
