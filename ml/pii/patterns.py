"""Patterns of structured personal data: what a card, an account, an address on the network or an identity number is.

What belongs here: one table of patterns, each with its check and the words that must stand near it. What does not:
names, places and other things that have no form of their own (``prose``).

Alternatives are tried in the order of the table, so the more certain form stands first: a UUID is consumed before its
digits could pass for a card, and stands for nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from ml.pii import checksums
from ml.pii.findings import Finding

WEAK = 0.4
"""Score of a form that only stands for something in a sentence: in a column of numbers it means nothing."""

NOTHING = ""
"""Entity of a form that is no personal data, and hides what it holds from the patterns after it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A form of personal data: a regular expression, a check of what it matches, and words that must stand near.

    ``score`` is the confidence without, ``near_score`` with one of the words of ``near`` in the 40 characters before
    or the 12 after; a score of 0 is no finding.
    """

    entity: str
    regex: str
    check: Callable[[str], bool] | None = None
    score: float = 1.0
    near: str = ""
    near_score: float = 0.0
    length: Callable[[str], int] | None = None
    """Where what is matched may run on into the next words: how much of it is the thing itself."""


def _address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text not in {"::", "0.0.0.0", "255.255.255.255"}  # noqa: S104 (compared, never bound)


def _phone(text: str) -> bool:
    """Return whether ``text`` has the digits of a telephone number, and the form of no date or SSN."""
    number = re.split("x", text.lower())[0]
    count = sum(c.isdigit() for c in number)
    other = r"(?:19|20)\d\d[-/. ]\d{1,2}[-/. ]\d{1,2}.*|\d{3}-\d\d-\d{4}"
    return 6 <= count <= 15 and not re.fullmatch(other, text)


_TLD = (
    "com|net|org|info|biz|edu|gov|mil|int|io|ai|dev|app|co|me|tv|xyz|online|site|shop|cloud|tech|"
    "ac|ae|ar|at|au|be|bg|br|by|ca|cc|ch|cl|cn|cy|cz|de|dk|ee|es|eu|fi|fr|gr|hk|hr|hu|id|ie|il|in|ir|is|it|jp|ke|kr|kz|"
    "lt|lu|lv|ma|md|mk|mt|mx|my|ng|nl|no|nu|nz|pe|ph|pk|pl|pt|qa|ro|rs|ru|sa|se|sg|si|sk|su|th|tr|tw|ua|uk|us|uy|ve|vn|za"
)
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*"
_TIME = r"(?:[T ]\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"

TABLE: tuple[Pattern, ...] = (
    Pattern(NOTHING, r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![\w-])"),
    Pattern("URL", r"(?:https?|ftp)://[^\s<>\"'`|]+[^\s<>\"'`|.,;:!?)\]]", score=0.9),
    Pattern("EMAIL_ADDRESS", r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,24}(?![\w@-])"),
    Pattern("CRYPTO", r"0x[0-9a-fA-F]{40}\b", score=0.95),
    Pattern("CRYPTO", r"(?:bc1|BC1)[02-9a-zA-Z]{11,71}\b|[13][1-9A-HJ-NP-Za-km-z]{25,33}\b", checksums.bitcoin),
    Pattern(
        "IBAN_CODE", r"[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}\b", checksums.iban, length=checksums.iban_length
    ),
    Pattern("MAC_ADDRESS", r"(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}(?![\w:-])", score=0.9),
    Pattern("IP_ADDRESS", r"\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)", _address, 0.95),
    Pattern("IP_ADDRESS", r"(?:[0-9a-fA-F]{0,4}:){2,7}(?:[0-9a-fA-F]{1,4}|(?<=:))(?![\w:])", _address, 0.95),
    Pattern("DATE_TIME", rf"(?:19|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.](?:[0-2]?\d|3[01]){_TIME}(?![\w-])", score=0.8),
    Pattern("DATE_TIME", rf"(?:[0-2]?\d|3[01])[/.-](?:[0-2]?\d|3[01])[/.-](?:19|20)\d\d{_TIME}(?![\w-])", score=0.8),
    Pattern(
        "DATE_TIME",
        rf"(?:[0-3]?\d(?:st|nd|rd|th)?(?: of)? {_MONTH},? (?:19|20)\d\d|{_MONTH}\.? [0-3]?\d(?:st|nd|rd|th)?,? "
        r"(?:19|20)\d\d)(?!\w)",
        score=0.8,
    ),
    Pattern("FR_NIR", r"[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?(?:\d\d|2[ABab]) ?\d{3} ?\d{3} ?\d\d\b", checksums.nir),
    Pattern("CREDIT_CARD", r"\d(?:[ -]?\d){11,18}(?![\d-])", checksums.card),
    Pattern(
        "CREDIT_CARD", r"\d(?:[ -]?\d){11,18}(?![\d-])", checksums.luhn, 0.0, r"\bcards?\b|\bcc\b|visa|maestro", 0.9
    ),
    Pattern("US_SSN", r"\d{3}-\d\d-\d{4}(?![\w-])", checksums.ssn, 0.9),
    Pattern("US_SSN", r"\d{9}\b|\d{3} \d\d \d{4}\b", checksums.ssn, 0.0, r"\bssn\b|social security", 0.9),
    Pattern("US_ITIN", r"9\d\d[- ](?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])[- ]\d{4}\b", score=0.8),
    Pattern("BR_CPF", r"\d{3}\.\d{3}\.\d{3}-\d\d\b", checksums.cpf),
    Pattern("UK_NHS", r"\d{3}[ -]?\d{3}[ -]?\d{4}\b", checksums.nhs, 0.0, r"\bnhs\b|national health", 1.0),
    Pattern("UK_NINO", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]\b", score=0.85),
    Pattern("ES_NIF", r"(?:\d{8}|[XYZxyz]\d{7})-?[A-Za-z]\b", checksums.nif, 0.9),
    Pattern("IT_FISCAL_CODE", r"[A-Za-z]{6}\d\d[A-EHLMPRSTa-ehlmprst]\d\d[A-Za-z]\d{3}[A-Za-z]\b", score=0.9),
    Pattern("FI_HETU", r"[0-3]\d[01]\d{3}[-+A]\d{3}[0-9A-Za-z]\b", checksums.hetu),
    Pattern("IN_PAN", r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]\b", score=0.85),
    Pattern("IN_AADHAAR", r"\d{4}[ -]?\d{4}[ -]?\d{4}\b", checksums.aadhaar, 0.0, r"aadhaar|\buid(?:ai)?\b", 1.0),
    Pattern("PL_PESEL", r"\d{11}\b", checksums.pesel, 0.0, r"pesel", 1.0),
    Pattern("NL_BSN", r"\d{9}\b", checksums.bsn, 0.0, r"\bbsn\b|burgerservice", 1.0),
    Pattern("US_PASSPORT", r"[A-Za-z]{0,2}\d{6,9}[A-Za-z]?\b", None, 0.0, r"passport", 0.8),
    Pattern(
        "US_DRIVER_LICENSE",
        r"(?=[A-Za-z -]{0,12}\d)[A-Za-z0-9]+(?:-[A-Za-z0-9]+){0,4}\b",
        lambda text: 5 <= sum(c.isdigit() for c in text) <= 15,
        0.0,
        r"licen[cs]e|\bdl\b|permit (?:no|number)",
        0.8,
    ),
    Pattern(
        "PHONE_NUMBER",
        r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,5}(?: ?(?:x|ext\.? ?)\d{1,6})?\b",
        _phone,
    ),
    Pattern("PHONE_NUMBER", r"\(\d{2,5}\)[ ]?\d{2,4}(?:[ .-]?\d{2,4}){1,3}(?: ?(?:x|ext\.? ?)\d{1,6})?\b", _phone, 0.9),
    Pattern("PHONE_NUMBER", r"\d{3}[.-]\d{3}[.-]\d{4}(?: ?(?:x|ext\.? ?)\d{1,6})?\b", _phone, 0.8),
    Pattern("PHONE_NUMBER", r"00\d[ .-]?\d{1,4}(?:[ .-]\d{2,4}){1,5}(?: ?(?:x|ext\.? ?)\d{1,6})?\b", _phone, 0.85),
    Pattern("PHONE_NUMBER", r"\d{2,5}(?:[ .-]\d{2,4}){2,4}(?: ?(?:x|ext\.? ?)\d{1,6})?(?![\w-])", _phone, 0.6),
    Pattern(
        "PHONE_NUMBER",
        r"\d{2,5}(?:[ ./-]?\d{2,8}){1,4}(?: ?(?:x|ext\.? ?)\d{1,6})?(?![\w-])",
        _phone,
        0.0,
        r"phone|\btel\b|tel\.|mobile|\bcell|call|\bfax|sms|whatsapp|number is|office|reach|contact|registered|text me",
        0.75,
    ),
    Pattern(
        "PHONE_NUMBER",
        r"(?:\d{3}[ -]\d{4}|0\d{1,4}[ /-]\d{4,9}|\d{2,5}[ -]\d{5,8}|0\d{8,10}|[2-9]\d{9})(?![\w-])",
        _phone,
        WEAK,
    ),
    Pattern(
        "URL", rf"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+(?:{_TLD})\b(?:/[^\s<>\"'`|]*)?(?![\w@-])", score=0.6
    ),
    Pattern(
        "ZIP_CODE",
        r"(?:[A-Za-z]{1,2}-?)?\d{3,6}(?:-\d{3,4})?\b|[A-Za-z]{1,2}\d[A-Za-z\d]? ?\d[A-Za-z]{2}\b",
        None,
        0.0,
        r"\bzip\b|zip ?code|post(?:al)? ?code",
        0.8,
    ),
)

#: A text without any of these holds no form.
_SOME = re.compile(r"\d\D{0,3}\d\D{0,3}\d|@|://|[\w-]\.[^\W\d_]{2}|[0-9a-fA-F]:[0-9a-fA-F:]")
_START = r"(?<![\w@.-])"
_WINDOW = 40
_AFTER = 12


@lru_cache(maxsize=1)
def _compiled() -> tuple[tuple[re.Pattern[str], Pattern, re.Pattern[str] | None], ...]:
    return tuple(
        (
            re.compile(_START + f"(?:{p.regex})", re.IGNORECASE if p.entity == "DATE_TIME" else 0),
            p,
            re.compile(p.near, re.IGNORECASE) if p.near else None,
        )
        for p in TABLE
    )


def find(text: str, context: str = "", *, least: float = 0.5) -> Iterator[Finding]:
    """Yield the structured personal data in ``text`` of a score of at least ``least``; ``context`` (a column's name)
    counts as standing near.

    A form that fails its check is nothing, and does not hide what it holds. Findings may overlap: ``settle`` them.
    """
    if not _SOME.search(text):
        return
    taken: list[tuple[int, int]] = []
    for regex, pattern, near in _compiled():
        for match in regex.finditer(text):
            start, end = match.span()
            if pattern.length is not None:
                end = start + pattern.length(match.group())
            if any(start < e and end > s for s, e in taken):
                continue
            score = pattern.score
            if near is not None and near.search(
                f"{context} {text[max(0, start - _WINDOW) : start]} {text[end : end + _AFTER]}"
            ):
                score = pattern.near_score
            if score <= 0 or score < least or (pattern.check is not None and not pattern.check(text[start:end])):
                continue
            taken.append((start, end))
            if pattern.entity:
                yield Finding(start, end, pattern.entity, score)
