"""Copies of sources' tables: each row once, whatever is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from assets.sources import copy_table
from assets.sources.postgres import postgres_origin
from assets.sources.snapshot import copy
from resources.errors import SourceError, SourceUnavailable
from resources.postgres import PostgresResource
from resources.settings import Source
from resources.warehouse import WarehouseResource
from tests.conftest import ROOT
from tests.integration.sources.conftest import Killable

pytestmark = pytest.mark.services
ROWS = 1000


@pytest.fixture
def orders(own_postgres: Killable) -> str:
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        # Statistics are written in transactions, and so give the state another name.
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP SCHEMA IF EXISTS shop CASCADE; CREATE SCHEMA shop")
        connection.execute(
            'CREATE TABLE shop."or%ders" (region text, number int, note text, amount numeric(12,2), at timestamptz,'
            " PRIMARY KEY (region, number))"
        )
        connection.execute(
            'INSERT INTO shop."or%ders" SELECT chr(97 + n % 7), n, CASE WHEN n % 5 > 0 THEN \'ä "\' || n END, n / 7.0,'
            f" '2026-01-01 00:00+02' FROM generate_series(1, {ROWS}) AS n"
        )
    return "shop.or%ders"


def current(warehouse: WarehouseResource, source: str) -> list[dict[str, Any]]:
    return warehouse.query_rows(
        "SELECT key, payload FROM raw.source_current WHERE source = {source:String} ORDER BY key", {"source": source}
    )


def expected(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        found = connection.execute(
            'SELECT json_build_array(region, number::text)::text, row_to_json(t)::text FROM shop."or%ders" AS t'
        ).fetchall()
    return sorted(found)


class Broken:
    """A warehouse that fails at the ``at``-th write, before or after it was taken."""

    def __init__(self, warehouse: WarehouseResource, at: int, *, after: bool) -> None:
        self._warehouse, self._left, self._after = warehouse, at, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._warehouse, name)
        if not name.startswith("insert"):
            return method

        def write(*given: Any, **more: Any) -> None:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise KeyboardInterrupt
            method(*given, **more)
            if self._left == 0:
                raise KeyboardInterrupt

        return write


def test_a_run_that_is_cut_off_anywhere_loses_and_doubles_nothing(
    own_warehouse: WarehouseResource, own_postgres: Killable, orders: str
) -> None:
    resource, sound = PostgresResource(url=own_postgres.url), expected(own_postgres.url)
    for number, (at, after) in enumerate([(1, False), (1, True), (4, False), (5, True), (9, True)]):
        name = f"cut{number}"

        def run(warehouse: Any, name: str = name) -> Any:
            with postgres_origin(resource, orders) as origin:
                return copy(origin, warehouse, source=name, table=orders, run_id="r", page_rows=300)

        with pytest.raises(KeyboardInterrupt):
            run(Broken(own_warehouse, at, after=after))
        if at < 9:
            assert current(own_warehouse, name) == [], "half a copy is none"
        copied = run(own_warehouse)
        assert [(row["key"], row["payload"]) for row in current(own_warehouse, name)] == sound
        assert (copied.rows, copied.pages) == (ROWS, 4)
        # The same state again: nothing is copied.
        assert run(own_warehouse).resumed == 4


def test_writes_between_two_attempts_begin_a_new_copy(
    own_warehouse: WarehouseResource, own_postgres: Killable, orders: str
) -> None:
    resource = PostgresResource(url=own_postgres.url)

    def run(warehouse: Any) -> Any:
        with postgres_origin(resource, orders) as origin:
            return copy(origin, warehouse, source="written", table=orders, run_id="r", page_rows=300)

    with pytest.raises(KeyboardInterrupt):
        run(Broken(own_warehouse, 4, after=True))
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("UPDATE shop.\"or%ders\" SET note = 'new' WHERE number = 3")
        connection.execute('DELETE FROM shop."or%ders" WHERE number = 7')
    assert run(own_warehouse).resumed == 0
    found = [(row["key"], row["payload"]) for row in current(own_warehouse, "written")]
    assert found == expected(own_postgres.url)
    # What the first attempt left behind is gone, and old copies go as new ones come.
    for value in ("a", "b", "c"):
        with psycopg.connect(own_postgres.url, autocommit=True) as connection:
            connection.execute('UPDATE shop."or%%ders" SET note = %s WHERE number = 3', [value])
        run(own_warehouse)
    kept = own_warehouse.query_rows("SELECT uniqExact(snapshot_id) AS n FROM raw.source_rows WHERE source = 'written'")
    assert kept == [{"n": 2}]


def test_a_server_killed_in_mid_snapshot(own_warehouse: WarehouseResource, own_postgres: Killable, orders: str) -> None:
    resource, sound = PostgresResource(url=own_postgres.url), expected(own_postgres.url)

    class Killing(Broken):
        def __getattr__(self, name: str) -> Any:
            if name == "insert_arrow":
                self._left -= 1
                if self._left == 0:
                    # A killed process loses nothing that the system has; waiting for the disk takes half a minute.
                    own_postgres.again("-c", "fsync=off")
            return getattr(self._warehouse, name)

    with pytest.raises(SourceUnavailable), postgres_origin(resource, orders) as origin:
        copy(origin, Killing(own_warehouse, 2, after=False), source="k", table=orders, run_id="r", page_rows=300)
    assert current(own_warehouse, "k") == []
    deadline = time.monotonic() + 90
    while True:
        try:
            with postgres_origin(resource, orders) as origin:
                copied = copy(origin, own_warehouse, source="k", table=orders, run_id="r", page_rows=300)
            break
        except SourceUnavailable:  # recovery takes a moment
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert copied.rows == ROWS
    assert [(row["key"], row["payload"]) for row in current(own_warehouse, "k")] == sound


def test_a_killed_process_and_the_next_one(
    own_warehouse: WarehouseResource, own_postgres: Killable, orders: str, tmp_path: Path
) -> None:
    program = """
