"""Columns by the fast path: what each form is, what only looks like one, and how it is counted."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from ml.pii import columns, fast, patterns, router
from ml.pii.findings import Finding, settle

FORMS = {
    "EMAIL_ADDRESS": ["ada@example.org", "Zoë.Müller+x@mail.exämple.de"],
    "CREDIT_CARD": ["4111111111111111", "5500-0000-0000-0004", "3400 000000 00009"],
    "IBAN_CODE": ["NL91ABNA0417164300", "de89 3704 0044 0532 0130 00"],
    "IP_ADDRESS": ["10.1.2.3", "2001:db8::8a2e:370:7334"],
    "PHONE_NUMBER": ["+31 20 123 4567", "(020) 1234 5678", "905-674-3793", "+1-984-182-0190x12"],
    "US_SSN": ["460-89-9847"],
    "MAC_ADDRESS": ["00:1a:2b:3c:4d:5e"],
    "CRYPTO": ["0x52908400098527886E0F7030069857D2E4169EE7"],
    "URL": ["https://example.org/a?b=c", "example.co.uk"],
    "UK_NINO": ["AB 12 34 56 C"],
}


@pytest.mark.parametrize(("entity", "text"), [(entity, text) for entity, texts in FORMS.items() for text in texts])
def test_each_form_is_found_alone_in_a_column_and_in_a_sentence(entity: str, text: str) -> None:
    assert fast.counts(pa.array([text, None, ""]))[0] == {entity: 1}
    sentence = f"Well, ({text}) it is."
    (found,) = [one for one in settle(patterns.find(sentence)) if one.entity == entity]
    assert sentence[found.start : found.end] == text


@pytest.mark.parametrize(
    "text",
    [
        "5c3f8a4e-4111-1111-9111-111111111111", "4111111111111112", "2026-05-04T09:36:43.530371Z", "1.2.3",
        "v10.1.2.3.4",        "order-69f88a40-0-7/8", "urn:isthmus:isthmus.saga.step:1",
        "00-55e5f57650f0121a158c4cf012f777c8-11fc042f6556c1dc-01",
        "hmac:0123456789abcdef0123456789abcdef", "12:30:45", "e.g. this", "666-12-3456", "NL92ABNA0417164300", "99.95",
        "/shop/orders", "3.14159265358979",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_nothing(text: str) -> None:
    assert fast.counts(pa.array([text]))[0] == {}
    assert fast.scan(pa.array([text])) == [[]]


def test_the_name_of_a_column_stands_near_each_of_its_values() -> None:
    seven = pa.array(["467 3395", "358 0594"])
    assert fast.counts(seven)[0] == {}
    assert fast.counts(seven, fast.context_of("crm.people.homePhone"))[0] == {"PHONE_NUMBER": 2}
    days = pa.array(["1985-11-18"] * 3)
    assert fast.counts(days, "created at")[0] == {}
    assert fast.counts(days, "birth date")[0] == {"DATE_TIME": 3}


def test_a_column_of_numbers_is_no_column_of_cards() -> None:
    numbers = pa.array([str(4_000_000_000_000_000 + n) for n in range(1000)])
    assert fast.counts(numbers)[0] == {}


def test_values_count_as_often_as_they_stand_there() -> None:
    assert fast.counts(pa.array(["a@example.org"] * 7 + ["x", None, ""])) == ({"EMAIL_ADDRESS": 7}, 8)


def test_overlaps_are_settled_for_the_surer_one() -> None:
    sure, long, apart = Finding(3, 9, "A", 0.9), Finding(0, 20, "B", 0.5), Finding(30, 31, "C", 0.1)
    assert settle([long, apart, sure]) == [sure, apart]


def test_payloads_are_columns_by_path() -> None:
    found = fast.leaves(['{"a":{"b":["x",1,"y"]},"c":null}', b'{"a":{"b":["z"]}}', "no json"])
    assert found == {"$.a.b[]": ["x", "y", "z"], "$": ["no json"]}


class Model:
    """Stands for the engine and notes what it is shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def find(self, texts: Any, batch_size: int = 128) -> list[list[Finding]]:
        self.shown += texts
        return [[Finding(0, 3, "PERSON", 0.7)] for _ in texts]


@pytest.mark.parametrize(
    ("name", "values", "way"),
    [
        ("status", ["started", "failed"] * 50, "fast"),
        ("order_id", [f"order-{n}" for n in range(100)], "fast"),
        ("amount", [f"{n}.95" for n in range(100)], "fast"),
        ("label", ["in progress", "on hold"] * 50, "fast"),
        ("empty", [None, ""], "skip"),
        ("notes", [f"Called Ada about order {n}" for n in range(100)], "prose"),
        ("anything", [f"Called Ada about order {n}" for n in range(100)], "prose"),
        ("name", ["OutOfStock", "CardDeclined"] * 3, "fast"),
        ("customer_name", ["Ada", "Grace", "Edsger"], "prose"),
    ],
)
def test_the_router_reads_a_column_by_what_it_looks_like(name: str, values: list[str | None], way: str) -> None:
    model = Model()
    seen = columns.inspect(f"raw.t.{name}", pa.array(values, "string"), model, most=10)
    assert seen.route == way
    assert bool(model.shown) == (way == "prose")
    assert len(model.shown) <= 10
    assert bool(seen.entities.get("PERSON")) == (way == "prose")


def test_a_name_in_every_text_is_a_word_of_the_trade() -> None:
    class Names(Model):
        def find(self, texts: Any, batch_size: int = 128) -> list[list[Finding]]:
            return [[Finding(0, text.index(" "), "PERSON", 0.7)] for text in texts]

    said = pa.array([f"Isthmus proposed policy {n}" for n in range(50)])
    assert columns.inspect("ops.t.message", said, Names()).entities == {}
    met = pa.array([f"P{n} called again about it" for n in range(50)])
    assert columns.inspect("ops.t.message", met, Names()).entities == {"PERSON": 50}


def test_without_a_model_the_note_says_what_was_not_looked_for() -> None:
    seen = columns.inspect("raw.t.notes", pa.array([f"mail a{n}@example.org at once" for n in range(9)]))
    assert (seen.route, dict(seen.entities)) == ("prose", {"EMAIL_ADDRESS": 9})
    assert "extra `pii`" in seen.note


def test_a_sample_is_drawn_from_all_over() -> None:
    values = pa.array([str(n) for n in range(1000)])
    drawn = router.sample(values, 100, seed=1).to_pylist()
    assert len(set(drawn)) == 100
    assert drawn == sorted(drawn, key=int)
    assert int(drawn[-1]) > 900
