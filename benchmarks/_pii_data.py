"""Labelled sentences, structured columns and the shop's mixed traffic, for ``quality_pii``.

What belongs here: reading and making what is scanned, and which sentences were looked at. What does not: scanning and
scoring.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from ml.pii.checksums import IBAN_LENGTHS

Part = Literal["developers", "looked at", "held out"]


class BadFolder(ValueError):
    """A folder that holds no labelled sentences; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text with its labelled spans (start, end, entity), and the sentence with its values left out."""

    text: str
    spans: tuple[tuple[int, int, str], ...]
    masked: str


def sentences(folder: Path) -> list[Sentence]:
    """Read every ``*.jsonl`` and ``*.jsonl.gz`` of ``folder``: ``full_text`` and ``spans`` a line."""
    files = sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")])
    if not files:
        raise BadFolder(f"{folder} has no *.jsonl or *.jsonl.gz with full_text and spans")
    found = []
    for path in files:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for number, line in enumerate(lines, 1):
                try:
                    found.append(_sentence(json.loads(line)))
                except (KeyError, TypeError, ValueError) as error:
                    raise BadFolder(
                        f"{path.name}, line {number}: no labelled sentence ({type(error).__name__})"
                    ) from None
    return found


def _sentence(row: dict[str, Any]) -> Sentence:
    spans = tuple((int(s["start_position"]), int(s["end_position"]), str(s["entity_type"])) for s in row["spans"])
    text = str(row["full_text"])
    if any(not 0 <= start < end <= len(text) for start, end, _ in spans):
        raise ValueError
    return Sentence(text, spans, str(row.get("masked", "")))


def part_of(sentence: Sentence) -> Part:
    """Return whose a sentence of the developers' folder is, by its template: all sentences of one stand together.

    The rules were written on a half of the templates; a quarter was looked at once they were, and a quarter never.
    """
    template = re.sub(r"\s+", " ", re.sub(r"\{\{.*?\}\}", "{}", sentence.masked)).strip().lower()
    digest = hashlib.md5(template.encode(), usedforsecurity=False).digest()
    return "developers" if digest[0] % 2 == 0 else "looked at" if digest[1] % 2 == 0 else "held out"


def structured_columns(rows: int, seed: int) -> dict[str, tuple[str, pa.Array[Any]]]:
    """Return columns of made-up values, name → (entity, values), with the check digits of the real thing."""
    rng = np.random.default_rng(seed)
    digits = rng.integers(0, 10, (rows, 24))

    def text(*parts: Any) -> list[str]:
        return ["".join(map(str, one)) for one in zip(*parts, strict=True)]

    word = ["".join(row) for row in np.array(list("abcdefghijklmnopqrstuvwxyz"))[rng.integers(0, 26, (rows, 8))]]
    body = ["4" + "".join(map(str, row[:14])) for row in digits]
    cards = [number + str(_luhn_digit(number)) for number in body]
    ibans = []
    for row in digits:
        account = "".join(map(str, row[: IBAN_LENGTHS["DE"] - 4]))
        ibans.append(f"DE{98 - int(account + '131400') % 97:02d}{account}")
    areas, groups, serials = rng.integers(100, 600, rows), rng.integers(10, 99, rows), rng.integers(1000, 9999, rows)
    columns: dict[str, tuple[str, list[str]]] = {
        "email": ("EMAIL_ADDRESS", text(word, ["@"] * rows, word, [".org"] * rows)),
        "card": ("CREDIT_CARD", cards),
        "iban": ("IBAN_CODE", ibans),
        "phone": ("PHONE_NUMBER", text(["+1-"] * rows, areas, ["-"] * rows, areas, ["-"] * rows, serials)),
        "ip": ("IP_ADDRESS", [".".join(map(str, row)) for row in rng.integers(1, 255, (rows, 4))]),
        "ssn": ("US_SSN", text(areas, ["-"] * rows, groups, ["-"] * rows, serials)),
        "order_id": ("", [f"{n:032x}" for n in rng.integers(1 << 40, 1 << 60, rows)]),
        "quantity": ("", [str(n) for n in rng.integers(0, 500, rows)]),
    }
    return {name: (entity, pa.array(values)) for name, (entity, values) in columns.items()}


def _luhn_digit(body: str) -> int:
    total = 0
    for place, c in enumerate(reversed(body)):
        digit = int(c) * (2 if place % 2 == 0 else 1)
        total += digit - 9 if digit > 9 else digit
    return -total % 10


def shop_columns(events: int, seed: int) -> dict[str, list[str]]:
    """Return the strings of the shop's events by JSON path."""
    from datetime import UTC, datetime

    from examples.shop import traffic
    from ml.pii.fast import leaves

    source = traffic(seed=seed, days=0.1, end=datetime(2026, 5, 4, 12, tzinfo=UTC))
    chosen = np.sort(np.random.default_rng(seed).choice(len(source), min(events, len(source)), replace=False))
    return leaves([message.value for message in source.render(chosen)])


def drawn(sentences: Sequence[Sentence], most: int, seed: int) -> list[Sentence]:
    """Return at most ``most`` sentences, drawn without replacement."""
    if len(sentences) <= most:
        return list(sentences)
    return [sentences[at] for at in np.sort(np.random.default_rng(seed).choice(len(sentences), most, replace=False))]
