"""Operational sources: tables of PostgreSQL and collections of MongoDB.

What belongs here: finding and erasing by the source's own rules. What does not: copies of them, which are the
warehouse's. Without ``erase_url`` a source is read and left: its owner is asked, and the proof says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from assets.compliance.rules import rules
from assets.compliance.stores import Item, Notes, NotYet, Store
from ml.privacy.matching import Found, Matcher
from ml.reconcile.postgres import quoted
from resources.errors import SourceError
from resources.mongo import MongoResource
from resources.postgres import PostgresResource, columns_of
from resources.settings import Source

Rule = Literal["delete"] | list[str]
_ASKED: Final = "no erase_url is configured: erasure is asked of the source's owner"


def source_store(name: str, source: Source) -> Store:
    """Return the store of a source; raises :class:`SourceError` where its URL is of neither kind."""
    url = (source.erase_url or source.url).get_secret_value()
    tables = list(dict.fromkeys([*source.tables, *source.compare, *source.erase]))
    foreign = "" if source.erase_url else _ASKED
    if url.startswith(("postgresql://", "postgres://")):
        return PostgresStore(f"source/{name}", PostgresResource(url=url), tables, source.erase, foreign)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        return MongoStore(f"source/{name}", MongoResource(url=url), tables, source.erase, foreign)
    raise SourceError(f"source {name}: the URL begins neither with postgresql:// nor with mongodb://")


def _kept(store: str, table: str) -> str:
    kept = rules().kept.get(f"{store.removeprefix('source/')}/{table}")
    return kept.basis if kept else ""


def _rule(store: str, table: str, given: dict[str, Rule]) -> Rule:
    if table not in given:
        raise NotYet(f"{store} mentions the person in {table}, for which `erase` has no rule: `delete`, or columns")
    return given[table]


@dataclass
class PostgresStore:
    """Tables of a PostgreSQL database."""

    name: str
    postgres: PostgresResource
    tables: list[str]
    erases: dict[str, Rule]
    foreign: str
    absent: str = ""

    def items(self, matcher: Matcher) -> Iterator[Item]:
        """Yield the rows that mention the person."""
        with self.postgres.reading() as (connection,):
            for table in self.tables:
                columns_of(connection, table)  # a table that is not there says so
                for _, text, found in _rows(connection, table, matcher, lock=False):
                    place = f"{self.name.removeprefix('source/')}/{table}"
                    yield Item(place, json.loads(text), found is Found.NEAR, _kept(self.name, table))

    def erase(self, matcher: Matcher, request_id: str) -> Notes:
        """Delete or empty the rows, all tables in one transaction; then have dead rows cleared away."""
        counts: dict[str, int] = {}
        vacuumed: list[str] = []
        with self.postgres.writing() as connection:
            with connection.transaction():
                for table in self.tables:
                    if _kept(self.name, table):
                        continue
                    found = _rows(connection, table, matcher, lock=True)
                    chosen = [ctid for ctid, _, held in found if held is Found.PERSON]
                    if chosen:
                        counts[table] = len(chosen)
                        self._change(connection, table, _rule(self.name, table, self.erases), chosen)
            for table in self.erases:
                # Rows of an earlier, killed erasure too.
                connection.execute(f"VACUUM {_name(table)}".encode())
                vacuumed.append(table)
        return Notes(
            "rows deleted or emptied in one transaction, tables vacuumed; write-ahead log, replicas and backups of the "
            "server end by its own retention",
            {"rows": counts, "vacuumed": vacuumed},
        )

    def _change(self, connection: Any, table: str, rule: Rule, chosen: list[str]) -> None:
        if rule == "delete":
            statement = f"DELETE FROM {_name(table)} WHERE ctid = ANY(%s::tid[])"  # noqa: S608 (quoted)
        else:
            known = {column.name: column for column in columns_of(connection, table)}
            if missing := [name for name in rule if name not in known]:
                raise SourceError(f"{self.name}: {table} has no column {', '.join(missing)}")
            empty = ", ".join(f"{quoted(name)} = {'NULL' if known[name].nullable else chr(39) * 2}" for name in rule)
            statement = f"UPDATE {_name(table)} SET {empty} WHERE ctid = ANY(%s::tid[])"  # noqa: S608 (quoted)
        connection.execute(statement.encode(), [chosen])


def _name(table: str) -> str:
    return ".".join(quoted(part) for part in table.split(".", 1))


def _rows(connection: Any, table: str, matcher: Matcher, *, lock: bool) -> list[tuple[str, str, Found]]:
    """Return (place, JSON, what it holds) of the rows that hold a needle; the server looks, bound parameters only."""
    needles = [one.decode() for one in matcher.needles if b"\0" not in one and _is_text(one)]
    statement = (
        f"SELECT ctid::text, row_to_json(row_)::text FROM {_name(table)} AS row_ WHERE EXISTS"  # noqa: S608 (quoted)
        " (SELECT FROM unnest(%s::text[]) AS needle"
        f" WHERE position(needle IN lower(row_to_json(row_)::text)) > 0) {'FOR UPDATE' if lock else ''}"
    )
    rows = connection.execute(statement.encode(), [needles]).fetchall()
    looked = [(ctid, text, matcher.find(text)) for ctid, text in rows]
    return [one for one in looked if one[2] is not Found.NOTHING]


def _is_text(needle: bytes) -> bool:
    try:
        needle.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass
class MongoStore:
    """Collections of a MongoDB database, read through: no index holds any value of any field."""

    name: str
    mongo: MongoResource
    tables: list[str]
    erases: dict[str, Rule]
    foreign: str
    absent: str = ""
    _options: dict[str, Any] = field(default_factory=dict)

    def items(self, matcher: Matcher) -> Iterator[Item]:
        """Yield the documents that mention the person."""
        for table in self.tables:
            place = f"{self.name.removeprefix('source/')}/{table}"
            for _, text, found in self._documents(table, matcher):
                yield Item(place, json.loads(text), found is Found.NEAR, _kept(self.name, table))

    def erase(self, matcher: Matcher, request_id: str) -> Notes:
        """Delete the documents or take fields out of them."""
        counts: dict[str, int] = {}
        for table in self.tables:
            if _kept(self.name, table):
                continue
            chosen = [id_ for id_, _, found in self._documents(table, matcher) if found is Found.PERSON]
            if not chosen:
                continue
            rule = _rule(self.name, table, self.erases)
            counts[table] = len(chosen)
            with self.mongo.collection(table) as collection:
                for id_ in chosen:
                    if rule == "delete":
                        collection.delete_one({"_id": id_})
                    else:
                        collection.update_one({"_id": id_}, {"$unset": dict.fromkeys(rule, "")})
        return Notes(
            "documents deleted, or fields taken out; the server's journal, oplog and backups end by its own retention",
            {"documents": counts},
        )

    def _documents(self, table: str, matcher: Matcher) -> list[tuple[Any, str, Found]]:
        from bson import json_util

        found: list[tuple[Any, str, Found]] = []
        with self.mongo.collection(table) as collection:
            for document in collection.find():
                text = json_util.dumps(document, json_options=json_util.RELAXED_JSON_OPTIONS)
                held = matcher.find(text)
                if held is not Found.NOTHING:
                    found.append((document["_id"], text, held))
        return found
