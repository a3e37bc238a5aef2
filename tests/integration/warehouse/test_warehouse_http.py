"""The HTTP interface as ClickHouse's documentation has it; runs against a real server too."""

from __future__ import annotations

import gzip
import json
import zlib

import lz4.frame
import pyarrow as pa
import pytest
import zstandard

ROWS = 150_000  # more than two blocks of a stream


def test_ping_needs_no_password(http):
    assert http.client.get("/ping", auth=None).text == "Ok.\n"


def test_empty_request_says_ok(http):
    assert http.client.get("/").text == "Ok.\n"


def test_unknown_path(http):
    assert http.client.get("/nowhere").status_code == 404


def test_statement_in_address_body_or_both(http):
    assert http.client.get("/", params={"query": "SELECT 1"}).text == "1\n"
    assert http("SELECT 1") == "1"
    assert http.post("SELECT", data=b"1 + 1").text == "2\n"


def test_form_field(http):
    answer = http.client.post("/", data={"query": "SELECT 'a b&c'"})
    # A real server takes forms as multipart only, and reads this body as SQL.
    assert answer.text == "a b&c\n" or answer.headers["X-ClickHouse-Exception-Code"] == "62"


def test_headers_of_an_answer(http):
    answer = http.post("SELECT 1 FORMAT JSON", query_id="mine")
    assert answer.headers["X-ClickHouse-Query-Id"] == "mine"
    assert answer.headers["X-ClickHouse-Format"] == "JSON"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert int(json.loads(answer.headers["X-ClickHouse-Summary"])["result_rows"]) >= 0


def test_default_format(http):
    assert http("SELECT 1 AS a", default_format="JSONEachRow") == '{"a":1}'
    assert http.post("SELECT 1 AS a", headers={"X-ClickHouse-Format": "JSONEachRow"}).text == '{"a":1}\n'


def test_format_in_a_comment_is_none(http):
    assert http("SELECT 1 AS a -- FORMAT JSON") == "1"


def test_database_by_parameter_and_header(http, database):
    assert http("SELECT currentDatabase()", database=database) == database
    assert http.post("SELECT currentDatabase()", headers={"X-ClickHouse-Database": database}).text.strip() == database


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("SELEKT 1", 400, 62),
        ("SELECT nope", 404, 47),
        ("SELECT nope()", 404, 46),
        ("SELECT * FROM nowhere.nothing", 404, 81),
        ("SELECT * FROM system.nothing", 404, 60),
        ("SELECT 1 FORMAT Nope", 404, 73),
        ("SELECT 1 SETTINGS nope = 1", 404, 115),
        ("SELECT toUInt8('x')", 400, 6),
        ("SELECT throwIf(1)", 500, 395),
        ("SELECT 1; SELECT 2", 400, 62),
        ("SELECT 1 INTO OUTFILE '/tmp/isthmus-outfile'", 500, 358),
    ],
)
def test_errors_have_the_servers_code_and_status(http, sql, status, code):
    assert http.error(sql) == (status, code)


def test_trailing_semicolon_is_one_statement(http):
    assert http("SELECT 1;") == "1"


def test_unknown_setting_in_address(http):
    assert http.error("SELECT 1", nope=1) == (404, 115)


def test_query_parameters(http):
    assert http(
        "SELECT {a:UInt8} + 1, {s:String}, {l:Array(String)}", param_a=3, param_s="it's", param_l="['x','y\\'z']"
    ) == ("4\tit\\'s\t['x','y\\'z']")
    assert http("SELECT {i:Identifier} FROM (SELECT 1 AS `a b`)", param_i="a b") == "1"
    assert http.error("SELECT {missing:UInt8}")[1] == 456


def test_settings_hold_for_one_request(http):
    assert http("SELECT getSetting('max_block_size')", max_block_size=17) == "17"
    assert http("SELECT getSetting('max_block_size')") != "17"


def test_use_and_set_do_not_leak(http, database):
    http(f"USE {database}")
    http("SET max_block_size = 17")
    assert http(
        "SELECT currentDatabase() = {d:String}, getSetting('max_block_size') = 17", param_d=database
    ) == "false\tfalse" or (http("SELECT currentDatabase() = {d:String}", param_d=database) == "0")


@pytest.mark.parametrize(
    "layout",
    [
        "TabSeparated", "TabSeparatedWithNames", "TabSeparatedWithNamesAndTypes", "CSV", "CSVWithNames",
        "CSVWithNamesAndTypes", "JSONEachRow", "JSONCompactEachRowWithNamesAndTypes", "RowBinary",
        "RowBinaryWithNamesAndTypes", "Native", "ArrowStream", "JSONCompact", "Parquet",
    ],
)  # fmt: skip
def test_streamed_result_is_one_document(http, database, layout):
    """What comes out goes in again: a header repeated in the middle would be a row too many, or an error."""
    table = f"{database}.back"
    http(f'CREATE TABLE {table} (`a"b,c` UInt64, `s` Nullable(String)) ENGINE = MergeTree ORDER BY tuple()')
    text = "if(number % 7, concat(toString(number), char(10, 34, 44)), NULL)"
    query = f'SELECT number AS `a"b,c`, {text} AS s FROM numbers({ROWS})'
    answer = http.post(f"{query} FORMAT {layout}", max_block_size=65_000)
    assert answer.status_code == 200
    assert http.post(f"INSERT INTO {table} FORMAT {layout}", data=answer.content).status_code == 200
    totals = 'count(), sum(`a"b,c`), countIf(s IS NULL), sum(cityHash64(s))'
    assert http(f"SELECT {totals} FROM {table}") == http(f"SELECT {totals} FROM ({query})")


