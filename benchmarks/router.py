"""The router's latency and throughput: ``python benchmarks/router.py [--data PATH] [--quick] [--rounds N]``.

Shop traffic (or the events of the data set in ``--data``) goes through one router at a time, on one broker: Apache
Kafka, started here or given by ISTHMUS_TEST_KAFKA (``--embedded``: the embedded broker). Arms, in turn in each round:

- ``floor``: the bare passthrough, consume and produce with the same client and options and nothing between;
- ``router``: ours, the whole process as it is run; ``transactional``: the same in its transactional mode;
- ``quixstreams``, ``bytewax``, ``faust``: the same work (our own ``route()``) in the peers, environments of their own.

Latency is open loop: it counts from when an event was due at the producer to when a consumer of the domain topic has
it, so that it holds two hops over the broker, and a stall anywhere counts in full. Throughput is the time in which a
full ingress topic is routed, by one process and by two. The sustainable maximum is the highest rate of a ladder at
which 99 % of the events of a run come within a second. Load, broker and receiver run on the same cores as the arm.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.bus.arms import PEERS, Arm, arm, environment
from benchmarks.bus.load import Latency, Worker, receiver, sender, templates
from events.catalogue import DEAD_LETTER, DOMAIN_TOPICS, INGRESS
from resources.kafka import KafkaResource

RATES: tuple[int, ...] = (1_000, 5_000, 10_000, 20_000)
LADDER: tuple[int, ...] = (20_000, 25_000, 30_000, 35_000, 40_000, 50_000, 60_000)
ARMS = ("floor", "router", "transactional", "quixstreams", "bytewax", "faust")
#: faust-streaming cannot hold more than this: at higher rates its figure is how long it is behind.
FAUST_RATE = 1_000
WARM_UP = 1.5
KAFKA = "ISTHMUS_TEST_KAFKA"


@contextmanager
def broker(folder: Path, *, embedded: bool) -> Iterator[str]:
    """Run a broker until the block ends; yield its bootstrap servers."""
    if not embedded and (given := os.environ.get(KAFKA)):
        yield given
        return
    if embedded:
        from tests.conftest import free_port, running

        port = free_port()
        with running(
            "services.embedded.broker", "--path", str(folder / "data"), "--port", str(port), log=folder / "broker.log"
        ):
            yield f"127.0.0.1:{port}"
        return
    from tests.services.kafka import USUAL, KafkaServer

    server = KafkaServer.new(folder, USUAL)
    server.start()
    try:
        yield server.bootstrap
    finally:
        server.stop()


class Bus:
    """The topics of the run, the load and the receiver."""

    def __init__(self, bootstrap: str, data: str | None) -> None:
        from examples.datasets import open_folder
        from examples.shop import traffic

        self.bootstrap = bootstrap
        KafkaResource(bootstrap=bootstrap).ensure_topics()
        source = open_folder(data) if data else traffic(seed=1)
        self.sender = Worker(sender, bootstrap, templates(source, 50_000))
        self._receiver: Worker | None = None
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    @property
    def receiver(self) -> Worker:
        """The receiver, which runs only while latency is measured: it would take cores from a throughput run."""
        if self._receiver is None:
            self._receiver = Worker(receiver, self.bootstrap)
        return self._receiver

    def rest_receiver(self) -> None:
        """End the receiver until it is needed again."""
        if self._receiver is not None:
            self._receiver.stop()
            self._receiver = None

    def close(self) -> None:
        """End the load's processes."""
        self.sender.stop()
        self.rest_receiver()

    def at_the_end(self, contestant: Arm) -> None:
        """Let ``contestant`` begin with what comes next: its group's offsets are the ends of ingress."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": contestant.group})
        places = [TopicPartition(INGRESS, partition) for partition in self._partitions(INGRESS)]
        for place in places:
            place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
        deadline = time.monotonic() + 60
        while True:
            try:
                consumer.commit(offsets=places, asynchronous=False)
                break
            except KafkaException:
                # The group still counts the member that was killed.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        consumer.close()

    def empty_ingress(self) -> None:
        """Delete what stands in ingress."""
        places = [TopicPartition(topic, partition, end) for (topic, partition), end in self._ends([INGRESS]).items()]
        for future in self._admin.delete_records(places).values():
            future.result(30)

    def written(self) -> int:
        """Return how many records the domain and dead-letter topics hold."""
        return sum(self._ends([*DOMAIN_TOPICS, DEAD_LETTER]).values())

    def _partitions(self, topic: str) -> list[int]:
        return sorted(self._admin.list_topics(topic, timeout=10).topics[topic].partitions)

    def _ends(self, topics: list[str]) -> dict[tuple[str, int], int]:
        kafka = KafkaResource(bootstrap=self.bootstrap)
        return {place: high for place, (_, high) in kafka.watermarks_of(kafka.topics(topics).values()).items()}

    def begin(self, contestant: Arm, patience: float = 60.0) -> None:
        """Return when ``contestant``, which was just started, passes events on."""
        deadline = time.monotonic() + patience
        self.receiver.ask("window", 0, 0, 0, 0.1)
        while not self.receiver.ask("count"):
            if time.monotonic() > deadline:
                raise SystemExit(f"{contestant.name} routes nothing")
            self.sender.ask("send", 200, 0.2)
        self.run(1_000, 1.0)

    def run(self, rate: int, seconds: float, *, patience: float = 20.0) -> Latency:
        """Return the latencies of ``seconds`` at ``rate``, after a warm-up at the same rate."""
        self.sender.ask("send", rate, WARM_UP)
        first, last = self.sender.ask("send", rate, seconds)
        count = int(rate * seconds)
        return Latency.of(self.receiver.ask("window", first, last, count, patience), count)


def warm(bus: Bus, seconds: float, progress: Progress) -> None:
    """Let the broker compile what it needs: in its first half minute it is busy with that, whatever arm runs."""
    task = progress.add_task("warming the broker", total=2)
    for name in ("floor", "router"):
        contestant = arm(name)
        bus.at_the_end(contestant)
        with contestant.running(bus.bootstrap):
            bus.begin(contestant)
            bus.run(RATES[2], seconds)
        progress.advance(task)
    progress.remove_task(task)


def latencies(
    bus: Bus, names: list[str], rates: tuple[int, ...], *, rounds: int, seconds: float, progress: Progress
) -> dict[tuple[str, int], list[Latency]]:
    """Return each arm's latencies at each rate, a list over rounds; print them as they come, for a run takes long."""
    found: dict[tuple[str, int], list[Latency]] = defaultdict(list)
    say = progress.console.print
    task = progress.add_task("latency", total=rounds * len(names))
    for number in range(rounds):
        # Each round in another order, so that no arm always follows the same one.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            contestant = arm(name)
            bus.at_the_end(contestant)
            with contestant.running(bus.bootstrap):
                bus.begin(contestant)
                for rate in rates:
                    if name != "faust" or rate <= FAUST_RATE:
                        one = bus.run(rate, seconds)
                        found[name, rate].append(one)
                        figures = f"{one.p50:.1f} / {one.p95:.1f} / {one.p99:.1f} ms"
                        say(f"round {number + 1}, {name} at {rate:,}/s: {figures}")
            progress.advance(task)
    return found


