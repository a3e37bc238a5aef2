"""Words of a text: tokens, which words are of grammar, and capitals for a text that has none.

What belongs here: what every rule of free text reads. What does not: the rules (``addresses``, ``names``, ``prose``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from ml.pii import words

_TOKEN = re.compile(
    r"(?P<word>[^\W\d_]+(?:[’'\-][^\W\d_]+)*(?:\.[^\W\d_]+)*\.?)|(?P<brand>\d+[^\W\d_]{3,}\w*)|(?P<number>\d[\w/\-]*)|(?P<line>\s*\n\s*)|(?P<mark>[^\w\s]|_)"
)


_OPENS = frozenset('.!?:;"“”„«(>•|-–\\')


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number, line break or mark of a text, and where it stands."""

    text: str
    start: int
    end: int
    kind: str
    """``word``, ``number``, ``line`` or ``mark``."""
    capital: bool
    first: bool
    """Whether a capital says nothing here: a sentence, a quotation or a line begins."""


Known = Callable[[str], bool]


def tokens(text: str) -> list[Token]:
    """Return the tokens of ``text``. A full stop belongs to its word only where that is an abbreviation."""
    found: list[Token] = []
    first = True
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "mark"
        part, start, end = match.group(), match.start(), match.end()
        capital = (kind == "word" and (part[0].isupper() or _elided(part))) or (
            kind == "brand" and any(c.isupper() for c in part)
        )
        kind = "word" if kind == "brand" else kind
        stopped = kind == "word" and part.endswith(".")
        if stopped and not _abbreviated(part, text[end : end + 2]):
            part, end = part[:-1], end - 1
        elif stopped:
            stopped = False
        found.append(Token(part, start, end, kind, capital, first))
        if kind == "word" and part.lower().endswith(("'s", "’s")) and len(part) > 2:
            found[-1] = Token(part[:-2], start, end - 2, kind, capital, first)
        if stopped:
            found.append(Token(".", end, end + 1, "mark", False, False))
            first = True
        elif kind in {"word", "number"}:
            first = False
        elif kind == "line" or part in _OPENS:
            first = True
    return found


def _elided(part: str) -> bool:
    """Return whether ``part`` is a name behind an elided article: d'Ivoire, l'Hospitalet."""
    return len(part) > 3 and part[1] in "'’" and part[2].isupper()


def _abbreviated(part: str, after: str) -> bool:
    plain = part.rstrip(".").lower()
    if (
        plain in words.TITLES
        or plain in words.STREET
        or plain in words.UNIT
        or plain in words.SUFFIXES
        or len(plain) == 1
    ):
        return True
    return "." in plain or (plain in words.COMPANY and after[:1] in {"", " ", ",", "\n"} and after[1:2].islower())


def recased(text: str, known: Known) -> str:
    """Return ``text`` with capitals on what may be a name, where it has none at all: the model and the rules need them.

    That is a word that no dictionary holds, the word before it, and what follows words that announce a name. The length
    does not change, so a position in one is the same position in the other.
    """
    capitals = sum(c.isupper() for c in text)
    if capitals > 12 and capitals > 0.6 * sum(c.isalpha() for c in text) and len(text.lower()) == len(text):
        text, capitals = text.lower(), 0
    if not text or capitals:
        return text
    letters = list(text)
    before: re.Match[str] | None = None
    for match in _WORD.finditer(text):
        word = match.group()
        if not known(word) and word not in words.JOINERS | words.TITLES and not word.endswith("'s"):
            _raise(letters, match.start())
            near = before is not None and text[before.end() : match.start()] == " "
            if near and before is not None and not function_word(before.group()) and before.group() not in _NO_NAME:
                _raise(letters, before.start())
        before = match
    for match in _LED.finditer(text):
        for word_match in _WORD.finditer(text, match.start(1), match.end(1)):
            if function_word(word_match.group()):
                break
            _raise(letters, word_match.start())
    for match in _WORD.finditer(text):
        if match.group() in words.COUNTRIES or match.group() in words.TITLES:
            _raise(letters, match.start())
    return "".join(letters)


_NO_NAME = frozenset(["said", "says", "add", "adds", "call", "met", "meet", "visit", "email", "contact", "my"])


def _raise(letters: list[str], at: int) -> None:
    if len(top := letters[at].upper()) == 1:
        letters[at] = top


_WORD = re.compile(r"[^\W\d_]+(?:[’'\-][^\W\d_]+)*")


_LED = re.compile(
    r"(?:\b(?:name is|named|called|this is|i am|i['’]m|dear|hello|hi|said|starring)|\b(?:mr|mrs|ms|dr|miss|prof)\.?),? "
    r"((?:(?:mr|mrs|ms|dr|miss)\.? )?[^\W\d_][\w'’\-]*(?: [^\W\d_][\w'’\-]*)?)"
)


def function_word(plain: str) -> bool:
    """Return whether ``plain`` (lower case) is a word of grammar, or one that is capitalised by custom."""
    return plain in words.NEVER or "'" in plain or plain in _stop_words()


@lru_cache(maxsize=1)
def _stop_words() -> frozenset[str]:
    from spacy.lang.en.stop_words import STOP_WORDS

    return frozenset(STOP_WORDS)


def plain_of(token: Token) -> str:
    """Return a token in lower case, without the full stop of an abbreviation."""
    return token.text.rstrip(".").lower()
