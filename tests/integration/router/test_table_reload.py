"""The routing table of a running router: a changed file comes into force, a bad one does not, and no event suffers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from confluent_kafka import Producer

from events.catalogue import INGRESS, SAGAS
from events.codec import decode, encode
from resources.kafka import KafkaResource
from tests.conftest import ROOT
from tests.integration.router.bus import STEP, Reader, producer, router


def send(to: Producer, source: str, number: int) -> None:
    to.produce(INGRESS, encode("isthmus.saga.step", STEP, subject=source, source=source, id=str(number)), source)
    assert to.flush(10) == 0


def test_a_table_is_taken_while_events_pass(bootstrap: str, tmp_path: Path) -> None:
    source, copy = f"/table/{time.time_ns()}", f"copies-{time.time_ns()}"
    file = tmp_path / "routes.yml"
    file.write_text("")
    KafkaResource(bootstrap=bootstrap).ensure_topics([copy])
    to, reader = producer(bootstrap), Reader(bootstrap, (SAGAS, copy))
    with router(bootstrap, tmp_path, router_table=str(file)) as running:

        def until_counted(metric: str) -> None:
            deadline = time.monotonic() + 60
            before = running.metric(metric)
            while running.metric(metric) == before:
                assert time.monotonic() < deadline
                time.sleep(0.1)

        send(to, source, 0)
        reader.with_key(source.encode())
        draft = tmp_path / "draft"
        draft.write_text(
            f"routes: [{{name: c, when: {{source: '{source}'}}, copy: {copy}}}]\n"
            "enrich: [{name: e, set: {environment: test}}]"
        )
        draft.replace(file)
        until_counted("table_loads_total")
        send(to, source, 1)
        both = [record for record in reader.with_key(source.encode(), 3) if record.topic == copy]
        assert [decode(record.value or b"").id for record in both] == ["1"]
        assert decode(both[0].value or b"").extensions["environment"] == "test"
        file.write_text("routes: [{name: c, to: isthmus.ingress}]")
        until_counted("table_refusals_total")
        assert "in circles" in running.log.read_text()
        send(to, source, 2)
        assert [record.topic for record in reader.with_key(source.encode(), 5)].count(copy) == 2
    reader.close()


def test_a_bad_table_ends_the_start_with_its_problem(tmp_path: Path) -> None:
    file = tmp_path / "routes.yml"
    file.write_text("routes: [{name: r}]")
    done = subprocess.run(
        [sys.executable, "-m", "services.router"],
        cwd=ROOT,
        env={
            **os.environ,
            "ISTHMUS_ROUTER_TABLE": str(file),
            "ISTHMUS_ROUTER_PORT": "0",
            "ISTHMUS_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "a route has `to`, `copy`, or both" in done.stderr
    assert "ISTHMUS_ROUTER_TABLE" in done.stderr
