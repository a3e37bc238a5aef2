"""Which model a saga policy rests on, and what becomes of one that says nothing of its calibration."""

from __future__ import annotations

import numpy as np
import pytest

from assets.decisions.risk import champion_of
from ml.sagas.types import model_name
from resources.registry import FakeRegistry, Record

RECORD = Record(parameters={}, metrics={}, columns=["a"], example=np.zeros((1, 1)))


def registry_with(saga_type: str, outcome: str, tags: dict[str, str]) -> FakeRegistry:
    registry = FakeRegistry()
    version = registry.register(model_name(saga_type, outcome), object(), RECORD)
    registry.tag(version, tags)
    registry.alias(version, "champion")
    return registry


def test_no_champion_leaves_it_to_a_rule() -> None:
    assert champion_of(FakeRegistry(), "order") is None


def test_a_challenger_is_no_champion() -> None:
    registry = FakeRegistry()
    registry.alias(registry.register(model_name("order", "technical"), object(), RECORD), "challenger")
    assert champion_of(registry, "order") is None


def test_the_champion_with_its_operating_point() -> None:
    found = champion_of(registry_with("order", "technical", {"threshold": "0.0909", "calibrated": "true"}), "order")
    assert found is not None
    assert found.model.version == "1"
    assert found.model.calibrated
    assert found.risk.threshold == 0.0909
    assert found.risk.model == f"{model_name('order', 'technical')}/1"


def test_of_several_outcomes_the_one_that_costs_most() -> None:
    registry = registry_with("loan_application", "cancelled", {"threshold": "0.3", "calibrated": "true"})
    version = registry.register(model_name("loan_application", "declined"), object(), RECORD)
    registry.tag(version, {"threshold": "0.25", "calibrated": "true"})
    registry.alias(version, "champion")
    found = champion_of(registry, "loan_application")
    assert found is not None
    assert found.risk.threshold == 0.25


@pytest.mark.parametrize("tags", [{}, {"calibrated": "false"}, {"threshold": "nan"}, {"threshold": "much"}])
def test_what_a_model_does_not_say_it_is_not(tags: dict[str, str]) -> None:
    found = champion_of(registry_with("order", "technical", tags), "order")
    assert found is not None
    assert not found.model.calibrated
    assert found.risk.threshold is None
