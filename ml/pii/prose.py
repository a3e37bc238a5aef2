"""Free text: the rules beside the model, for names, places, addresses, companies, jobs and ages.

What belongs here: how a text's words, a model's labels and the structured findings become findings. What does not: the
model (``engine``), and the forms of structured data (``patterns``).

The rules know classes of words and where they stand, and no name. A capital in mid-sentence, or a word that no
dictionary holds, is a candidate; the model's label or what stands before it says what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ml.pii import words
from ml.pii.findings import Finding, settle

#: OntoNotes labels of the model, as Presidio names them.
LABELS: Final = {
    "PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION", "ORG": "ORGANIZATION", "NORP": "NRP",
}  # fmt: skip

_TOKEN = re.compile(
    r"(?P<word>[^\W\d_]+(?:[’'\-][^\W\d_]+)*(?:\.[^\W\d_]+)*\.?)|(?P<brand>\d+[^\W\d_]{3,}\w*)|(?P<number>\d[\w/\-]*)|(?P<line>\s*\n\s*)|(?P<mark>[^\w\s]|_)"
)
_OPENS = frozenset(".!?:;\"“”„«(>•|-–\\")


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
        capital = kind == "word" and (part[0].isupper() or _elided(part)) or kind == "brand" and any(c.isupper() for c in part)
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
    if plain in words.TITLES or plain in words.STREET or plain in words.UNIT or plain in words.SUFFIXES or len(plain) == 1:
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
        if not known(word) and word not in words.JOINERS and not word.endswith("'s"):
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


_NO_NAME = frozenset("said says add adds call met meet visit email contact my".split())


def _raise(letters: list[str], at: int) -> None:
    if len(top := letters[at].upper()) == 1:
        letters[at] = top


_WORD = re.compile(r"[^\W\d_]+(?:[’'\-][^\W\d_]+)*")
_LED = re.compile(
    r"(?:\bname is|\bnamed|\bcalled|\bthis is|\bi am|\bi['’]m|\bdear|\bhello|\bhi|\bsaid|\bstarring|\b(?:mr|mrs|ms|dr|miss|prof)\.?),? "
    r"((?:(?:mr|mrs|ms|dr|miss)\.? )?[^\W\d_][\w'’\-]*(?: [^\W\d_][\w'’\-]*)?)"
)


def has_candidates(text: str) -> bool:
    """Return whether ``text`` (recased) has a word that a model's label could make a name."""
    return any(token.capital and not function_word(_plain(token)) for token in tokens(text))


def find(
    text: str, labelled: Sequence[tuple[int, int, str]], structured: Sequence[Finding], known: Known
) -> list[Finding]:
    """Return the findings in ``text`` without overlaps, the structured ones among them.

    ``labelled`` are the model's (start, end, OntoNotes label); ``known`` says whether a dictionary holds a word in lower
    case. ``text`` is as :func:`recased` returned it.
    """
    labelled = _cut(text, labelled)
    parts = tokens(text)
    taken = bytearray(len(text) + 1)
    found = list(structured)
    _take(taken, structured)
    for rule in (_ages, _years, _addresses, _peoples):
        new = [f for f in rule(text, parts, taken, known) if not any(taken[f.start : f.end])]
        found += new
        _take(taken, new)
    found += _names(text, parts, taken, labelled, known)
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
    r"\b(?:aged?|age[ :]+(?:of|is)?|turned|turns|turning|at the age of|(?:he|she|i|they) (?:was|were|is|am|are)(?: only| just)?|i['’]m"
    r"|who(?:['’]s| is| was))[ :]+(?P<a>1[01]\d|[1-9]?\d)\b(?![\d:/%.-]\d|[ ]?(?:%|am|pm|percent|minutes|hours|days|miles|km|st|nd|rd|th)\b)"
    r"|\b(?P<b>1[01]\d|[1-9]?\d)[ -]?(?:years?[ -]old|y/?o\b|yrs? old|year[ -]olds?)",
    re.IGNORECASE,
)


