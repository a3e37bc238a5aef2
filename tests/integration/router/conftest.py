"""Fixtures of the router's tests."""

from __future__ import annotations

import pytest

from resources.kafka import KafkaResource


@pytest.fixture(scope="module")
def bootstrap(kafka_bootstrap: str) -> str:
    KafkaResource(bootstrap=kafka_bootstrap).ensure_topics()
    return kafka_bootstrap
