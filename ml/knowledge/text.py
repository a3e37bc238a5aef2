"""Text: Markdown into passages under their headings, and words into terms that identifiers share with sentences.

What belongs here: what a document's parts are and what a term is. What does not: weights and scores (``index``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

#: A passage is at most about this many characters long, so that a person can read it at a glance.
PASSAGE_CHARACTERS = 900

_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title:\s*(.+?)\s*$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK_TARGET = re.compile(r"\]\([^)\s]*\)|^\s*\[[^\]]+\]:.*$|https?://\S+", re.MULTILINE)
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_WORD = re.compile(r"[^\W_]+(?:[_\-.:/][^\W_]+)*")
_JOINT = re.compile(r"[_\-.:/]")
# `KubeAPIDown` is Kube, API, Down; `etcdGRPCRequestsSlow` is etcd, GRPC, Requests, Slow; `5xx` stays whole. ASCII only:
# a word with other letters is no identifier.
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+[a-z]*")
_SUFFIXES = (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("s", ""))

_STOP = """
a about after all also an and any are as at be because been before being both but by can could did do does doing
for from had has have having he her here his how i if in into is it its itself just may me might more most my of
on once only or other our own same she should so some such than that the their them then there these they this
those to too us was we were what when where whether which while who why will with would you your
"""
#: Words that say nothing about a subject. Negations and directions stay: `not ready` and `run out` are subjects.
STOP_WORDS = frozenset(_STOP.split())


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: the headings above it, its prose, and the code in it."""

    heading: str
    text: str
    prose: str
    code: str


def front_title(markdown: str) -> str:
    """Return the title in a document's front matter, or nothing."""
    front = _FRONT_MATTER.match(markdown)
    title = _TITLE.search(front[1]) if front else None
    return title[1].strip("\"'") if title else ""


def first_heading(markdown: str) -> str:
    """Return a document's first heading, or nothing."""
    for line in _FRONT_MATTER.sub("", markdown, count=1).splitlines():
        if heading := _HEADING.match(line):
            return heading[2]
    return ""


def passages(markdown: str) -> list[Passage]:
    """Return the passages of a Markdown or plain text in order; front matter and comments are none.

    A passage ends at a heading, and at an end of a paragraph where it would grow too long. Its heading names the
    headings above it but the first level, which is the document's title.
    """
    body = _COMMENT.sub(" ", _FRONT_MATTER.sub("", markdown, count=1))
    found: list[Passage] = []
    for heading, block in _sections(body):
        found += [_passage(heading, piece) for piece in _pieces(block) if any(line.strip() for line in piece)]
    return found


def _sections(body: str) -> Iterator[tuple[str, list[str]]]:
    trail: dict[int, str] = {}
    lines: list[str] = []
    fenced = False
    for line in body.splitlines():
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        yield _path(trail), lines
        level = len(heading[1])
        trail = {at: name for at, name in trail.items() if at < level} | {level: heading[2]}
        lines = []
    yield _path(trail), lines


def _path(trail: dict[int, str]) -> str:
    return " / ".join(name for level, name in sorted(trail.items()) if level > 1)


def _pieces(lines: list[str]) -> Iterator[list[str]]:
    """Cut a section at blank lines outside of code where a piece has grown long enough."""
    piece: list[str] = []
    size, fenced = 0, False
    for line in lines:
        fenced ^= bool(_FENCE.match(line))
        if size >= PASSAGE_CHARACTERS and not fenced and not line.strip():
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line) + 1
    yield piece


def _passage(heading: str, lines: list[str]) -> Passage:
    prose: list[str] = []
    code: list[str] = []
    fenced = False
    for line in lines:
        if _FENCE.match(line):
            fenced = not fenced
        else:
            (code if fenced else prose).append(line)
    return Passage(
        heading, "\n".join(lines).strip(), _LINK_TARGET.sub(" ", "\n".join(prose)).strip(), "\n".join(code).strip()
    )


def terms(text: str) -> list[str]:
    """Return the terms of a text in order: lower case, without stop words, single characters and plural endings.

    An identifier gives its parts, and each of its camel-case words as a whole too, so that `KubePodCrashLooping`,
    `kube_pod_status` and "a pod is crash looping" share terms.
    """
    return [term for word in _WORD.findall(text) for term in _of_word(word)]


@lru_cache(maxsize=1 << 16)
def _of_word(word: str) -> tuple[str, ...]:
    found: list[str] = []
    for piece in _JOINT.split(word):
        parts = _PART.findall(piece) if piece.isascii() else [piece]
        found += [_singular(part.lower()) for part in parts]
        if len(parts) > 1:
            found.append(_singular(piece.lower()))
    return tuple(term for term in found if len(term) > 1 and term not in STOP_WORDS)


def _singular(word: str) -> str:
    if len(word) <= 3 or word.endswith(("ss", "us", "is")):
        return word
    for ending, instead in _SUFFIXES:
        if word.endswith(ending):
            return word[: len(word) - len(ending)] + instead
    return word
