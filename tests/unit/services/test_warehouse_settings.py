"""How ISTHMUS_WAREHOUSE_URL and its companions become the address that clients get."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from resources.settings import Settings


@pytest.mark.parametrize(
    ("url", "password", "dsn"),
    [
        ("http://127.0.0.1:8123", "p", "http://isthmus:p@127.0.0.1:8123"),
        ("http://127.0.0.1:8123", "a@b:c/d%", "http://isthmus:a%40b%3Ac%2Fd%25@127.0.0.1:8123"),
        ("http://me:a%40b@host:8123", "ignored", "http://me:a%40b@host:8123"),
        ("https://host:8443/db?secure=1", "p", "https://isthmus:p@host:8443/db?secure=1"),
        ("http://[::1]:8123", "p", "http://isthmus:p@[::1]:8123"),
        ("http://me:@host", "ignored", "http://me:@host"),
    ],
)
def test_dsn(tmp_path, url, password, dsn):
    assert Settings(home=tmp_path, warehouse_url=url, warehouse_password=SecretStr(password)).warehouse_dsn() == dsn


def test_password_of_the_embedded_warehouse_is_made_once(tmp_path):
    first, second = (Settings(home=tmp_path, warehouse_url="http://h", warehouse_password=None) for _ in range(2))
    assert first.warehouse_dsn() == second.warehouse_dsn()
    assert (tmp_path / "secrets" / "warehouse-password").stat().st_mode & 0o77 == 0
