"""The landing sensor: sees events when they come and requests runs of exact ranges.

What belongs here: the tick (what is under way, the long poll, the run requests) and its cursor (``cursor.py``). What
does not: what is missing or broken, which ``assets.landing.planning`` computes from both sides.

A tick never reads an event. The cursor only says what was requested; what was landed is the ledger's to say, so a run
that failed, was killed or was never started shows as a hole below the cursor and is requested again.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from assets.landing import NOT_NOW, RAW_EVENTS, checks, result
from assets.landing.planning import State, Survey, assess, cut, front, survey, unlanded
from events.catalogue import DOMAIN_TOPICS
from jobs.landing import landing_job
from resources.kafka import Bus, KafkaResource
from resources.ledger import Gap, Ledger, Partition, Range
from resources.settings import Settings, get_settings
from resources.warehouse import Warehouse, WarehouseResource
from sensors.landing.cursor import Cursor, key

#: Runs that land ranges carry this tag, whoever requested them.
TAG = "isthmus/landing"
#: A run that lands what had come back missing carries its key.
MISSING = "isthmus/missing"
#: Seconds between two looks at the watermarks: one request to a warm broker connection, about 1 ms.
LOOK = 0.03
#: Seconds between two looks at the runs while no more may be requested.
LOOK_AT_RUNS = 0.3
#: Seconds after which a waiting tick looks at the runs, the topics and the ledger again.
REFRESH = 2.0

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Landing runs that have not finished, and the ranges in their configuration."""

    runs: int
    ranges: tuple[Range, ...]


def under_way(instance: dg.DagsterInstance, *, stalled_seconds: float, now: float) -> UnderWay:
    """Return the unfinished landing runs; one that is older than ``stalled_seconds`` has lost its worker.

    Such a run no longer holds its ranges back: landing them twice is harmless, waiting for ever is not.
    """
    records = instance.get_run_records(dg.RunsFilter(tags={TAG: "ranges"}, statuses=_UNFINISHED))
    alive = [one for one in records if now - one.create_timestamp.timestamp() < stalled_seconds]
    configs: list[dict[str, Any]] = [dict(one.dagster_run.run_config) for one in alive]
    ranges = [
        Range(**span)
        for config in configs
        for op in config.get("ops", {}).values()
        for span in op.get("config", {}).get("ranges", ())
    ]
    return UnderWay(len(alive), tuple(ranges))


def excused(instance: dg.DagsterInstance, missing: Range) -> bool:
    """Return whether the last run of a missing range failed because a service could not take it then.

    A full disk or a broker that is away says nothing about the range; it is tried for as long as that lasts.
    """
    records = instance.get_run_records(dg.RunsFilter(tags={MISSING: key(missing)}), limit=1)
    return bool(records) and NOT_NOW in records[0].dagster_run.tags


def request(ranges: Sequence[Range], *, attempt: int = 0) -> dg.RunRequest:
    """Return the request of one run that lands ``ranges``; its key is the identity of this work, for ever."""
    ids = sorted(one.landing_id for one in ranges)
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
    run_key = f"{ids[0]}+{len(ids) - 1}:{digest}" + (f"#{attempt}" if attempt else "")
    spans = [
        {
            "topic": one.topic,
            "partition": one.partition,
            "from_offset": one.from_offset,
            "to_offset": one.to_offset,
            "generation": one.generation,
        }
        for one in ranges
    ]
    return dg.RunRequest(
        run_key=run_key,
        run_config={"ops": {"raw__events": {"config": {"ranges": spans}}}},
        tags={
            TAG: "ranges",
            "isthmus/topics": ",".join(sorted({one.topic for one in ranges})),
            "isthmus/offsets": str(sum(one.width for one in ranges)),
            "isthmus/attempt": str(attempt),
            # The sensor itself requests again what was not landed, by what the ledger lacks.
            "dagster/max_retries": "0",
            **({MISSING: key(ranges[0])} if attempt else {}),
        },
    )