def _ages(text: str, parts: Sequence[Token], taken: bytearray, known: Known) -> Iterator[Finding]:
    for match in _AGE.finditer(text):
        group = "a" if match.group("a") else "b"
        yield Finding(match.start(group), match.end(group), "AGE", 0.7)


_YEAR = re.compile(r"\b(?:founded|established|born|built|created|incorporated|died|since)(?: in)? ((?:19|20)\d\d)\b", re.IGNORECASE)
_DAY = re.compile(r"\b(?:on|until|by|this|next|last) ((?:mon|tues|wednes|thurs|fri|satur|sun)day)\b", re.IGNORECASE)


def _years(text: str, parts: Sequence[Token], taken: bytearray, known: Known) -> Iterator[Finding]:
    for regex in (_YEAR, _DAY):
        for match in regex.finditer(text):
            yield Finding(match.start(1), match.end(1), "DATE_TIME", 0.6)


def _peoples(text: str, parts: Sequence[Token], taken: bytearray, known: Known) -> Iterator[Finding]:
    for token in parts:
        plain = _plain(token)
        if token.kind == "word" and token.text != "polish" and (plain in words.DEMONYMS or plain[:-1] in words.DEMONYMS):
            yield Finding(token.start, token.end, "NRP", 0.6)


_BEFORE_ADDRESS = frozenset("at on in to is are of from near address office home street live lives living located".split())
_CORNER = re.compile(r"\b(?:the )?corner of ", re.IGNORECASE)


def _plain(token: Token) -> str:
    return token.text.rstrip(".").lower()


def _postal(token: Token) -> bool:
    plain = _plain(token)
    return plain in words.UNIT or plain in words.STREET or plain.endswith(words.STREET_ENDINGS)


def _addresses(text: str, parts: Sequence[Token], taken: bytearray, known: Known) -> Iterator[Finding]:
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
    return token.kind == "word" and (token.capital or (_postal(token) and len(_plain(token)) > 2))


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
            plain = _plain(token)
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
    return here and not function_word(_plain(parts[at]))


def _state(parts: Sequence[Token], at: int) -> bool:
    """Return whether the words from ``at`` fill a line of an address: after a comma or a new line, no function words, and
    a number, a comma, a new line or the end behind them.
    """
    if not at or parts[at - 1].kind == "mark" and parts[at - 1].text != ",":
        return False
    for step in range(4):
        if at + step >= len(parts):
            return step > 0
        token = parts[at + step]
        if token.kind in {"number", "line"} or token.text == ",":
            return step > 0
        if token.kind != "word" or (function_word(_plain(token)) and _plain(token) not in words.JOINERS):
            return False
    return False


def _address_start(run: Sequence[Token]) -> int:
    """Return where the address begins in ``run``: lines of names above the first line with a number are no part of it."""
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
    led = previous is None or previous.kind == "line" or previous.text == ":" or _plain(previous) in _BEFORE_ADDRESS
    return postal or (led and (len(numbers) > 1 or run[-1].kind == "number" or len(names) > 1))


_IN = frozenset("in from to near at into towards via around across".split())
_NAME_BEFORE = re.compile(r"\bname(?: is|:|\?)\s*$", re.I)
_COMPANY_BEFORE = re.compile(
    r"(?:\bwork(?:s|ed|ing)? (?:for|at)|\bemployed (?:by|at)|\bjoined|\baddress of|\b(?:year|years|job|career|intern) at"
    r"|\bfounder of|\bceo of|\bemployees? of|following year at|\blater became) $",
    re.I,
)
_COMPANY_AFTER = re.compile(
    r" (?:office\b|employees?\b|headquarters\b|customers?\b|stock\b|shares?\b"
    r"|is an? (?:[\w-]+ ){0,5}(?:company|agency|firm|bank|startup|corporation|business|organi[sz]ation|provider|manufacturer)\b)"
)
_PLACE_BEFORE = re.compile(r"(?:\b(?:in|near|city|town|village|country|capital|to|from|southern|northern|eastern|western)\s+)$", re.I)