def drained(bus: Bus, contestant: Arm, events: int, processes: int) -> float:
    """Return events per second in which a full ingress is routed, without the first quarter (start, joining)."""
    bus.empty_ingress()
    bus.at_the_end(contestant)
    bus.sender.ask("fill", events)
    before = bus.written()
    with contestant.running(bus.bootstrap, processes=processes, from_start=True):
        marks: list[tuple[float, int]] = []
        deadline = time.monotonic() + 180
        while not marks or marks[-1][1] < events:
            marks.append((time.monotonic(), bus.written() - before))
            if time.monotonic() > deadline:
                return 0.0
            time.sleep(0.1)
    begun = next(at for at, mark in enumerate(marks) if mark[1] >= events / 4)
    (t0, n0), (t1, n1) = marks[begun], marks[-1]
    return (n1 - n0) / max(t1 - t0, 1e-9)


def throughput(
    bus: Bus, names: list[str], rounds: int, events: int, progress: Progress
) -> dict[tuple[str, int], list[float]]:
    """Return each arm's throughput on one and on two processes, a list over rounds."""
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    task = progress.add_task("throughput", total=rounds * len(names) * 2)
    for _ in range(rounds):
        for processes in (1, 2):
            for name in names:
                speed = drained(bus, arm(name), events * processes, processes)
                found[name, processes].append(speed)
                progress.console.print(f"{name} in {processes} process(es): {speed:,.0f} events/s")
                progress.advance(task)
    return found


def sustainable(bus: Bus, name: str, ladder: tuple[int, ...], seconds: float, progress: Progress) -> int:
    """Return the highest rate of ``ladder`` at which 99 % of the events came within a second; 0 for none."""
    contestant, best = arm(name), 0
    bus.at_the_end(contestant)
    with contestant.running(bus.bootstrap):
        bus.begin(contestant)
        for rate in ladder:
            if bus.run(rate, seconds).p99 > 1000:
                break
            best = rate
    progress.console.print(f"{name} sustains {best:,}/s")
    return best