@pytest.mark.parametrize("layout", ["CSVWithNames", "TabSeparatedWithNamesAndTypes", "RowBinaryWithNamesAndTypes"])
def test_empty_result_keeps_its_header(http, layout):
    answer = http.post(f"SELECT 1 AS one WHERE 0 FORMAT {layout}")
    assert b"one" in answer.content


def test_empty_arrow_stream_has_its_schema(http):
    answer = http.post("SELECT 1 AS one WHERE 0 FORMAT ArrowStream")
    assert pa.ipc.open_stream(answer.content).read_all().column_names == ["one"]


def test_arrow_stream_reads_whole(http):
    answer = http.post(f"SELECT number, toString(number) AS s FROM numbers({ROWS}) FORMAT ArrowStream")
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.num_rows == ROWS
    assert table.column("number").to_pylist()[-1] == ROWS - 1


DECODE = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
ENCODE = {"gzip": gzip.compress, "deflate": zlib.compress, "lz4": lz4.frame.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("encoding", sorted(DECODE))
@pytest.mark.parametrize("layout", ["TabSeparated", "JSON"])
def test_compressed_answer(http, encoding, layout):
    sql = f"SELECT number FROM numbers({ROWS}) FORMAT {layout}"
    with http.client.stream(
        "POST", "/", params={"enable_http_compression": 1}, content=sql, headers={"Accept-Encoding": encoding}
    ) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["Content-Encoding"] == encoding
    assert str(ROWS - 1).encode() in DECODE[encoding](raw)[-300:]


@pytest.mark.parametrize("encoding", sorted(ENCODE))
def test_compressed_request(http, database, encoding):
    http(f"CREATE TABLE {database}.c (n UInt64) ENGINE = Memory")
    rows = b"".join(b"%d\n" % number for number in range(100_000))
    # Two frames, one after the other, are one body.
    body = ENCODE[encoding](rows) + (ENCODE[encoding](b"100000\n") if encoding != "deflate" else b"")
    answer = http.post(f"INSERT INTO {database}.c FORMAT TSV", data=body, headers={"Content-Encoding": encoding})
    assert answer.status_code == 200, answer.text
    assert int(http(f"SELECT count() FROM {database}.c")) == (100_001 if encoding != "deflate" else 100_000)


@pytest.mark.parametrize("body", [gzip.compress(b"1\n2\n")[:-4], b"not gzip"], ids=["cut short", "not gzip"])
def test_broken_compressed_request_inserts_nothing(http, database, body):
    http(f"CREATE TABLE {database}.b (n UInt64) ENGINE = Memory")
    answer = http.post(f"INSERT INTO {database}.b FORMAT TSV", data=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code >= 400
    assert http(f"SELECT count() FROM {database}.b") == "0"


def test_failure_in_mid_stream_is_told(http):
    answer = http.post("SELECT throwIf(number = 400000) FROM numbers(1000000)", max_block_size=10_000)
    assert answer.status_code == 200
    tag = answer.headers["X-ClickHouse-Exception-Tag"]
    tail = answer.text[-4000:]
    assert f"__exception__\r\n{tag}" in tail
    assert "Code: 395" in tail
    length = int(tail.rsplit(f" {tag}", 1)[0].rsplit("\n", 1)[1])
    message = tail.split(f"__exception__\r\n{tag}\r\n")[1].encode()[:length]
    assert message.endswith(b"\n")


def test_wait_end_of_query_gives_a_clean_status(http):
    sql = "SELECT throwIf(number = 400000) FROM numbers(1000000)"
    assert http.error(sql, wait_end_of_query=1, max_block_size=10_000)[1] == 395


def test_get_is_read_only(http, database):
    answer = http.client.get("/", params={"query": f"CREATE TABLE {database}.g (n UInt8) ENGINE = Memory"})
    assert answer.headers["X-ClickHouse-Exception-Code"] == "164"
    answer = http.client.get("/", params={"query": "INSERT INTO FUNCTION null('n UInt8') VALUES (1)"})
    assert answer.headers["X-ClickHouse-Exception-Code"] == "164"


def test_external_table(http):
    answer = http.client.post(
        "/",
        params={
            "query": "SELECT sum(n), any(s) FROM given",
            "given_structure": "n UInt8, s String",
            "given_format": "CSV",
        },
        files={"given": ("given", b'1,"a"\n2,"a"\n')},
    )
    assert answer.text == "3\ta\n"


def test_external_table_by_types_with_parameters_in_the_form(http):
    answer = http.client.post(
        "/",
        params={"given_types": "UInt8"},
        data={"query": "SELECT sum(_1) + {p:UInt8} FROM given", "param_p": "10"},
        files={"given": ("given", b"1\n2\n")},
    )
    assert answer.text == "13\n"


def test_wrong_password_and_unknown_user_look_alike(http, warehouse_url):
    texts = []
    for auth in (("isthmus", "wrong"), ("nobody", "wrong")):
        answer = http.client.post("/", content="SELECT 1", auth=auth)
        assert answer.status_code == 403
        assert answer.headers["X-ClickHouse-Exception-Code"] == "516"
        texts.append(answer.text.replace(auth[0], "X"))
    assert texts[0] == texts[1]


def test_credentials_by_headers_and_parameters(http):
    user, password = http.client.auth._auth_header, None
    assert user
    from base64 import b64decode

    name, _, password = b64decode(user.split()[1]).decode().partition(":")
    headers = {"X-ClickHouse-User": name, "X-ClickHouse-Key": password}
    assert http.client.post("/", content="SELECT 1", auth=None, headers=headers).text == "1\n"
    query = {"user": name, "password": password}
    assert http.client.post("/", content="SELECT 1", auth=None, params=query).text == "1\n"