def _names(
    text: str, parts: Sequence[Token], taken: bytearray, labelled: Sequence[tuple[int, int, str]], known: Known
) -> Iterator[Finding]:
    label_at: dict[int, str] = {}
    for start, end, label in labelled:
        for position in range(start, end):
            label_at[position] = label
    quoted = _quoted(text)
    index = {id(token): number for number, token in enumerate(parts)}
    at = 0
    while at < len(parts):
        token = parts[at]
        if not _begins(token, parts, at, taken, label_at, known):
            at += 1
            continue
        end = _name_end(text, parts, at, taken, known)
        run = parts[at:end]
        at = end
        if _plain(run[0]) in words.TITLES:
            yield Finding(run[0].start, run[0].end, "TITLE", 0.8)
            run = run[1:]
        while run and _plain(run[0]) in words.DIRECTIONS:
            run = run[1:]
        if not run:
            continue
        run = _with_particles(parts, index[id(run[0])], taken) + run
        entity, score = _name_entity(text, run, parts, index, label_at, known, quoted)
        if entity:
            yield Finding(run[0].start, run[-1].end, entity, score)


def _with_particles(parts: Sequence[Token], at: int, taken: bytearray) -> list[Token]:
    """Return the particles of a surname right before the name at ``at``: van, van der, de la."""
    begin = at
    while begin > 0 and parts[begin - 1].text in words.PARTICLES and not taken[parts[begin - 1].start]:
        begin -= 1
    return list(parts[begin:at])


def _quoted(text: str) -> bytearray:
    """Return a mask of what stands in double quotation marks on one line, at most 60 characters."""
    mask = bytearray(len(text) + 1)
    for match in re.finditer(r"[\"“„]([^\"“”\n]{1,60})[\"”]", text):
        mask[match.start(1) : match.end(1)] = b"\1" * (match.end(1) - match.start(1))
    return mask


def function_word(plain: str) -> bool:
    """Return whether ``plain`` (lower case) is a word of grammar, or one that is capitalised by custom."""
    from spacy.lang.en.stop_words import STOP_WORDS

    return plain in STOP_WORDS or plain in words.NEVER or "'" in plain


def _begins(
    token: Token, parts: Sequence[Token], at: int, taken: bytearray, label_at: dict[int, str], known: Known
) -> bool:
    if token.kind != "word" or not token.capital or taken[token.start]:
        return False
    plain = _plain(token)
    if plain in words.TITLES:
        return True
    if function_word(plain):
        return False
    if not token.first:
        return True
    if label_at.get(token.start, "") in {"PERSON", "GPE"} or not known(plain) or plain in words.COUNTRIES:
        return True
    after = parts[at + 1] if at + 1 < len(parts) else None
    if after is not None and after.kind == "word" and after.capital:
        return not function_word(_plain(after)) or (at + 2 < len(parts) and parts[at + 2].capital)
    return _addressed(parts, at) or (at > 1 and parts[at - 1].text in "?:" and _plain(parts[at - 2]) == "name")


_ACTS = frozenset(
    "lives works said says spent told asks asked thinks flew moved married wrote began shouted yelled replied answered loves "
    "called".split()
)
_ASKS = frozenset("can could would will please".split())


def _addressed(parts: Sequence[Token], at: int) -> bool:
    """Return whether the word that begins a sentence at ``at`` is somebody: who is spoken to, who acts, first of a list."""
    following = [_plain(token) if token.kind == "word" else token.text for token in parts[at + 1 : at + 4]]
    if len(following) < 2:
        return False
    if following[0] == ",":
        return following[1] in _ASKS or (parts[at + 2].capital and not function_word(following[1]))
    return following[0] in _ACTS or following[:2] == ["is", "from"]


def _name_end(text: str, parts: Sequence[Token], at: int, taken: bytearray, known: Known) -> int:
    end = at + 1
    look = end
    while look < len(parts):
        token = parts[look]
        if taken[token.start] or (look == end and _owns(text, parts[look - 1])):
            break
        if token.kind == "word" and token.capital and not (token.first and look != end):
            if _plain(token) in words.NEVER:
                break
            end = look + 1
        elif token.kind == "word" and (_plain(token) in words.JOINERS or not known(_plain(token))):
            if not _follows(parts, look):
                break
        elif token.kind == "mark" and token.text in {"&"} and look + 1 < len(parts) and parts[look + 1].capital:
            pass
        else:
            break
        look += 1
    return end


