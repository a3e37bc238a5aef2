"""Addresses in free text: runs of numbers and names, over lines and commas.

What belongs here: where an address begins and ends. What does not: the words of an address (``words``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ml.pii import words
from ml.pii.findings import Finding
from ml.pii.tokens import Known, Token, function_word, plain_of

_BEFORE_ADDRESS = frozenset(
    [
        "at",
        "on",
        "in",
        "to",
        "is",
        "are",
        "of",
        "from",
        "near",
        "address",
        "office",
        "home",
        "street",
        "live",
        "lives",
        "living",
        "located",
    ]
)


_CORNER = re.compile(r"\b(?:the )?corner of ", re.IGNORECASE)


def _postal(token: Token) -> bool:
    plain = plain_of(token)
    return plain in words.UNIT or plain in words.STREET or plain.endswith(words.STREET_ENDINGS)


def addresses(text: str, parts: Sequence[Token], taken: bytearray, known: Known) -> Iterator[Finding]:
    """Yield runs of numbers and names that hold a number and read as an address, over lines and commas."""
    at = 0
    while at < len(parts):
        corner = _corner(text, parts[at])
        if not corner and not (_address_part(parts[at], taken)):
            at += 1
            continue
        end = _address_end(parts, at + (3 if corner else 0), taken, known, and_too=corner)
        run = parts[at:end]
        start = 0 if corner else _address_start(run)
        run = run[start:]
        before = parts[at - 1] if at and not start else None
        if run and (corner or _reads_as_address(run, before, at + start, parts)):
            last = run[-1]
            yield Finding(run[0].start, last.end, "LOCATION", 0.75)
            at = end
        else:
            at = max(end, at + 1)


def _corner(text: str, token: Token) -> bool:
    return token.kind == "word" and token.text.lower() == "the" and bool(_CORNER.match(text, token.start))


def _address_part(token: Token, taken: bytearray) -> bool:
    if taken[token.start]:
        return False
    if token.kind == "number":
        return len(token.text) <= 10
    return token.kind == "word" and (token.capital or (_postal(token) and len(plain_of(token)) > 2))


def _address_end(parts: Sequence[Token], at: int, taken: bytearray, known: Known, *, and_too: bool = False) -> int:
    """Return the index behind the last part of the run that begins at ``at``."""
    last = at
    while at < len(parts):
        token = parts[at]
        if taken[token.start]:
            break
        if _address_part(token, taken):
            last = at + 1
        elif token.kind == "word":
            plain = plain_of(token)
            joined = plain in words.JOINERS or (and_too and plain == "and") or not known(plain) or _initial(token)
            if not joined and not _state(parts, at) and not _between(parts, at):
                break
            if not joined and not _between(parts, at):
                last = at + 1
        elif token.kind == "mark":
            line = token.text == "." and at + 1 < len(parts) and (parts[at + 1].kind == "line" or _short(parts, at))
            if token.text not in {",", "-", "/", "(", ")", ">"} and not line:
                break
        at += 1
    while last > 0 and parts[last - 1].kind == "mark":
        last -= 1
    return last


def _short(parts: Sequence[Token], at: int) -> bool:
    """Return whether the full stop at ``at`` ends a short word before a name, as in an abbreviation of a street."""
    return at > 0 and len(parts[at - 1].text) <= 5 and parts[at - 1].kind == "word" and parts[at + 1].capital


def _initial(token: Token) -> bool:
    return len(token.text) == 2 and token.text[1] == "."


def _between(parts: Sequence[Token], at: int) -> bool:
    """Return whether a lower-case word stands between a name and a number."""
    here = 0 < at < len(parts) - 1 and parts[at - 1].capital and parts[at + 1].kind == "number"
    return here and not function_word(plain_of(parts[at]))


def _state(parts: Sequence[Token], at: int) -> bool:
    """Return whether the words from ``at`` fill a line of an address: after a comma or a new line, no function words,
    and a number, a comma, a new line or the end behind them.
    """
    if not at or (parts[at - 1].kind == "mark" and parts[at - 1].text != ","):
        return False
    after_number = parts[at - 1].kind == "number"
    for step in range(4):
        if at + step >= len(parts):
            return step > 0 and not after_number
        token = parts[at + step]
        if token.kind in {"number", "line"} or token.text == ",":
            return step > 0
        if token.kind != "word" or (function_word(plain_of(token)) and plain_of(token) not in words.JOINERS):
            return False
    return False


def _address_start(run: Sequence[Token]) -> int:
    """Return where the address begins in ``run``: lines of names above the first line with a number are no part of
    it."""
    begins = [0] + [i + 1 for i, token in enumerate(run) if token.kind == "line"]
    first = next((i for i, token in enumerate(run) if token.kind == "number"), None)
    if first is None:
        return 0
    return max(b for b in begins if b <= first)


def _reads_as_address(run: Sequence[Token], before: Token | None, at: int, parts: Sequence[Token]) -> bool:
    numbers = [token for token in run if token.kind == "number"]
    names = [token for token in run if token.kind == "word"]
    postal = any(_postal(token) for token in names)
    if not numbers or not (postal or any(token.capital for token in names)):
        return False
    if run[0].kind == "number":
        year = len(run[0].text) == 4 and run[0].text[:2] in {"19", "20"} and run[0].text.isdigit()
        return postal or len(numbers) > 1 or (len(names) > 1 and not year)
    previous = parts[at - 1] if at else None
    led = previous is None or previous.kind == "line" or previous.text == ":" or plain_of(previous) in _BEFORE_ADDRESS
    return postal or (led and (len(numbers) > 1 or run[-1].kind == "number" or len(names) > 1))
