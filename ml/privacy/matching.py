"""Whether a text or a blob holds the person: whole words only, whatever the encoding; and taking them out of it.

What belongs here: the decision about one value. What does not: reading stores.

A word is a run of letters, digits and what joins them (``.``, ``-``, ``+``, ``@`` between two): ``ann@x.io`` does not
stand in ``joann@x.io``, ``mary-ann@x.io`` or ``ann@x.io.uk``. Such places are *near*: they are counted, shown and left.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final
from urllib.parse import unquote_plus

from ml.pii.redaction import Keys
from ml.privacy.subject import Subject, needles, pseudonyms

ERASED: Final = "[erased]"
_JOINS: Final = r".+\-@"
_LEFT: Final = rf"(?<!\w)(?<!\w[{_JOINS}])"
_RIGHT: Final = rf"(?!\w)(?![{_JOINS}]\w)"
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|[\"\\/bfnrt'])")
_SIMPLE: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{7,}={0,2}")
_HEX: Final = re.compile(rb"(?:[0-9a-fA-F]{2}){5,}")
_DEPTH: Final = 3


class Found(IntEnum):
    """What a text holds of the person; a larger one includes the smaller."""

    NOTHING = 0
    NEAR = 1
    """An identifier as part of a longer word: another person's, as far as bytes can tell."""
    PERSON = 2


class Matcher:
    """Looks for one person. It holds plain values: keep none beyond the work."""

    def __init__(self, subject: Subject, keys: Keys) -> None:
        self.needles = needles(subject, keys)
        marks = [re.escape(text) for text in pseudonyms(subject, keys)]
        plain = []
        for one in subject.identifiers:
            for text in sorted(one.spellings(), key=len, reverse=True):
                form = r"\s+".join(map(re.escape, text.split())) if one.kind == "name" else re.escape(text)
                plain.append(f"(?i:{form})" if one.caseless else form)
        every = "|".join(dict.fromkeys(marks + plain))
        self._near = re.compile(every)
        self._person = re.compile(f"{_LEFT}(?:{every}){_RIGHT}")

    def __repr__(self) -> str:
        return "Matcher(…)"

    def may_hold(self, blob: bytes) -> bool:
        """Return whether ``blob`` is worth a closer look."""
        lowered = blob.lower()
        return any(needle in lowered for needle in self.needles)

    def find(self, blob: bytes | str) -> Found:
        """Return what ``blob`` holds, in any of the encodings that are known."""
        raw = blob.encode("utf-8", "surrogatepass") if isinstance(blob, str) else blob
        return self._look(raw, _DEPTH) if self.may_hold(raw) else Found.NOTHING

    def _look(self, raw: bytes, depth: int) -> Found:
        best = Found.NOTHING
        for text in _views(raw.decode("utf-8", "surrogateescape")):
            if self._person.search(text):
                return Found.PERSON
            if self._near.search(text):
                best = Found.NEAR
        if depth:
            for inner in _unwrapped(raw):
                # What is wrapped is found by its own bytes; what is not there costs one look.
                if self.may_hold(inner):
                    best = max(best, self._look(inner, depth - 1))
                    if best is Found.PERSON:
                        return best
        return best

    def scrub(self, text: str) -> str:
        """Return ``text`` with each place of the person replaced; JSON stays JSON. Wholly replaced where they would
        still stand in it in another encoding."""
        if self.find(text) is not Found.PERSON:
            return text
        try:
            parsed = json.loads(text)
        except ValueError:
            made = self._plain(text)
        else:
            made = json.dumps(self._walk(parsed), ensure_ascii=False, separators=(",", ":"))
        return made if self.find(made) is not Found.PERSON else ERASED

    def _plain(self, text: str) -> str:
        return self._person.sub(ERASED, text)

    def _walk(self, node: Any) -> Any:
        if isinstance(node, dict):
            return {self._walk(key): self._walk(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self._walk(one) for one in node]
        if isinstance(node, str):
            made = self._plain(node)
            # JSON inside of JSON, or an encoding: all of the value goes.
            return made if self.find(made) is not Found.PERSON else self.scrub(made) if made[:1] in "[{" else ERASED
        if isinstance(node, (int, float)) and not isinstance(node, bool) and self.find(str(node)) is Found.PERSON:
            return None
        return node

    def overwrite(self, blob: bytes) -> bytes | None:
        """Return text ``blob`` with each place of the person overwritten by stars, the length kept; None where that
        does not remove them (an encoding, or no text)."""
        try:
            text = blob.decode()
        except UnicodeDecodeError:
            return None
        made = self._person.sub(lambda match: "*" * len(match.group().encode()), text).encode()
        return made if len(made) == len(blob) and self.find(made) is not Found.PERSON else None


def _views(text: str) -> Iterator[str]:
    """Yield ``text`` as it is, and as it reads without the escapes of JSON (twice), HTML and URLs."""
    yield text
    current = text
    for _ in range(2):
        if "\\" not in current:
            break
        current = _ESCAPE.sub(_unescaped, current)
        # A pair of surrogates that two escapes made is one character.
        current = current.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        yield current
    if "&" in text:
        yield html.unescape(text)
    if "%" in text or "+" in text:
        yield unquote_plus(text, errors="replace")


def _unescaped(match: re.Match[str]) -> str:
    code = match.group(1)
    return chr(int(code[1:], 16)) if code[0] == "u" and len(code) == 5 else _SIMPLE.get(code, code)


def _unwrapped(raw: bytes) -> Iterator[bytes]:
    """Yield what ``raw`` holds in base64, hexadecimal and UTF-16."""
    for match in _HEX.finditer(raw):
        run = match.group()
        yield bytes.fromhex(run.decode())
        if len(run) > 10:
            yield bytes.fromhex(run[1:-1].decode())
    for match in _BASE64.finditer(raw):
        run = match.group().rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        for start in range(4):
            part = run[start:]
            with_end = part + b"=" * (-len(part) % 4)
            try:
                yield base64.b64decode(with_end if len(part) % 4 != 1 else part[:-1])
            except binascii.Error:
                continue
    if b"\0" in raw:
        for encoding in ("utf-16-le", "utf-16-be"):
            for shift in (0, 1):
                yield raw[shift:].decode(encoding, "ignore").encode("utf-8", "ignore")
