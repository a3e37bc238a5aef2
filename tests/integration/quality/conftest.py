"""A warehouse of this folder's own: suites name their tables, so two tests that break them must not share one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from resources.migrate import migrate
from resources.warehouse import WarehouseResource
from tests.conftest import free_port, running
from tests.integration.quality import shop


@pytest.fixture(scope="module")
def own_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseResource]:
    """A migrated warehouse that only this module uses."""
    folder, port, password = tmp_path_factory.mktemp("quality-warehouse"), free_port(), secrets.token_urlsafe(12)
    arguments = ("--path", str(folder / "data"), "--port", str(port))
    environment = {"ISTHMUS_WAREHOUSE_PASSWORD": password, "ISTHMUS_HOME": str(folder)}
    with running("services.embedded.warehouse", *arguments, log=folder / "log", env=environment):
        warehouse = WarehouseResource(url=f"http://isthmus:{password}@127.0.0.1:{port}")
        migrate(warehouse)
        yield warehouse


@pytest.fixture
def shop_tables(own_warehouse: WarehouseResource) -> WarehouseResource:
    """The warehouse with sound saga tables."""
    shop.build(own_warehouse)
    return own_warehouse
