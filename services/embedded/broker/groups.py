"""Consumer groups, the classic protocol: members join, the leader assigns, heartbeats keep the generation alive.

What belongs here: one group's states and rules, with static membership; the broker never looks into an assignment, so
eager and cooperative assignors are the same to it. What does not: committed offsets (``offsets``), wire (``handlers``).
Groups live in memory: after a restart members are told that they are unknown and join again, from committed offsets.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from enum import StrEnum

from services.embedded.broker.errors import BrokerError, Code

SESSION_TIMEOUT_MS = (6_000, 1_800_000)  # Kafka's bounds: group.min.session.timeout.ms, group.max.session.timeout.ms


class State(StrEnum):
    """A group's states, spelled as DescribeGroups spells them."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


@dataclass
class Member:
    """A member and the answers it waits for."""

    id: str
    instance: str | None
    client: str
    session_timeout: float
    rebalance_timeout: float
    protocols: list[tuple[str, bytes]]
    assignment: bytes = b""
    joining: asyncio.Future[Joined] | None = None
    syncing: asyncio.Future[bytes] | None = None
    timer: asyncio.TimerHandle | None = None

    def metadata(self, protocol: str) -> bytes:
        """Return what the member said for one of its protocols."""
        return dict(self.protocols).get(protocol, b"")


@dataclass
class Joined:
    """Answer to a join; ``members`` is filled for the leader only."""

    generation: int
    protocol_type: str
    protocol: str
    leader: str
    member_id: str
    members: list[Member] = field(default_factory=list)


@dataclass
class JoinRequest:
    """What a member says when it joins; times in seconds."""

    member_id: str
    instance: str | None
    client: str
    session_timeout: float
    rebalance_timeout: float
    protocol_type: str
    protocols: list[tuple[str, bytes]]
    needs_known_id: bool = False


