"""The registry on a database of its own, and its fake: the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from resources.registry import FakeRegistry, Record, Registry, RegistryResource

RECORD = Record(
    parameters={"seed": 1},
    metrics={"auc": 0.7},
    columns=["a", "b"],
    example=np.zeros((2, 2)),
    inputs={"staging/stg_saga_events": "abc"},
    documents={"note.json": {"x": 1}},
    tags={"threshold": "0.1"},
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> RegistryResource:
    folder = tmp_path_factory.mktemp("registry")
    return RegistryResource(tracking_uri=f"sqlite:///{folder}/new/mlflow.db", artifacts=str(folder / "artifacts"))


@pytest.fixture(params=["real", "fake"])
def registry(request: pytest.FixtureRequest) -> Registry:
    return request.getfixturevalue("real") if request.param == "real" else FakeRegistry()


def model(share: float) -> DummyClassifier:
    return DummyClassifier(strategy="constant", constant=1).fit(np.zeros((2, 2)), [0, 1] if share else [1, 1])


def test_versions_aliases_and_loading_by_number(registry: Registry) -> None:
    name = "saga_failure.order.technical"
    assert registry.find(name, "champion") is None
    first, second = registry.register(name, model(1), RECORD), registry.register(name, model(0), RECORD)
    assert (first.version, second.version) == (1, 2)
    registry.alias(first, "champion")
    assert registry.find(name, "challenger") is None
    registry.alias(second, "champion")
    registry.tag(second, {"calibrated": "true"})
    found = registry.find(name, "champion")
    assert found is not None
    assert (found.version, found.run_id) == (2, second.run_id)
    assert dict(found.tags) == {"threshold": "0.1", "calibrated": "true"}
    # The alias has moved; the number still names the same model.
    assert registry.load(first).classes_.tolist() == [0, 1]
    assert registry.load(second).classes_.tolist() == [1]


def test_the_run_says_what_it_rests_on(real: RegistryResource, tmp_path: Path) -> None:
    version = real.register("another", model(1), RECORD)
    run = real.client().get_run(version.run_id)
    assert run.data.tags["input/staging/stg_saga_events"] == "abc"
    assert run.data.metrics == {"auc": 0.7}
    assert run.data.params == {"seed": "1"}
    assert run.info.status == "FINISHED"
    assert [file.path for file in real.client().list_artifacts(version.run_id)] == ["note.json"]
    logged = real.client().get_model_version("another", "1")
    assert logged.run_id == version.run_id


class Broken:
    """A model that cannot be pickled."""

    def predict(self, x: object) -> np.ndarray:
        return np.zeros(2)

    def __reduce__(self) -> str:
        raise TypeError("not today")


def test_a_model_that_cannot_be_kept_leaves_a_failed_run_and_no_version(real: RegistryResource) -> None:
    with pytest.raises(Exception, match="not today"):
        real.register("broken", Broken(), RECORD)
    assert real.find("broken", "champion") is None
    experiment = real.client().get_experiment_by_name("broken")
    assert experiment is not None
    [run] = real.client().search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
