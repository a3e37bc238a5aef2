"""The burst sensor: sees a burst of failed saga events within seconds and requests its analysis, then a policy.

What belongs here: the tick (the long poll, the bounded look at new records, the run requests) and its cursor. What does
not: the test (``ml.bursts.detector``), the analysis (``assets.incidents``), the policy (``assets.decisions``).

A tick reads the newest records only, at most so many, whatever the backlog: a burst is seen in a sample as well. It
reads the topic itself and waits for no landing. The policy's build reads the warehouse, so it is requested once the
burst's first events have landed, or after half a minute.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import dagster as dg

from jobs.incidents import policy_after_burst_job, saga_burst_job
from ml.bursts.detector import counted
from ml.bursts.told import Told, told
from resources.errors import RangeGone
from resources.kafka import Bus, KafkaResource
from resources.ledger import Ledger
from resources.ranges import Span
from resources.settings import Settings, get_settings
from resources.warehouse import Warehouse, WarehouseResource
from sensors.bursts.cursor import Awaited, Cursor, Offsets

TOPIC = "isthmus.sagas"
TAG = "isthmus/burst"
#: Seconds between two looks at the topic; each is evidence of its own.
LOOK = 0.5
#: Records that a look reads at most, over all partitions; the first one learns what is usual from more.
MOST_RECORDS, FIRST_RECORDS = 2_000, 10_000
#: Events older than this, seconds, are a replay or a backlog: they teach what is usual and raise no alarm.
LIVE_SECONDS = 900.0
#: Evidence below which nothing is going on: a burst is taken to begin after the last such look.
_NOTHING = 2.0
#: Evidence from which a burst goes on: by chance once in so many looks.
_GOES_ON = 10_000.0
#: Seconds after which the policy is built on what has landed by then, and after which a burst is told anew.
LANDING_WAIT, LONGEST_BURST = 30.0, 3600.0


class Tick:
    """One evaluation of the sensor, with what it reads and the clock it goes by."""

    def __init__(
        self,
        cursor: Cursor,
        *,
        bus: Bus,
        warehouse: Warehouse,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cursor = cursor
        self._bus, self._ledger = bus, Ledger(warehouse)
        self._settings, self._clock, self._sleep = settings, clock, sleep
        #: The bound of the evidence: on average one false alarm in so many looks.
        self._bound = settings.burst_false_alarm_days * 86_400 / LOOK

    def run(self) -> list[dg.RunRequest]:
        """Return the runs to request, as soon as there are some; none when the tick's time is over."""
        until = self._clock() + self._settings.burst_poll_seconds
        while True:
            requests = [*self._look(), *self._policy()]
            if requests or self._clock() >= until:
                return requests
            self._sleep(min(LOOK, max(0.0, until - self._clock())))

    def _look(self) -> Iterator[dg.RunRequest]:
        """Look at what is new; yield the analysis where that makes a burst certain enough."""
        cursor, before = self.cursor, dict(self.cursor.next)
        endings = self._new()
        now = self._clock()
        live = [one for one in endings if one.us / 1e6 > now - LIVE_SECONDS]
        if len(live) < len(endings):
            for hour, part in _by_hour([one for one in endings if one.us / 1e6 <= now - LIVE_SECONDS]):
                cursor.detector.usual.learn(hour, *counted(part))
        if not live:
            return
        hour = datetime.fromtimestamp(now, UTC).hour
        bad, heard = counted(live)
        if cursor.quiet_at:
            self._within_a_burst(hour, bad, heard, now)
            return
        if cursor.detector.evidence < _NOTHING or not cursor.start:
            cursor.start = before
        if cursor.detector.look(hour, bad, heard) < self._bound:
            return
        burst_id, ranges = self._identity()
        cursor.detector.evidence, cursor.since = 0.0, now
        cursor.quiet_at = now + self._settings.burst_quiet_seconds
        cursor.awaited = Awaited(burst_id, dict(cursor.next), now)
        yield dg.RunRequest(
            run_key=burst_id,
            job_name=saga_burst_job.name,
            run_config={"ops": {"ops__saga_bursts": {"config": {"burst_id": burst_id, "ranges": ranges}}}},
            tags={TAG: burst_id, "isthmus/reason": f"failure burst: {bad} of {heard} sagas in the last look"},
        )

    def _within_a_burst(self, hour: int, bad: int, heard: int, now: float) -> None:
        """A burst that goes on is the same burst, for an hour at most; that it does has a test of its own.

        It ends by a look that finds it over, never by a time in which nobody looked.
        """
        cursor, detector = self.cursor, self.cursor.detector
        cursor.start = {}
        if detector.look(hour, bad, heard) >= _GOES_ON:
            detector.evidence = 0.0
            upto = cursor.since + LONGEST_BURST
            cursor.quiet_at = max(cursor.quiet_at, min(now + self._settings.burst_quiet_seconds, upto))
        if now >= cursor.quiet_at:
            cursor.quiet_at = 0.0

    def _identity(self) -> tuple[str, list[dict[str, int]]]:
        """Return what the burst is known by, which is where it begins, and its ranges."""
        start = {partition: self.cursor.start.get(partition, 0) for partition in self.cursor.next}
        text = ",".join(f"{partition}@{offset}" for partition, offset in sorted(start.items()))
        ranges = [
            {"partition": partition, "from_offset": start[partition], "to_offset": end}
            for partition, end in sorted(self.cursor.next.items())
        ]
        return f"saga_burst/{TOPIC}/{hashlib.sha256(text.encode()).hexdigest()[:16]}", ranges

    def _new(self) -> list[Told]:
        """Return the endings among the newest records, and move on past all that is there."""
        marks = self._bus.watermarks_of(self._bus.topics([TOPIC]).values())
        first = not self.cursor.next
        most = (FIRST_RECORDS if first else MOST_RECORDS) // max(1, len(marks))
        spans, following = [], Offsets()
        for (_, partition), (low, high) in sorted(marks.items()):
            seen = self.cursor.next.get(partition, 0)
            # A topic that was made anew ends before where we were.
            begin = max(low, high - most, seen if seen <= high else low)
            following[partition] = high
            if begin < high:
                spans.append(Span(TOPIC, partition, begin, high))
        self.cursor.next = following
        try:
            return told(value for _, records in self._bus.read_ranges(spans) for value in records.values)
        except RangeGone:
            return []  # deleted or aged out between the two requests: what comes next is looked at

    def _policy(self) -> Iterator[dg.RunRequest]:
        """Yield the build that ends in a policy, once what the burst began with has landed."""
        awaited = self.cursor.awaited
        if awaited is None:
            return
        waited = self._clock() - awaited.at
        landed = self._landed(awaited.upto)
        if not landed and waited < LANDING_WAIT:
            return
        self.cursor.awaited = None
        why = "its events have landed" if landed else f"its events have not landed within {LANDING_WAIT:.0f} s"
        yield dg.RunRequest(
            run_key=f"{awaited.burst_id}/policy",
            job_name=policy_after_burst_job.name,
            tags={TAG: awaited.burst_id, "isthmus/reason": f"failure burst; {why}"},
        )

    def _landed(self, upto: Offsets) -> bool:
        from resources.errors import ResourceError

        try:
            islands = self._ledger.landed()
        except ResourceError:
            return False  # the build will say so itself
        reached: dict[int, tuple[int, int]] = {}
        for (topic, partition, generation), intervals in islands.items():
            if topic == TOPIC:
                end = max((last for _, last in intervals), default=0)
                reached[partition] = max(reached.get(partition, (0, 0)), (generation, end))
        return all(reached.get(partition, (0, 0))[1] >= end for partition, end in upto.items() if end)


