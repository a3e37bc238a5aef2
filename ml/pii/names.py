"""Names in free text: people, places, companies and peoples.

What belongs here: which capitals are a name, and of what. What does not: a list of names; a model's labels come as they
are, and may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ml.pii import words
from ml.pii.findings import Finding
from ml.pii.tokens import Known, Token, function_word, plain_of, tokens

#: OntoNotes labels of the model, as Presidio names them.
LABELS: Final = {
    "PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION", "ORG": "ORGANIZATION", "NORP": "NRP",
}  # fmt: skip


_NAME_BEFORE = re.compile(r"\bname(?: is|:|\?)\s*$", re.I)


_COMPANY_BEFORE = re.compile(
    r"(?:\bwork(?:s|ed|ing)? (?:for|at)|\bemployed (?:by|at)|\bjoined|\baddress of|\b(?:years?|job|career|intern) at"
    r"|\bfounder of|\bceo of|\bemployees? of|following year at|\blater became) $",
    re.I,
)


_COMPANY_AFTER = re.compile(
    r" (?:office\b|employees?\b|headquarters\b|customers?\b|stock\b|shares?\b"
    r"|is an? (?:[\w-]+ ){0,5}(?:company|agency|firm|bank|startup|corporation|business|provider)\b)"
)


_PLACE_BEFORE = re.compile(
    r"(?:\b(?:in|near|city|town|village|country|capital|to|from|southern|northern|eastern|western)\s+)$", re.I
)


def names(
    text: str, parts: Sequence[Token], taken: bytearray, labelled: Sequence[tuple[int, int, str]], known: Known
) -> Iterator[Finding]:
    """Yield the runs of capitals that are a name, outside what is ``taken``; ``labelled`` as for ``prose.find``."""
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
        if plain_of(run[0]) in words.TITLES:
            yield Finding(run[0].start, run[0].end, "TITLE", 0.8)
            run = run[1:]
        while run and plain_of(run[0]) in words.DIRECTIONS:
            run = run[1:]
        if not run:
            continue
        run = [*_with_particles(parts, index[id(run[0])], taken), *run]
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


def _begins(  # noqa: PLR0911, PLR0917 (one reason a line)
    token: Token, parts: Sequence[Token], at: int, taken: bytearray, label_at: dict[int, str], known: Known
) -> bool:
    if token.kind != "word" or not token.capital or taken[token.start]:
        return False
    plain = plain_of(token)
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
        return not function_word(plain_of(after)) or (at + 2 < len(parts) and parts[at + 2].capital)
    return is_addressed(parts, at) or (at > 1 and parts[at - 1].text in "?:" and plain_of(parts[at - 2]) == "name")


_ACTS = frozenset(
    [
        "lives",
        "works",
        "said",
        "says",
        "spent",
        "told",
        "asks",
        "asked",
        "thinks",
        "flew",
        "moved",
        "married",
        "wrote",
        "began",
        "shouted",
        "yelled",
        "replied",
        "answered",
        "loves",
        "called",
    ]
)


_ASKS = frozenset(["can", "could", "would", "will", "please"])


def is_addressed(parts: Sequence[Token], at: int) -> bool:
    """Return whether the word that begins a sentence at ``at`` is somebody: who is spoken to, who acts, first of a
    list."""
    following = [plain_of(token) if token.kind == "word" else token.text for token in parts[at + 1 : at + 4]]
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
            if plain_of(token) in words.NEVER:
                break
            end = look + 1
        elif token.kind == "word" and (plain_of(token) in words.JOINERS or not known(plain_of(token))):
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
        if token.kind != "word" or plain_of(token) not in words.JOINERS:
            return False
    return False


def _name_entity(  # noqa: PLR0911, PLR0912, PLR0917 (one reason a line)
    text: str,
    run: Sequence[Token],
    parts: Sequence[Token],
    index: dict[int, int],
    label_at: dict[int, str],
    known: Known,
    quoted: bytearray,
) -> tuple[str, float]:
    """Return what a run of capitals is, or nothing."""
    plain = [plain_of(token) for token in run]
    labels = [label_at.get(token.start, "") for token in run]
    ours = [LABELS[label] for label in labels if label in LABELS]
    before = text[max(0, run[0].start - 30) : run[0].start]
    if before.rstrip(" .").lower().split(" ")[-1] in words.TITLES:
        return "PERSON", 0.8
    if plain[-1] in words.COMPANY:
        return "ORGANIZATION", 0.7
    first = index[id(run[0])]
    if (len(run) == 1 and run[0].first and is_addressed(parts, first)) or _NAME_BEFORE.search(before):
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


def in_doubt(text: str, known: Known) -> bool:
    """Return whether a model's label could change what is found in ``text`` (recased): a sentence begins with a word of
    the dictionary that may be a name all the same, and nothing beside it tells. Elsewhere labels were measured to add
    nothing to the rules.
    """
    parts = tokens(text)
    for at, token in enumerate(parts):
        if token.first and token.capital and token.kind == "word":
            plain = plain_of(token)
            if plain in words.TITLES or plain in words.COUNTRIES or function_word(plain) or not known(plain):
                continue
            if not is_addressed(parts, at):
                return True
    return False
