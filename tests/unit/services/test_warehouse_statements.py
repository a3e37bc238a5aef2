"""The statement splitter, and the small codecs of the embedded warehouse."""

from __future__ import annotations

import gzip
import struct
import zlib

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from services.embedded.warehouse.compression import Compressor, Decompressor, negotiate
from services.embedded.warehouse.errors import Fault
from services.embedded.warehouse.formats import join_blocks
from services.embedded.warehouse.statements import (
    first_word,
    output_format,
    replace_query_id,
    settings_named,
    split_insert,
    tokens,
)

NAMES = st.sampled_from(
    ["t", "db.t", "`a b`", "db.`x;y`", '"q\'q"', "db.values", "format", "`FORMAT`", "select", "`sel\\`ect`"]
)
COLUMNS = st.sampled_from(["", "(a, b)", '(`values`, "format")', "(* EXCEPT(a))", "(a, `x)`)"])
SETTINGS = st.sampled_from(["", "SETTINGS async_insert = 0, x = 'FORMAT CSV'", "settings a='it''s'"])
GAPS = st.sampled_from([" ", "\n", " /* VALUES ' */ ", " -- FORMAT ` \n", "\t"])
FORMATS = st.sampled_from(["CSV", "JSONEachRow", "Native", "RowBinaryWithNamesAndTypes"])


@given(st.binary())
def test_tokens_cover_any_bytes_and_end(sql):
    at = 0
    for token, start, end in tokens(sql):
        assert at <= start < end
        assert sql[start:end] == token
        at = end


@given(st.binary())
def test_splitter_never_fails(sql):
    for text in (sql, b"INSERT INTO t " + sql, b"INSERT INTO t FORMAT " + sql):
        found = split_insert(text)
        if found is not None:
            assert text.startswith(found.statement + found.settings)
            assert len(found.statement + found.settings) <= found.data_at <= len(text)
        output_format(text)
        first_word(text)


@given(st.tuples(NAMES, COLUMNS, SETTINGS), GAPS, FORMATS, st.binary())
def test_data_after_format_are_found_to_the_byte(words, gap, layout, data):
    name, columns, settings = words
    head = gap.join(["INSERT", "INTO", name, columns, settings]).encode()
    found = split_insert(head + f"{gap}FORMAT {layout}\n".encode() + data)
    assert found is not None
    assert found.format == layout
    assert found.statement.strip().startswith(b"INSERT")
    assert name.encode() in found.statement
    assert found.settings.startswith(settings.encode())
    assert (head + f"{gap}FORMAT {layout}\n".encode() + data)[found.data_at :] == data


@given(NAMES, COLUMNS, SETTINGS, GAPS, st.binary())
def test_data_after_values_are_found_to_the_byte(name, columns, settings, gap, data):
    head = gap.join(["insert", "into", "table", name, columns, settings, ""]).encode() + b"values"
    text = head + b" (" + data
    found = split_insert(text)
    assert found is not None
    assert (found.format, text[found.data_at :]) == ("Values", b" (" + data)


@given(
    NAMES, COLUMNS, SETTINGS, GAPS, st.sampled_from(["SELECT 1", "(SELECT 1)", "WITH 1 AS a SELECT a", "((SELECT 1))"])
)
def test_insert_select_carries_no_data(name, columns, settings, gap, query):
    assert split_insert(gap.join(["INSERT", "INTO", name, columns, settings, query]).encode()) is None


@pytest.mark.parametrize(
    "sql", ["SELECT 1", "", "-- INSERT INTO t VALUES", "'INSERT'", "INSERT INTO t FROM INFILE 'x' FORMAT CSV"]
)
def test_other_statements_are_no_insert(sql):
    assert split_insert(sql.encode()) is None


@pytest.mark.parametrize(
    ("sql", "layout"),
    [
        ("SELECT 1 FORMAT JSON", "JSON"),
        ("SELECT 1 format JSON;", "JSON"),
        ("SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "JSON"),
        ("SELECT 1 -- FORMAT JSON", None),
        ("SELECT 'FORMAT JSON'", None),
        ("SELECT format FROM t", None),
        ("SELECT 1", None),
    ],
)
def test_output_format(sql, layout):
    assert output_format(sql.encode()) == layout


def test_query_id_is_replaced_in_kill_only():
    assert replace_query_id(b"KILL QUERY WHERE query_id = 'query_id'", b"X") == b"KILL QUERY WHERE X = 'query_id'"
    assert replace_query_id(b"SELECT query_id", b"X") == b"SELECT query_id"


def test_names_that_set_changes():
    assert settings_named(b"SET a = 1, `b`='x = 2'") == {"a", "b"}


ENCODERS = {"gzip": gzip.compress, "deflate": zlib.compress, "lz4": lz4.frame.compress, "zstd": zstandard.compress}


@given(st.sampled_from(sorted(ENCODERS)), st.binary(max_size=5000), st.integers(1, 700))
def test_request_is_decompressed_whatever_its_chunks(encoding, data, size):
    packed = ENCODERS[encoding](data) * (1 if encoding == "deflate" else 2)
    codec = Decompressor(encoding)
    plain = b"".join(codec.decompress(packed[at : at + size]) for at in range(0, len(packed), size))
    codec.finish()
    assert plain == data * (1 if encoding == "deflate" else 2)


@given(st.sampled_from(sorted(ENCODERS)), st.lists(st.binary(max_size=2000)))
def test_answer_is_compressed_as_one_stream(encoding, chunks):
    codec = Compressor(encoding)
    packed = b"".join(codec.compress(chunk) for chunk in chunks) + codec.flush()
    reader = Decompressor(encoding)
    assert reader.decompress(packed) == b"".join(chunks)
    reader.finish()


@pytest.mark.parametrize("encoding", sorted(ENCODERS))
def test_cut_body_is_refused(encoding):
    codec = Decompressor(encoding)
    codec.decompress(ENCODERS[encoding](b"x" * 1000)[:-3])
    with pytest.raises(Fault, match="cut short"):
        codec.finish()


def test_unknown_encoding_is_refused():
    with pytest.raises(Fault, match="Unknown Content-Encoding snappy"):
        Decompressor("snappy")


def test_negotiation():
    assert negotiate("gzip, deflate, br, zstd") == "zstd"
    assert negotiate("gzip;q=0, deflate") == "deflate"
    assert negotiate("identity") is None
    assert negotiate("") is None


@pytest.mark.parametrize(
    ("layout", "header"),
    [
        ("CSVWithNames", b'"a\n"",b","c"\n'),
        ("CSVWithNamesAndTypes", b'"a","b\n"\n"UInt8","String"\n'),
        ("TSVWithNamesAndTypes", b"a\tb\nUInt8\tString\n"),
        ("RowBinaryWithNames", b"\x02\x01a\x80\x01" + b"n" * 128),
        ("ArrowStream", struct.pack("<II", 0xFFFFFFFF, 8) + b"metadata"),
        ("JSONEachRow", b""),
    ],
)
def test_header_is_kept_once(layout, header):
    end = b"\xff\xff\xff\xff\x00\x00\x00\x00" if layout == "ArrowStream" else b""
    blocks = [header + row + end for row in (b"1\n", b"2\n", b"3\n")]
    assert b"".join(join_blocks(layout, blocks)) == header + b"1\n2\n3\n" + end
    assert list(join_blocks(layout, [])) == []
