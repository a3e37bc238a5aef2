"""Free text: what is found in sentences that no data set holds, with the model and without."""

from __future__ import annotations

import pytest

pytest.importorskip("spacy", reason="needs the extra `pii` (uv sync --extra pii)")
pytest.importorskip("presidio_analyzer", reason="needs the extra `pii` (uv sync --extra pii)")

from ml.pii.engine import FreeText
from ml.pii.findings import Finding
from ml.pii.tokens import recased, tokens


@pytest.fixture(scope="module")
def engine() -> FreeText:
    return FreeText()


def shown(text: str, found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.entity, text[one.start : one.end]) for one in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The parcel for Grietje Oudenhoven was returned.", [("PERSON", "Grietje Oudenhoven")]),
        ("please ring dr. szymborska about her claim", [("TITLE", "dr."), ("PERSON", "szymborska")]),
        ("The plumber, who is 43 years old, has left.", [("AGE", "43")]),
        ("Ship it to 14 Lindenweg 3, Quedlinburg 06484 today", [("LOCATION", "14 Lindenweg 3, Quedlinburg 06484")]),
        ("Refund to NL91ABNA0417164300 was refused.", [("IBAN_CODE", "NL91ABNA0417164300")]),
        ("He applied as Forklift driver, but we declined.", [("TITLE", "Forklift driver")]),
        ("Nothing personal is said here at all.", []),
        ("", []),
    ],
)  # fmt: skip
def test_sentences(engine: FreeText, text: str, expected: list[tuple[str, str]]) -> None:
    assert shown(text, engine.find([text])[0]) == expected


def test_a_batch_is_its_texts_one_by_one_and_in_order(engine: FreeText) -> None:
    texts = [
        "Paul Verhoeven called.",
        "",
        "Mail to x@example.org",
        "Paul Verhoeven called.",
        "MAIL TO X NOW!!! PLEASE HURRY UP",
    ]
    together = engine.find(texts)
    assert together == [engine.find([text])[0] for text in texts]
    for text, found in zip(texts, together, strict=True):
        assert all(0 <= one.start < one.end <= len(text) for one in found)


def test_recasing_keeps_each_position() -> None:
    for text in ("straße 5 in ŉdorf", "mr. o'neill and ǆ", "ALL IN CAPITALS, EVERY WORD", "İstanbul"):
        assert len(recased(text, lambda word: False)) == len(text)


def test_a_full_stop_ends_a_sentence_or_an_abbreviation() -> None:
    assert [token.text for token in tokens("Mr. Day left. Sad!")] == ["Mr.", "Day", "left", ".", "Sad", "!"]
