"""Free text: the rules beside the model, put together.

What belongs here: how a text's words, a model's labels and the structured findings become findings; ages, jobs and
years.
What does not: the model (``engine``), the forms of structured data (``patterns``), names and addresses (modules of
these names).

The rules know classes of words and where they stand, and no name. A capital in mid-sentence, or a word that no
dictionary holds, is a candidate; the model's label or what stands before it says what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ml.pii import words
from ml.pii.addresses import addresses
from ml.pii.findings import Finding, settle
from ml.pii.names import names
from ml.pii.tokens import Known, Token, function_word, plain_of, tokens


def find(
    text: str, labelled: Sequence[tuple[int, int, str]], structured: Sequence[Finding], known: Known
) -> list[Finding]:
    """Return the findings in ``text`` without overlaps, the structured ones among them.

    ``labelled`` are the model's (start, end, OntoNotes label); ``known`` says whether a dictionary holds a word in
    lower case. ``text`` is as :func:`recased` returned it.
    """
    labelled = _cut(text, labelled)
    parts = tokens(text)
    taken = bytearray(len(text) + 1)
    found = list(structured)
    _take(taken, structured)
    for rule in (_ages, _years, addresses, _peoples):
        new = [f for f in rule(text, parts, taken, known) if not any(taken[f.start : f.end])]
        found += new
        _take(taken, new)
    found += names(text, parts, taken, labelled, known)
    found += _jobs(text, taken)
    return settle(found)


def _cut(text: str, labelled: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Return the labels, one a line, for a model runs over line breaks; without lines that name a field."""
    cut = []
    for start, end, label in labelled:
        at = start
        for number, line in enumerate(text[start:end].split("\n")):
            if not number or text[at + len(line) : at + len(line) + 1] != ":":
                cut.append((at, at + len(line), label))
            at += len(line) + 1
    return cut


def _take(taken: bytearray, findings: Sequence[Finding]) -> None:
    for f in findings:
        taken[f.start : f.end] = b"\1" * (f.end - f.start)


_AGE = re.compile(
    r"\b(?:aged?|age[ :]+(?:of|is)?|turned|turns|turning|at the age of|i['’]m"
    r"|(?:he|she|i|they) (?:was|were|is|am|are)(?: only| just)?"
    r"|who(?:['’]s| is| was))[ :]+(?P<a>1[01]\d|[1-9]?\d)\b"
    r"(?![\d:/%.-]\d|[ ]?(?:%|am|pm|percent|minutes|hours|days|miles|km|st|nd|rd|th)\b)"
    r"|\b(?P<b>1[01]\d|[1-9]?\d)[ -]?(?:years?[ -](?:old|of age)|y\.?/?o\b|yrs?[ -]old|year[ -]olds?)",
    re.IGNORECASE,
)


def _ages(text: str, parts: Sequence[Token], taken: bytearray, known: Known) -> Iterator[Finding]:
    for match in _AGE.finditer(text):
        group = "a" if match.group("a") else "b"
        yield Finding(match.start(group), match.end(group), "AGE", 0.7)


_YEAR = re.compile(
    r"\b(?:founded|established|born|built|created|incorporated|died|since)(?: in)? ((?:19|20)\d\d)\b", re.IGNORECASE
)


_DAY = re.compile(r"\b(?:on|until|by|this|next|last) ((?:mon|tues|wednes|thurs|fri|satur|sun)day)\b", re.IGNORECASE)


def _years(text: str, parts: Sequence[Token], taken: bytearray, known: Known) -> Iterator[Finding]:
    for regex in (_YEAR, _DAY):
        for match in regex.finditer(text):
            yield Finding(match.start(1), match.end(1), "DATE_TIME", 0.6)


def _peoples(text: str, parts: Sequence[Token], taken: bytearray, known: Known) -> Iterator[Finding]:
    for token in parts:
        plain = plain_of(token)
        if (
            token.kind == "word"
            and token.text != "polish"
            and (plain in words.DEMONYMS or plain[:-1] in words.DEMONYMS)
        ):
            yield Finding(token.start, token.end, "NRP", 0.6)


_JOB = re.compile(
    r"(?:\b[Aa]s (?:an? )?|, the |, an? |^|\n|\bjob(?: title)?:? (?:is )?|\b(?:occupation|position|profession):? )"
    r"(?=([^\W\d_][\w'’\-]*(?:,? [^\W\d_][\w'’\-]*){0,6}?)"
    r"(?=, said|, but|\.|\n|$| (?:in|at|with|for|but)\b| and I\b))"
)


def _jobs(text: str, taken: bytearray) -> Iterator[Finding]:
    for match in _JOB.finditer(text):
        phrase = match.group(1).split(" ")
        agent = len(phrase[-1]) > 3 and phrase[-1].lower().endswith(words.JOB_ENDINGS)
        titled = (
            phrase[0][0].isupper() and not function_word(phrase[0].lower()) and all(w[:1].islower() for w in phrase[1:])
        )
        if agent and titled and not any(taken[match.start(1) : match.end(1)]):
            yield Finding(match.start(1), match.end(1), "TITLE", 0.75)
