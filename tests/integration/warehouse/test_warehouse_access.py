"""Who may do what in the embedded warehouse: files, addresses, engines, the read-only user."""

from __future__ import annotations

import pytest

from tests.integration.warehouse.conftest import Http

READS_FILES = [
    "SELECT file('/etc/hostname')",
    "SELECT `\\x66ile`('/etc/hostname')",
    "SELECT \"file\"('/etc/hostname')",
    "SELECT * APPLY(file) FROM (SELECT '/etc/hostname' AS x)",
    "SELECT * APPLY file FROM (SELECT '/etc/hostname' AS x)",
    "SELECT arrayMap(file, ['/etc/hostname'])",
    "SELECT arrayMap(x -> file(x), ['/etc/hostname'])",
    "WITH (x -> file(x)) AS f SELECT f('/etc/hostname')",
    "SELECT $a$'$a$, file('/etc/hostname')",
    "SELECT ‘'‘, file('/etc/hostname')",
    "SELECT /* ' */ file('/etc/hostname') -- '",
    "SELECT * FROM eval(concat('SELECT fi', 'le(''/etc/hostname'')'))",
    "SELECT 1 WHERE file('/etc/hostname') LIKE 'a%'",
    "EXPLAIN SELECT file('/etc/hostname')",
    "SELECT * FROM file('/etc/hostname', 'LineAsString')",
    "SELECT * FROM '/etc/hostname'",
    "SELECT * FROM loop(file('/etc/hostname', 'LineAsString'))",
    "DESCRIBE file('/etc/hostname')",
    "SELECT * FROM filesystem('/etc')",
    "SELECT * FROM sqlite('/etc/hostname', 't')",
    "SELECT * FROM icebergLocal('/etc/')",
    "SELECT * FROM executable('x', 'TSV', 'a String')",
    "SELECT * FROM python('users')",
    "SELECT 1 SETTINGS additional_result_filter = 'file(''/etc/hostname'') != '''''",
]
READS_ADDRESSES = [
    "SELECT * FROM url('http://127.0.0.1:1/x', 'LineAsString')",
    "SELECT * FROM s3('http://127.0.0.1:1/bucket/x.csv', NOSIGN)",
    "SELECT * FROM remote('127.0.0.1', 'system.one')",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM mongodb('127.0.0.1:1', 'a', 'b', 'c', 'd', 'e String')",
    "SELECT * FROM redis('127.0.0.1:1', 'k', 'k String')",
    "SELECT * FROM deltaLake('http://127.0.0.1:1/bucket/x/')",
]
DICTIONARY = "CREATE DICTIONARY shop.d (id UInt64, n String) PRIMARY KEY id SOURCE({}) LAYOUT(FLAT()) LIFETIME(0)"
WRITES = [
    "CREATE TABLE default.x (n UInt8) ENGINE = Memory",
    "CREATE DATABASE x",
    "CREATE VIEW default.v AS SELECT 1",
    "DROP DATABASE shop",
    "TRUNCATE TABLE shop.orders",
    "INSERT INTO shop.orders VALUES (2)",
    "INSERT INTO shop.orders SELECT 2",
    "INSERT INTO shop.orders FORMAT CSV\n2\n",
    "ALTER TABLE shop.orders DELETE WHERE 1",
    "DELETE FROM shop.orders WHERE 1",
    "OPTIMIZE TABLE shop.orders FINAL",
    "RENAME TABLE shop.orders TO shop.other",
    "KILL QUERY WHERE 1",
    "SYSTEM FLUSH LOGS",
    "SET max_threads = 1",
    "SELECT 1; DROP TABLE shop.orders",
    "/* SELECT */ DROP TABLE shop.orders",
    "CREATE FUNCTION f AS x -> x",
    "GRANT ALL ON *.* TO reader",
    "BACKUP DATABASE shop TO File('x')",
    "SELECT 1 INTO OUTFILE '/tmp/isthmus-outfile'",
]


@pytest.fixture(scope="module")
def full(server):
    http = Http(server.url)
    http("CREATE DATABASE shop")
    http("CREATE TABLE shop.orders (id UInt8) ENGINE = MergeTree ORDER BY id")
    http("INSERT INTO shop.orders VALUES (1)")
    return http


@pytest.fixture(scope="module")
def reader(full, server):
    return Http(server.reader_url)


def test_reader_reads(reader):
    assert reader("SELECT id FROM shop.orders") == "1"
    assert reader("WITH 1 AS a SELECT a, {p:String}", param_p="x") == "1\tx"
    assert reader("SHOW TABLES FROM shop") == "orders"
    assert reader("SELECT getSetting('max_block_size')", max_block_size=17) == "17"
    assert "id" in reader("DESCRIBE shop.orders")
    assert reader("SELECT 'file', 'eval' AS s FROM shop.orders") == "file\teval"


@pytest.mark.parametrize("sql", WRITES)
@pytest.mark.parametrize("session", ["", "s"])
def test_reader_changes_nothing(reader, full, sql, session):
    assert reader.error(sql, session_id=session)[1] in (62, 164, 358, 497)
    assert full("SELECT count() FROM shop.orders") == "1"


