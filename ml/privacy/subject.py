"""A person by the values that mean them: how these are read, and in what forms they may stand in a store.

What belongs here: identifiers and their forms as text and bytes. What does not: looking for them (``matching``), and
keeping them (``sealing``).
"""

from __future__ import annotations

import base64
import html
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, get_args
from urllib.parse import quote, quote_plus

from ml.pii.redaction import Keys

Kind = Literal["id", "email", "phone", "name", "account", "other"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
#: Kinds whose letters' case says nothing.
_CASELESS: Final = frozenset({"email", "name"})
#: What stands between the words of a name where it was set in lines or columns.
_SPACES: Final = ("  ", "\t", "\n", "\u00a0")
#: Letters and digits that an identifier has, at least: fewer stand in every other text.
SHORTEST: Final = 3
#: Bytes from which an encoded form (base64, hexadecimal, UTF-16) is looked for: a shorter one is chance.
_ENCODED_FROM: Final = 5
MOST: Final = 50


class SubjectError(ValueError):
    """What was given means nobody; the message says what to do, without the value."""


@dataclass(frozen=True, slots=True, repr=False)
class Identifier:
    """One value that means the person."""

    kind: Kind
    value: str

    @property
    def caseless(self) -> bool:
        """Whether capitals say nothing."""
        return self.kind in _CASELESS

    def spellings(self) -> set[str]:
        """Return the ways to write the value that mean the same: composed or not, spaces, digits of a telephone."""
        value = " ".join(self.value.split()) if self.kind == "name" else self.value
        made = {self.value, value}
        if self.kind == "name":
            made |= {space.join(self.value.split()) for space in _SPACES}
        if self.kind in {"phone", "account"}:
            made.add("".join(c for c in value if c.isalnum() or c == "+"))
        composed = {unicodedata.normalize("NFC", one) for one in made}
        return made | composed | {unicodedata.normalize("NFD", one) for one in made}


class Subject:
    """A person, by one identifier or several. Neither ``repr`` nor ``str`` tells any."""

    def __init__(self, identifiers: Iterable[Identifier]) -> None:
        self.identifiers = tuple(dict.fromkeys(identifiers))
        if not self.identifiers:
            raise SubjectError("no identifier is given: a line each, as `email: ann@example.org`")
        if len(self.identifiers) > MOST:
            raise SubjectError(f"more than {MOST} identifiers: that is not one person")
        for at, one in enumerate(self.identifiers, start=1):
            if sum(c.isalnum() for c in one.value) < SHORTEST:
                raise SubjectError(f"identifier {at} ({one.kind}) has fewer than {SHORTEST} letters and digits")

    def __repr__(self) -> str:
        return f"Subject({len(self.identifiers)} identifiers)"

    @cached_property
    def kinds(self) -> list[str]:
        """The kinds that are given, sorted."""
        return sorted({one.kind for one in self.identifiers})

    def as_record(self) -> list[dict[str, str]]:
        """Return the identifiers as JSON holds them; for sealing only."""
        return [{"kind": one.kind, "value": one.value} for one in self.identifiers]

    @classmethod
    def of(cls, record: Iterable[Mapping[str, str]]) -> Subject:
        """Return the subject that :meth:`as_record` told of."""
        return cls(Identifier(_kind(one["kind"]), one["value"]) for one in record)


def parse(text: str) -> Subject:
    """Return the person that ``text`` means: a JSON object (kind → value or values), or a line ``kind: value`` each.

    Raises :class:`SubjectError` for an unknown kind or a value that means nobody.
    """
    stripped = text.strip()
    if stripped.startswith("{"):
        try:
            given: Any = json.loads(stripped)
        except ValueError:
            raise SubjectError("this is no JSON object of kind → value") from None
        pairs = [(k, v) for k, values in given.items() for v in (values if isinstance(values, list) else [values])]
    else:
        pairs = []
        for at, line in enumerate(stripped.splitlines(), start=1):
            if not line.strip():
                continue
            kind, colon, value = line.partition(":")
            if not colon:
                raise SubjectError(f"line {at} is not `kind: value`; kinds are {', '.join(KINDS)}")
            pairs.append((kind, value))
    return Subject(Identifier(_kind(str(kind)), str(value).strip()) for kind, value in pairs)


def _kind(text: str) -> Kind:
    wanted = text.strip().lower()
    for kind in KINDS:
        if kind == wanted:
            return kind
    raise SubjectError(f"an identifier's kind is one of {', '.join(KINDS)}")


def pseudonyms(subject: Subject, keys: Keys) -> list[str]:
    """Return the keyed hashes that stand for the person on the bus and in the vault, under every key of the ring."""
    found = [made for one in subject.identifiers for text in one.spellings() for made in keys.candidates(text)]
    return list(dict.fromkeys(found))


def needles(subject: Subject, keys: Keys) -> list[bytes]:
    """Return what a store is searched for first: every form in lower case (ASCII letters), shortest forms included.

    A store that holds none of these bytes, its own lowered likewise, holds nothing of the person; one that does is
    looked at closely (:mod:`ml.privacy.matching`).
    """
    made: dict[bytes, None] = dict.fromkeys(text.encode() for text in pseudonyms(subject, keys))
    for one in subject.identifiers:
        for text in one.spellings():
            cased = {text, text.lower(), text.upper(), text.title(), text.casefold()} if one.caseless else {text}
            for form in cased:
                made |= dict.fromkeys(_encodings(form))
    return [needle for needle in dict.fromkeys(one.lower() for one in made) if needle]


def _encodings(text: str) -> Iterator[bytes]:
    raw = text.encode("utf-8", "surrogatepass")
    yield raw
    for escaped in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        yield escaped.encode("utf-8", "surrogatepass")
        yield json.dumps(escaped, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")
    yield html.escape(text).encode("utf-8", "surrogatepass")
    yield quote(raw, safe="").encode()
    yield quote(raw, safe="@").encode()
    yield quote_plus(raw).encode()
    if len(raw) < _ENCODED_FROM:
        return
    yield text.encode("utf-16-le", "surrogatepass")
    yield text.encode("utf-16-be", "surrogatepass")
    yield raw.hex().encode()
    for shift in range(3):
        # What stays the same whatever stands around: without the characters that share bits with neighbours.
        coded = base64.b64encode(b"\0" * shift + raw)
        whole = coded[(0, 2, 3)[shift] : len(coded) - (0, 3, 2)[(shift + len(raw)) % 3]]
        yield whole
        yield whole.replace(b"+", b"-").replace(b"/", b"_")
