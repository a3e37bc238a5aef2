"""A migrated warehouse of one module's own, for tests that break or empty tables which no shared server must lose."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resources.migrate import migrate
from resources.warehouse import WarehouseResource
from tests.conftest import free_port, running


@contextmanager
def migrated_warehouse(folder: Path) -> Iterator[WarehouseResource]:
    """Run an embedded warehouse in ``folder`` until the block ends."""
    port, password = free_port(), secrets.token_urlsafe(12)
    arguments = ("--path", str(folder / "data"), "--port", str(port))
    environment = {"ISTHMUS_WAREHOUSE_PASSWORD": password, "ISTHMUS_HOME": str(folder)}
    with running("services.embedded.warehouse", *arguments, log=folder / "log", env=environment):
        warehouse = WarehouseResource(url=f"http://isthmus:{password}@127.0.0.1:{port}")
        migrate(warehouse)
        yield warehouse


@pytest.fixture(scope="module")
def own_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseResource]:
    """A migrated warehouse that only this module uses."""
    with migrated_warehouse(tmp_path_factory.mktemp("warehouse")) as warehouse:
        yield warehouse