@pytest.mark.parametrize("sql", READS_FILES + READS_ADDRESSES)
def test_nobody_reads_files_or_addresses(reader, full, sql):
    for http in (reader, full):
        answer = http.post(sql)
        assert answer.status_code != 200, answer.text
        assert int(answer.headers["X-ClickHouse-Exception-Code"]) in (1, 47, 48, 60, 62, 164, 452, 497, 801)


def test_expressions_in_settings_are_refused(reader):
    for name in ("additional_result_filter", "additional_table_filters", "dialect"):
        assert reader.error("SELECT 1", **{name: "x"})[0] != 200


def test_reader_cannot_smuggle_a_statement_into_an_external_table(reader, full):
    for structure in (
        "n String) AS SELECT file('/etc/hostname') --",
        "n UInt8); DROP TABLE shop.orders; --",
        "n String DEFAULT file('/etc/hostname')",
        "n String) ENGINE = File(CSV, '/etc/hostname') --",
    ):
        answer = reader.client.post(
            "/", params={"query": "SELECT * FROM given", "given_structure": structure}, files={"given": ("given", b"")}
        )
        assert answer.status_code != 200, answer.text
    answer = reader.client.post("/", params={"query": "SELECT 1", "x`_structure": "n UInt8"}, files={"x`": ("x", b"")})
    assert answer.status_code != 200
    assert full("SELECT count() FROM shop.orders") == "1"


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE shop.k (a String) ENGINE = Kafka('127.0.0.1:1', 't', 'g', 'JSONEachRow')",
        "CREATE TABLE shop.k (a String) ENGINE=`Kafka` SETTINGS kafka_broker_list = '127.0.0.1:1'",
        "CREATE TABLE shop.f (a String) ENGINE = File(CSV, '/etc/hostname')",
        "CREATE TABLE shop.f (a String) ENGINE = FileLog('/etc', 'LineAsString')",
        "CREATE TABLE shop.u (a String) ENGINE = URL('http://127.0.0.1:1/', 'CSV')",
        "CREATE TABLE shop.s (a String) ENGINE = SQLite('/tmp/x.db', 't')",
        "CREATE TABLE shop.e (a String) ENGINE = Executable('x', 'TSV')",
        "CREATE TABLE shop.r (a String) ENGINE = ReplicatedMergeTree('/x', 'r') ORDER BY a",
        "CREATE TABLE shop.c (a String) AS SELECT file('/etc/hostname')",
        "CREATE VIEW shop.v AS SELECT file('/etc/hostname')",
        "CREATE DATABASE e ENGINE = Filesystem('/etc')",
        "CREATE DATABASE e ENGINE = SQLite('/tmp/x.db')",
        "CREATE DATABASE e ENGINE = MySQL('127.0.0.1:1', 'a', 'b', 'c')",
        "ATTACH TABLE shop.a FROM '/tmp/x' (x Int8) ENGINE = MergeTree ORDER BY x",
        DICTIONARY.format("HTTP(url 'http://127.0.0.1:1/' format 'CSV')"),
        DICTIONARY.format("FILE(path '/etc/hostname' format 'CSV')"),
        "INSERT INTO FUNCTION file('/tmp/isthmus-x', 'CSV', 'a String') VALUES ('a')",
        "INSERT INTO FUNCTION url('http://127.0.0.1:1/', 'CSV', 'a String') VALUES ('a')",
        "INSERT INTO shop.orders FROM INFILE '/etc/hostname' FORMAT CSV",
        "SYSTEM SHUTDOWN",
        "SYSTEM KILL",
    ],
)
def test_full_user_cannot_reach_beyond_the_directory(full, sql):
    assert full.error(sql)[1] in (48, 62, 78, 497)


def test_what_a_warehouse_needs_is_allowed(full):
    full("CREATE TABLE shop.src (id UInt64, name String, file String) ENGINE = ReplacingMergeTree ORDER BY id")
    full("CREATE TABLE shop.log (id UInt64) ENGINE = Log")
    full("INSERT INTO shop.src (id, name, file) VALUES (1, 'one', 'f')")
    assert full("SELECT file, max(file) FROM shop.src GROUP BY file") == "f\tf"
    full("CREATE MATERIALIZED VIEW shop.mv ENGINE = MergeTree ORDER BY id AS SELECT id FROM shop.src WHERE file = 'x'")
    full(
        "CREATE DICTIONARY shop.dict (id UInt64, name String) PRIMARY KEY id "
        "SOURCE(CLICKHOUSE(TABLE 'src' DB 'shop')) LAYOUT(FLAT()) LIFETIME(0)"
    )
    assert full("SELECT dictGet('shop.dict', 'name', toUInt64(1))") == "one"
    full("CREATE TABLE mine (id UInt8) ENGINE = MergeTree ORDER BY id")
    assert full("SHOW TABLES FROM default") == "mine"
    full("CREATE VIEW shop.engines AS SELECT name FROM system.tables WHERE engine = 'Kafka'")


def test_listens_on_loopback_only(server):
    import psutil

    ports = {c.laddr.ip for c in psutil.Process(server.process.pid).net_connections() if c.status == "LISTEN"}
    assert ports == {"127.0.0.1"}
