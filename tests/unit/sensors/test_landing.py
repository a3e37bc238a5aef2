"""The landing sensor over several ticks: a real (ephemeral) Dagster instance, the bus and the ledger in memory."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from assets.landing import NOT_NOW
from jobs.landing import landing_job
from resources.fakes import FakeKafka, FakeLog, FakeWarehouse
from resources.ledger import Ledger
from resources.settings import Settings
from sensors.landing import TAG, evaluate, request
from sensors.landing.cursor import Cursor

TOPIC = "isthmus.sagas"


class World:
    """A bus, a ledger and an instance, with a clock that only sleeping moves."""

    def __init__(self, **settings: Any) -> None:
        self.bus, self.warehouse = FakeKafka(), FakeWarehouse()
        self.instance = dg.DagsterInstance.ephemeral()
        self.settings = Settings(**{"landing_poll_seconds": 0.05, **settings})
        self.cursor: str | None = None
        self.bus.logs = {(TOPIC, 0): FakeLog(), (TOPIC, 1): FakeLog()}
        rows = self.warehouse.rows
        self.warehouse.on("FROM raw.topics", lambda _: self._seen())
        self.warehouse.on("FROM raw.landings", lambda _: self._islands(rows.get("raw.landings", [])))
        self.warehouse.on("FROM raw.gaps", lambda _: self._gaps())

    def _seen(self) -> list[dict[str, Any]]:
        newest: dict[Any, dict[str, Any]] = {}
        for row in self.warehouse.rows.get("raw.topics", []):
            at = (row["topic"], row["partition"])
            if at not in newest or row["generation"] >= newest[at]["newest"]:
                newest[at] = {
                    "topic": row["topic"],
                    "partition": row["partition"],
                    "newest": row["generation"],
                    "topic_id": row["topic_id"],
                    "start": row["start_offset"],
                }
        return list(newest.values())

    @staticmethod
    def _islands(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        from resources.ledger import merge

        found = []
        for at in sorted({(row["topic"], row["partition"], row["generation"]) for row in rows}):
            own = [row for row in rows if (row["topic"], row["partition"], row["generation"]) == at]
            for first, last in merge((row["from_offset"], row["to_offset"]) for row in own):
                found.append({"topic": at[0], "partition": at[1], "generation": at[2], "first": first, "last": last})
        return found

    def _gaps(self) -> list[dict[str, Any]]:
        newest = {row["gap_id"]: row for row in self.warehouse.rows.get("raw.gaps", [])}
        return [{name: value for name, value in row.items() if name != "gap_id"} for row in newest.values()]

    def tick(self) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = evaluate(context, self.bus, self.warehouse, settings=self.settings)
        self.cursor = result.cursor
        return result

    def start(self, wanted: dg.RunRequest) -> dg.DagsterRun:
        """Note the run as the daemon would, not finished."""
        return self.instance.create_run_for_job(
            dg.Definitions(jobs=[_job()]).resolve_job_def("landing"),
            run_config=wanted.run_config,
            tags=wanted.tags,
            status=dg.DagsterRunStatus.STARTED,
        )

    def finish(self, run: dg.DagsterRun, *, landed: bool) -> None:
        if landed:
            config: Any = run.run_config
            rows = [{**span, "rows": 1} for span in config["ops"]["raw__events"]["config"]["ranges"]]
            self.warehouse.insert_rows("raw.landings", rows)
            self.instance.report_engine_event("done", run)
            self.instance.report_dagster_event(
                dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name), run.run_id
            )
        else:
            self.instance.report_run_failed(run)


def _job() -> dg.JobDefinition:
    @dg.op(config_schema=dict)
    def raw__events() -> None:
        """Stand in for the asset: runs are only noted here."""

    @dg.job(name="landing")
    def landing() -> None:
        raw__events()

    return landing


def verdicts(result: dg.SensorResult) -> list[bool]:
    return [one.passed for one in result.asset_events if isinstance(one, dg.AssetCheckEvaluation)]


def spans(wanted: dg.RunRequest) -> list[tuple[int, int, int]]:
    found: Any = wanted.run_config["ops"]["raw__events"]["config"]["ranges"]
    return [(span["partition"], span["from_offset"], span["to_offset"]) for span in found]


def test_exact_ranges_are_requested_once() -> None:
    world = World()
    world.bus.send(TOPIC, b"a", b"b", b"c")
    world.bus.send(TOPIC, b"d", partition=1)
    [wanted] = world.tick().run_requests or []
    assert spans(wanted) == [(0, 0, 3), (1, 0, 1)]
    assert wanted.tags[TAG] == "ranges"
    world.start(wanted)
    assert not world.tick().run_requests
    world.bus.send(TOPIC, b"e")
    [wanted] = world.tick().run_requests or []
    assert spans(wanted) == [(0, 3, 4)]


def test_a_run_is_cut_at_the_limit_and_runs_are_held_back() -> None:
    world = World(landing_max_events=10, landing_max_in_flight=2)
    world.bus.send(TOPIC, *[b"x"] * 35)
    first = world.tick().run_requests or []
    assert [spans(one) for one in first] == [[(0, 0, 10)], [(0, 10, 20)]]
    runs = [world.start(one) for one in first]
    assert not world.tick().run_requests
    world.finish(runs[0], landed=True)
    [third] = world.tick().run_requests or []
    assert spans(third) == [(0, 20, 30)]


def test_a_failed_run_is_requested_again_with_another_key() -> None:
    world = World()
    world.bus.send(TOPIC, *[b"x"] * 5)
    [wanted] = world.tick().run_requests or []
    world.finish(world.start(wanted), landed=False)
    [again] = world.tick().run_requests or []
    assert spans(again) == spans(wanted)
    assert again.run_key != wanted.run_key
    run = world.start(again)
    assert not world.tick().run_requests
    world.finish(run, landed=True)
    assert not world.tick().run_requests
    assert Cursor.read(world.cursor).attempts == {}


def test_a_range_that_never_lands_becomes_a_gap_and_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensors.landing.cursor.FIRST_DELAY", 0.0)
    world = World(landing_attempts=2)
    world.bus.send(TOPIC, *[b"x"] * 5)
    events: list[Any] = []
    for _ in range(8):
        result = world.tick()
        events += result.asset_events
        for wanted in result.run_requests or []:
            world.finish(world.start(wanted), landed=False)
    [gap] = Ledger(world.warehouse).gaps("open")
    assert (gap.kind, gap.from_offset, gap.to_offset) == ("unlandable", 0, 5)
    assert [(one.check_name, one.passed) for one in events] == [("contiguity", False)]
    # The rest goes on, and a person has it tried again.
    world.bus.send(TOPIC, b"y")
    [wanted] = world.tick().run_requests or []
    assert spans(wanted) == [(0, 5, 6)]
    world.finish(world.start(wanted), landed=True)
    Ledger(world.warehouse).retry(gap.gap_id, actor="ann", reason="disk is larger now")
    result = world.tick()
    [wanted] = result.run_requests or []
    assert spans(wanted) == [(0, 0, 5)]
    # Still missing, so the check still fails; the run that lands it says otherwise.
    assert verdicts(result) == [False]


def test_what_failed_because_a_service_was_away_is_no_gap_however_long_that_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sensors.landing.cursor.FIRST_DELAY", 0.0)
    world = World(landing_attempts=2)
    world.bus.send(TOPIC, *[b"x"] * 5)
    for at in range(10):
        for wanted in world.tick().run_requests or []:
            run = world.start(wanted)
            if at:
                world.instance.add_run_tags(run.run_id, {NOT_NOW: "WarehouseUnavailable"})
            world.finish(run, landed=False)
    assert Ledger(world.warehouse).gaps("open") == []
    # Such runs do not count; two that fail for another reason do.
    for _ in range(4):
        for wanted in world.tick().run_requests or []:
            world.finish(world.start(wanted), landed=False)
    [gap] = Ledger(world.warehouse).gaps("open")
    assert gap.detail.startswith("2 runs could not land it")


def test_a_lost_cursor_starts_from_the_ledger() -> None:
    world = World()
    world.bus.send(TOPIC, *[b"x"] * 5)
    [wanted] = world.tick().run_requests or []
    world.finish(world.start(wanted), landed=True)
    world.cursor = "not a cursor"
    world.bus.send(TOPIC, b"y")
    [wanted] = world.tick().run_requests or []
    assert spans(wanted) == [(0, 5, 6)]


def test_a_run_whose_worker_is_lost_holds_nothing_back() -> None:
    world = World(landing_stalled_seconds=0.0, landing_max_in_flight=1)
    world.bus.send(TOPIC, b"x")
    [wanted] = world.tick().run_requests or []
    world.start(wanted)
    [again] = world.tick().run_requests or []
    assert spans(again) == spans(wanted)


def test_events_may_wait_to_become_more() -> None:
    world = World(landing_max_age_seconds=60.0, landing_max_events=3)
    world.bus.send(TOPIC, b"x")
    assert not world.tick().run_requests
    world.bus.send(TOPIC, b"y", b"z")
    [wanted] = world.tick().run_requests or []
    assert spans(wanted) == [(0, 0, 3)]


@pytest.mark.parametrize("told", ["a new id", "an end before what was landed"])
def test_a_topic_made_anew_is_not_landed_until_a_person_says_so(told: str) -> None:
    world = World()
    world.bus.ids[TOPIC] = "first"
    world.bus.send(TOPIC, *[b"x"] * 5)
    [wanted] = world.tick().run_requests or []
    world.finish(world.start(wanted), landed=True)
    world.bus.logs = {(TOPIC, 0): FakeLog([b"y"] * (2 if "end" in told else 9)), (TOPIC, 1): FakeLog()}
    world.bus.ids[TOPIC] = "first" if "end" in told else "second"
    result = world.tick()
    assert not result.run_requests
    assert verdicts(result) == [False]
    [gap] = Ledger(world.warehouse).gaps("open")
    assert gap.kind == ("truncated" if "end" in told else "recreated")
    assert not world.tick().run_requests
    Ledger(world.warehouse).acknowledge(gap.gap_id, actor="ann", reason="made anew on purpose")
    [wanted] = world.tick().run_requests or []
    assert spans(wanted) == [(0, 0, 2 if "end" in told else 9)]
    assert "@1/" in str(wanted.run_key)
    assert world.warehouse.rows["ops.audit"][-1]["actor"] == "ann"


def test_aged_out_offsets_are_a_gap_and_the_rest_is_landed() -> None:
    world = World()
    world.bus.send(TOPIC, b"x")
    [wanted] = world.tick().run_requests or []
    world.finish(world.start(wanted), landed=True)
    world.bus.send(TOPIC, *[b"x"] * 9)
    world.bus.logs[TOPIC, 0].low = 4
    result = world.tick()
    [gap] = Ledger(world.warehouse).gaps("open")
    assert (gap.kind, gap.from_offset, gap.to_offset) == ("aged_out", 1, 4)
    assert verdicts(result) == [False]
    requested = [
        span for wanted in [*(result.run_requests or []), *(world.tick().run_requests or [])] for span in spans(wanted)
    ]
    assert requested
    assert all(first >= 4 for _, first, _ in requested)


def test_deleted_and_compacted_topics_are_told() -> None:
    world = World()
    world.bus.cleanup[TOPIC] = "compact"
    assert verdicts(world.tick()) == [False]
    world.bus.logs = {}
    world.tick()
    assert {gap.kind for gap in Ledger(world.warehouse).gaps("open")} == {"compacted", "deleted"}


def test_the_same_work_has_the_same_key_whatever_its_order() -> None:
    world = World()
    world.bus.send(TOPIC, b"a")
    [wanted] = world.tick().run_requests or []
    from resources.ledger import Range

    one, two = Range(TOPIC, 0, 0, 1), Range(TOPIC, 1, 0, 1)
    assert request([one, two]).run_key == request([two, one]).run_key
    assert request([one]).run_key == wanted.run_key != request([two]).run_key
    assert landing_job.name == "landing"
