"""Requests carried out: every store erased, then every store searched again, and a proof a store.

What belongs here: the order of it. What does not: the stores, the book of requests, Dagster.

Nothing is remembered between attempts but the proofs, which count: an attempt looks at every store anew. So a kill
anywhere, a store that is down, or data that arrived meanwhile end in another attempt, and never in a false proof.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from assets.compliance.requests import Request, audit, list_erased, proofs, prove, set_state
from assets.compliance.stores import Notes, NotYet, Store
from assets.compliance.stores.warehouse import WarehouseStore
from ml.pii.redaction import Keys
from ml.privacy.matching import Matcher
from resources.errors import ResourceError
from resources.warehouse import WarehouseResource

CODE_VERSION: Final = "1"
ACTOR: Final = "compliance/erasures"
_DONE: Final = frozenset({"erased", "nothing", "kept", "not_ours", "absent"})


@dataclass(slots=True)
class Count:
    """What a search of one store came to."""

    found: int = 0
    kept: int = 0
    near: int = 0
    bases: dict[str, str] | None = None

    @classmethod
    def of(cls, store: Store, matcher: Matcher) -> Count:
        """Search ``store``; raises :class:`ResourceError`."""
        count = cls(bases={})
        for item in store.items(matcher):
            if item.near:
                count.near += 1
            elif item.kept:
                count.kept += 1
                assert count.bases is not None
                count.bases[item.place] = item.kept
            else:
                count.found += 1
        return count


def look(stores: Sequence[Store], matcher: Matcher) -> dict[str, Count | str]:
    """Return what each store holds of the person, or in words why that is not known; nothing is changed."""
    held: dict[str, Count | str] = {}
    for store in stores:
        if store.absent:
            continue
        try:
            held[store.name] = Count.of(store, matcher)
        except ResourceError as error:
            held[store.name] = words_of(error)
    return held


def process(
    warehouse: WarehouseResource, stores: Sequence[Store], keys: Keys, request: Request, *, run_id: str
) -> list[dict[str, Any]]:
    """Carry one request of erasure out as far as it goes now, and return its proofs.

    It is completed where every store's search finds nothing that may not stay; else it waits and says for which store.
    Raises :class:`ResourceError` only where the book itself cannot be read or written.
    """
    subject = request.subject(keys)
    matcher = Matcher(subject, keys)
    # First: what lands from now on is held back.
    list_erased(warehouse, keys, subject, request.id)
    before = {row["store"]: row for row in proofs(warehouse, keys, request.id)}
    begun = datetime.now(UTC).replace(microsecond=0)
    rows: dict[str, dict[str, Any]] = {}
    for store in stores:
        row = _row(request, store, before.get(store.name), run_id, begun)
        rows[store.name] = row
        if store.absent:
            row |= {"state": "absent", "how": store.absent}
            continue
        try:
            found = Count.of(store, matcher)
            row["found"] = max(row["found"], row["erased"] + found.found + found.kept)
            if store.foreign or not found.found:
                notes = Notes(store.foreign)
                if not store.foreign:
                    # What a killed attempt began is brought to its end.
                    notes = store.erase(matcher, request.id)
            else:
                prove(warehouse, keys, row | {"state": "waiting", "remaining": found.found, "how": "begun"})
                notes = store.erase(matcher, request.id)
            _note(row, notes)
        except ResourceError as error:
            row |= {"state": "waiting", "how": words_of(error)}
    for store in stores:
        _settle(rows[store.name], store, matcher)
    made = [prove(warehouse, keys, row) for row in rows.values()]
    _conclude(warehouse, request, made, run_id)
    return made


def _row(
    request: Request, store: Store, earlier: dict[str, Any] | None, run_id: str, begun: datetime
) -> dict[str, Any]:
    return {
        "request_id": request.id,
        "store": store.name,
        "state": "",
        "found": int(earlier["found"]) if earlier else 0,
        "erased": int(earlier["erased"]) if earlier else 0,
        "kept": 0,
        "near": 0,
        "remaining": 0,
        "how": "",
        "details": earlier["details"] if earlier else "{}",
        "code_version": CODE_VERSION,
        "started_at": earlier["started_at"] if earlier else begun,
        "run_id": run_id,
    }


def _note(row: dict[str, Any], notes: Notes) -> None:
    row["how"] = notes.how
    if any(notes.details.values()):
        row["details"] = json.dumps(json.loads(row["details"]) | notes.details)


def _settle(row: dict[str, Any], store: Store, matcher: Matcher) -> None:
    """Search a store once more, after all were erased, and say what that came to."""
    if store.absent:
        return
    try:
        left = Count.of(store, matcher)
    except ResourceError as error:
        row |= {"state": "waiting", "how": words_of(error)}
        return
    row |= {"kept": left.kept, "near": left.near, "remaining": left.found}
    row["erased"] = max(row["erased"], row["found"] - left.found - left.kept)
    if left.bases:
        row["details"] = json.dumps(json.loads(row["details"]) | {"kept": left.bases})
    if store.foreign:
        row["state"] = "not_ours"
    elif left.found:
        row["state"] = "waiting"
        row["how"] = row["how"] if row["how"] else "something of the person came back or cannot be taken out"
    elif row["state"] != "waiting":
        row["state"] = "kept" if left.kept else "erased" if row["erased"] else "nothing"


def _conclude(warehouse: WarehouseResource, request: Request, made: list[dict[str, Any]], run_id: str) -> None:
    waiting = [row for row in made if row["state"] not in _DONE]
    detail = "; ".join(f"{row['store']}: {row['how']}" for row in waiting)[:2000]
    set_state(warehouse, request, "waiting" if waiting else "completed", detail=detail, run_id=run_id)
    if not waiting:
        # The old rows of the book held the identifiers, sealed.
        WarehouseStore(warehouse).clean()
    figures = {row["store"]: [row["state"], row["found"], row["erased"], row["remaining"]] for row in made}
    action = "privacy.erasure_waits" if waiting else "privacy.erasure_completed"
    audit(warehouse, ACTOR, action, request.id, {"stores": figures, "run_id": run_id})


def words_of(error: ResourceError) -> str:
    """Return an error in words that hold no value: a server's text may quote a row, our own do not."""
    return str(error) if isinstance(error, NotYet) else f"not reached or refused ({type(error).__name__})"