import os, sys
from assets.sources.postgres import postgres_origin
from assets.sources.snapshot import copy
from resources.postgres import PostgresResource
from resources.warehouse import WarehouseResource
with postgres_origin(PostgresResource(url=os.environ["SOURCE"]), sys.argv[1]) as origin:
    target = WarehouseResource(url=os.environ["TARGET"])
    print(copy(origin, target, source="p", table=sys.argv[1], run_id="r", page_rows=40))
"""
    environment = {**os.environ, "SOURCE": own_postgres.url, "TARGET": own_warehouse.url}
    command = [sys.executable, "-c", program, orders]
    first = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    pages = "SELECT uniqExact(page) AS n FROM raw.source_rows WHERE source = 'p'"
    while own_warehouse.query_rows(pages)[0]["n"] < 3:
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert current(own_warehouse, "p") == []
    with postgres_origin(PostgresResource(url=own_postgres.url), orders) as origin:
        copied = copy(origin, own_warehouse, source="p", table=orders, run_id="r", page_rows=40)
    assert copied.rows == ROWS
    assert copied.resumed > 0
    found = [(row["key"], row["payload"]) for row in current(own_warehouse, "p")]
    assert found == expected(own_postgres.url)


def test_what_cannot_be_copied_says_why(own_warehouse: WarehouseResource, own_postgres: Killable) -> None:
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS keyless (a int)")
    source = Source(url=own_postgres.url)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="no primary key"):
        copy_table(own_warehouse, "s", source, "public.keyless", run_id="r")
    with pytest.raises(SourceError, match="no table"):
        copy_table(own_warehouse, "s", source, "public.nowhere", run_id="r")
    password = own_postgres.url.split(":")[2].split("@")[0]
    wrong = Source(url=own_postgres.url.replace(password, "secret-word"))  # type: ignore[arg-type]
    with pytest.raises(SourceError) as raised:
        copy_table(own_warehouse, "s", wrong, "public.keyless", run_id="r")
    assert "secret-word" not in str(raised.value)
    assert password not in repr(source)


@pytest.fixture
def notes(own_mongo: Killable) -> str:
    import pymongo

    with pymongo.MongoClient(own_mongo.url) as client:
        client.drop_database("shop")
        made: list[dict[str, Any]] = [{"_id": number, "text": f"ä {number}", "at": None} for number in range(400)]
        made += [{"_id": f"n{number}", "deep": {"list": [number, 1.5]}} for number in range(300)]
        client["shop"]["notes"].insert_many([*made, *({"text": str(number)} for number in range(300))])
    return own_mongo.url + "shop"


def test_a_collection_with_keys_of_several_types(
    own_warehouse: WarehouseResource, own_mongo: Killable, notes: str
) -> None:
    import pymongo

    from assets.sources.mongo import mongo_origin
    from resources.mongo import MongoResource

    resource = MongoResource(url=notes)

    def run(warehouse: Any, name: str) -> Any:
        with mongo_origin(resource, "notes", run_id="run") as origin:
            return copy(origin, warehouse, source=name, table="notes", run_id="run", page_rows=170)

    class Killing(Broken):
        def __getattr__(self, name: str) -> Any:
            if name == "insert_arrow":
                self._left -= 1
                if self._left == 0:
                    own_mongo.again()
            return getattr(self._warehouse, name)

    for number, warehouse in enumerate((Broken(own_warehouse, 5, after=True), Killing(own_warehouse, 3, after=False))):
        name = f"mongo{number}"
        try:
            run(warehouse, name)
        except (KeyboardInterrupt, SourceUnavailable):
            assert current(own_warehouse, name) == []
        run(own_warehouse, name)
        found = current(own_warehouse, name)
        with pymongo.MongoClient(own_mongo.url) as client:
            held = {str(one["_id"]) for one in client["shop"]["notes"].find()}
        assert len(found) == len(held) == 1000
        ids = [json.loads(row["payload"])["_id"] for row in found]
        assert {str(each["$oid"] if isinstance(each, dict) else each) for each in ids} == held
