"""A schema registry set up: cache, TLS, settings, publishing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from cli.main import app
from events.compiled import CATALOGUE, compiled_types
from events.publication import whole
from events.refusals import SchemaUnavailable
from events.schemas import envelope
from resources.errors import KafkaUnavailable
from resources.settings import Settings, get_settings
from services.router.registry import RegistrySchemas, schemas_of
from services.router.registry.cache import RegistryCache
from services.router.registry.client import NoAnswer, RegistryClient, RegistryError
from services.router.registry.source import RegistrySource
from services.router.routing import Routed, route
from tests.integration.router import registry_server as server
from tests.integration.router.registry_server import serving
from tests.integration.router.registry_world import NOW, ORDER, World, framed, order, order_schema

pytestmark = pytest.mark.embedded

# The rest


def test_a_topic_that_cannot_be_made_yet_lets_the_event_wait(world: World) -> None:
    number = world.registry.add(ORDER, order_schema())

    def refuse(_topic: str) -> None:
        raise KafkaUnavailable("no broker")

    world.schemas._make_topic = refuse
    with pytest.raises(SchemaUnavailable, match="topic acme"):
        world.fate(framed(number, order()))
    world.schemas._make_topic = world.topics.append
    assert world.routed(framed(number, order())).topic == "acme.orders"


@pytest.mark.parametrize("damage", ["no JSON", "other form", "other registry", "a folder"])
def test_a_damaged_cache_is_an_empty_one(world: World, damage: str) -> None:
    number = world.registry.add(ORDER, order_schema())
    world.routed(framed(number, order()))
    (file,) = world.folder.iterdir()
    content = json.loads(file.read_text())
    other = json.dumps({**content, "url": "http://another"})
    damaged = {"no JSON": "{", "other form": '{"url": 1, "schemas": 7}', "other registry": other}
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_text(damaged[damage])
    world.restart()
    assert world.routed(framed(number, order())).topic == "acme.orders"


def test_the_cache_holds_no_password_and_nobody_else_reads_it(tmp_path: Path) -> None:
    with serving() as registry:
        registry.authorization = server.basic("ann", "s3cret/")
        number = registry.add(ORDER, order_schema())
        url = registry.url.replace("://", "://ann:s3cret%2F@")
        client = RegistryClient(url)
        assert "s3cret" not in client.url
        cache = RegistryCache(tmp_path / "cache", client.url)
        source = RegistrySource(client, cache)
        schemas = RegistrySchemas(source)
        assert isinstance(route(framed(number, order()), b"", None, NOW, b"", schemas=schemas), Routed)
        (file,) = (tmp_path / "cache").iterdir()
        assert "s3cret" not in file.read_text()
        assert (tmp_path / "cache").stat().st_mode & 0o077 == 0
        schemas.close()
        with pytest.raises(NoAnswer, match="credentials") as caught:
            RegistryClient(registry.url, user="ann", password="wrong").by_id(number)
        assert "wrong" not in str(caught.value)


def test_tls_with_a_ca_of_ones_own(tmp_path: Path) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    with serving(tls=(certificate, key)) as registry:
        number = registry.add(ORDER, order_schema())
        assert RegistryClient(registry.url, ca=certificate).by_id(number).subjects == {ORDER: 1}
        with pytest.raises(NoAnswer):
            RegistryClient(registry.url).by_id(number)
        with pytest.raises(RegistryError, match="ISTHMUS_SCHEMA_REGISTRY_CA"):
            RegistryClient(registry.url, ca=tmp_path / "absent.pem")


def test_settings_name_the_registry_and_it_is_not_asked_before_an_event_needs_it(tmp_path: Path) -> None:
    assert schemas_of(Settings(home=tmp_path), print) is CATALOGUE
    with serving() as registry:
        registry.authorization = server.basic("ann", "s3cret")
        number = registry.add(ORDER, order_schema())
        settings = Settings(
            home=tmp_path,
            schema_registry_url=registry.url,
            schema_registry_user="ann",
            schema_registry_password=SecretStr("s3cret"),
        )
        assert "s3cret" not in repr(settings)
        schemas = schemas_of(settings, print)
        assert isinstance(schemas, RegistrySchemas)
        assert not registry.requests
        assert isinstance(route(framed(number, order()), b"", None, NOW, b"", schemas=schemas), Routed)
        schemas.close()
    with pytest.raises(RegistryError, match="ISTHMUS_SCHEMA_REGISTRY_URL"):
        schemas_of(Settings(schema_registry_url="registry:8081"), print)


def test_a_url_that_is_none_is_told_at_once() -> None:
    for url in ("registry:8081", "file:///etc/passwd", "http://"):
        with pytest.raises(RegistryError, match="http"):
            RegistryClient(url)


def publishing(world: World, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[dict[str, Any]]]:
    monkeypatch.setenv("ISTHMUS_SCHEMA_REGISTRY_URL", world.registry.url)
    get_settings.cache_clear()
    done = CliRunner().invoke(app, ["schema", "publish", "--json", *arguments])
    return done.exit_code, json.loads(done.output) if done.output.startswith("[") else []


def test_publish_registers_once_and_tells_what_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code, told = publishing(world, "--check", monkeypatch=monkeypatch)
    assert (code, {one["outcome"] for one in told}, world.registry.subjects) == (0, {"would register"}, {})
    code, told = publishing(world, monkeypatch=monkeypatch)
    assert (code, {one["outcome"] for one in told}) == (0, {"registered"})
    assert world.registry.config == {one["subject"]: "BACKWARD" for one in told}
    before = dict(world.registry.schemas)
    code, told = publishing(world, monkeypatch=monkeypatch)
    assert (code, {one["outcome"] for one in told}, world.registry.schemas) == (0, {"unchanged"}, before)
    for number in (1, 2):  # as if a part and a type had grown since
        world.registry.schemas[number] = {**world.registry.schemas[number], "schema": "{}"}
    world.registry.incompatible = {"isthmus.saga.started.v1"}
    code, told = publishing(world, monkeypatch=monkeypatch)
    outcomes = {one["subject"]: (one["outcome"], one["detail"]) for one in told}
    assert code == 2
    assert outcomes["isthmus.actions.saga_policy"][0] == "registered"
    assert outcomes["isthmus.saga.started.v1"] == ("incompatible", "PROPERTY_REMOVED at '#/properties/a'")
    assert outcomes["isthmus.action.v1"][0] == "registered", "it refers to the new version of its part"


def test_publish_without_a_registry_says_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.registry.fault = server.status(500)
    assert publishing(world, monkeypatch=monkeypatch)[0] == 1
    monkeypatch.delenv("ISTHMUS_SCHEMA_REGISTRY_URL")
    get_settings.cache_clear()
    assert CliRunner().invoke(app, ["schema", "publish"]).exit_code == 1


def test_a_whole_schema_accepts_what_the_catalogue_accepts() -> None:
    for name, compiled in compiled_types()[None].items():
        document = whole(name, compiled.version)
        assert set(document["properties"]) == set(envelope()["properties"])
        assert document["x-topic"] == compiled.topic
