"""The shop's tables, and a broker."""

from __future__ import annotations

import pytest

from resources.kafka import KafkaResource
from tests.integration.quality.conftest import shop_tables

__all__ = ["kafka", "shop_tables"]


@pytest.fixture
def kafka(kafka_bootstrap: str) -> KafkaResource:
    """The session's broker with the platform's topics."""
    kafka = KafkaResource(bootstrap=kafka_bootstrap)
    kafka.ensure_topics()
    return kafka
