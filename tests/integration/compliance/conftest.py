"""A home of a test's own: warehouse, broker, files, and real sources where the harness started them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from assets.compliance.rules import rules
from resources.kafka import KafkaResource
from resources.migrate import migrate
from resources.settings import Settings, get_settings
from resources.warehouse import WarehouseResource
from tests.conftest import free_port, running
from tests.integration.compliance.world import World, fill
from tests.integration.router.bus import PII_KEY

LAW = {"kept": {"shop/public.erase_invoices": {"basis": "§ 147 AO: invoices, ten years", "until": "10 years"}}}


def environment(home: Path) -> dict[str, str]:
    """The settings of a home, by name of variable."""
    sources: dict[str, object] = {}
    if url := os.environ.get("ISTHMUS_TEST_POSTGRES"):
        erase = {"public.erase_people": "delete", "public.erase_notes": ["email", "name", "raw"]}
        tables = ["public.erase_people", "public.erase_notes", "public.erase_invoices"]
        sources["shop"] = {"url": url, "erase_url": url, "erase": erase, "tables": tables}
        sources["theirs"] = {"url": url, "tables": ["public.theirs_people"]}
    if url := os.environ.get("ISTHMUS_TEST_MONGO"):
        database = urlunsplit(urlsplit(url)._replace(path="/erasure"))
        sources["notes"] = {"url": database, "erase_url": database, "tables": ["people"], "erase": {"people": "delete"}}
    law = home / "law.json"
    law.write_text(json.dumps(LAW))
    made = {
        "ISTHMUS_HOME": str(home), "ISTHMUS_PII_KEY": PII_KEY, "ISTHMUS_PII_KEYS_PREVIOUS": '["key before"]',
        "ISTHMUS_SOURCES": json.dumps(sources), "ISTHMUS_ERASURE_RULES": str(law),
        "DAGSTER_HOME": str(home / "dagster"),
    }  # fmt: skip
    return made | ({"ISTHMUS_REDIS_URL": url} if (url := os.environ.get("ISTHMUS_TEST_REDIS")) else {})


@contextmanager
def whole(home: Path) -> Iterator[World]:
    """Run a home's warehouse and broker until the block ends; the environment is that of the home meanwhile."""
    port, bus, password = free_port(), free_port(), secrets.token_urlsafe(12)
    env = environment(home) | {
        "ISTHMUS_WAREHOUSE_URL": f"http://isthmus:{password}@127.0.0.1:{port}",
        "ISTHMUS_KAFKA_BOOTSTRAP": f"127.0.0.1:{bus}",
    }
    warehouse = ("--path", str(home / "warehouse"), "--port", str(port))
    broker = ("--path", str(home / "broker"), "--port", str(bus))
    with (
        pytest.MonkeyPatch.context() as patch,
        running(
            "services.embedded.warehouse", *warehouse, log=home / "w.log", env={"ISTHMUS_WAREHOUSE_PASSWORD": password}
        ),
        running("services.embedded.broker", *broker, log=home / "b.log"),
    ):
        for name, value in env.items():
            patch.setenv(name, value)
        get_settings.cache_clear()
        rules.cache_clear()
        made = World(
            home, WarehouseResource(url=env["ISTHMUS_WAREHOUSE_URL"]),
            KafkaResource(bootstrap=env["ISTHMUS_KAFKA_BOOTSTRAP"]), Settings(),
        )  # fmt: skip
        migrate(made.warehouse)
        made.kafka.ensure_topics()
        yield made
    get_settings.cache_clear()
    rules.cache_clear()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A home with both persons in every store."""
    with whole(tmp_path_factory.mktemp("home")) as made:
        fill(made)
        yield made
