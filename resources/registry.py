"""The model registry: MLflow on a database, as a Dagster resource that works without Dagster too.

What belongs here: runs, registered models and their aliases. What does not: what is trained or whether it is promoted
(``ml.sagas``, ``assets.sagas``). A version number names a model for good; an alias moves, so it is never recorded
alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import dagster as dg
from pydantic import Field

from resources.settings import get_settings

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from numpy.typing import NDArray

Alias = Literal["champion", "challenger"]
#: Packages that a registered model needs; named, since finding them out means importing it in a fresh process.
REQUIREMENTS = ("scikit-learn", "numpy", "scipy", "cloudpickle")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version; ``tags`` hold what a decision needs of it, without loading it."""

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """What a training run leaves: figures, plots by file name, documents by file name, and the data it read.

    ``inputs`` maps asset keys to data versions; ``columns`` names the model's input columns and ``example`` gives a
    few rows, from which the signature follows.
    """

    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    columns: Sequence[str]
    example: NDArray[np.float64]
    inputs: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class Registry(Protocol):
    """What code that keeps or loads models may rely on; the resource and its fake both keep it."""

    def register(self, name: str, model: Any, record: Record) -> ModelVersion:
        """Log a run and register its model."""

    def alias(self, version: ModelVersion, alias: Alias) -> None:
        """Point ``alias`` at a version."""

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Add tags to a version."""

    def find(self, name: str, alias: Alias) -> ModelVersion | None:
        """Return the version that an alias points at."""

    def load(self, version: ModelVersion) -> Any:
        """Return the model."""


_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a model, and of an alias, that is not there."""


class RegistryResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """MLflow's tracking store and model registry."""

    tracking_uri: str = Field(default="", description="MLflow store; empty: the settings'.")
    artifacts: str = Field(default="", description="Where artifacts go; empty: `mlflow/artifacts` under the home.")

    def uri(self) -> str:
        """Return the tracking URI."""
        return self.tracking_uri or get_settings().mlflow_uri()

    def client(self) -> MlflowClient:
        """Return this process's client; the store's tables are made at first use."""
        return _client(self.uri())

    def register(self, name: str, model: Any, record: Record) -> ModelVersion:
        """Log a run with ``model`` and register it as the next version of ``name``.

        The model is kept as a pickle of our own classes: load what this registry wrote, nothing else.
        """
        client = self.client()
        import mlflow
        from mlflow.models import infer_signature

        run = client.create_run(
            self._experiment(client, name),
            run_name=name,
            tags={**record.tags, **{f"input/{key}": version for key, version in record.inputs.items()}},
        )
        run_id = run.info.run_id
        _log(client, run_id, record)
        logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)  # it warns of pickles each time
        mlflow.set_tracking_uri(self.uri())
        try:
            with mlflow.start_run(run_id=run_id):
                frame = _frame(record)
                info = mlflow.sklearn.log_model(
                    model,
                    name="model",
                    signature=infer_signature(frame, model.predict(record.example)),
                    serialization_format="cloudpickle",
                    pip_requirements=_requirements(),
                )
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        if not client.search_registered_models(f"name = '{name}'", max_results=1):
            client.create_registered_model(name)
        made = client.create_model_version(name, info.model_uri, run_id=run_id, tags=dict(record.tags))
        return ModelVersion(name, int(made.version), run_id, dict(record.tags))

    def alias(self, version: ModelVersion, alias: Alias) -> None:
        """Point ``alias`` at a version."""
        self.client().set_registered_model_alias(version.name, alias, str(version.version))

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Add tags to a version."""
        for key, value in tags.items():
            self.client().set_model_version_tag(version.name, str(version.version), key, value)

    def find(self, name: str, alias: Alias) -> ModelVersion | None:
        """Return the version that an alias points at, None where there is none."""
        client = self.client()
        from mlflow.exceptions import MlflowException

        # One query: a search makes several, and services look every few seconds beside their work.
        try:
            found = client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return None
            raise
        return ModelVersion(name, int(found.version), found.run_id, dict(found.tags))

    def load(self, version: ModelVersion) -> Any:
        """Return the model of a version number."""
        self.client()
        import mlflow

        mlflow.set_tracking_uri(self.uri())
        return mlflow.sklearn.load_model(f"models:/{version.name}/{version.version}")

    def _experiment(self, client: MlflowClient, name: str) -> str:
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        root = self.artifacts or str((get_settings().home / "mlflow" / "artifacts").resolve())
        location = root if "://" in root else (Path(root) / name).as_uri()
        return str(client.create_experiment(name, artifact_location=location))


@lru_cache(maxsize=8)
def _client(uri: str) -> MlflowClient:
    # MLflow calls home, looks for a git repository, and exports the whole project's lock file, unless told not to.
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("MLFLOW_UV_AUTO_DETECT", "false"),
        ("MLFLOW_LOG_UV_FILES", "false"),
    ):
        os.environ.setdefault(name, value)
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # hundreds of lines when the store is made
    from mlflow import MlflowClient

    with _alone(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_registered_models(max_results=1)
    return client


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keep this machine's other processes from making a file's tables meanwhile: of two at once, MLflow fails one."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    store = Path(uri.removeprefix("sqlite:///"))
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.with_name(f"{store.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _frame(record: Record) -> Any:
    import pandas as pd

    return pd.DataFrame(record.example, columns=list(record.columns))


@lru_cache(maxsize=1)
def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in REQUIREMENTS]


def _log(client: MlflowClient, run_id: str, record: Record) -> None:
    import time

    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(key, float(value), now, 0) for key, value in record.metrics.items()],
        params=[Param(key, str(value)[:6000]) for key, value in record.parameters.items()],
    )
    for file, figure in record.figures.items():
        client.log_figure(run_id, figure, file)
    for file, document in record.documents.items():
        client.log_dict(run_id, document, file)


class FakeRegistry:
    """A registry in memory; for unit tests only."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, int], tuple[Any, Record]] = {}
        self.aliases: dict[tuple[str, str], int] = {}
        self.tags: dict[tuple[str, int], dict[str, str]] = {}

    def register(self, name: str, model: Any, record: Record) -> ModelVersion:
        """Keep the model as the next version."""
        number = 1 + sum(known == name for known, _ in self.versions)
        self.versions[name, number] = (model, record)
        self.tags[name, number] = dict(record.tags)
        return self._version(name, number)

    def alias(self, version: ModelVersion, alias: Alias) -> None:
        """Point ``alias`` at a version."""
        self.aliases[version.name, alias] = version.version

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Add tags to a version."""
        self.tags[version.name, version.version].update(tags)

    def find(self, name: str, alias: Alias) -> ModelVersion | None:
        """Return the version that an alias points at."""
        number = self.aliases.get((name, alias))
        return None if number is None else self._version(name, number)

    def load(self, version: ModelVersion) -> Any:
        """Return the model."""
        return self.versions[version.name, version.version][0]

    def _version(self, name: str, number: int) -> ModelVersion:
        return ModelVersion(name, number, f"run-{name}-{number}", dict(self.tags[name, number]))
