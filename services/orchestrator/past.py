"""The past: incidents and runbooks in memory, read in the background, and what they say of a failing saga.

What belongs here: reading documents and ``ops.incidents``, swapping indexes whole, remembering answers. What does not:
retrieval and confidence (``ml.knowledge``), and whether a saga fails (:mod:`services.orchestrator.web`).

An answer about one kind of failure is kept as the bytes that go out: asked again it costs a look into a dictionary.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final, Protocol

import orjson
import pyarrow.parquet as pq

from ml.knowledge.incidents import FITS, FailingSaga, question
from ml.knowledge.index import Answer, Document, Hit, Index

log = logging.getLogger("isthmus.orchestrator")

MOST_DOCUMENTS: Final = 5_000
MOST_CHARACTERS: Final = 200_000
"""Of a document: what is longer is cut there."""
MOST_INCIDENTS: Final = 2_000
_REMEMBERED: Final = 2_048
_SHOWN: Final = 3
_IDS: Final = ("doc_id", "uuid", "id")
_TAGS: Final = ("company", "product", "repo", "alert")
_WAREHOUSE: Final = "incidents of the warehouse"
_CONTENTS: Final = ("index.md", "README.md")
_INCIDENTS: Final = (
    "SELECT incident_id, kind, subject, summary, details FROM ops.incidents FINAL ORDER BY at DESC LIMIT {most:UInt32}"
)
_NEWEST: Final = "SELECT count() AS n, max(at) AS newest FROM ops.incidents"


class Tables(Protocol):
    """What is needed of the warehouse."""

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the result as one dict a row."""


@dataclass(frozen=True, slots=True)
class Known:
    """Both indexes at one moment, and what was answered from them."""

    incidents: Index = field(default_factory=lambda: Index([]))
    runbooks: Index = field(default_factory=lambda: Index([]))
    answers: dict[str, orjson.Fragment] = field(default_factory=dict)


class Past:
    """Holds what is known, and looks every ``seconds`` whether documents or incidents have changed."""

    def __init__(
        self, tables: Tables, runbooks: Sequence[Path] = (), incidents: Sequence[Path] = (), *, seconds: float = 30.0
    ) -> None:
        self.known = Known()
        """Replaced whole, with the answers that rest on it."""
        self.problems: dict[str, str] = {}
        """What could not be read: a folder, or the incidents of the warehouse; and the class of the error."""
        self._tables = tables
        self._paths = {"runbooks": tuple(runbooks), "incidents": tuple(incidents)}
        self._seconds = seconds
        self._state: Any = None
        self._happened: list[Document] = []
        self._stop = Event()
        self._thread = Thread(target=self._run, name="past", daemon=True)

    def __enter__(self) -> Past:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def of(self, saga: FailingSaga) -> orjson.Fragment:
        """Return what the past says of a failing saga, as JSON; about two milliseconds where it is asked anew."""
        known, asked = self.known, question(saga)
        answer = known.answers.get(asked)
        if answer is None:
            if len(known.answers) >= _REMEMBERED:
                known.answers.clear()
            answer = orjson.Fragment(
                orjson.dumps(
                    {
                        "question": asked,
                        "incidents": _said(
                            "past incident", known.incidents.search(asked, limit=_SHOWN), known.incidents
                        ),
                        "runbook": _said("runbook", known.runbooks.search(asked, limit=1), known.runbooks),
                    }
                )
            )
            known.answers[asked] = answer
        return answer

    def renew(self) -> None:
        """Read what has changed, and replace what is known; what cannot be read stays as it was known."""
        problems: dict[str, str] = {}
        files = {kind: list(_files(paths, problems)) for kind, paths in self._paths.items()}
        state = (
            [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for each in files.values() for path in each],
            self._newest(problems),
        )
        if state != self._state:
            began = time.perf_counter()
            if self._state is None or state[1] != self._state[1]:
                self._happened = self._incidents(problems)
            read = {kind: list(_documents(paths, problems)) for kind, paths in files.items()}
            incidents = _distinct([*self._happened, *read["incidents"]])
            self.known = Known(Index(incidents), Index(_distinct(read["runbooks"])))
            # What could not be read is read again the next time.
            self._state = (state[0], None) if _WAREHOUSE in problems else state
            log.info(
                "%s runbooks and %s past incidents indexed in %.1f s",
                len(self.known.runbooks), len(incidents), time.perf_counter() - began,
            )  # fmt: skip
        for name in problems.keys() - self.problems.keys():
            log.warning("the past is incomplete: %s (%s)", name, problems[name])
        self.problems = problems

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.renew()
            except Exception as error:  # noqa: BLE001 (whatever stands in a folder, advice goes on)
                self.problems = {"the past": type(error).__name__}
            self._stop.wait(self._seconds)

    def _newest(self, problems: dict[str, str]) -> Any:
        try:
            return [tuple(row.values()) for row in self._tables.query_rows(_NEWEST)]
        except Exception as error:  # noqa: BLE001 (a store that is away)
            problems[_WAREHOUSE] = type(error).__name__
            return self._state[1] if self._state is not None else None

    def _incidents(self, problems: dict[str, str]) -> list[Document]:
        try:
            rows = self._tables.query_rows(_INCIDENTS, {"most": MOST_INCIDENTS})
        except Exception as error:  # noqa: BLE001 (a store that is away)
            problems[_WAREHOUSE] = type(error).__name__
            return self._happened
        return [
            Document(
                f"{row['kind']}/{row['incident_id']}",
                row["summary"],
                f"{row['subject']}\n\n{' '.join(_texts(row['details']))}"[:MOST_CHARACTERS],
                (row["kind"], row["subject"]),
            )
            for row in rows
        ]


