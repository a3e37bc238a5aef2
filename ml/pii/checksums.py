"""Check digits: what tells a card or an account number from any other number.

What belongs here: the checks, each from its standard, each on text as it was found (spaces and hyphens allowed). What
does not: where such numbers stand in a text (``patterns``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

#: Length of an IBAN by country, ISO 13616 registry.
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24,
    "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24,
    "XK": 20,
}  # fmt: skip


def _digits(text: str) -> list[int]:
    return [ord(c) - 48 for c in text if "0" <= c <= "9"]


def luhn(text: str) -> bool:
    """Return whether the digits of ``text`` end in Luhn's check digit (ISO/IEC 7812)."""
    digits = _digits(text)
    total = sum(digits[-1::-2]) + sum(2 * d - 9 * (d > 4) for d in digits[-2::-2])
    return len(digits) > 1 and total % 10 == 0 and any(digits)


def card(text: str) -> bool:
    """Return whether ``text`` is a payment card's number: 12 to 19 digits, an issuer's first digits, Luhn."""
    digits = "".join(c for c in text if "0" <= c <= "9")
    return 12 <= len(digits) <= 19 and digits[0] in "123456" and len(set(digits)) > 1 and luhn(digits)


def iban(text: str) -> bool:
    """Return whether ``text`` is an IBAN: its country's length, remainder 1 modulo 97 (ISO 13616)."""
    plain = text.replace(" ", "").replace("-", "").upper()
    if IBAN_LENGTHS.get(plain[:2]) != len(plain) or not plain.isalnum() or not plain.isascii():
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def iban_length(text: str) -> int:
    """Return how many characters of ``text`` are the IBAN that it begins with: its country's length with spaces;
    all of them where it is cut short, or no country's.
    """
    left = IBAN_LENGTHS.get(text[:2].upper(), len(text))
    for place, c in enumerate(text):
        left -= c.isalnum()
        if left == 0:
            return place + 1 if not text[place + 1 : place + 2].isalnum() else len(text)
    return len(text)


def ssn(text: str) -> bool:
    """Return whether ``text`` can be a social security number of the United States: no group is all zero, no 666, no
    9xx (which are tax numbers).
    """
    digits = "".join(c for c in text if c.isdigit())
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return len(digits) == 9 and area not in {"000", "666"} and area[0] != "9" and group != "00" and serial != "0000"


def _weighted(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(d * w for d, w in zip(digits, weights, strict=False))


def nhs(text: str) -> bool:
    """Return whether ``text`` is an NHS number (modulo 11)."""
    digits = _digits(text)
    return len(digits) == 10 and any(digits) and (11 - _weighted(digits, range(10, 1, -1)) % 11) % 11 == digits[9]


def bsn(text: str) -> bool:
    """Return whether ``text`` is a Dutch citizen service number (the eleven test)."""
    digits = _digits(text)
    return len(digits) == 9 and any(digits) and _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def cpf(text: str) -> bool:
    """Return whether ``text`` is a Brazilian CPF (two check digits modulo 11)."""
    digits = _digits(text)
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    return all(_weighted(digits, range(n + 1, 1, -1)) * 10 % 11 % 10 == digits[n] for n in (9, 10))


def pesel(text: str) -> bool:
    """Return whether ``text`` is a Polish PESEL."""
    digits = _digits(text)
    return (
        len(digits) == 11
        and any(digits)
        and (10 - _weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == digits[10]
    )


def nif(text: str) -> bool:
    """Return whether ``text`` is a Spanish DNI or NIE (letter by remainder modulo 23)."""
    plain = text.replace("-", "").upper()
    number = plain[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return number.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == plain[-1]


def nir(text: str) -> bool:
    """Return whether ``text`` is a French social security number (97 less the remainder)."""
    plain = "".join(c for c in text if c.isalnum()).upper().replace("2A", "19").replace("2B", "18")
    return len(plain) == 15 and plain.isdigit() and 97 - int(plain[:13]) % 97 == int(plain[13:])


def hetu(text: str) -> bool:
    """Return whether ``text`` is a Finnish personal identity code."""
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(text[:6] + text[7:10]) % 31] == text[10].upper()


_D = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 0, 6, 7, 8, 9, 5), (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7), (4, 0, 1, 2, 3, 9, 5, 6, 7, 8), (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2), (7, 6, 5, 9, 8, 2, 1, 0, 4, 3), (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)  # fmt: skip
_P = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 5, 7, 6, 2, 8, 3, 0, 9, 4), (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7), (9, 4, 5, 3, 1, 2, 6, 8, 7, 0), (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5), (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)  # fmt: skip


def aadhaar(text: str) -> bool:
    """Return whether ``text`` is an Indian Aadhaar number (Verhoeff's check digit)."""
    check = 0
    digits = _digits(text)
    for place, digit in enumerate(reversed(digits)):
        check = _D[check][_P[place % 8][digit]]
    return len(digits) == 12 and digits[0] > 1 and check == 0


def bitcoin(text: str) -> bool:
    """Return whether ``text`` is a Bitcoin address (Base58Check, or Bech32 and Bech32m of BIP 173 and 350)."""
    if text[:3].lower() == "bc1":
        return _bech32(text)
    number = 0
    for c in text:
        if (at := _BASE58.find(c)) < 0:
            return False
        number = number * 58 + at
    raw = number.to_bytes(25, "big") if number < 1 << 200 else b""
    return bool(raw) and hashlib.sha256(hashlib.sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


def _bech32(text: str) -> bool:
    if text not in {text.lower(), text.upper()}:
        return False
    human, _, data = text.lower().rpartition("1")
    values = [_BECH32.find(c) for c in data]
    if min(values, default=-1) < 0:
        return False
    check = 1
    for value in [ord(c) >> 5 for c in human] + [0] + [ord(c) & 31 for c in human] + values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return check in {1, 0x2BC830A3}
