"""Several streams in one group: they share the sagas, and one that goes hands over what it knew."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from events.catalogue import ADVICE
from resources.kafka import KafkaResource
from services.orchestrator.standing import Standing
from services.orchestrator.stream import Stream
from tests.integration.orchestrator.live import Traffic, advised
from tests.integration.orchestrator.test_service import until
from tests.integration.router.bus import Broker, Reader

pytestmark = pytest.mark.embedded

MEMBERS = 4


def test_one_that_goes_hands_its_sagas_over_and_one_without_partitions_is_no_problem(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    life = broker.run()
    next(life)
    keeper: Any = SimpleNamespace(age=1.0, standing=Standing())
    kafka = KafkaResource(bootstrap=broker.bootstrap, attempts=1)
    streams = [Stream(kafka, keeper, most_sagas=100, read_back=1_000) for _ in range(MEMBERS)]
    try:
        for one in streams:
            one.start()
        until(lambda: sorted(len(one.figures.lag) for one in streams) == [0, 1, 1, 1])
        until(lambda: not any(one.problem for one in streams))
        assert all(one.loads == {} for one in streams), "a part of the sagas is not the load"

        traffic, reader = Traffic(broker.bootstrap, f"members-{time.time_ns()}"), Reader(broker.bootstrap, (ADVICE,))
        sagas = [f"{traffic.name}-{number}" for number in range(12)]
        for saga in sagas:
            traffic.begin(saga)
            traffic.step(saga, "failed", number=1)
        traffic.flush()
        until(lambda: sum(one.figures.sagas for one in streams) == len(sagas))
        leaving = next(one for one in streams if one.figures.sagas)
        leaving.close()
        others = [one for one in streams if one is not leaving]
        until(lambda: sum(one.figures.sagas for one in others) == len(sagas))

        for saga in sagas:
            traffic.step(saga, "failed", number=2, attempt=2)
        traffic.flush()
        reader.until(lambda _: traffic.failed <= advised(reader, traffic).keys())
        for saga in sagas:
            for number, action in ((1, "retry"), (2, "compensate")):
                (said, *_) = advised(reader, traffic)[f"{saga}/{number}"]
                assert said.data["action"] == action, "the first failure counts for the one that took over, too"
                assert not any(one.startswith("saga:") for one in said.data["defaults"])
        reader.close()
    finally:
        for one in streams:
            one.close()
        life.close()