def _said(what: str, answer: Answer, of: Index) -> dict[str, Any]:
    """Return hits and confidence where something fits, else that nothing does."""
    best = answer.best(at_least=FITS)
    if best is None:
        none = f"no {what} fits" if len(of) else f"no {what} is known"
        return {"said": none, "confidence": answer.confidence, "found": []}
    return {
        "said": f"{best.title or best.document_id} fits best",
        "confidence": answer.confidence,
        "found": [_shown(hit) for hit in answer.hits],
    }


def _shown(hit: Hit) -> dict[str, Any]:
    return {
        "id": hit.document_id,
        "title": hit.title,
        "heading": hit.heading,
        "passage": hit.passage,
        "because": [{"term": reason.term, "share": round(reason.share, 3)} for reason in hit.reasons],
    }


def _files(paths: Sequence[Path], problems: dict[str, str]) -> Iterator[Path]:
    """Yield the documents' files below ``paths``: Markdown and Parquet."""
    for path in paths:
        if path.is_dir():
            yield from sorted(
                one for one in path.rglob("*") if one.suffix in {".md", ".parquet"} and one.name not in _CONTENTS
            )
        elif path.is_file():
            yield path
        else:
            problems[str(path)] = "FileNotFoundError"


def _documents(files: Sequence[Path], problems: dict[str, str]) -> Iterator[Document]:
    """Yield at most :data:`MOST_DOCUMENTS` of the files' documents; what cannot be read is named and left out."""
    count = 0
    for path in files:
        try:
            for one in _of_a_file(path):
                if count == MOST_DOCUMENTS:
                    problems[str(path)] = f"more than {MOST_DOCUMENTS} documents"
                    return
                count += 1
                yield one
        except (OSError, ValueError) as error:
            problems[str(path)] = type(error).__name__


def _of_a_file(path: Path) -> Iterator[Document]:
    if path.suffix != ".parquet":
        yield Document(path.stem, "", path.read_text(encoding="utf-8")[:MOST_CHARACTERS])
        return
    file = pq.ParquetFile(path)
    names = set(file.schema_arrow.names)
    if not {"title", "text"} <= names:
        raise ValueError("a Parquet file of documents has the columns title and text")
    key = next((name for name in _IDS if name in names), None)
    tags = [name for name in _TAGS if name in names]
    number = 0
    for batch in file.iter_batches(columns=["title", "text", *([key] if key else []), *tags]):
        for row in batch.to_pylist():
            number += 1
            yield Document(
                str(row[key]) if key else f"{path.stem}/{number}",
                row["title"] or "",
                (row["text"] or "")[:MOST_CHARACTERS],
                tuple(str(row[tag]) for tag in tags if row[tag]),
            )


def _distinct(documents: Sequence[Document]) -> list[Document]:
    """Return the documents, those of an id that is taken already under another one."""
    count = Counter[str]()
    distinct = []
    for one in documents:
        count[one.id] += 1
        distinct.append(replace(one, id=f"{one.id}#{count[one.id]}") if count[one.id] > 1 else one)
    return distinct


def _texts(details: str) -> Iterator[str]:
    """Yield names and texts of an incident's details; figures name an occurrence."""
    try:
        rest = [json.loads(details)]
    except ValueError:
        return
    while rest:
        one = rest.pop(0)
        if isinstance(one, dict):
            rest += [part for pair in one.items() for part in pair]
        elif isinstance(one, list):
            rest += one
        elif isinstance(one, str):
            yield one
