"""A warehouse for dbt's tests alone: they empty its tables, which no shared or given server must suffer."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from resources.migrate import migrate
from resources.warehouse import WarehouseResource
from tests.conftest import free_port, running
from tests.integration.dbt.harness import World


@pytest.fixture(scope="session")
def dbt_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, port, password = tmp_path_factory.mktemp("dbt"), free_port(), secrets.token_urlsafe(12)
    arguments = ("--path", str(folder / "data"), "--port", str(port))
    env = {"ISTHMUS_WAREHOUSE_PASSWORD": password}
    with running("services.embedded.warehouse", *arguments, log=folder / "log", env=env):
        warehouse = WarehouseResource(url=f"http://isthmus:{password}@127.0.0.1:{port}")
        migrate(warehouse)
        yield World(warehouse, folder)


@pytest.fixture
def world(dbt_world: World) -> World:
    """An empty warehouse."""
    dbt_world.reset()
    return dbt_world
