"""Every way in: formats, borders between statement and data, awkward bytes, what a bad row does."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet
import pytest


@pytest.fixture
def table(http, database):
    name = f"{database}.t"
    http(f"CREATE TABLE {name} (id UInt64, s String) ENGINE = MergeTree ORDER BY id")
    return name


@pytest.mark.parametrize(
    "layout",
    [
        "Native", "RowBinary", "RowBinaryWithNamesAndTypes", "CSV", "CSVWithNames", "TSV", "TabSeparatedWithNames",
        "JSONEachRow", "JSONCompactEachRow", "JSON", "Values", "Parquet", "Arrow", "ArrowStream", "ORC", "Avro",
        "MsgPack", "BSONEachRow",
    ],
)  # fmt: skip
def test_format(http, table, layout):
    """Bytes that look like SQL, line ends, quotes, zero and invalid UTF-8 come through every format."""
    awkward = "concat('a;\\n\"\\t,''', char(0, 255, 13), toString(number))"
    if layout in ("JSONEachRow", "JSONCompactEachRow", "JSON", "BSONEachRow"):
        awkward = "concat('a;\\n\"\\t,''', char(0, 13), toString(number))"
    query = f"SELECT number AS id, {awkward} AS s FROM numbers(1000)"
    data = http.post(f"{query} FORMAT {layout}").content
    answer = http.post(f"INSERT INTO {table} (id, s) FORMAT {layout}", data=data)
    assert answer.status_code == 200, answer.text
    assert http(f"SELECT count(), sum(cityHash64(id, s)) FROM {table}") == http(
        f"SELECT count(), sum(cityHash64(id, s)) FROM ({query})"
    )


def test_arrow_and_parquet_from_pyarrow(http, table):
    rows = pa.table({"id": pa.array(range(1000), pa.uint64()), "s": [f"x{n}" for n in range(1000)]})
    stream, file, parquet = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=100)
    with pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    pyarrow.parquet.write_table(rows, parquet)
    for layout, data in (("ArrowStream", stream), ("Arrow", file), ("Parquet", parquet)):
        answer = http.post(f"INSERT INTO {table} FORMAT {layout}", data=data.getvalue())
        assert answer.status_code == 200, answer.text
    assert http(f"SELECT count(), uniqExact(id) FROM {table}") == "3000\t1000"


@pytest.mark.parametrize(
    "statement",
    [
        b"INSERT INTO {t} VALUES (1, 'a'), (2, 'b')",
        b"INSERT INTO {t} VALUES (1, 'a'), (2, 'b');",
        b"INSERT INTO {t} (id, s) VALUES (1, 'a'), (2, concat('', 'b'))",
        b"insert into table {t} (`id`, \"s\") settings async_insert = 0 values (1, 'a'),(2, 'b')",
        b"/* values */ INSERT INTO {t} -- format CSV\n (id, s) FORMAT CSV\n1,a\n2,b\n",
        b'INSERT INTO {t} FORMAT JSONEachRow {"id": 1, "s": "a"} {"id": 2, "s": "b"}',
        b"INSERT INTO {t} FORMAT TSV\r\n1\ta\n2\tb\n",
        b"INSERT INTO {t} SELECT 1, 'a' UNION ALL SELECT 2, 'b'",
        b"INSERT INTO {t} (id, s) (SELECT 1, 'a' UNION ALL SELECT 2, 'b')",
        b"INSERT INTO {t} WITH 'b' AS b SELECT number + 1, if(number > 0, b, 'a') FROM numbers(2)",
    ],
)
def test_statement_and_data_in_one_body(http, table, statement):
    http(statement.replace(b"{t}", table.encode()))
    assert http(f"SELECT groupArray((id, s)) FROM (SELECT * FROM {table} ORDER BY id)") == "[(1,'a'),(2,'b')]"


@pytest.mark.parametrize("name", ["values", "format", "select", "`a b`", "`x'y`"])
def test_tables_named_like_words_of_the_grammar(http, database, name):
    http(f"CREATE TABLE {database}.{name} (format UInt8, `values` UInt8) ENGINE = Memory")
    http(f"INSERT INTO {database}.{name} (format, `values`) FORMAT CSV\n1,2\n")
    http(f"INSERT INTO {database}.{name} VALUES (3,4)")
    assert http(f"SELECT sum(format), sum(`values`) FROM {database}.{name}") == "4\t6"


def test_data_that_look_like_statements(http, table):
    data = b'1,"x\';\nDROP TABLE x; --"\n2,"FORMAT JSON"\n'
    assert http.post(f"INSERT INTO {table} FORMAT CSV", data=data).status_code == 200
    assert http(f"SELECT count() FROM {table}") == "2"


def test_statement_longer_than_a_chunk(http, table):
    rows = b",".join(b"(%d, '%s')" % (n, b"x" * 100) for n in range(30_000))
    http(f"INSERT INTO {table} VALUES ".encode() + rows)
    assert http(f"SELECT count(), sum(length(s)) FROM {table}") == "30000\t3000000"


def test_empty_data(http, table):
    assert http.post(f"INSERT INTO {table} FORMAT JSONEachRow", data=b"").status_code == 200
    assert http(f"SELECT count() FROM {table}") == "0"


@pytest.mark.parametrize(
    ("layout", "data", "code"),
    [("JSONEachRow", b'{"id": 1}\n{"id": "x"}\n', 27), ("CSV", b"1,a\nx,b\n", 27), ("Nope", b"1", 73)],
)
def test_a_bad_row_inserts_nothing(http, table, layout, data, code):
    status, found = http.error(f"INSERT INTO {table} FORMAT {layout}", data=data)
    assert status >= 400
    assert found in (code, 6, 72)
    assert http(f"SELECT count() FROM {table}") == "0"


def test_summary_counts_written_rows(http, table):
    answer = http.post(f"INSERT INTO {table} FORMAT CSV", data=b"1,a\n2,b\n")
    assert '"written_rows":"2"' in answer.headers["X-ClickHouse-Summary"].replace(" ", "")


def test_input_function_is_refused(embedded, http, table):
    """chDB would ignore the data and report success."""
    sql = f"INSERT INTO {table} SELECT a + 1, b FROM input('a UInt64, b String') FORMAT CSV"
    assert http.error(sql, data=b"1,x\n") == (501, 48)


def test_insert_select_from_external_table(http, table):
    answer = http.client.post(
        "/",
        params={
            "query": f"INSERT INTO {table} SELECT a + 1, b FROM given",
            "given_structure": "a UInt64, b String",
            "given_format": "CSV",
        },
        files={"given": ("given", b"1,x\n")},
    )
    assert answer.status_code == 200, answer.text
    assert http(f"SELECT id, s FROM {table}") == "2\tx"


def test_token_deduplicates_a_repeated_insert(http, database):
    http(
        f"CREATE TABLE {database}.d (id UInt64) ENGINE = MergeTree ORDER BY id "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    data = b"".join(b"%d\n" % number for number in range(3000))
    limits = {"max_insert_block_size": 1000, "min_insert_block_size_rows": 1000, "min_insert_block_size_bytes": 0}
    for token in ("one", "one", "two"):
        answer = http.post(
            f"INSERT INTO {database}.d FORMAT TSV", data=data, insert_deduplication_token=token, **limits
        )
        assert answer.status_code == 200, answer.text
    assert http(f"SELECT count() FROM {database}.d") == "6000"


def test_deletes_and_replacing_merges(http, database):
    """What dbt's delete+insert and deduplicating reads rest on."""
    http(f"CREATE TABLE {database}.r (id UInt64, v UInt64) ENGINE = ReplacingMergeTree(v) ORDER BY id")
    http(f"INSERT INTO {database}.r SELECT number % 100, number FROM numbers(1000)")
    http(f"INSERT INTO {database}.r SELECT number % 100, number FROM numbers(1000, 1000)")
    assert http(f"SELECT count(), min(v) FROM {database}.r FINAL") == "100\t1900"
    http(f"OPTIMIZE TABLE {database}.r FINAL")
    assert http(f"SELECT count() FROM {database}.r") == "100"
    http(f"DELETE FROM {database}.r WHERE id < 50", lightweight_deletes_sync=2)
    assert http(f"SELECT count() FROM {database}.r") == "50"
    http(f"ALTER TABLE {database}.r DELETE WHERE id < 60", mutations_sync=2)
    assert http(f"SELECT count() FROM {database}.r") == "40"
    http(f"INSERT INTO {database}.r SELECT number, 0 FROM numbers(10)")
    assert http(f"SELECT count() FROM {database}.r") == "50"


def test_a_write_that_fails_is_told(http, database):
    """chDB's streaming insert says "done" here; an acknowledgement must mean that the rows are there."""
    http(f"CREATE TABLE {database}.c (n UInt64, CONSTRAINT small CHECK n < 10) ENGINE = MergeTree ORDER BY n")
    assert http.error(f"INSERT INTO {database}.c FORMAT TSV", data=b"700\n")[1] == 469
    http(
        f"CREATE TABLE {database}.e (n UInt64, s String DEFAULT toString(throwIf(n = 7))) ENGINE = MergeTree ORDER BY n"
    )
    assert http.error(f"INSERT INTO {database}.e (n) VALUES (7)")[1] == 395
    http(f"CREATE TABLE {database}.base (n UInt64) ENGINE = MergeTree ORDER BY n")
    http(
        f"CREATE MATERIALIZED VIEW {database}.mv ENGINE = MergeTree ORDER BY n AS "
        f"SELECT n + throwIf(n = 9) AS n FROM {database}.base"
    )
    assert http.error(f"INSERT INTO {database}.base FORMAT TSV", data=b"9\n")[1] == 395
    assert http(f"SELECT count() FROM {database}.mv") == "0"
