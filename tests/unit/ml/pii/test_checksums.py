"""Check digits: known numbers pass, and no digit of them can be changed unnoticed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ml.pii import checksums, fast

KNOWN: list[tuple[Callable[[str], bool], str]] = [
    (checksums.card, "4111 1111 1111 1111"),
    (checksums.card, "378282246310005"),
    (checksums.iban, "NL91 ABNA 0417 1643 00"),
    (checksums.iban, "GB82WEST12345698765432"),
    (checksums.nhs, "943 476 5919"),
    (checksums.bsn, "111222333"),
    (checksums.cpf, "529.982.247-25"),
    (checksums.pesel, "44051401359"),
    (checksums.nif, "12345678Z"),
    (checksums.nif, "X1234567L"),
    (checksums.nir, "2 55 08 14 168 025 38"),
    (checksums.hetu, "131052-308T"),
    (checksums.aadhaar, "2341 2341 2346"),
    (checksums.bitcoin, "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"),
    (checksums.bitcoin, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
]


@pytest.mark.parametrize(("check", "text"), KNOWN)
def test_a_known_number_passes_and_a_changed_digit_does_not(check: Callable[[str], bool], text: str) -> None:
    assert check(text)
    for place, c in enumerate(text):
        if c.isdigit():
            changed = text[:place] + str((int(c) + 1) % 10) + text[place + 1 :]
            assert not check(changed), changed


@pytest.mark.parametrize("text", ["", "0", "0000000000000000", "4111 1111 1111 1112", "NL91ABNA04171643", "XX12"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert not checksums.card(text)
    assert not checksums.iban(text)


def test_whole_arrays_are_judged_as_single_values_are() -> None:
    rng = np.random.default_rng(0)
    for length in (12, 15, 16, 19):
        digits = rng.integers(0, 10, (500, length)).astype(np.uint8) + 48
        single = [checksums.luhn(bytes(row).decode()) and len(set(row)) > 1 for row in digits]
        assert fast.luhn(digits).tolist() == single
    texts = [text.replace(" ", "") for check, text in KNOWN if check is checksums.iban]
    for text in (*texts, "NL91ABNA0417164301"):
        matrix = np.frombuffer(text.encode(), np.uint8).reshape(1, -1)
        assert bool(fast.iban(matrix)[0]) == checksums.iban(text)