def _owns(text: str, token: Token) -> bool:
    return text[token.end : token.end + 2] in {"'s", "’s"}


def _follows(parts: Sequence[Token], look: int) -> bool:
    """Return whether a capital follows the joiner at ``look``, at most one joiner between."""
    for step in (1, 2):
        if look + step >= len(parts):
            return False
        token = parts[look + step]
        if token.kind == "word" and token.capital:
            return True
        if token.kind != "word" or _plain(token) not in words.JOINERS:
            return False
    return False


def _name_entity(
    text: str,
    run: Sequence[Token],
    parts: Sequence[Token],
    index: dict[int, int],
    label_at: dict[int, str],
    known: Known,
    quoted: bytearray,
) -> tuple[str, float]:
    """Return what a run of capitals is, or nothing."""
    plain = [_plain(token) for token in run]
    labels = [label_at.get(token.start, "") for token in run]
    ours = [LABELS[label] for label in labels if label in LABELS]
    before = text[max(0, run[0].start - 30) : run[0].start]
    if before.rstrip(" .").lower().split(" ")[-1] in words.TITLES:
        return "PERSON", 0.8
    if plain[-1] in words.COMPANY:
        return "ORGANIZATION", 0.7
    first = index[id(run[0])]
    if (len(run) == 1 and run[0].first and _addressed(parts, first)) or _NAME_BEFORE.search(before):
        return "PERSON", 0.5
    if plain[0] in words.COUNTRIES and len(run) <= 2:
        return "LOCATION", 0.7
    if " ".join(plain) in words.DEMONYMS:
        return "NRP", 0.7
    dictionary = all(known(word) or word in words.JOINERS for word in plain)
    previous = parts[first - 1] if first else None
    if dictionary and before.endswith(("'s ", "’s ")):
        return "", 0.0
    if not ours and dictionary:
        if quoted[run[0].start] and quoted[run[-1].end - 1]:
            return "", 0.0
        if any(labels) or (previous is not None and previous.text in {"'", "’"}):
            return "", 0.0
        if len(run) > 1 and any(token.text.isupper() and len(token.text) > 1 for token in run):
            return "", 0.0
        if run[0].first and (len(run) == 1 or previous is None or previous.text != ":"):
            return "", 0.0
    if _COMPANY_BEFORE.search(before) or _COMPANY_AFTER.match(text, run[-1].end):
        return "ORGANIZATION", 0.6
    if ours:
        entity = max(set(ours), key=lambda e: (ours.count(e), e == "PERSON"))
        return entity, 0.7
    if _PLACE_BEFORE.search(before):
        return "LOCATION", 0.5
    return "PERSON", 0.5


_JOB = re.compile(
    r"(?:\b[Aa]s (?:an? )?|, the |, an? |^|\n|\bjob(?: title)?:? (?:is )?|\boccupation:? |\bposition:? |\bprofession:? )"
    r"(?=([^\W\d_][\w'’\-]*(?:,? [^\W\d_][\w'’\-]*){0,6}?)(?=, said|, but|\.|\n|$| in\b| at\b| with\b| for\b| but\b| and I\b))"
)


def _jobs(text: str, taken: bytearray) -> Iterator[Finding]:
    for match in _JOB.finditer(text):
        phrase = match.group(1)
        last = phrase.rsplit(" ", 1)[-1].lower()
        if len(last) > 3 and last.endswith(words.JOB_ENDINGS) and not any(taken[match.start(1) : match.end(1)]):
            if phrase[0].isupper() and not function_word(phrase.split()[0].lower()) and all(w[:1].islower() or w[:1] == phrase[0] for w in phrase.split()):
                yield Finding(match.start(1), match.end(1), "TITLE", 0.75)
