"""Fixtures of the router's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.kafka import KafkaResource
from tests.integration.router.registry_server import serving
from tests.integration.router.registry_world import World


@pytest.fixture(scope="module")
def bootstrap(kafka_bootstrap: str) -> str:
    KafkaResource(bootstrap=kafka_bootstrap).ensure_topics()
    return kafka_bootstrap


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serving() as registry:
        made = World(registry, tmp_path / "cache")
        yield made
        made.schemas.close()
