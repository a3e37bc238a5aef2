"""Apache Kafka in KRaft mode, one node that is broker and controller, tuned for a small machine.

A test that wants to kill it attaches to the running one by its control file::

    kafka = KafkaServer.attached()   # None where Kafka was given by address: then it is not ours to kill
    kafka.kill()                     # SIGKILL
    kafka.start()                    # same folder, same port; returns when it answers
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from tests.services.install import java, kafka_jars, run
from tests.services.process import alive, answers, end, free_port, spawn, wait_for

CONTROL = "ISTHMUS_TEST_KAFKA_CONTROL"
HERE = Path(__file__).parent

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
# One node.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
# Few cores, little memory.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
# Tests should not wait for what a busy cluster does rarely.
group.initial.rebalance.delay.ms=0
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=500
log.segment.delete.delay.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""

SMALL = ("-Xmx768m", "-Xms256m", "-XX:+UseSerialGC")
#: As Kafka's own start script has it: what a latency is measured on must not stop for long to collect garbage.
USUAL = (
    *("-Xmx1g", "-Xms1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
    "-XX:InitiatingHeapOccupancyPercent=35",
)


@dataclass
class KafkaServer:
    """One Kafka; its state is in the control file, so that every process that attaches sees the current one."""

    folder: str
    port: int
    command: list[str]
    pid: int = 0

    @classmethod
    def new(cls, folder: Path, memory: tuple[str, ...] = SMALL) -> Self:
        """Prepare a server with its data in ``folder``; it does not run yet."""
        port, controller = free_port(), free_port()
        properties = folder / "server.properties"
        properties.write_text(PROPERTIES.format(port=port, controller=controller, folder=folder))
        base = [java(), "-cp", f"{HERE}:{kafka_jars()}/*", *memory]
        # Never with a minus first, which the tool would take for an option.
        cluster = base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")
        tool = [*base, "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format", "-t", cluster]
        run([*tool, "-c", str(properties)])
        logging = f"-Dlog4j2.configurationFile={HERE}/log4j2.properties"
        return cls(str(folder), port, [*base, logging, "kafka.Kafka", str(properties)])

    @classmethod
    def attached(cls) -> Self | None:
        """Return the server that the harness started around this process, None where there is none to control."""
        control = os.environ.get(CONTROL)
        return cls(**json.loads(Path(control).read_text())) if control else None

    @property
    def bootstrap(self) -> str:
        """Address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def control(self) -> Path:
        """The control file."""
        return Path(self.folder) / "control.json"

    @property
    def log(self) -> Path:
        """What the server says, warnings and errors."""
        return Path(self.folder) / "kafka.log"

    def start(self) -> None:
        """Start and wait until it serves clients."""
        self.pid = spawn(self.command, log=self.log)
        draft = self.control.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(self.control)
        wait_for(self._serves, self.pid, what="Apache Kafka", log=self.log)

    def _serves(self) -> bool:
        if not answers(self.port):
            return False
        # The port opens before the node is registered: the first clients would be told that there are no brokers.
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        end(self._current(), signal.SIGKILL)

    def stop(self) -> None:
        """Stop in order."""
        end(self._current(), signal.SIGTERM, patience=30)

    def running(self) -> bool:
        """Whether the process lives."""
        return alive(self._current())

    def _current(self) -> int:
        # Another process may have started it anew meanwhile.
        if self.control.exists():
            self.pid = json.loads(self.control.read_text())["pid"]
        return self.pid
