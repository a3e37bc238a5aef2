"""What is handed to a person: a new file for her alone, laid out to be read, and nothing of it runs."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from assets.compliance.access import write

EXPORT: dict[str, Any] = {
    "collected_at": "2026-12-01T04:00:00+00:00",
    "stores": {
        "kafka": [{"place": "isthmus.sagas/0/7", "content": '{"data": {"name": "<b>Ann</b>"}}'}],
        "clickhouse": [{"place": "marts.invoices", "content": {"name": "Ann"}, "kept": "§ 147 AO"}],
        "files": [{"place": "log", "content": "Ann was here"}],
    },
    "not_read": {"redis": "not reached"},
}


@pytest.mark.parametrize("name", ["answer.json", "answer.html"])
def test_only_its_owner_may_read_it_and_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(EXPORT, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write(EXPORT, path)


def test_the_page_lays_records_out_and_takes_no_markup_from_them(tmp_path: Path) -> None:
    write(EXPORT, tmp_path / "answer.html")
    page = (tmp_path / "answer.html").read_text()
    assert "&quot;name&quot;: &quot;&lt;b&gt;Ann&lt;/b&gt;&quot;" in page
    assert "\\&quot;" not in page
    assert "<pre>Ann was here</pre>" in page
    assert "Kept by law: § 147 AO" in page
    assert "Not read: not reached" in page


def test_the_json_is_what_was_collected(tmp_path: Path) -> None:
    write(EXPORT, tmp_path / "answer.json")
    assert json.loads((tmp_path / "answer.json").read_text()) == EXPORT
