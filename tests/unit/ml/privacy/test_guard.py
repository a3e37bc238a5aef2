"""Erased persons known again by hashes; requests sealed, proofs signed."""

from __future__ import annotations

import json
import secrets

import pyarrow as pa
import pytest

from ml.pii.redaction import Keys
from ml.privacy.guard import Guard
from ml.privacy.sealing import SIGNED, genuine, seal, sign, subject_hashes, unseal
from ml.privacy.subject import Subject, parse

OLD, NEW = Keys(b"last year"), Keys(b"this year", (b"last year",))
ANN = parse(
    json.dumps(
        {"email": "Ann@x.io", "id": "C-12", "name": "Zoë  Åström", "other": 'a "b" % c', "phone": "+49 170 12345"}
    )
)


def guard(subject: Subject, made_with: Keys, keys: Keys) -> Guard:
    return Guard(
        [(hash_, words) for hash_, _, words in subject_hashes(subject, made_with)], (keys.current, *keys.previous)
    )


ROWS = {
    "ann@x.io": True, "joann@x.io": False, "ANN@X.IO.": True, "C-12": True, "C-123": False, "C-12-7": False,
    json.dumps({"name": "Zoë Åström"}): True, json.dumps({"first": "Zoe\u0308", "b": "A\u030astro\u0308m"}): False,
    json.dumps({"n": "\nzoë åström"}, ensure_ascii=False): True, "Zoë": False, "": False, 'x a "b" % c y': True,
    "+4917012345": True, "+49 170 12345": True, json.dumps({"customer": OLD.hash("C-12")}): True,
    json.dumps({"customer": OLD.hash("C-13")}): False,
}  # fmt: skip


@pytest.mark.parametrize(("made_with", "keys"), [(OLD, OLD), (OLD, NEW), (NEW, NEW)])
def test_rows_that_mention_an_erased_person_are_known(made_with: Keys, keys: Keys) -> None:
    held = guard(ANN, made_with, keys).mentions([pa.array(list(ROWS))])
    assert dict(zip(ROWS, held.tolist(), strict=True)) == ROWS


def test_any_column_counts_whatever_its_type() -> None:
    ann = guard(ANN, OLD, OLD)
    columns = [
        pa.chunked_array([[b"\xff\xfe", b"x"]]),
        pa.array([None, "C-12"]),
        pa.array(["a", "a"]).dictionary_encode(),
    ]
    assert ann.mentions(columns).tolist() == [False, True]
    assert ann.mentions([pa.array([b"\xff ann@x.io", b""])]).tolist() == [True, False]


def test_no_run_of_words_goes_from_one_row_into_the_next() -> None:
    assert not guard(ANN, OLD, OLD).mentions([pa.array(["see Zoë", "Åström"])]).any()


def test_an_empty_list_holds_back_nothing() -> None:
    empty = Guard([], [b"k"])
    assert not empty
    assert not empty.mentions([pa.array(["ann@x.io"])]).any()


def test_a_sealed_request_opens_under_any_key_of_the_ring_and_under_its_own_number_only() -> None:
    nonce = secrets.token_bytes(12)
    sealed = seal(ANN, "one", OLD, nonce)
    from ml.pii.redaction import key_id

    assert unseal(sealed, nonce, key_id(OLD.current), "one", NEW).as_record() == ANN.as_record()
    assert b"x.io" not in sealed
    with pytest.raises(ValueError, match="does not open"):
        unseal(sealed, nonce, key_id(OLD.current), "two", NEW)
    with pytest.raises(KeyError):
        unseal(sealed, nonce, key_id(OLD.current), "one", Keys(b"another"))


def test_a_proof_that_was_changed_is_not_genuine() -> None:
    from ml.pii.redaction import key_id

    row = {name: f"{name} 1" for name in SIGNED} | {"key_id": key_id(OLD.current)}
    row["signature"] = sign(row, OLD.current)
    assert genuine(row, OLD)
    assert genuine(row, NEW)
    assert not genuine(row | {"remaining": "0"}, OLD)
    assert not genuine(row, Keys(b"another"))
