"""The shop's tables in a warehouse of a module's own: suites name their tables, so two tests must not share one."""

from __future__ import annotations

import pytest

from resources.warehouse import WarehouseResource
from tests.integration.quality import shop


@pytest.fixture
def shop_tables(own_warehouse: WarehouseResource) -> WarehouseResource:
    """The warehouse with sound saga tables."""
    shop.build(own_warehouse)
    return own_warehouse
