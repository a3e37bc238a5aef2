"""Topics: names, ids, partitions, settings, and the file that remembers them (``topics.json``).

What belongs here: which topics exist and where their logs are. What does not: what is in a log (``log``).
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.embedded.broker.configs import TopicConfig
from services.embedded.broker.errors import BrokerError, Code, StartError
from services.embedded.broker.journal import replace_file
from services.embedded.broker.log import Clock, Log
from services.embedded.broker.room import Room

LEGAL = re.compile(r"[a-zA-Z0-9._-]{1,249}")
MOST_PARTITIONS = 1000  # of one topic: each is a folder and an open file


@dataclass
class Topic:
    """A topic; ``id`` is its 16-byte identity, new when a name is created again."""

    name: str
    id: bytes
    config: TopicConfig
    logs: list[Log]


class Topics:
    """All topics of a data folder."""

    def __init__(self, folder: Path, clock: Clock, room: Room) -> None:
        self._file = folder / "topics.json"
        self._folder = folder / "topics"
        self._clock, self._room = clock, room
        self.cluster_id = secrets.token_urlsafe(16)
        self.all: dict[str, Topic] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob(".deleted-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if not self._file.exists():
            self._save()
            return
        try:
            state = json.loads(self._file.read_text())
            self.cluster_id = state["cluster_id"]
            entries = [(name, bytes.fromhex(one["id"]), one) for name, one in state["topics"].items()]
        except (ValueError, KeyError, TypeError) as problem:
            raise StartError(
                f"{self._file} is damaged ({problem}); restore it or start with an empty folder"
            ) from problem
        for name, topic_id, entry in entries:
            config = TopicConfig(entry["config"])
            logs = [self._log(name, index, config) for index in range(entry["partitions"])]
            self.all[name] = Topic(name, topic_id, config, logs)

    def _log(self, name: str, index: int, config: TopicConfig) -> Log:
        return Log(self._folder / name / str(index), config, self._clock, self._room)

    def _save(self) -> None:
        topics = {
            topic.name: {"id": topic.id.hex(), "partitions": len(topic.logs), "config": topic.config.own}
            for topic in self.all.values()
        }
        try:
            replace_file(self._file, json.dumps({"cluster_id": self.cluster_id, "topics": topics}, indent=1))
        except OSError as problem:
            raise BrokerError(Code.KAFKA_STORAGE_ERROR, str(problem)) from problem

    def log(self, name: str, index: int) -> Log | None:
        """Return a partition's log, None where there is no such partition."""
        topic = self.all.get(name)
        return topic.logs[index] if topic is not None and 0 <= index < len(topic.logs) else None

    def logs(self) -> Iterator[Log]:
        """Iterate over all partitions' logs."""
        for topic in list(self.all.values()):
            yield from topic.logs

    def create(self, name: str, partitions: int, settings: Mapping[str, str], *, dry: bool = False) -> None:
        """Create a topic; ``dry`` only checks. Raises :class:`BrokerError`."""
        if not LEGAL.fullmatch(name) or name in (".", ".."):
            raise BrokerError(Code.INVALID_TOPIC_EXCEPTION, "a name has 1 to 249 letters, digits, dots, _ and -")
        if name in self.all:
            raise BrokerError(Code.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        if not 1 <= partitions <= MOST_PARTITIONS:
            raise BrokerError(Code.INVALID_PARTITIONS, f"a topic has 1 to {MOST_PARTITIONS} partitions here")
        config = TopicConfig(settings)
        if dry:
            return
        # A folder without an entry is a creation that was never acknowledged: nothing of it counts.
        shutil.rmtree(self._folder / name, ignore_errors=True)
        logs: list[Log] = []
        self._extend(name, config, logs, partitions)
        self.all[name] = Topic(name, secrets.token_bytes(16), config, logs)
        try:
            self._save()
        except BrokerError:
            self._discard(self.all.pop(name))
            raise

    def _extend(self, name: str, config: TopicConfig, logs: list[Log], count: int) -> None:
        try:
            logs.extend(self._log(name, index, config) for index in range(len(logs), count))
        except OSError as problem:
            raise BrokerError(Code.KAFKA_STORAGE_ERROR, str(problem)) from problem

    def add_partitions(self, name: str, count: int, *, dry: bool = False) -> None:
        """Give a topic ``count`` partitions in all; raises :class:`BrokerError`."""
        topic = self.get(name)
        if not len(topic.logs) < count <= MOST_PARTITIONS:
            text = f"Topic currently has {len(topic.logs)} partitions; {count} would not be an increase."
            raise BrokerError(Code.INVALID_PARTITIONS, text)
        if not dry:
            self._extend(name, topic.config, topic.logs, count)
            self._save()

    def get(self, name: str) -> Topic:
        """Return a topic or raise :class:`BrokerError`."""
        if (topic := self.all.get(name)) is None:
            raise BrokerError(Code.UNKNOWN_TOPIC_OR_PARTITION)
        return topic

    def configure(self, name: str, settings: Mapping[str, str], *, dry: bool = False) -> None:
        """Replace a topic's own settings; raises :class:`BrokerError`."""
        topic = self.get(name)
        if dry:
            TopicConfig(settings)
            return
        before = topic.config.own
        topic.config.change(settings)
        try:
            self._save()
        except BrokerError:
            topic.config.change(before)
            raise

    def delete(self, name: str) -> None:
        """Delete a topic and its records; readers that wait on it are answered. Raises :class:`BrokerError`."""
        topic = self.get(name)
        del self.all[name]
        self._discard(topic)
        self._save()

    def _discard(self, topic: Topic) -> None:
        for log in topic.logs:
            log.close(discard=True)
        # Renamed first: a folder that is half removed when we are killed must not look like a topic.
        gone = self._folder / f".deleted-{secrets.token_hex(8)}"
        (self._folder / topic.name).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def close(self) -> None:
        """Close all files, their bytes on the disk."""
        for log in self.logs():
            log.close()
