"""The vault: tokens in the warehouse, sealed, and tables redacted by the policy.

What belongs here: reading and writing ``ops.pii_vault``, and a table's redaction. What does not: how a token is made
and sealed (``ml.pii.redaction``).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ml.pii.redaction import Action, Keys, Sealed, redacted, seal, unseal
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa

VAULT: Final = "ops.pii_vault"
_COLUMNS: Final = "token, entity, lookup, key_id, nonce, ciphertext"


@dataclass(frozen=True, slots=True, repr=False)
class Vault:
    """Tokens for values, and back. Every method of it that leads back leaves a row in ``ops.audit``."""

    warehouse: Warehouse
    keys: Keys

    def tokens(self, entity: str, values: Iterable[str]) -> dict[str, str]:
        """Return a token for each value: the one that it has, under any key of the ring, or a new one."""
        wanted = list(dict.fromkeys(values))
        candidates = {value: self.keys.candidates(value) for value in wanted}
        every = [lookup for lookups in candidates.values() for lookup in lookups]
        known = {entry.lookup: entry.token for entry in self._entries("lookup", entity, every)}
        found = {value: known[lookup] for value in wanted for lookup in reversed(candidates[value]) if lookup in known}
        taken = set(found.values())
        new = [value for value in wanted if value not in found]
        while new:
            made = {}
            for value in new:
                made[value] = seal(value, entity, self.keys, secrets.token_bytes(12), taken.__contains__)
                taken.add(made[value].token)
            # The token of another value, from an earlier day, is met here: those who met one are made again.
            met = {entry.token for entry in self._entries("token", entity, [entry.token for entry in made.values()])}
            free = [entry for entry in made.values() if entry.token not in met]
            self.warehouse.insert_rows(VAULT, [_row(entry) for entry in free])
            found |= {value: entry.token for value, entry in made.items() if entry.token not in met}
            new = [value for value, entry in made.items() if entry.token in met]
        return found

    def reveal(self, entity: str, tokens: Sequence[str], *, actor: str, because: str) -> dict[str, str]:
        """Return what ``tokens`` stand for, without those that nobody knows; who asked and why is kept."""
        entries = self._entries("token", entity, list(tokens))
        self._audit(actor, "pii.reveal", entity, len(entries), because)
        return {entry.token: unseal(entry, self.keys) for entry in entries}

    def forget(self, entity: str, values: Sequence[str], *, actor: str, because: str) -> int:
        """Delete what leads back to ``values`` and return how many entries that were: their tokens are nobody's now."""
        lookups = [lookup for value in values for lookup in self.keys.candidates(value)]
        count = len(self._entries("lookup", entity, lookups))
        if count:
            self.warehouse.command(
                f"ALTER TABLE {VAULT} DELETE WHERE entity = {{entity:String}} AND lookup IN {{lookups:Array(String)}} "
                "SETTINGS mutations_sync = 1",
                {"entity": entity, "lookups": lookups},
                idempotent=True,
            )
        self._audit(actor, "pii.forget", entity, count, because)
        return count

    def _entries(self, by: str, entity: str, values: Sequence[str]) -> list[Sealed]:
        if not values:
            return []
        rows = self.warehouse.query_rows(
            f"SELECT {_COLUMNS} FROM {VAULT} FINAL "  # noqa: S608 (constants; values are bound)
            f"WHERE entity = {{entity:String}} AND {by} IN {{values:Array(String)}}",
            {"entity": entity, "values": list(values)},
        )
        return [
            Sealed(
                row["token"],
                row["entity"],
                row["lookup"],
                row["key_id"],
                bytes.fromhex(row["nonce"]),
                bytes.fromhex(row["ciphertext"]),
            )
            for row in rows
        ]

    def _audit(self, actor: str, action: str, entity: str, count: int, because: str) -> None:
        import orjson

        details = orjson.dumps({"entries": count, "because": because}).decode()
        self.warehouse.insert_rows(
            "ops.audit",
            [{"at": datetime.now(UTC), "actor": actor, "action": action, "subject": entity, "details": details}],
        )


def _row(entry: Sealed) -> dict[str, Any]:
    return {
        "entity": entry.entity,
        "lookup": entry.lookup,
        "token": entry.token,
        "key_id": entry.key,
        "nonce": entry.nonce.hex(),
        "ciphertext": entry.ciphertext.hex(),
    }


def redact_table(
    table: pa.Table, policy: Mapping[str, tuple[Action, str]], keys: Keys, vault: Vault | None = None
) -> pa.Table:
    """Return ``table`` with each column of ``policy`` (name → action, entity) replaced; a dropped column is gone.

    Work is by distinct value. Raises ValueError for a column that is not there, and for tokens without a vault.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, (action, entity) in policy.items():
        at = table.schema.get_field_index(name)
        if at < 0:
            raise ValueError(f"column {name} is not in the table: take it out of the policy, or put its name right")
        if action == "drop":
            table = table.remove_column(at)
            continue
        if action == "token" and vault is None:
            raise ValueError(f"column {name} is to be tokenised, which needs a vault")
        coded = pc.dictionary_encode(table.column(at).cast("string").combine_chunks())
        values = coded.dictionary.to_pylist()
        if action == "token" and vault is not None:
            tokens = vault.tokens(entity, values)
            made = [tokens[value] for value in values]
        else:
            made = [redacted(value, action, keys) or "" for value in values]
        table = table.set_column(at, name, pa.array(made, "string").take(coded.indices))
    return table
