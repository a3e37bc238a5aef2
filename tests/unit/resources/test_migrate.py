"""Migration files: their order, their names and where a statement ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.migrate import FOLDER, MigrationError, load, split


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; -- a;b\nSELECT 2;", ["SELECT ';'", "-- a;b\nSELECT 2"]),
        ("SELECT 'it''s; \\'; x' /* ; */ AS `a;b`;", ["SELECT 'it''s; \\'; x' /* ; */ AS `a;b`"]),
        (" ;\n-- nothing\n;", []),
        ('SELECT 4 / 2 - 1; SELECT "a;"', ["SELECT 4 / 2 - 1", 'SELECT "a;"']),
    ],
)
def test_a_semicolon_in_a_text_ends_nothing(sql: str, expected: list[str]) -> None:
    assert split(sql) == expected


def test_our_own_files_can_be_read() -> None:
    migrations = load(FOLDER)
    assert migrations[0].name == "0001_databases.sql"
    assert all(migration.statements for migration in migrations)


@pytest.mark.parametrize(
    "names", [["0001_a.sql", "0003_b.sql"], ["0001_a.sql", "0001_b.sql"], ["1_a.sql"], ["0001_A.sql"]]
)
def test_a_bad_number_or_name_is_an_error(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError):
        load(tmp_path)
