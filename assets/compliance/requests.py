"""The book of requests: filed, open, waiting, completed; and the proofs, one row a store.

What belongs here: reading and writing the four tables of ``0012_privacy.sql``. What does not: doing what is asked
(``processing``). Every action leaves a row in ``ops.audit``; none holds a value of the person.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from assets.erased import ERASED
from ml.decisions import decision_id
from ml.pii.redaction import Keys, key_id
from ml.privacy.sealing import genuine, seal, sign, subject_hashes, unseal
from ml.privacy.subject import Subject
from resources.errors import ResourceError
from resources.settings import Settings
from resources.warehouse import Warehouse

Kind = Literal["access", "erasure"]
State = Literal["open", "waiting", "completed", "withdrawn"]
REQUESTS: Final = "ops.privacy_requests"
PROOFS: Final = "ops.erasure_proofs"
#: Article 12(3) GDPR: one month.
DUE: Final = timedelta(days=30)


class RequestError(ResourceError):
    """A request cannot be filed or opened; the message says what to do."""


def ring(settings: Settings) -> Keys:
    """Return the ring of keys."""
    return Keys(settings.pii_secret(), settings.pii_secrets_previous())


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One request as it stands."""

    row: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.row[name]

    @property
    def id(self) -> str:
        """Its number."""
        return str(self.row["request_id"])

    def subject(self, keys: Keys) -> Subject:
        """Return whom it is about; raises :class:`RequestError` where it is completed, or its key is gone."""
        if not self.row["sealed"]:
            raise RequestError(f"request {self.id} is {self.row['state']}: it keeps hashes alone")
        try:
            sealed, nonce = bytes.fromhex(self.row["sealed"]), bytes.fromhex(self.row["nonce"])
            return unseal(sealed, nonce, self.row["key_id"], self.id, keys)
        except (KeyError, ValueError) as error:
            raise RequestError(f"request {self.id} cannot be opened: {error}") from None


def file(warehouse: Warehouse, keys: Keys, subject: Subject, *, kind: Kind, actor: str, reference: str = "") -> Request:
    """File a request and return it."""
    now = _now(3)
    number = str(decision_id(now, "privacy", kind, secrets.token_hex(8)))
    nonce = secrets.token_bytes(12)
    row = {
        "request_id": number, "kind": kind, "state": "open",
        "subject_hashes": sorted({hash_ for hash_, _, _ in subject_hashes(subject, keys)}),
        "sealed": seal(subject, number, keys, nonce).hex(), "nonce": nonce.hex(), "key_id": key_id(keys.current),
        "actor": actor, "reference": reference, "filed_at": now, "due_at": now + DUE, "detail": "", "run_id": "",
        "updated_at": _now(),
    }  # fmt: skip
    warehouse.insert_rows(REQUESTS, [row])
    audit(warehouse, actor, f"privacy.{kind}_filed", number, {"kinds": subject.kinds, "reference": reference})
    return Request(row)


def requests(warehouse: Warehouse, *, states: Sequence[State] = (), kind: Kind | None = None) -> list[Request]:
    """Return the requests by the time they were filed, of these states (none: all)."""
    rows = warehouse.query_rows(
        f"SELECT * FROM {REQUESTS} FINAL WHERE (empty({{states:Array(String)}}) OR state IN {{states:Array(String)}})"  # noqa: S608
        " AND ({kind:String} = '' OR kind = {kind:String}) ORDER BY filed_at, request_id",
        {"states": list(states), "kind": kind or ""},
    )
    return [Request(row) for row in rows]


def set_state(warehouse: Warehouse, request: Request, state: State, *, detail: str, run_id: str) -> None:
    """Set a request's state. One that has ended keeps hashes alone: what was sealed is deleted, not only replaced."""
    ended = state in {"completed", "withdrawn"}
    row = dict(request.row) | {"state": state, "detail": detail, "run_id": run_id, "updated_at": _now()}
    if ended:
        row |= {"sealed": "", "nonce": ""}
    warehouse.insert_rows(REQUESTS, [row])
    if ended:
        warehouse.command(
            f"ALTER TABLE {REQUESTS} DELETE WHERE request_id = {{id:String}} AND sealed != ''"
            " SETTINGS mutations_sync = 2",
            {"id": request.id},
            idempotent=True,
        )


def list_erased(warehouse: Warehouse, keys: Keys, subject: Subject, request_id: str) -> None:
    """Put the person on the list that nothing is brought back by; twice is once."""
    rows = [
        {"hash": hash_, "key_id": key, "words": words, "request_id": request_id}
        for hash_, key, words in subject_hashes(subject, keys)
    ]
    warehouse.insert_rows(ERASED, rows)


def proofs(warehouse: Warehouse, keys: Keys, request_id: str) -> list[dict[str, Any]]:
    """Return a request's proofs by store, each with ``genuine``: whether it is as it was signed."""
    rows = warehouse.query_rows(
        f"SELECT * FROM {PROOFS} FINAL WHERE request_id = {{id:String}} ORDER BY store",  # noqa: S608 (a constant)
        {"id": request_id},
    )
    return [row | {"genuine": genuine(row, keys)} for row in rows]


def prove(warehouse: Warehouse, keys: Keys, row: Mapping[str, Any]) -> dict[str, Any]:
    """Sign a proof and write it."""
    signed = {**row, "finished_at": _now(), "key_id": key_id(keys.current)}
    signed["signature"] = sign(signed, keys.current)
    warehouse.insert_rows(PROOFS, [signed])
    return signed


def audit(warehouse: Warehouse, actor: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
    """Leave a row in the audit."""
    row = {"at": _now(), "actor": actor, "action": action, "subject": subject, "details": json.dumps(details)}
    warehouse.insert_rows("ops.audit", [row])


def _now(digits: int = 6) -> datetime:
    now = datetime.now(UTC)
    return now if digits == 6 else now.replace(microsecond=now.microsecond // 1000 * 1000)
