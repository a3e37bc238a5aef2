"""Sources in the settings, and what decisions make of a table that is compared with one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import dagster as dg
import pytest
from pydantic import ValidationError

from assets.decisions import evidence
from assets.sources import AGREES, compared, copy_table
from resources.errors import SourceError
from resources.settings import Settings, Source, get_settings
from resources.warehouse import WarehouseResource


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    compare = {"public.sagas": "marts.fct_sagas"}
    sources = {"shop": {"url": "postgresql://reader:hidden-word@db/shop", "compare": compare}}
    monkeypatch.setenv("ISTHMUS_SOURCES", json.dumps(sources))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.usefixtures("shop")
def test_a_decision_rests_on_the_comparison_of_its_inputs() -> None:
    assert compared(["marts/fct_sagas"])
    assert not compared(["marts/fct_saga_steps"])
    with dg.DagsterInstance.ephemeral() as instance:
        (found,) = [one for one in evidence.read_checks(instance) if one.check == AGREES.name]
        assert (found.asset, found.passed, found.severity) == ("quality/source_reconciliation", None, "ERROR")


def test_without_sources_nothing_is_asked() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert not [one for one in evidence.read_checks(instance) if one.check == AGREES.name]


@pytest.mark.usefixtures("shop")
def test_a_source_hides_its_password() -> None:
    settings = get_settings()
    assert "hidden-word" not in repr(settings) + repr(settings.sources) + str(settings.model_dump())
    with pytest.raises(ValidationError) as raised:
        Settings(sources={"a": {"url": "postgresql://u:hidden-word@h/d", "tabels": []}})  # type: ignore[dict-item]
    assert "hidden-word" not in str(raised.value)


def test_a_url_of_another_kind_is_refused() -> None:
    with pytest.raises(SourceError, match="neither with"):
        copy_table(WarehouseResource(), "a", Source(url="mysql://h/d"), "t", run_id="r")  # type: ignore[arg-type]