def main() -> None:
    """Run the arms; print tables and, last, one line of JSON."""
    parser = argparse.ArgumentParser(description="The router's latency and throughput, beside floor and peers.")
    parser.add_argument("--data", help="folder of a data set, instead of shop traffic")
    parser.add_argument("--rounds", "--seeds", type=int, default=5, help="interleaved runs of each arm")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one latency run")
    parser.add_argument("--events", type=int, default=300_000, help="events of one throughput run, for each process")
    parser.add_argument("--arms", default=",".join(ARMS), help="which arms, with commas")
    parser.add_argument("--embedded", action="store_true", help="on the embedded broker instead of Apache Kafka")
    parser.add_argument("--quick", action="store_true", help="one round of the arms that decide, within a minute")
    options = parser.parse_args()
    names, rates, ladder = options.arms.split(","), RATES, LADDER
    rounds, seconds, events = options.rounds, options.seconds, options.events
    if options.quick:
        names, rounds, seconds, events = ["floor", "router", "bytewax"], 1, 2.0, 60_000
        rates, ladder = RATES[1:3], ()
    for name in names:
        if name in PEERS:
            environment(name)

    console = Console(stderr=not sys.stdout.isatty())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isthmus-bus-")))
        bus = Bus(stack.enter_context(broker(folder, embedded=options.embedded)), options.data)
        stack.callback(bus.close)
        progress = stack.enter_context(Progress(console=console, transient=True))
        warm(bus, 5.0 if options.quick else 15.0, progress)
        delays = latencies(bus, names, rates, rounds=rounds, seconds=seconds, progress=progress)
        steady = {
            name: sustainable(bus, name, ladder, seconds, progress) for name in names if ladder and name != "faust"
        }
        bus.rest_receiver()
        rapid = throughput(bus, [name for name in names if name != "faust"], min(rounds, 3), events, progress)
    report(delays, steady, rapid, "the embedded broker" if options.embedded else "Apache Kafka")


def report(
    delays: dict[tuple[str, int], list[Latency]],
    steady: dict[str, int],
    rapid: dict[tuple[str, int], list[float]],
    where: str,
) -> None:
    """Print the tables, and last the line of figures."""
    console = Console()
    p50, p95, p99 = (
        {run: statistics.median(getattr(one, of) for one in found) for run, found in delays.items()}
        for of in ("p50", "p95", "p99")
    )
    rates = sorted({rate for _, rate in delays})
    names = list(dict.fromkeys(name for name, _ in delays))
    rounds = max(map(len, delays.values()))
    grid = Table(
        title=f"From due at the producer to received, ms, on {where}: p50 / p95 / p99, medians of {rounds} runs"
    )
    grid.add_column("arm")
    for rate in rates:
        grid.add_column(f"{rate:,}/s", justify="right")
    for name in names:
        cells = (
            f"{p50[name, rate]:.1f} / {p95[name, rate]:.1f} / {p99[name, rate]:.1f}" if (name, rate) in p50 else "–"
            for rate in rates
        )
        grid.add_row(name, *cells)
    console.print(grid)

    grid = Table(title="Events per second")
    for column in ("arm", "one process", "two processes", "sustained with load and receiver beside it"):
        grid.add_column(column, justify="left" if column == "arm" else "right")
    for name in dict.fromkeys(name for name, _ in rapid):
        spans = (
            f"{statistics.median(rapid[name, n]):,.0f} ({min(rapid[name, n]):,.0f}–{max(rapid[name, n]):,.0f})"
            for n in (1, 2)
        )
        grid.add_row(name, *spans, f"{steady[name]:,}" if name in steady else "–")
    console.print(grid)

    line: dict[str, object] = {"benchmark": "router", "broker": where, "rounds": rounds}
    if ("router", 5_000) in p50:
        line |= {f"{of}_ms": round(at["router", 5_000], 2) for of, at in (("p50", p50), ("p95", p95), ("p99", p99))}
    if ("floor", 5_000) in p99:
        line["p99_ratio_to_floor"] = round(p99["router", 5_000] / p99["floor", 5_000], 3)
    peers = [name for name in names if name in PEERS]
    if rivals := [p95[name, 10_000] for name in peers if (name, 10_000) in p95]:
        line["p95_ratio_to_best_peer"] = round(p95["router", 10_000] / min(rivals), 3)
    line["max_events_per_s"] = steady.get("router") or round(statistics.median(rapid["router", 1]))
    for processes, key in ((1, "throughput_ratio_to_best_peer"), (2, "throughput_ratio_to_best_peer_two_processes")):
        if rivals := [statistics.median(rapid[name, processes]) for name in peers if (name, processes) in rapid]:
            line[key] = round(statistics.median(rapid["router", processes]) / max(rivals), 3)
    line["lost"] = sum(one.lost for (name, _), found in delays.items() for one in found if name == "router")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
