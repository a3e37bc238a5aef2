"""Settings: documented, no secret in sight. ``python -m tests.unit.resources.test_settings`` writes the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from resources.settings import Settings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operations" / "configuration.md"
_MARK = "<!-- settings -->\n"


def rendered() -> str:
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
        rows.append(f"| `ISTHMUS_{name.upper()}` | {default} | {field.description} |")
    return _MARK + "\n" + "\n".join(rows) + "\n"


def test_the_page_holds_every_setting() -> None:
    head, mark, _ = PAGE.read_text().partition(_MARK)
    assert PAGE.read_text() == head + rendered(), f"run: python -m {__name__}"
    assert mark


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_secret_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.secret("x") == Settings(home=tmp_path).secret("x") != settings.secret("y")
    assert (tmp_path / "secrets" / "x").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://h:1", "http://isthmus:p%40w@h:1"), ("http://me:own@h:1", "http://me:own@h:1")],
)
def test_the_dsn_takes_what_the_url_lacks(url: str, expected: str) -> None:
    settings = Settings(warehouse_url=url, warehouse_password="p@w")
    assert settings.warehouse_dsn() == expected


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().partition(_MARK)[0] + rendered())