def _by_hour(endings: list[Told]) -> Iterator[tuple[int, list[Told]]]:
    hours: dict[int, list[Told]] = {}
    for one in endings:
        hours.setdefault(one.us // 3_600_000_000 % 24, []).append(one)
    yield from hours.items()


def evaluate(
    context: dg.SensorEvaluationContext,
    bus: Bus,
    warehouse: Warehouse,
    *,
    settings: Settings | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> dg.SensorResult:
    """Evaluate the sensor once; what the bus raises is the tick's failure, and the next tick's work."""
    tick = Tick(
        Cursor.read(context.cursor),
        bus=bus,
        warehouse=warehouse,
        settings=settings or get_settings(),
        clock=clock,
        sleep=sleep,
    )
    requests = tick.run()
    return dg.SensorResult(run_requests=requests, cursor=tick.cursor.write())


@dg.sensor(
    name="burst_sensor",
    jobs=[saga_burst_job, policy_after_burst_job],
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sees a burst of failed saga events on the bus within seconds; requests its analysis and a new policy.",
)
def burst_sensor(
    context: dg.SensorEvaluationContext, warehouse: WarehouseResource, kafka: KafkaResource
) -> dg.SensorResult:
    """Look at the newest saga events, and request what a burst asks for."""
    quick = KafkaResource(bootstrap=kafka.bootstrap, attempts=2, timeout=5.0)
    return evaluate(context, quick, WarehouseResource(url=warehouse.url, attempts=1, timeout=5.0))
