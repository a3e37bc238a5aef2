"""The inventory's judgement: what is sure, what is declared, what is proposed."""

from __future__ import annotations

import pytest

from ml.pii.inventory import Declaration, Seen, confidence, judged, proposal

CUSTOMER = Declaration("raw.events.value$.data.customer*", ("PERSON",), "team:a", "contract", "400 days", "hash")


@pytest.mark.parametrize(
    ("entity", "found", "sampled", "sure"),
    [
        ("CREDIT_CARD", 20, 1000, True), ("CREDIT_CARD", 1, 1000, False), ("EMAIL_ADDRESS", 3, 20_000, True),
        ("PERSON", 900, 1000, True), ("PERSON", 50, 1000, False), ("PHONE_NUMBER", 200, 1000, True),
        ("PHONE_NUMBER", 9, 1000, False), ("PERSON", 0, 0, False),
    ],
)  # fmt: skip
def test_how_much_makes_sure_depends_on_the_form(entity: str, found: int, sampled: int, sure: bool) -> None:
    assert (confidence(entity, found, sampled) >= 0.5) == sure


def test_what_is_declared_is_no_news_and_what_is_not_is() -> None:
    known, new = judged(
        Seen("raw.events.value$.data.customer_name", "prose", 100, {"PERSON": 90, "EMAIL_ADDRESS": 90}), [CUSTOMER]
    )[::-1]
    assert (known.entity, known.declaration, known.undeclared) == ("PERSON", CUSTOMER, False)
    assert (new.entity, new.declaration, new.undeclared) == ("EMAIL_ADDRESS", None, True)


def test_a_city_in_a_column_is_listed_and_blocks_nothing() -> None:
    (entry,) = judged(Seen("marts.shops.city", "prose", 100, {"LOCATION": 100}), [])
    assert entry.confidence == 1.0
    assert not entry.undeclared


def test_a_column_without_a_finding_has_its_row_too() -> None:
    (entry,) = judged(Seen("raw.events.topic", "fast", 100), [])
    assert (entry.entity, entry.found, entry.undeclared) == ("", 0, False)


def test_a_proposal_changes_the_schema_of_an_event_or_declares_a_column() -> None:
    (field,) = judged(Seen("raw.events.value$.data.people[].mail", "fast", 50, {"EMAIL_ADDRESS": 50}), [])
    change = proposal(field)
    assert change["schema_patch"] == [
        {"op": "add", "path": "/properties/people/items/properties/mail/x-pii", "value": "drop"}
    ]
    (column,) = judged(Seen("raw.crm.card", "fast", 50, {"CREDIT_CARD": 50}), [])
    assert proposal(column)["declare"]["action"] == "token"
    assert proposal(column)["table"] == "raw.crm.card"
