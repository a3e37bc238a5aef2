"""Questions and documents for ``benchmarks/knowledge.py``: folders read, and questions made from documents themselves.

What belongs here: what is asked of which documents, and which answers are right. What does not: any arm, any score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ml.knowledge.index import Document

#: Columns that name what a document is about, where it has them.
TAGS = ("company", "product")
_FRONT_MATTER = re.compile(r"\A---\s*\n.*?\n---\s*(?:\n|\Z)", re.DOTALL)
#: Shorter paragraphs ask nothing.
SHORTEST = 60


class BadFolder(Exception):
    """A folder does not have the form of rag_runbooks or rag_postmortems."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Documents, questions, and for each question the positions of the right documents (one or more)."""

    name: str
    documents: tuple[Document, ...]
    questions: tuple[str, ...]
    right: tuple[tuple[int, ...], ...]

    def groups(self) -> list[str]:
        """Return a name for each question's right documents: questions that share it depend on each other."""
        return [",".join(map(str, sorted(found))) for found in self.right]

    def without(self, gone: Sequence[int]) -> tuple[tuple[Document, ...], dict[int, int]]:
        """Return the documents but ``gone``, and where each of the others stands among them."""
        left = [at for at in range(len(self.documents)) if at not in set(gone)]
        return tuple(self.documents[at] for at in left), {at: new for new, at in enumerate(left)}


def read(folder: Path) -> Questions:
    """Return a folder's questions: ``docs.parquet`` and one ``*.jsonl`` whose ``gold_`` key names the right ids."""
    files = sorted(folder.glob("*.jsonl"))
    if not (folder / "docs.parquet").is_file() or len(files) != 1:
        raise BadFolder(f"{folder}: docs.parquet and one file of questions (*.jsonl) are wanted")
    rows = pq.read_table(folder / "docs.parquet").to_pylist()
    asked = [json.loads(line) for line in files[0].read_text().splitlines() if line.strip()]
    if not rows or not asked:
        raise BadFolder(f"{folder}: no document or no question")
    gold = next((key for key in asked[0] if key.startswith("gold_")), None)
    column = next((name for name in _names(gold) if name in rows[0]), None)
    if gold is None or column is None or not {"title", "text"} <= rows[0].keys():
        raise BadFolder(f"{folder}: documents need an id, title and text, questions a gold_ key that names the id")
    at = {row[column]: position for position, row in enumerate(rows)}
    unknown = sorted({one for line in asked for one in _ids(line[gold]) if one not in at})
    if unknown:
        raise BadFolder(f"{folder}: {len(unknown)} right documents are not among the documents, such as {unknown[0]}")
    documents = tuple(
        Document(row[column], row["title"] or "", row["text"] or "", tuple(row[tag] for tag in TAGS if row.get(tag)))
        for row in rows
    )
    right = tuple(tuple(at[one] for one in _ids(line[gold])) for line in asked)
    return Questions(folder.name, documents, tuple(line["query"] for line in asked), right)


def _names(gold: str | None) -> list[str]:
    name = (gold or "").removeprefix("gold_")
    return [name, name.removesuffix("s")]


def _ids(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def from_documents(source: Questions) -> Questions:
    """Return questions that need no person: each document's first paragraph asks for the document without it.

    The title is taken out of the question. Documents of one title are right for each other's.
    """
    same: dict[str, list[int]] = {}
    for at, document in enumerate(source.documents):
        same.setdefault(document.title or document.id, []).append(at)
    documents, questions, right = [], [], []
    for document in source.documents:
        body = _FRONT_MATTER.sub("", document.text, count=1)
        front = document.text[: len(document.text) - len(body)]
        paragraphs = re.split(r"\n\s*\n", body)
        asks = next((at for at, text in enumerate(paragraphs) if _prose(text)), None)
        rest = document
        if asks is not None:
            question = paragraphs[asks]
            for title in {document.title, document.title.split(" ")[0]} - {""}:
                question = re.sub(re.escape(title), " ", question, flags=re.IGNORECASE)
            left = paragraphs[:asks] + paragraphs[asks + 1 :]
            if len(question) >= SHORTEST and any(_prose(text) for text in left):
                rest = replace(document, text=front + "\n\n".join(left))
                questions.append(question)
                right.append(tuple(same[document.title or document.id]))
        documents.append(rest)
    return Questions(f"{source.name} (own paragraphs)", tuple(documents), tuple(questions), tuple(right))


def _prose(paragraph: str) -> bool:
    text = paragraph.strip()
    return len(text) >= SHORTEST and not text.startswith(("#", "```", "<", "|"))
