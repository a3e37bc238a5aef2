"""What stands: read whole, swapped in one step, kept while a store does not answer."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ml.sagas.types import model_name
from resources.decisions.fake import FakeDecisionStore
from resources.registry import FakeRegistry, ModelVersion, Record
from services.orchestrator.standing import Keeper
from tests.integration.orchestrator.world import decision, model

NAME = model_name("order", "technical")


class Stores:
    """A warehouse, a book and a registry, each of which may be away."""

    def __init__(self) -> None:
        self.book = FakeDecisionStore()
        self.registry = FakeRegistry()
        self.away: set[str] = set()
        self.loads = 0
        self.keeper = Keeper(self, self, self)

    def _there(self, store: str) -> None:
        if store in self.away:
            raise ConnectionError("http://user:password@warehouse")

    def query_rows(self, sql: str, parameters: Any = None) -> list[dict[str, Any]]:
        self._there("warehouse")
        if "step_timeouts" in sql:
            return [{"at": ""}]
        return [{"subject": one} for one in sorted({one.subject for one in self.book.list(limit=100)})]

    def in_force(self, kind: str, subject: str) -> Any:
        return self.book.in_force(kind, subject)

    def find(self, name: str, alias: Any) -> ModelVersion | None:
        self._there("registry")
        return self.registry.find(name, alias)

    def load(self, version: ModelVersion) -> Any:
        self.loads += 1
        return self.registry.load(version)

    def publish(self, subject: str = "order") -> str:
        recorded = self.book.record(decision(subject), allowed=True)
        self.book.publish(recorded.decision_id)
        return str(recorded.decision_id)

    def promote(self) -> None:
        record = Record(parameters={}, metrics={}, columns=["a"], example=None)  # type: ignore[arg-type]
        self.registry.alias(self.registry.register(NAME, model(), record), "champion")


@pytest.fixture
def stores() -> Stores:
    made = Stores()
    made.published = made.publish()  # type: ignore[attr-defined]
    made.promote()
    made.keeper.renew()
    return made


def test_policies_in_force_and_champions_are_read(stores: Stores) -> None:
    standing = stores.keeper.standing
    assert {name: one.decision_id for name, one in standing.policies.items()} == {"order": stores.published}  # type: ignore[attr-defined]
    (champion,) = standing.champions["order"]
    assert champion.version.version == 1
    assert not standing.problems


def test_a_decision_that_was_refused_is_not_in_force(stores: Stores) -> None:
    refused = stores.book.record(decision("other"), allowed=False, reasons=["stale"])
    stores.keeper.renew()
    assert str(refused.decision_id) not in {one.decision_id for one in stores.keeper.standing.policies.values()}


def test_a_new_policy_and_a_new_champion_replace_the_old_ones(stores: Stores) -> None:
    before, newer = stores.keeper.standing, stores.publish()
    stores.promote()
    stores.keeper.renew()
    assert stores.keeper.standing.policies["order"].decision_id == newer
    assert stores.keeper.standing.champions["order"][0].version.version == 2
    assert before.champions["order"][0].version.version == 1, "who began with the old one ends with it"


def test_a_champion_is_loaded_once(stores: Stores) -> None:
    stores.keeper.renew()
    assert stores.loads == 1


@pytest.mark.parametrize("store", ["warehouse", "registry"])
def test_what_is_known_stays_while_a_store_is_away(
    stores: Stores, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = stores.keeper.standing
    stores.away = {store}
    with caplog.at_level(logging.INFO):
        stores.keeper.renew()
        stores.keeper.renew()
        assert stores.keeper.standing.problems == {store: "ConnectionError"}
        assert stores.keeper.standing.policies == known.policies
        assert stores.keeper.standing.champions == known.champions
        stores.away = set()
        stores.keeper.renew()
    assert not stores.keeper.standing.problems
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, "once when it goes, once when it comes back"
    assert "password" not in caplog.text


def test_a_declared_type_has_its_champion_before_its_first_policy() -> None:
    stores = Stores()
    stores.promote()
    stores.keeper.renew()
    assert not stores.keeper.standing.policies
    assert [one.version.name for one in stores.keeper.standing.champions["order"]] == [NAME]
