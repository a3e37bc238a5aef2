"""Sessions: what a statement changes stays, what a request carries does not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest


@pytest.fixture
def session(http, unique):
    name = unique("session")
    return lambda sql, **parameters: http(sql, session_id=name, **parameters)


def test_set_and_use_stay(session, database):
    session("SET max_block_size = 17")
    session(f"USE {database}")
    assert session("SELECT getSetting('max_block_size'), currentDatabase()") == f"17\t{database}"


def test_temporary_table_stays_and_is_the_sessions_own(session, http):
    session("CREATE TEMPORARY TABLE mine (n UInt8)")
    session("INSERT INTO mine VALUES (1)")
    assert session("SELECT n FROM mine") == "1"
    assert http.error("SELECT n FROM mine") == (404, 60)


def test_settings_of_a_request_do_not_stay(session):
    default = session("SELECT getSetting('max_block_size')")
    assert session("SELECT getSetting('max_block_size')", max_block_size=17) == "17"
    assert session("SELECT getSetting('max_block_size')") == default


def test_settings_of_a_request_lie_over_those_of_the_session(session):
    session("SET max_block_size = 17")
    assert session("SELECT getSetting('max_block_size')", max_block_size=18) == "18"
    assert session("SELECT getSetting('max_block_size')") == "17"
    session("SET max_block_size = 19", max_block_size=18)
    assert session("SELECT getSetting('max_block_size')") == "19"


def test_profile_limit_comes_back(session):
    limit = session("SELECT getSetting('max_memory_usage')")
    session("SELECT 1", max_memory_usage=1 << 30)
    assert session("SELECT getSetting('max_memory_usage')") == limit


def test_database_of_a_request_does_not_stay(session, database):
    before = session("SELECT currentDatabase()")
    assert session("SELECT currentDatabase()", database=database) == database
    assert session("SELECT currentDatabase()") == before


def test_get_in_a_session_leaves_it_writable(http, unique):
    name = unique("session")
    assert http.client.get("/", params={"query": "SELECT 1", "session_id": name}).text == "1\n"
    http("CREATE TEMPORARY TABLE t (n UInt8)", session_id=name)
    http("INSERT INTO t VALUES (1)", session_id=name)
    assert http("SELECT count() FROM t", session_id=name) == "1"


def test_streams_one_after_the_other_in_a_session(http, unique):
    """The session is free again when the client has seen the end of a stream."""
    name = unique("session")
    for _ in range(50):
        assert http("SELECT count() FROM numbers(3)", session_id=name) == "3"


def test_session_must_exist(http, unique):
    name = unique("session")
    assert http.error("SELECT 1", session_id=name, session_check=1)[1] == 372
    http("SELECT 1", session_id=name)
    assert http("SELECT 1", session_id=name, session_check=1) == "1"


def test_session_serves_one_request_at_a_time(http, unique):
    name, begun = unique("session"), Event()

    def long() -> str:
        begun.set()
        sql = "SELECT sum(sleepEachRow(0.05)) FROM numbers(20) SETTINGS max_block_size = 1"
        # One of the short ones may have the session when this begins.
        while (answer := http.post(sql, session_id=name)).headers.get("X-ClickHouse-Exception-Code") == "373":
            pass
        return answer.text.strip()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(long)
        begun.wait()
        codes = set()
        while not running.done():
            answer = http.post("SELECT 1", session_id=name)
            codes.add(answer.headers.get("X-ClickHouse-Exception-Code"))
        assert running.result() == "0"
    assert "373" in codes
    assert http("SELECT 1", session_id=name) == "1"


@pytest.mark.soak
def test_session_ends_by_its_time(http, unique):
    name = unique("session")
    http("CREATE TEMPORARY TABLE t (n UInt8)", session_id=name, session_timeout=1)
    # Idle sessions are closed every five seconds; asking before that would keep it alive.
    time.sleep(7)
    assert http.error("SELECT 1", session_id=name, session_check=1)[1] == 372


def test_external_table_of_a_request_does_not_stay(http, unique):
    name = unique("session")
    for _ in range(2):
        answer = http.client.post(
            "/",
            params={"query": "SELECT sum(n) FROM given", "given_structure": "n UInt8", "session_id": name},
            files={"given": ("given", b"1\n2\n")},
        )
        assert answer.text == "3\n"
    assert http.error("SELECT * FROM given", session_id=name) == (404, 60)


def test_external_table_of_a_failed_request_does_not_stay(http, unique):
    name = unique("session")
    for _ in range(2):
        answer = http.client.post(
            "/",
            params={"query": "SELECT nope FROM given", "given_structure": "n UInt8", "session_id": name},
            files={"given": ("given", b"1\n")},
        )
        assert answer.headers["X-ClickHouse-Exception-Code"] == "47"
