"""Redaction: what takes the place of personal data, by one policy on the bus and in the warehouse.

What belongs here: the four actions, the ring of keys and the vault's entries. What does not: which field or column gets
which action (``x-pii`` in the schemas, ``assets/quality/pii.yml``), and where the vault is kept (``assets.quality``).

``drop``, ``hash`` and ``mask`` are those of ``events.fields``, to the byte, so that a customer who comes by the bus
and by
a database has one hash. ``token`` keeps the form: digits for digits, letters for letters, and a vault leads back.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from events.fields import HASH_PREFIX, keyed_hash, masked
from ml.pii.checksums import card, iban
from ml.pii.findings import Finding, settle

Action = Literal["drop", "mask", "hash", "token"]
_NONCE: Final = 12


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """The key that hashes and seals now, and those before it, which only find what they once made."""

    current: bytes
    previous: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Keys({key_id(self.current)}, {len(self.previous)} previous)"

    def hash(self, value: str) -> str:
        """Return the keyed hash of ``value`` under the current key."""
        return keyed_hash(value, self.current)

    def candidates(self, value: str) -> list[str]:
        """Return every hash that may stand for ``value``, the current key's first: how a person's rows are found."""
        return [keyed_hash(value, key) for key in (self.current, *self.previous)]

    def by_id(self, name: str) -> bytes:
        """Return the key that :func:`key_id` names so; KeyError where it is not in the ring any more."""
        for key in (self.current, *self.previous):
            if key_id(key) == name:
                return key
        raise KeyError(f"no key {name} in the ring: it was dropped from ISTHMUS_PII_KEYS_PREVIOUS")


def key_id(key: bytes) -> str:
    """Return a name for ``key`` that does not tell it: eight hexadecimal digits."""
    return hmac.digest(key, b"isthmus/pii/key-id", "sha256").hex()[:8]


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """A vault's entry: what a token stands for, encrypted with AES-GCM under the key that ``key`` names."""

    token: str
    entity: str
    lookup: str
    """Keyed hash of the value: the same value in the same place gets its token back without opening the vault."""
    key: str
    nonce: bytes
    ciphertext: bytes


def token(value: str, keys: Keys, taken: Callable[[str], bool] = lambda _: False) -> str:
    """Return a token with the form of ``value``: digits for digits, letters for letters of the same case, the rest as
    it is. It passes no check digit, so that nothing takes it for a card or an account, and is none that is ``taken``.
    """
    for attempt in range(1000):
        candidate = _disguised(value, keys.current, attempt)
        if candidate != value and not card(candidate) and not iban(candidate) and not taken(candidate):
            return candidate
    raise ValueError("no free token of this form is left: the value is too short to be given one")


def _disguised(value: str, key: bytes, attempt: int) -> str:
    made = []
    stream = b""
    for place, c in enumerate(value):
        if place % 16 == 0:
            block = f"isthmus/pii/token/{attempt}/{place // 16}/{value}".encode()
            stream = hmac.digest(key, block, "sha512")
        # Four bytes a character: the remainder's bias is below one in a hundred million.
        number = int.from_bytes(stream[place % 16 * 4 : place % 16 * 4 + 4], "big")
        if c.isdigit():
            made.append(str(number % 10))
        elif c.isalpha():
            made.append(chr((65 if c.isupper() else 97) + number % 26))
        else:
            made.append(c)
    return "".join(made)


def seal(value: str, entity: str, keys: Keys, nonce: bytes, taken: Callable[[str], bool] = lambda _: False) -> Sealed:
    """Return the vault's entry for ``value``; ``nonce`` is 12 bytes that were never used with this key."""
    if len(nonce) != _NONCE:
        raise ValueError(f"a nonce has {_NONCE} bytes")
    made = token(value, keys, taken)
    sealed = _cipher(keys.current).encrypt(nonce, value.encode(), f"{entity}/{made}".encode())
    return Sealed(made, entity, keys.hash(value), key_id(keys.current), nonce, sealed)


def unseal(entry: Sealed, keys: Keys) -> str:
    """Return what the token stands for. Raises KeyError where its key is gone, ValueError where the entry was
    changed."""
    from cryptography.exceptions import InvalidTag

    try:
        opened = _cipher(keys.by_id(entry.key)).decrypt(
            entry.nonce, entry.ciphertext, f"{entry.entity}/{entry.token}".encode()
        )
    except InvalidTag:
        raise ValueError("the vault's entry does not open: it was changed, or belongs to another token") from None
    return str(opened.decode())


def _cipher(key: bytes):  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(hashlib.sha256(b"isthmus/pii/vault/" + key).digest())


def redacted(value: str, action: Action, keys: Keys) -> str | None:
    """Return what stands in place of a whole ``value``; None where it is dropped. What is a hash already stays."""
    if action == "drop":
        return None
    if value.startswith(HASH_PREFIX) and action == "hash":
        return value
    if action == "hash":
        return keys.hash(value)
    return masked(value) if action == "mask" else token(value, keys)


def redacted_text(text: str, findings: Sequence[Finding], action: Action, keys: Keys) -> str:
    """Return ``text`` with each finding replaced; a dropped one leaves its entity in brackets, for a reader to
    follow."""
    parts, at = [], 0
    for one in settle(findings):
        parts += [text[at : one.start], redacted(text[one.start : one.end], action, keys) or f"[{one.entity}]"]
        at = one.end
    return "".join(parts) + text[at:]
