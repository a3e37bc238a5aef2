"""What is kept of a request: identifiers sealed while it is open, keyed hashes for ever, and a signed proof.

What belongs here: the cryptography. What does not: the tables.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from ml.pii.redaction import Keys, key_id
from ml.privacy.guard import canonical
from ml.privacy.subject import Subject, pseudonyms

_NONCE: Final = 12
#: What a proof's signature covers, in this order.
SIGNED: Final = (
    "request_id", "store", "state", "found", "erased", "kept", "near", "remaining", "how", "details", "code_version",
    "started_at", "finished_at", "run_id", "key_id",
)  # fmt: skip


def seal(subject: Subject, request_id: str, keys: Keys, nonce: bytes) -> bytes:
    """Return the identifiers under AES-GCM and the current key, bound to the request; ``nonce`` is 12 fresh bytes."""
    if len(nonce) != _NONCE:
        raise ValueError(f"a nonce has {_NONCE} bytes")
    sealed: bytes = _cipher(keys.current).encrypt(nonce, json.dumps(subject.as_record()).encode(), request_id.encode())
    return sealed


def unseal(sealed: bytes, nonce: bytes, key: str, request_id: str, keys: Keys) -> Subject:
    """Return whom a request is about. Raises KeyError where its key is gone, ValueError where it was changed."""
    from cryptography.exceptions import InvalidTag

    try:
        opened = _cipher(keys.by_id(key)).decrypt(nonce, sealed, request_id.encode())
    except InvalidTag:
        raise ValueError("the request does not open: it was changed, or belongs to another number") from None
    return Subject.of(json.loads(opened))


def _cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(hashlib.sha256(b"isthmus/privacy/request/" + key).digest())


def subject_hashes(subject: Subject, keys: Keys) -> list[tuple[str, str, int]]:
    """Return (keyed hash, key's name, words) of each identifier and of each hash of it on the bus, for every key."""
    texts = [text for one in subject.identifiers for text in one.spellings()] + pseudonyms(subject, keys)
    made = {
        (subject_hash(words, key), key_id(key), words.count(" ") + 1)
        for text in texts
        if (words := canonical(text))
        for key in (keys.current, *keys.previous)
    }
    return sorted(made)


def subject_hash(words: str, key: bytes) -> str:
    """Return the keyed hash of a run of words in canonical form."""
    return hmac.digest(key, b"isthmus/privacy/subject/" + words.encode(), "sha256").hex()[:32]


def sign(row: Mapping[str, Any], key: bytes) -> str:
    """Return the signature of a proof's row: every field of :data:`SIGNED`, times as ISO texts in UTC."""
    return hmac.digest(_signing(key), _covered(row), "sha256").hex()


def genuine(row: Mapping[str, Any], keys: Keys) -> bool:
    """Return whether a proof's row is as it was signed; False too where its key is not in the ring any more."""
    try:
        key = keys.by_id(str(row["key_id"]))
    except KeyError:
        return False
    return hmac.compare_digest(sign(row, key), str(row["signature"]))


def _signing(key: bytes) -> bytes:
    return hmac.digest(key, b"isthmus/privacy/proof", "sha256")


def _covered(row: Mapping[str, Any]) -> bytes:
    return json.dumps([_plain(row[name]) for name in SIGNED], ensure_ascii=False).encode()


def _plain(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
