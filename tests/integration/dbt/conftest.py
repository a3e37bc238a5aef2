"""A warehouse for dbt's tests alone: they empty its tables, which no shared or given server must suffer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import migrated_warehouse
from tests.integration.dbt.harness import World


@pytest.fixture(scope="session")
def dbt_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("dbt")
    with migrated_warehouse(folder) as warehouse:
        yield World(warehouse, folder)


@pytest.fixture
def world(dbt_world: World) -> World:
    """An empty warehouse."""
    dbt_world.reset()
    return dbt_world