class Group:
    """One group. All methods run on the event loop; waiting members hold futures."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol = ""
        self.leader = ""
        self.members: dict[str, Member] = {}
        self._instances: dict[str, str] = {}
        self._pending: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    # ---- joining

    async def join(self, request: JoinRequest) -> Joined:
        """Join or join again; returns when the group's next generation is complete. Raises :class:`BrokerError`."""
        self._refuse_misfits(request)
        member = self._admit(request)
        if isinstance(member, Joined):
            return member
        member.client, member.protocols = request.client, request.protocols
        member.session_timeout, member.rebalance_timeout = request.session_timeout, request.rebalance_timeout
        self.protocol_type = request.protocol_type
        if member.joining and not member.joining.done():
            member.joining.set_exception(BrokerError(Code.UNKNOWN_MEMBER_ID))
        member.joining = asyncio.get_running_loop().create_future()
        self._stop_timer(member)
        self._prepare()
        return await member.joining

    def _refuse_misfits(self, request: JoinRequest) -> None:
        low, high = SESSION_TIMEOUT_MS
        if not low <= request.session_timeout * 1000 <= high:
            raise BrokerError(Code.INVALID_SESSION_TIMEOUT)
        if not request.protocols:
            raise BrokerError(Code.INCONSISTENT_GROUP_PROTOCOL)
        others = [one for one in self.members.values() if one.id != request.member_id]
        common = self._common(others)
        named = {name for name, _ in request.protocols}
        if others and (request.protocol_type != self.protocol_type or not common & named):
            raise BrokerError(Code.INCONSISTENT_GROUP_PROTOCOL)

    def _admit(self, request: JoinRequest) -> Member | Joined:
        """Return the member that joins: known, new, or a static one that came back under a new id."""
        held = self._instances.get(request.instance) if request.instance else None
        if request.member_id:
            if held and held != request.member_id:
                raise BrokerError(Code.FENCED_INSTANCE_ID)
            if request.member_id in self.members:
                return self.members[request.member_id]
            if request.member_id not in self._pending:
                raise BrokerError(Code.UNKNOWN_MEMBER_ID)
            self._pending.discard(request.member_id)
            return self._add(request, request.member_id)
        new_id = f"{request.instance or request.client or 'member'}-{secrets.token_hex(8)}"
        if held:
            return self._replace(self.members[held], request, new_id)
        if request.needs_known_id and not request.instance:
            # The client joins again with this id; one that dies in between leaves no member behind.
            self._pending.add(new_id)
            raise BrokerError(Code.MEMBER_ID_REQUIRED, new_id)
        return self._add(request, new_id)

    def _add(self, request: JoinRequest, member_id: str) -> Member:
        member = Member(member_id, request.instance, request.client, 0, 0, [])
        self.members[member_id] = member
        if request.instance:
            self._instances[request.instance] = member_id
        return member

    def _replace(self, old: Member, request: JoinRequest, new_id: str) -> Member | Joined:
        """A static member came back: it takes its place again and, in a stable group, its assignment."""
        leader, before = self.leader, old.protocols
        self._answer_all(old, Code.FENCED_INSTANCE_ID)
        self._stop_timer(old)
        del self.members[old.id]
        member = self._add(request, new_id)
        member.assignment = old.assignment
        if self.leader == old.id:
            self.leader = new_id
        if self.state is not State.STABLE or before != request.protocols:
            return member
        member.client, member.protocols = request.client, request.protocols
        member.session_timeout, member.rebalance_timeout = request.session_timeout, request.rebalance_timeout
        self.touch(member)
        # The old leader's id: the one that came back must not think that it has to assign.
        return Joined(self.generation, self.protocol_type, self.protocol, leader, new_id)

    # ---- rebalance

    def _prepare(self) -> None:
        if self.state is not State.PREPARING:
            self.state = State.PREPARING
            for member in self.members.values():
                self._answer(member.syncing, Code.REBALANCE_IN_PROGRESS)
            patience = max(member.rebalance_timeout for member in self.members.values())
            self._set_timer(patience)
        if all(member.joining and not member.joining.done() for member in self.members.values()):
            # On the loop's next round, so that members that join together share a generation.
            self._set_timer(0)

    def _set_timer(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._complete)

    def _complete(self) -> None:
        """Start the next generation with those who joined; static members who did not stay until their session ends."""
        self._timer = None
        if self.state is not State.PREPARING:
            return
        for member in [one for one in self.members.values() if not one.joining and not one.instance]:
            self._discard(member)
        if not any(member.joining for member in self.members.values()):
            # Nobody came: an empty group, or static members whose sessions still run.
            if not self.members:
                self._empty()
            else:
                self._set_timer(max(member.rebalance_timeout for member in self.members.values()))
            return
        self.generation += 1
        self.state = State.COMPLETING
        if self.leader not in self.members or not self.members[self.leader].joining:
            self.leader = next(member.id for member in self.members.values() if member.joining)
        common = self._common(list(self.members.values()))
        self.protocol = next(name for name, _ in self.members[self.leader].protocols if name in common)
        for member in self.members.values():
            member.assignment = b""
            future, member.joining = member.joining, None
            if future and not future.done():
                listed = list(self.members.values()) if member.id == self.leader else []
                future.set_result(
                    Joined(self.generation, self.protocol_type, self.protocol, self.leader, member.id, listed)
                )
            self.touch(member)

    async def sync(
        self, member_id: str, generation: int, instance: str | None, assignments: list[tuple[str, bytes]]
    ) -> bytes:
        """Return the member's assignment as soon as the leader has said it; raises :class:`BrokerError`."""
        member = self.member(member_id, generation, instance)
        if self.state is State.PREPARING:
            raise BrokerError(Code.REBALANCE_IN_PROGRESS)
        self.touch(member)
        if member_id == self.leader and self.state is State.COMPLETING:
            for receiver, assignment in assignments:
                if receiver in self.members:
                    self.members[receiver].assignment = assignment
            self.state = State.STABLE
            for other in self.members.values():
                if other.syncing and not other.syncing.done():
                    other.syncing.set_result(other.assignment)
        if self.state is State.STABLE:
            return member.assignment
        self._answer(member.syncing, Code.UNKNOWN_MEMBER_ID)
        member.syncing = asyncio.get_running_loop().create_future()
        return await member.syncing

    @staticmethod
    def _common(members: list[Member]) -> set[str]:
        """Return the protocols that all of these members speak."""
        sets = [{name for name, _ in member.protocols} for member in members]
        return set.intersection(*sets) if sets else set()

    # ---- membership

    def member(self, member_id: str, generation: int, instance: str | None) -> Member:
        """Return a member of the current generation or raise :class:`BrokerError`."""
        if instance and self._instances.get(instance, member_id) != member_id:
            raise BrokerError(Code.FENCED_INSTANCE_ID)
        if member_id not in self.members:
            raise BrokerError(Code.UNKNOWN_MEMBER_ID)
        if generation != self.generation:
            raise BrokerError(Code.ILLEGAL_GENERATION)
        return self.members[member_id]

    def heartbeat(self, member_id: str, generation: int, instance: str | None) -> None:
        """Keep a member alive; raises :class:`BrokerError`, REBALANCE_IN_PROGRESS where it has to join again."""
        self.touch(self.member(member_id, generation, instance))
        if self.state is State.PREPARING:
            raise BrokerError(Code.REBALANCE_IN_PROGRESS)

    def allow_commit(self, member_id: str, generation: int, instance: str | None) -> None:
        """Raise :class:`BrokerError` unless this member may commit now; no member commits to an empty group."""
        if generation < 0 and not member_id:
            if self.members:
                raise BrokerError(Code.UNKNOWN_MEMBER_ID)
            return
        self.touch(self.member(member_id, generation, instance))
        if self.state is State.COMPLETING:
            raise BrokerError(Code.REBALANCE_IN_PROGRESS)

    def leave(self, member_id: str, instance: str | None) -> str:
        """Remove a member by id or by instance; returns its id, raises :class:`BrokerError`."""
        if instance and not member_id:
            member_id = self._instances.get(instance, "")
        elif instance and self._instances.get(instance, member_id) != member_id:
            raise BrokerError(Code.FENCED_INSTANCE_ID)
        if member_id in self._pending:
            self._pending.discard(member_id)
        elif member_id not in self.members:
            raise BrokerError(Code.UNKNOWN_MEMBER_ID)
        else:
            self._remove(self.members[member_id])
        return member_id

    def touch(self, member: Member) -> None:
        """Start a member's session anew; the loop's clock is monotonic, so a changed wall clock expires nobody."""
        self._stop_timer(member)
        if not member.joining:
            loop = asyncio.get_running_loop()
            member.timer = loop.call_later(member.session_timeout, self._remove, member)

    def _remove(self, member: Member) -> None:
        """Remove a member that left or fell silent, and rebalance what remains."""
        if self.members.get(member.id) is not member:
            return
        self._discard(member)
        if self.members:
            self._prepare()
        else:
            self._empty()

    def _discard(self, member: Member) -> None:
        self._stop_timer(member)
        self._answer_all(member, Code.UNKNOWN_MEMBER_ID)
        del self.members[member.id]
        if member.instance and self._instances.get(member.instance) == member.id:
            del self._instances[member.instance]

    def _empty(self) -> None:
        self.state = State.EMPTY
        self.generation += 1
        self.leader = self.protocol = ""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Answer everyone who waits; used when the group is deleted or the broker stops."""
        for member in list(self.members.values()):
            self._discard(member)
        self._empty()
        self.state = State.DEAD

    @staticmethod
    def _stop_timer(member: Member) -> None:
        if member.timer:
            member.timer.cancel()
            member.timer = None

    @staticmethod
    def _answer(future: asyncio.Future[bytes] | asyncio.Future[Joined] | None, code: Code) -> None:
        if future and not future.done():
            future.set_exception(BrokerError(code))

    def _answer_all(self, member: Member, code: Code) -> None:
        self._answer(member.joining, code)
        self._answer(member.syncing, code)


class Groups:
    """All groups that had a member since the start."""

    def __init__(self) -> None:
        self.all: dict[str, Group] = {}

    def get(self, name: str) -> Group:
        """Return a group, new if need be; raises :class:`BrokerError` for an empty name."""
        if not name:
            raise BrokerError(Code.INVALID_GROUP_ID)
        return self.all.setdefault(name, Group(name))

    def delete(self, name: str) -> bool:
        """Delete an empty group; returns whether there was one, raises :class:`BrokerError` where members are in it."""
        group = self.all.get(name)
        if group is None:
            return False
        if group.members:
            raise BrokerError(Code.NON_EMPTY_GROUP)
        group.close()
        del self.all[name]
        return True

    def close(self) -> None:
        """Answer all who wait."""
        for group in self.all.values():
            group.close()
