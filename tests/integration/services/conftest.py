"""Addresses of the real services; a test without its service is skipped and says which variable is missing."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


def _address(variable: str) -> Callable[[], str]:
    @pytest.fixture
    def address() -> str:
        if value := os.environ.get(variable):
            return value
        pytest.skip(f"{variable} is not set: run `python -m tests.services pytest …`")

    return address


kafka = _address("ISTHMUS_TEST_KAFKA")
postgres = _address("ISTHMUS_TEST_POSTGRES")
redis_url = _address("ISTHMUS_TEST_REDIS")
mongo = _address("ISTHMUS_TEST_MONGO")
