"""Finding a person in bytes: whole words, every encoding, and nobody else."""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Callable
from urllib.parse import quote

import pytest

from events.fields import keyed_hash
from ml.pii.redaction import Keys
from ml.privacy.matching import ERASED, Found, Matcher
from ml.privacy.subject import Identifier, Subject, SubjectError, parse

KEYS = Keys(b"key of this year", (b"key of last year",))
STRANGE = ('O\'Brien "Q" 50%', "مريم_العلي", "Zoë Åström", "a\\b/c-9", "100% \t Ann")


def matcher(*given: tuple[str, str]) -> Matcher:
    return Matcher(Subject(Identifier(kind, value) for kind, value in given), KEYS)  # type: ignore[arg-type]


WRAPPINGS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: f"to {text}, now".encode(),
    "json": lambda text: json.dumps({"a": f"\n{text}"}).encode(),
    "json in json": lambda text: json.dumps({"b": json.dumps({"a": text})}).encode(),
    "json, own letters": lambda text: json.dumps([text], ensure_ascii=False).encode(),
    "url": lambda text: f"/x?q={quote(text, safe='')}&z=1".encode(),
    "utf-16-le": lambda text: f"to {text} now".encode("utf-16-le"),
    "utf-16-be": lambda text: f"to {text} now".encode("utf-16-be"),
    "hexadecimal": lambda text: b"x'" + f" {text} ".encode().hex().encode() + b"'",
    "base64, 0": lambda text: base64.b64encode(f"{text} and more".encode()),
    "base64, 1": lambda text: base64.b64encode(f"= {text} and more".encode()),
    "base64, 2": lambda text: b'"' + base64.urlsafe_b64encode(f"== {text}!".encode()) + b'"',
}


@pytest.mark.parametrize("wrapped", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("value", ["ann@x.io", "customer-4711", *STRANGE])
def test_a_person_is_found_in_every_encoding(wrapped: Callable[[str], bytes], value: str) -> None:
    assert matcher(("other", value)).find(wrapped(value)) is Found.PERSON


@pytest.mark.parametrize("wrapped", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("other", ["joann@x.io", "mary-ann@x.io", "ann@x.io.uk", "ann@x.iox", "x.ann@x.io"])
def test_a_part_of_another_persons_value_is_near_and_not_the_person(
    wrapped: Callable[[str], bytes], other: str
) -> None:
    assert matcher(("email", "ann@x.io")).find(wrapped(other)) is not Found.PERSON


def test_near_is_told_apart_from_nothing() -> None:
    ann = matcher(("email", "ann@x.io"))
    assert ann.find("joann@x.io") is Found.NEAR
    assert ann.find("bob@x.io") is Found.NOTHING


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_composed_and_decomposed_letters_are_one(form: str) -> None:
    text = unicodedata.normalize(form, "Zoë Åström")
    assert matcher(("name", "Zoë Åström")).find(f"<b>{text.upper()}</b>") is Found.PERSON


def test_capitals_say_nothing_in_addresses_and_names_and_much_in_identifiers() -> None:
    assert matcher(("email", "Ann@X.io")).find("ANN@x.IO") is Found.PERSON
    assert matcher(("name", "Ann  Lee")).find("ann\tLEE") is Found.PERSON
    assert matcher(("id", "aB3")).find("Ab3") is Found.NOTHING


def test_a_telephone_is_found_without_its_spaces() -> None:
    assert matcher(("phone", "+49 170 123-4567")).find("call +491701234567.") is Found.PERSON


@pytest.mark.parametrize("key", [KEYS.current, *KEYS.previous])
def test_what_stands_for_a_person_on_the_bus_is_found_under_every_key(key: bytes) -> None:
    text = json.dumps({"customer": keyed_hash("customer-4711", key)})
    ann = matcher(("id", "customer-4711"))
    assert ann.find(text) is Found.PERSON
    assert json.loads(ann.scrub(text)) == {"customer": ERASED}


def test_a_scrubbed_text_keeps_the_rest() -> None:
    ann = matcher(("email", "ann@x.io"), ("id", "4711"))
    text = json.dumps(
        {"to": "ann@x.io", "cc": "joann@x.io", "ids": [4711, 47110], "raw": base64.b64encode(b"ann@x.io, x").decode()}
    )
    assert json.loads(ann.scrub(text)) == {"to": ERASED, "cc": "joann@x.io", "ids": [None, 47110], "raw": ERASED}
    assert ann.scrub("mail ann@x.io or joann@x.io") == f"mail {ERASED} or joann@x.io"


def test_an_overwritten_text_keeps_its_length() -> None:
    ann = matcher(("name", "Zoë Åström"))
    assert ann.overwrite("Zoë Åström wrote".encode()) == b"************ wrote".replace(
        b"*" * 12, b"*" * len("Zoë Åström".encode())
    )
    assert ann.overwrite(base64.b64encode("Zoë Åström".encode())) is None


def test_neither_subject_nor_matcher_nor_error_tells_a_value() -> None:
    subject = parse("email: ann@x.io\nid: 4711")
    assert "ann" not in f"{subject!r}{subject}{Matcher(subject, KEYS)!r}"
    for wrong in ("id: 4", "ann@x.io", "mail: ann@x.io", "{'ann@x.io'", ""):
        with pytest.raises(SubjectError) as told:
            parse(wrong)
        assert "x.io" not in str(told.value)
