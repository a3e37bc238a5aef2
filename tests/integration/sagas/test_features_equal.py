"""One definition, two computations: the warehouse's features equal those in process on every prefix."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from assets.sagas import data
from benchmarks._saga_table import saga_table
from examples.datasets import open_folder
from examples.shop import traffic
from ml.sagas.stream import in_process, saga_events, vocabulary
from ml.sagas.types import LOAN_APPLICATION, ORDER, SagaType
from resources.warehouse import WarehouseResource
from tests.integration.sagas.conftest import data_folder, stage

#: The shop's traffic ends now by default, and how much there is depends on the hour.
EVENING = datetime(2026, 3, 2, 20, tzinfo=UTC)


def compare(warehouse: WarehouseResource, kind: SagaType, table: pa.Table) -> int:
    """Assert that both give the same rows, and return how many."""
    stage(warehouse, table)
    events = saga_events(table)
    known = data.vocabulary(warehouse, kind.name)
    assert known == vocabulary(events)
    features = data.features_of(kind, known)
    ours = in_process(kind, features, events)
    theirs = data.prefixes(warehouse, kind, features, sagas="1")
    assert ours.saga_ids.tolist() == theirs.saga_ids.tolist()
    for name in ("position", "us", "label", "start_us", "known_us", "strict"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    for column, name in enumerate(features.names):
        np.testing.assert_allclose(theirs.x[:, column], ours.x[:, column], rtol=1e-12, err_msg=name)
    return len(ours)


def loans(share: float) -> pa.Table:
    """Return a seeded share of the loan applications' events."""
    table = saga_table(open_folder(data_folder()))
    ids = np.unique(table["saga_id"].to_numpy(zero_copy_only=False).astype(str))
    chosen = np.random.default_rng(11).choice(ids, int(share * len(ids)), replace=False)
    return table.filter(pa.compute.is_in(table["saga_id"], pa.array(chosen)))


def test_on_a_slice_of_the_loan_applications(own_warehouse: WarehouseResource) -> None:
    assert compare(own_warehouse, LOAN_APPLICATION, loans(0.04)) > 5_000


@pytest.mark.soak
def test_on_every_prefix_of_the_loan_applications(own_warehouse: WarehouseResource) -> None:
    assert compare(own_warehouse, LOAN_APPLICATION, loans(1.0)) == 162_268


def test_on_shop_traffic_with_load_figures(own_warehouse: WarehouseResource) -> None:
    assert (
        compare(own_warehouse, ORDER, saga_table(traffic(seed=3, days=0.08, brownouts_per_day=60, end=EVENING))) > 2_000
    )


def test_equal_times_keep_the_producers_order(own_warehouse: WarehouseResource) -> None:
    """Events of one microsecond, ids that sort otherwise as texts (2 after 10), a start that comes last by offset."""
    table = saga_table(traffic(seed=3, days=0.01, end=EVENING))
    when = table["event_time"][0].as_py()
    same = table.set_column(5, "event_time", pa.array([when] * len(table), pa.timestamp("us", tz="UTC")))
    keys = same.select(["event_type", "event_id", "source"]).to_pylist()
    rank = {"isthmus.saga.started": 0, "isthmus.saga.step": 1}
    order = sorted(
        range(len(same)),
        key=lambda i: (rank.get(keys[i]["event_type"], 2), len(keys[i]["event_id"]), keys[i]["event_id"]),
    )
    assert compare(own_warehouse, ORDER, same.take(pa.array(order))) > 200