class Tick:
    """One evaluation of the sensor, with what it reads and the clock it goes by."""

    def __init__(
        self,
        cursor: Cursor,
        *,
        bus: Bus,
        warehouse: Warehouse,
        running: Callable[[float], UnderWay],
        excused: Callable[[Range], bool],
        settings: Settings,
        topics: Sequence[str] = DOMAIN_TOPICS,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cursor = cursor
        self.events: list[dg.AssetCheckEvaluation] = []
        self._bus, self._ledger = bus, Ledger(warehouse)
        self._running, self._excused = running, excused
        self._settings, self._topics = settings, topics
        self._clock, self._sleep = clock, sleep

    def run(self) -> list[dg.RunRequest]:
        """Return the runs to request, as soon as there are some; none when the tick's time is over."""
        until = self._clock() + self._settings.landing_poll_seconds
        while True:
            requests, now, state, busy = self._look()
            if requests or self.events or not self._wait(now, state, busy, until):
                return requests

    def _look(self) -> tuple[list[dg.RunRequest], Survey, State, UnderWay]:
        """Look at everything once: runs first, then the bus, then the ledger.

        In that order a run that ends meanwhile shows as under way or as landed, never as missing.
        """
        busy = self._running(self._clock())
        now = survey(self._topics, self._bus, self._ledger)
        known = {at: offset for at, (generation, offset) in self.cursor.next.items() if _newest(now, at) == generation}
        state = assess(now, known, busy.ranges)
        self._ledger.see(state.new)
        requests: list[dg.RunRequest] = []
        room = self._settings.landing_max_in_flight - busy.runs
        upto = self._upto(now, state, busy)
        holes = unlanded(now, state, upto, busy.ranges)
        requests += self._again(holes, busy, state, room)
        fresh = self._fresh(now, state, busy, upto)
        limit = self._settings.landing_max_events
        for group in cut(fresh, limit)[: max(0, room - len(requests))]:
            self.cursor.advance(group)
            requests.append(request(group))
        for at, end in upto.items():
            self.cursor.next.setdefault(at, (state.current[at].generation, end))
            if self.cursor.next[at][0] != state.current[at].generation:
                self.cursor.next[at] = (state.current[at].generation, end)
        self._tell(now, state, holes)
        return requests, now, state, busy

    def _upto(self, now: Survey, state: State, busy: UnderWay) -> dict[Partition, int]:
        """Return the end of what was landed or requested of each partition, by ledger, cursor and runs."""
        requested = self.cursor.requested(state.current)
        ends = {at: max(end, requested.get(at, 0)) for at, end in front(now, state).items()}
        for one in busy.ranges:
            at = (one.topic, one.partition)
            if at in ends and one.generation == state.current[at].generation:
                ends[at] = max(ends[at], one.to_offset)
        return ends

    def _again(self, holes: Sequence[Range], busy: UnderWay, state: State, room: int) -> list[dg.RunRequest]:
        """Request what came back missing, each range by itself so that one bad range holds up no other."""
        self.cursor.keep([*holes, *busy.ranges])
        now = self._clock()
        requests: list[dg.RunRequest] = []
        for hole in [part for group in cut(holes, self._settings.landing_max_events) for part in group]:
            if not self.cursor.due(hole, now):
                continue
            excused = self._excused(hole)
            vain = self.cursor.in_vain(hole, excused=excused)
            if vain >= self._settings.landing_attempts:
                detail = f"{vain} runs could not land it; the last one's log has the reason"
                state.gaps.append(
                    Gap(
                        "unlandable",
                        hole.topic,
                        hole.partition,
                        hole.generation,
                        hole.from_offset,
                        hole.to_offset,
                        detail,
                    )
                )
            elif len(requests) < room:
                count = self.cursor.try_again(hole, now, excused=excused)
                # The second names the request: a run key is taken once for ever, and a person may have it tried anew.
                requests.append(request([hole], attempt=int(now) * 100 + count % 100))
        return requests

    def _fresh(self, now: Survey, state: State, busy: UnderWay, upto: dict[Partition, int]) -> list[Range]:
        """Return what has come since the last request, once it is enough by number or by age."""
        ends = {at: high for at, (_, high) in now.marks.items()}
        ranges = [
            replace(one, from_offset=max(one.from_offset, upto[one.topic, one.partition]))
            for one in unlanded(now, state, ends, busy.ranges)
            if one.to_offset > upto[one.topic, one.partition]
        ]
        at = self._clock()
        if not ranges:
            self.cursor.waiting_since = 0.0
            return []
        self.cursor.waiting_since = self.cursor.waiting_since or at
        enough = sum(one.width for one in ranges) >= self._settings.landing_max_events
        if not enough and at - self.cursor.waiting_since < self._settings.landing_max_age_seconds:
            return []
        self.cursor.waiting_since = 0.0
        return ranges

    def _tell(self, now: Survey, state: State, holes: Sequence[Range]) -> None:
        """Record new gaps, and tell the contiguity check where what a person must resolve has changed.

        A landing run tells it too; but where a topic is gone no run comes any more.
        """
        self._ledger.open_gaps(state.gaps)
        known = {gap.gap_id for gap in now.gaps if gap.state != "retried"}
        gaps = [gap for gap in now.gaps if gap.state == "open"]
        gaps += [gap for gap in state.gaps if gap.gap_id not in known]
        told = ",".join(sorted(gap.gap_id for gap in gaps))
        if told != self.cursor.told:
            self.cursor.told = told
            lost = [] if gaps else [hole for hole in holes if self.cursor.tried(hole)]
            verdict = result("contiguity", checks.unbroken(gaps, lost))
            self.events.append(
                dg.AssetCheckEvaluation(
                    asset_key=RAW_EVENTS,
                    check_name="contiguity",
                    passed=verdict.passed,
                    metadata=verdict.metadata,
                    severity=verdict.severity,
                    description=verdict.description,
                )
            )

    def _wait(self, now: Survey, state: State, busy: UnderWay, until: float) -> bool:
        """Wait until there may be something to request; return False when the tick's time is over."""
        refresh = min(until, self._clock() + REFRESH)
        full = busy.runs >= self._settings.landing_max_in_flight
        while self._clock() < refresh:
            self._sleep(min(LOOK_AT_RUNS if full else LOOK, max(0.0, refresh - self._clock())))
            if full:
                # Nothing may be requested before a run ends, so only the runs are looked at.
                if self._running(self._clock()).runs < busy.runs:
                    return True
            elif not self.cursor.waiting_since:
                marks = self._bus.watermarks_of(now.topics.values())
                if any(marks.get(at, (0, 0))[1] != now.marks[at][1] for at in state.current):
                    return True
            elif self._clock() - self.cursor.waiting_since >= self._settings.landing_max_age_seconds:
                return True
        return self._clock() < until


def _newest(now: Survey, at: Partition) -> int:
    seen = now.seen.get(at)
    return seen.generation if seen else 0


def evaluate(
    context: dg.SensorEvaluationContext, bus: Bus, warehouse: Warehouse, *, settings: Settings | None = None
) -> dg.SensorResult:
    """Evaluate the sensor once; what the bus or the warehouse raise is the tick's failure, and the next tick's work."""
    options = settings or get_settings()
    tick = Tick(
        Cursor.read(context.cursor),
        bus=bus,
        warehouse=warehouse,
        running=lambda now: under_way(context.instance, stalled_seconds=options.landing_stalled_seconds, now=now),
        excused=lambda missing: excused(context.instance, missing),
        settings=options,
    )
    requests = tick.run()
    return dg.SensorResult(run_requests=requests, asset_events=tick.events, cursor=tick.cursor.write())


@dg.sensor(
    job=landing_job,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests a landing run of exact offset ranges when events have come; waits for them inside the tick.",
)
def landing_sensor(
    context: dg.SensorEvaluationContext, warehouse: WarehouseResource, kafka: KafkaResource
) -> dg.SensorResult:
    """Look at the bus and the ledger, and request what is to be landed."""
    # A tick has a minute in all: what does not answer at once is the next tick's.
    quick = KafkaResource(bootstrap=kafka.bootstrap, attempts=2, timeout=5.0)
    return evaluate(context, quick, WarehouseResource(url=warehouse.url, attempts=3, timeout=20.0))
