"""The clients that the platform uses, as they come: clickhouse-connect, SQLAlchemy, clickhouse-go."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError


@pytest.fixture
def client(warehouse_url, database):
    made = clickhouse_connect.get_client(dsn=f"{warehouse_url}/{database}")
    yield made
    made.close()


def test_types_go_in_and_out(client):
    client.command(
        "CREATE TABLE kinds (i Int64, u UInt64, f Float64, s String, n Nullable(String), l LowCardinality(String), "
        "a Array(Int32), m Map(String, Int32), t Tuple(Int8, String), d Decimal(18, 4), at DateTime64(6, 'UTC'), "
        "b Bool, e Enum8('x' = 1), u4 UUID) ENGINE = MergeTree ORDER BY i"
    )
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    row = [
        -1,
        2**64 - 1,
        1.5,
        "it's;\n\x00é",
        None,
        "l",
        [1, 2],
        {"k": 1},
        (1, "b"),
        Decimal("1.2345"),
        at,
        True,
        "x",
        UUID(int=7),
    ]
    client.insert("kinds", [row])
    # The client gives UTC without a zone.
    row[10] = at.replace(tzinfo=None)
    assert list(client.query("SELECT * FROM kinds").result_rows[0]) == row


def test_arrow_both_ways(client):
    client.command("CREATE TABLE arrow (id UInt64, s String) ENGINE = MergeTree ORDER BY id")
    rows = pa.table({"id": pa.array(range(200_000), pa.uint64()), "s": pa.array([f"x{n}" for n in range(200_000)])})
    client.insert_arrow("arrow", rows)
    found = client.query_arrow("SELECT * FROM arrow ORDER BY id", use_strings=True)
    assert found.num_rows == 200_000
    with client.query_arrow_stream("SELECT * FROM arrow") as stream:
        assert sum(batch.num_rows for batch in stream) == 200_000


def test_streams_of_blocks_and_frames(client):
    with client.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
        assert sum(len(block) for block in stream) == 300_000
    assert client.query_df("SELECT number AS n FROM numbers(3)")["n"].tolist() == [0, 1, 2]
    assert client.query("SELECT 1 AS a WHERE 0").result_rows == []


def test_parameters_settings_and_errors(client):
    assert client.query("SELECT {a:UInt8}, {s:String}", parameters={"a": 1, "s": "it's\n"}).result_rows == [
        (1, "it's\n")
    ]
    assert client.query("SELECT getSetting('max_block_size')", settings={"max_block_size": 17}).result_rows == [(17,)]
    with pytest.raises(DatabaseError, match="UNKNOWN_IDENTIFIER"):
        client.query("SELECT nope")
    with pytest.raises(DatabaseError, match="FUNCTION_THROW_IF"):
        client.query("SELECT throwIf(number = 400000) FROM numbers(1000000)", settings={"max_block_size": 10_000})


@pytest.mark.parametrize("compress", [False, "gzip", "lz4", "zstd"])
def test_compression(warehouse_url, compress):
    made = clickhouse_connect.get_client(dsn=warehouse_url, compress=compress)
    assert len(made.query("SELECT number FROM numbers(100000)").result_rows) == 100_000
    made.close()


def test_external_data(client):
    from clickhouse_connect.driver.external import ExternalData

    given = ExternalData(file_name="given.csv", data=b"1\n2\n", fmt="CSV", structure=["n UInt8"])
    assert client.query("SELECT sum(n) FROM given", external_data=given).result_rows == [(3,)]


def test_sqlalchemy(warehouse_url, database):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(warehouse_url.replace("http://", "clickhousedb://") + f"/{database}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE s (id UInt64, v String) ENGINE = MergeTree ORDER BY id"))
        connection.execute(sqlalchemy.text("INSERT INTO s VALUES (1, 'a'), (2, 'b')"))
        found = connection.execute(sqlalchemy.text("SELECT v FROM s WHERE id = :id"), {"id": 2}).scalar_one()
    assert found == "b"
    assert sqlalchemy.inspect(engine).get_table_names(schema=database) == ["s"]
    assert [column["name"] for column in sqlalchemy.inspect(engine).get_columns("s", schema=database)] == ["id", "v"]


def test_clickhouse_go(warehouse_url, tmp_path):
    """The client inside Grafana's plugin, over HTTP, unmodified."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    source = Path(__file__).parent / "go"
    fetched = subprocess.run(
        [go, "mod", "download"], cwd=source, capture_output=True, text=True, timeout=120, check=False
    )
    if fetched.returncode:
        pytest.skip(f"the Go module cannot be had here: {fetched.stderr.strip()[-200:]}")
    parts = urlsplit(warehouse_url)
    env = {
        **os.environ,
        "ISTHMUS_GO_ADDRESS": f"{parts.hostname}:{parts.port}",
        "ISTHMUS_GO_USER": parts.username or "default",
        "ISTHMUS_GO_PASSWORD": parts.password or "",
    }
    done = subprocess.run(
        [go, "test", "-count=1", "./..."], cwd=source, env=env, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
