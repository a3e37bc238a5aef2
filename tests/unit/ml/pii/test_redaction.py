"""Redaction: one policy with the bus, keys that rotate, tokens that keep the form and lead back only by the vault."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.fields import FieldRule, apply_rules
from ml.pii.checksums import card, iban
from ml.pii.findings import Finding
from ml.pii.redaction import Keys, key_id, redacted, redacted_text, seal, token, unseal

OLD, NEW = b"key of last year", b"key of this year"
KEYS = Keys(NEW, (OLD,))


@pytest.mark.parametrize("action", ["drop", "hash", "mask"])
def test_the_warehouse_redacts_as_the_bus_does(action: str) -> None:
    payload = {"account": "NL91ABNA0417164300"}
    apply_rules((FieldRule(("account",), action),), payload, NEW)  # type: ignore[arg-type]
    assert redacted("NL91ABNA0417164300", action, KEYS) == payload.get("account")  # type: ignore[arg-type]


def test_a_hash_is_not_hashed_again() -> None:
    once = redacted("Ada", "hash", KEYS)
    assert once is not None
    assert redacted(once, "hash", KEYS) == once


def test_a_person_is_found_under_every_key_of_the_ring() -> None:
    before, after = Keys(OLD).hash("Ada"), KEYS.hash("Ada")
    assert before != after
    assert KEYS.candidates("Ada") == [after, before]


@given(st.text(st.characters(codec="ascii", categories=["Nd", "Lu", "Ll", "Pd", "Zs"]), min_size=8, max_size=40))
@settings(max_examples=50, deadline=None)
def test_a_token_keeps_the_form_and_nothing_else(value: str) -> None:
    def form(text: str) -> str:
        return re.sub(r"[A-Z]", "A", re.sub(r"[a-z]", "a", re.sub(r"\d", "0", text)))

    if not any(c.isalnum() for c in value):
        with pytest.raises(ValueError, match="too short"):
            token(value, KEYS)
        return
    made = token(value, KEYS)
    assert form(made) == form(value)
    assert made != value
    assert made == token(value, KEYS)


def test_a_token_is_taken_for_no_card_and_no_account() -> None:
    for number in range(200):
        assert not card(token(f"4111{number:012d}", KEYS))
        assert not iban(token(f"NL{number:02d}ABNA0417164300", KEYS))


def test_a_form_that_is_used_up_says_so() -> None:
    with pytest.raises(ValueError, match="no free token"):
        token("7", KEYS, taken=lambda _: True)


def test_the_vault_leads_back_with_the_key_that_sealed_it_and_no_other() -> None:
    entry = seal("4111 1111 1111 1111", "CREDIT_CARD", Keys(OLD), b"0" * 12)
    assert entry.key == key_id(OLD)
    assert unseal(entry, KEYS) == "4111 1111 1111 1111"
    with pytest.raises(KeyError, match="PREVIOUS"):
        unseal(entry, Keys(NEW))
    for broken in (replace(entry, token="x"), replace(entry, ciphertext=entry.ciphertext[:-1] + b"\0")):
        with pytest.raises(ValueError, match="does not open"):
            unseal(broken, KEYS)


def test_nothing_of_a_key_or_a_value_shows_in_a_representation() -> None:
    entry = seal("Ada Lovelace", "PERSON", KEYS, b"0" * 12)
    for shown in (repr(KEYS), repr(entry), f"{KEYS}"):
        assert "year" not in shown
        assert "Ada" not in shown


def test_a_text_is_redacted_where_something_was_found() -> None:
    text = "Ada pays by 4111111111111111."
    found = [Finding(0, 3, "PERSON", 0.7), Finding(12, 28, "CREDIT_CARD", 1.0)]
    assert redacted_text(text, found, "drop", KEYS) == "[PERSON] pays by [CREDIT_CARD]."
    assert redacted_text(text, found, "mask", KEYS) == "**** pays by ****1111."
