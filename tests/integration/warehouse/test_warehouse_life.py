"""The embedded warehouse as a process: it starts, is killed, runs full, is asked too much, and stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import ROOT, free_port
from tests.integration.disk import small_disk
from tests.integration.warehouse.conftest import Http

LONG = "SELECT sum(sleepEachRow(0.05)) FROM numbers(2000) SETTINGS max_block_size = 1"


def wait_for(condition, seconds: float = 20):
    """Poll until ``condition`` gives something true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def running(http: Http) -> int:
    """Statements of clients that run; the asking one holds the word and is left out itself."""
    return int(http("SELECT count() FROM system.processes WHERE query NOT LIKE '%KILL%'"))


@pytest.fixture
def http(server):
    return Http(server.url)


def test_second_process_is_told_who_has_the_directory(server):
    command = [
        sys.executable,
        "-m",
        "services.embedded.warehouse",
        "--path",
        str(server.path),
        "--port",
        str(free_port()),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"in use by process {server.process.pid}" in done.stderr
    assert "Traceback" not in done.stderr


def test_port_in_use_is_told(server, tmp_path):
    port = urlsplit(server.url).port
    command = [sys.executable, "-m", "services.embedded.warehouse", "--path", str(tmp_path), "--port", str(port)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_too_many_statements(http, server):
    """Two slots: a third statement waits for a second, then is refused; KILL QUERY always gets through."""
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(http.post, LONG, query_id=f"busy-{n}") for n in range(2)]
        wait_for(lambda: http.post("SELECT 1").headers.get("X-ClickHouse-Exception-Code") == "202")
        for number in range(2):
            http(f"KILL QUERY WHERE query_id = 'busy-{number}' SYNC")
        assert [one.result().headers["X-ClickHouse-Exception-Code"] for one in busy] == ["394", "394"]
    assert http("SELECT 1") == "1"


def test_kill_query_by_id_spares_others(http):
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(http.post, LONG, query_id="a/one", log_comment="a comment of my own")
        two = pool.submit(http.post, "SELECT sum(sleepEachRow(0.05)) FROM numbers(20)", query_id="two")
        time.sleep(0.5)
        http("KILL QUERY WHERE query_id = 'a/one'")
        assert one.result().headers["X-ClickHouse-Exception-Code"] == "394"
        assert two.result().text == "0\n"


@pytest.mark.parametrize(
    "sql",
    [
        LONG,
        "SELECT number, sleepEachRow(0.001) FROM numbers(1000000) SETTINGS max_block_size = 100",
        "SELECT count() FROM numbers(1000000000000)",
        "INSERT INTO FUNCTION null('n UInt64') SELECT number FROM numbers(1000000000000)",
    ],
)
def test_client_that_goes_away_has_its_statement_cancelled(http, server, sql):
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        query = f"user={parts.username}&password={parts.password}"
        head = f"POST /?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sql)}\r\n\r\n"
        connection.sendall(head.encode() + sql.encode())
        wait_for(lambda: running(http) == 1)
    wait_for(lambda: running(http) == 0)


def test_upload_that_breaks_off_inserts_nothing(http, server):
    http("CREATE TABLE broken (n UInt64) ENGINE = MergeTree ORDER BY n")
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        query = f"user={parts.username}&password={parts.password}&query=INSERT%20INTO%20broken%20FORMAT%20TSV"
        connection.sendall(f"POST /?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n1\n2\n".encode())
    assert http("SELECT count() FROM broken") == "0"


def test_memory_limit_is_an_answer(http):
    sql = "SELECT length(groupArray(repeat('x', 1000))) FROM numbers(1000000)"
    assert http.error(sql, max_memory_usage=50_000_000) == (500, 241)
    assert http("SELECT 1") == "1"
    assert 0 < int(http("SELECT getSetting('max_memory_usage')")) < 1 << 40


def test_query_log_knows_the_clients_query_id(http):
    http("SELECT 'find me'", query_id="in-the-log")
    http("SYSTEM FLUSH LOGS")
    assert int(http("SELECT count() FROM system.query_log WHERE log_comment = 'in-the-log'")) >= 1


def test_many_clients_at_once(http, server):
    """Four writers and four readers over two slots: what was acknowledged is there; nobody sees another's settings."""
    http("CREATE TABLE many (w UInt8, n UInt64) ENGINE = MergeTree ORDER BY (w, n)")

    def write(writer: int) -> int:
        client = Http(server.url)
        return sum(
            client.post(f"INSERT INTO many SELECT {writer}, number FROM numbers(100)").status_code == 200
            for _ in range(10)
        )

    def read(reader: int) -> bool:
        client = Http(server.url)
        found = (client.post("SELECT getSetting('max_block_size')", max_block_size=1000 + reader) for _ in range(20))
        return all(one.text.strip() == str(1000 + reader) for one in found if one.status_code == 200)

    with ThreadPoolExecutor(8) as pool:
        writers, readers = [pool.submit(write, n) for n in range(4)], [pool.submit(read, n) for n in range(4)]
        acknowledged = sum(one.result() for one in writers)
        assert all(one.result() for one in readers)
    assert int(http("SELECT count() FROM many")) == acknowledged * 100


def test_terminates_in_seconds_with_statements_running(start_server):
    server = start_server()
    http = Http(server.url)
    http("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(http.post, LONG),
            pool.submit(http.post, "INSERT INTO t SELECT number FROM numbers(1000000000000)"),
            pool.submit(http.post, "SELECT number FROM numbers(1000000000000) FORMAT Null"),
        ]
        wait_for(lambda: running(http) == 3)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        # The process itself gives up at 20 s.
        assert time.monotonic() - began < 15
        codes = {job.result().headers.get("X-ClickHouse-Exception-Code") for job in jobs if job.exception() is None}
        assert codes <= {"394", "236"}


def test_starts_again_after_termination_with_everything(start_server):
    first = start_server()
    http = Http(first.url)
    http("CREATE DATABASE d")
    http("CREATE TABLE d.t (n UInt64) ENGINE = MergeTree ORDER BY n")
    http("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    http("INSERT INTO d.t VALUES (1)")
    http("INSERT INTO default.t VALUES (2)")
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    http = Http(start_server().url)
    assert http("SELECT n FROM (SELECT n FROM d.t UNION ALL SELECT n FROM default.t) ORDER BY n") == "1\n2"


def test_starts_again_while_default_has_no_table(start_server):
    for _ in range(2):
        server = start_server()
        assert Http(server.url)("SELECT engine FROM system.databases WHERE name = 'default'") == "Atomic"
        server.process.kill()
        server.process.wait()
    http = Http(start_server().url)
    http("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    assert http("SELECT count() FROM default.t") == "0"


def kill_in_mid_insert(start_server, rounds: int) -> None:
    """Writers insert batches under tokens while the process is killed; each then repeats what was not acknowledged."""
    server = start_server()
    Http(server.url)(
        "CREATE TABLE k (w UInt8, batch UInt32, i UInt32, s String) ENGINE = MergeTree ORDER BY (w, batch) "
        "SETTINGS non_replicated_deduplication_window = 10000"
    )
    rows, batches = 2000, [0, 0]
    in_flight_kills = 0
    for round_number in range(rounds):
        url, flying = server.url, [False, False]

        def write(writer: int, url: str = url, flying: list[bool] = flying) -> None:
            client = Http(url)
            while True:
                batch = batches[writer]
                data = b"".join(b"%d\t%d\t%d\t%s\n" % (writer, batch, i, b"x" * 100) for i in range(rows))
                try:
                    flying[writer] = True
                    token = f"{writer}/{batch}"
                    answer = client.post("INSERT INTO k FORMAT TSV", data=data, insert_deduplication_token=token)
                except httpx.TransportError:
                    return
                assert answer.status_code == 200, answer.text
                flying[writer] = False
                batches[writer] += 1

        threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        before = sum(batches)
        wait_for(lambda least=before + 3 + round_number: sum(batches) >= least)
        wait_for(lambda flying=flying: any(flying))
        in_flight_kills += any(flying)
        server.kill()
        for thread in threads:
            thread.join()
        server = start_server()
        http = Http(server.url)
        found = {
            tuple(map(int, line.split("\t")))
            for line in http("SELECT w, batch, count() FROM k GROUP BY w, batch").splitlines()
        }
        # Every acknowledged batch is there whole and once; one that was not may be there, and is then whole too.
        for writer in range(2):
            assert {(writer, batch, rows) for batch in range(batches[writer])} <= found
        assert {count for _, _, count in found} == {rows}
        assert len(found) <= sum(batches) + 2
    assert in_flight_kills == rounds


def test_kill_9_in_mid_insert_loses_nothing_acknowledged(start_server):
    kill_in_mid_insert(start_server, rounds=2)


@pytest.mark.soak
def test_kill_9_many_times(start_server):
    kill_in_mid_insert(start_server, rounds=20)


def test_token_is_known_after_a_kill(start_server):
    server = start_server()
    http = Http(server.url)
    http("CREATE TABLE d (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100")
    http.post("INSERT INTO d FORMAT TSV", data=b"1\n2\n", insert_deduplication_token="a")
    server.kill()
    http = Http(start_server().url)
    http.post("INSERT INTO d FORMAT TSV", data=b"1\n2\n", insert_deduplication_token="a")
    assert http("SELECT count() FROM d") == "2"


def test_full_disk_is_an_answer(start_server, tmp_path):
    """Writes are refused, reading goes on; merges stop before another program has taken the last byte."""
    with small_disk(tmp_path / "data", megabytes=96) as disk:
        server = start_server("--keep-free-mb", "32")
        http = Http(server.url)
        http("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
        for number in range(3):
            http(f"INSERT INTO t VALUES ({number})")
        disk.fill(leaving_mb=30)
        answer = http.post("INSERT INTO t VALUES (3)")
        assert answer.headers["X-ClickHouse-Exception-Code"] == "243"
        for word in (f"The disk of {server.path} is full", "32 MB are kept free", "--keep-free-mb", "Make room on it"):
            assert word in answer.text
        disk.fill(leaving_mb=4)
        wait_for(lambda: http.post("OPTIMIZE TABLE t FINAL").headers.get("X-ClickHouse-Exception-Code") == "236")
        disk.fill()
        server.kill()
        http = Http(start_server("--keep-free-mb", "32").url)
        assert http("SELECT count() FROM t") == "3"
        assert http.error("INSERT INTO t VALUES (3)") == (500, 243)
        disk.free()
        wait_for(lambda: http.post("OPTIMIZE TABLE t FINAL").status_code == 200)
        http("INSERT INTO t VALUES (3)")
        assert http("SELECT groupArray(n) FROM (SELECT n FROM t ORDER BY n)") == "[0,1,2,3]"


def test_leftovers_of_uploads_are_removed(start_server, tmp_path):
    spool = tmp_path / "data" / "spool"
    spool.mkdir(parents=True)
    (spool / "left").write_bytes(b"x")
    start_server()
    assert list(spool.iterdir()) == []
