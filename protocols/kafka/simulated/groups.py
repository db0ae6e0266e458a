"""A consumer group, as its coordinator keeps it. Pure: no I/O, and no clock but the times it is given.

Rules:
1. Who joins, or leaves, or is not heard of for its session's time, makes everybody join again. A round is
   complete when all have joined; who has not within the rebalance time is out.
2. The first of a generation is its leader: it is told of the members, and decides. Its word is stored; that,
   and the offsets, is what another coordinator finds when it takes over (`load`). A round that was under way
   then is not heard of again.
3. What cannot be answered yet is a `Look`: called with the time it gives the answer, or when to look again.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from actors import NEVER
from protocols.kafka.codes import Code
from protocols.kafka.protocol.group_api import (
    JoinedMember,
    JoinGroup,
    JoinGroupResponse,
    SyncGroup,
    SyncGroupResponse,
)
from protocols.kafka.protocol.schema import Message

__all__ = ["Group", "Look"]

Look: TypeAlias = "Callable[[float], Message | float]"

MEMBERS_MAX: Final = 1000


class State(Enum):
    """Where a group stands."""

    EMPTY = "empty"
    JOINING = "joining"
    SYNCING = "syncing"
    STABLE = "stable"


class Member:
    """One member. `turn` counts its joins: an answer goes to the last of them."""

    __slots__ = (
        "answer",
        "expires",
        "instance",
        "joining",
        "name",
        "protocols",
        "rebalance",
        "session",
        "syncing",
        "turn",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.instance: str | None = None
        self.session = self.rebalance = 0.0
        self.protocols: dict[str, bytes] = {}
        self.expires = NEVER
        self.turn = 0
        self.joining = self.syncing = False  # it waits for the others
        self.answer: JoinGroupResponse | None = None

    def __repr__(self) -> str:
        return f"<Member {self.name}{', joining' if self.joining else ''}>"


class Stored(NamedTuple):
    """What outlives a coordinator, besides the offsets."""

    generation: int
    protocol: str
    leader: str
    members: dict[str, tuple[float, float, str | None, dict[str, bytes]]]
    assignments: dict[str, bytes]


class Group:
    """One group. `offsets` are what its members have stored, by topic and partition."""

    __slots__ = (
        "_earliest",
        "_latest",
        "_names",
        "_promised",
        "_stored",
        "assignments",
        "delay",
        "epochs",
        "generation",
        "leader",
        "loads",
        "members",
        "name",
        "offsets",
        "owner",
        "protocol",
        "state",
    )

    def __init__(self, name: str, delay: float = 0.0) -> None:
        self.name = name
        self.delay = delay  # seconds for which a first member waits for others
        self.owner: object = None  # the broker that has loaded it
        self.loads = 0
        self.offsets: dict[tuple[str, int], int] = {}
        self.epochs: dict[tuple[str, int], int] = {}  # of the leader, as was stored with them
        self.state = State.EMPTY
        self.generation = 0
        self.protocol = self.leader = ""
        self.members: dict[str, Member] = {}
        self.assignments: dict[str, bytes] = {}
        self._stored = Stored(0, "", "", {}, {})
        self._promised: dict[str, None] = {}  # names that were given out, and not used yet
        self._names = 0
        self._earliest = self._latest = 0.0  # when a round may be complete, and when it is over

    def __repr__(self) -> str:
        who = f"{len(self.members)} members of generation {self.generation}"
        return f"<Group {self.name} {self.state.value}, {who}>"

    # -- coordinators ----------------------------------------------------------------------------------------

    def load(self, owner: object, now: float) -> None:
        """Another coordinator takes over: it knows what was stored."""
        if self.owner is owner:
            return
        self.unload()
        self.owner = owner
        self.generation, self.protocol, self.leader, members, assignments = self._stored
        self.assignments = dict(assignments)
        self.members = {}
        self._promised = {}
        for name, (session, rebalance, instance, protocols) in members.items():
            member = self.members[name] = Member(name)
            member.session, member.rebalance, member.instance = session, rebalance, instance
            member.protocols = dict(protocols)
            member.expires = now + session
        self.state = State.STABLE if self.members else State.EMPTY

    def unload(self) -> None:
        """The coordinator is gone, and who waits for it is to look for another."""
        self.owner = None
        self.loads += 1

    def _store(self) -> None:
        members = {
            member.name: (member.session, member.rebalance, member.instance, dict(member.protocols))
            for member in self.members.values()
        }
        self._stored = Stored(self.generation, self.protocol, self.leader, members, dict(self.assignments))

    # -- requests --------------------------------------------------------------------------------------------

    def join(self, asked: JoinGroup, now: float, *, name_first: bool) -> Message | Look:
        """A member joins, or joins again."""
        self.step(now)
        offered = {protocol.name: protocol.metadata for protocol in asked.protocols}
        others = [member for member in self.members.values() if member.name != asked.member]
        if not offered or any(not offered.keys() & other.protocols.keys() for other in others):
            return refused(Code.INCONSISTENT_GROUP_PROTOCOL)
        name = asked.member
        if not name:
            if len(self.members) + len(self._promised) >= MEMBERS_MAX:
                return refused(Code.GROUP_MAX_SIZE_REACHED)
            self._names += 1
            name = f"member-{self.loads}-{self._names}"
            self._promised[name] = None
            if name_first:
                return refused(Code.MEMBER_ID_REQUIRED, name)
        member = self.members.get(name)
        if member is None:
            if name not in self._promised:
                return refused(Code.UNKNOWN_MEMBER_ID)
            del self._promised[name]
            member = self.members[name] = Member(name)
        same = member.protocols == offered
        member.protocols, member.instance = offered, asked.instance
        member.session, member.rebalance = asked.session_ms / 1000, asked.rebalance_ms / 1000
        member.expires = now + member.session
        member.turn += 1
        if same and (self.state is State.SYNCING or (self.state is State.STABLE and name != self.leader)):
            return self._joined(member)
        member.joining = True
        self._begin_round(now)
        return partial(self._await_join, member, member.turn, self.loads)

    def _await_join(self, member: Member, turn: int, loads: int, now: float) -> Message | float:
        if self.loads != loads:
            return refused(Code.NOT_COORDINATOR)
        self.step(now)
        if self.members.get(member.name) is not member:
            return refused(Code.UNKNOWN_MEMBER_ID)
        if member.turn != turn:
            return refused(Code.REBALANCE_IN_PROGRESS)
        if member.joining:
            return self.due
        assert member.answer is not None
        return member.answer

    def sync(self, asked: SyncGroup, now: float) -> Message | Look:
        """A member asks what it is to read; the leader says it for all."""
        code = self.check(asked.member, asked.generation, now)
        if code:
            return SyncGroupResponse(0, code, b"")
        member = self.members[asked.member]
        if self.state is State.SYNCING and member.name == self.leader:
            self.assignments = {given.member: given.assignment for given in asked.assignments}
            self.state = State.STABLE
            self._store()
            for other in self.members.values():
                other.syncing = False
                other.expires = now + other.session
        member.syncing = self.state is State.SYNCING
        return partial(self._await_sync, member, asked.generation, self.loads)

    def _await_sync(self, member: Member, generation: int, loads: int, now: float) -> Message | float:
        self.step(now)
        code = Code.NOT_COORDINATOR if self.loads != loads else self.check(member.name, generation, now)
        if not code and self.state is State.JOINING:
            code = Code.REBALANCE_IN_PROGRESS
        if not code and self.state is State.SYNCING:
            return self.due
        assignment = b"" if code else self.assignments.get(member.name, b"")
        return SyncGroupResponse(0, code, assignment)

    def heartbeat(self, name: str, generation: int, now: float) -> int:
        """A member is still there; the error code that it is told."""
        return self.check(name, generation, now) or (
            Code.REBALANCE_IN_PROGRESS if self.state is State.JOINING else 0
        )

    def check(self, name: str, generation: int, now: float) -> int:
        """Whether somebody is a member of this generation: an error code. It has been heard of."""
        self.step(now)
        member = self.members.get(name)
        if member is None:
            return Code.UNKNOWN_MEMBER_ID
        if generation != self.generation:
            return Code.ILLEGAL_GENERATION
        member.expires = now + member.session
        return 0

    def leave(self, name: str, now: float) -> int:
        """A member goes."""
        if self.members.pop(name, None) is None:
            return Code.UNKNOWN_MEMBER_ID
        self._begin_round(now)
        self.step(now)
        return 0

    def may_store(self, name: str, generation: int, now: float) -> int:
        """Whether offsets may be stored: an error code. Without a group of members anybody may."""
        if generation < 0 and not self.members:
            return 0
        return self.check(name, generation, now) or (
            Code.REBALANCE_IN_PROGRESS if self.state is State.SYNCING else 0
        )

    # -- rounds ----------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When something happens by itself."""
        due = min(
            (member.expires for member in self.members.values() if not self._waits(member)), default=NEVER
        )
        if self.state is not State.JOINING:
            return due
        complete = all(member.joining for member in self.members.values())
        return min(due, self._earliest if complete else self._latest)

    def _waits(self, member: Member) -> bool:
        return member.joining or member.syncing

    def _begin_round(self, now: float) -> None:
        if self.state is State.JOINING:
            return
        self._earliest = now + (self.delay if self.state is State.EMPTY else 0.0)
        self._latest = self._earliest + max(
            (member.rebalance for member in self.members.values()), default=0.0
        )
        self.state = State.JOINING
        for member in self.members.values():
            member.syncing = False

    def step(self, now: float) -> None:
        """What is due by now: who was not heard of is out, a round is complete."""
        for member in list(self.members.values()):
            if not self._waits(member) and member.expires <= now:
                del self.members[member.name]
                self._begin_round(now)
        if self.state is not State.JOINING:
            return
        complete = all(member.joining for member in self.members.values())
        if now < (self._earliest if complete else self._latest):
            return
        self.members = {member.name: member for member in self.members.values() if member.joining}
        self._complete(now)

    def _complete(self, now: float) -> None:
        self.generation += 1
        self.assignments = {}
        if not self.members:
            self.state, self.leader = State.EMPTY, ""
            self._store()
            return
        self.state = State.SYNCING
        if self.leader not in self.members:
            self.leader = next(iter(self.members))
        offered = [member.protocols.keys() for member in self.members.values()]
        self.protocol = next(name for name in offered[0] if all(name in names for names in offered))
        for member in self.members.values():
            member.joining = False
            member.expires = now + member.session
            member.answer = self._joined(member)

    def _joined(self, member: Member) -> JoinGroupResponse:
        members = [
            JoinedMember(other.name, other.instance, other.protocols[self.protocol])
            for other in self.members.values()
        ]
        told = members if member.name == self.leader else []
        return JoinGroupResponse(0, 0, self.generation, self.protocol, self.leader, member.name, told)


def refused(code: int, name: str = "") -> JoinGroupResponse:
    """An answer to who cannot join, or not now."""
    return JoinGroupResponse(0, code, -1, "", "", name, [])
