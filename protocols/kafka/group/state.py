"""Membership in a consumer group: what is to be asked of its coordinator next, and what an answer means.
Pure: no I/O, and no clock but the times it is given.

Rules:
1. One question at a time: `request` is what is to be asked now, `answered` and `failed` take what came of it,
   and say as an event what has happened. After `MOVED` the coordinator is to be found anew.
2. The table below is the machine. Which event an error code is, the other table says, the same in every
   state; a code that is in neither means that the same is asked again if the protocol calls it retriable, and
   otherwise the end of the membership.
3. Who is to join again gives back first what it must (state `REVOKING`: its owner commits, drops what it has
   read ahead, and says `revoked()`): everything where the assignor is eager, otherwise what the last answer
   had taken away.
4. A member that the group has expelled has lost everything at once. What it holds others may be reading.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from actors import NEVER
from actors.options import check_seconds
from protocols.kafka.arguments import SECONDS_MAX, text_of
from protocols.kafka.codes import Code
from protocols.kafka.errors import BadMessage, BrokerTooOld, KafkaError, error_of
from protocols.kafka.protocol.group_api import (
    Assignment,
    Heartbeat,
    HeartbeatResponse,
    JoinGroup,
    JoinGroupResponse,
    LeaveGroup,
    OfferedProtocol,
    SyncGroup,
    SyncGroupResponse,
)
from protocols.kafka.protocol.schema import Message, Request
from protocols.kafka.retrying import retry

from .assignors import (
    ASSIGNORS,
    Assignor,
    GroupMember,
    TopicPartition,
    assignor_named,
    read_assignment,
    read_subscription,
    write_assignment,
    write_subscription,
)

__all__ = ["TABLE", "Event", "Group", "GroupSettings", "Membership", "State"]

PROTOCOL_TYPE: Final = "consumer"


class State(enum.Enum):
    """Where a member stands."""

    JOINING = "joining"
    SYNCING = "syncing"
    STABLE = "stable"
    REVOKING = "revoking"
    ENDED = "ended"


class Event(enum.Enum):
    """What has happened to it."""

    JOINED = "joined"
    SYNCED = "synced"
    BEATEN = "heartbeat answered"
    REBALANCE = "rebalance"
    REVOKED = "revoked"
    NAMED = "named"
    EXPELLED = "expelled"
    MOVED = "coordinator moved"
    PAUSED = "paused"
    FAILED = "failed"
    LEFT = "left"


_AGAIN: Final = {
    Event.REBALANCE: State.JOINING,
    Event.EXPELLED: State.JOINING,
    Event.NAMED: State.JOINING,
    Event.FAILED: State.ENDED,
    Event.LEFT: State.ENDED,
}
TABLE: Final[Mapping[State, Mapping[Event, State]]] = {
    State.JOINING: {
        Event.JOINED: State.SYNCING,
        Event.MOVED: State.JOINING,
        Event.PAUSED: State.JOINING,
        **_AGAIN,
    },
    State.SYNCING: {
        Event.SYNCED: State.STABLE,
        Event.MOVED: State.JOINING,
        Event.PAUSED: State.SYNCING,
        **_AGAIN,
    },
    State.STABLE: {
        Event.BEATEN: State.STABLE,
        Event.MOVED: State.STABLE,
        Event.PAUSED: State.STABLE,
        **_AGAIN,
        Event.REBALANCE: State.REVOKING,
    },
    State.REVOKING: {Event.REVOKED: State.JOINING, **_AGAIN, Event.REBALANCE: State.REVOKING},
    State.ENDED: {Event.LEFT: State.ENDED, Event.FAILED: State.ENDED},
}
"""What follows on what."""

CODE_EVENTS: Final[Mapping[int, Event]] = {
    Code.COORDINATOR_NOT_AVAILABLE: Event.MOVED,
    Code.NOT_COORDINATOR: Event.MOVED,
    Code.ILLEGAL_GENERATION: Event.EXPELLED,
    Code.UNKNOWN_MEMBER_ID: Event.EXPELLED,
    Code.REBALANCE_IN_PROGRESS: Event.REBALANCE,
    Code.MEMBER_ID_REQUIRED: Event.NAMED,
}


class GroupSettings(msgspec.Struct, frozen=True):
    """How a member takes part. Times in seconds. Raises `ValueError` or `TypeError` for wrong ones."""

    group: str
    topics: tuple[str, ...]
    assignors: tuple[str, ...] = ("cooperative-sticky",)
    instance: str | None = None
    session_timeout: float = 45.0
    heartbeat: float = 3.0
    rebalance_timeout: float = 60.0

    def __post_init__(self) -> None:
        text_of("group", self.group)
        if self.instance is not None:
            text_of("instance", self.instance)
        for name in self.assignors:
            assignor_named(name)
        check_seconds(heartbeat=self.heartbeat)
        check_seconds(
            most=SECONDS_MAX,
            session_timeout=self.session_timeout,
            rebalance_timeout=self.rebalance_timeout,
        )
        if self.heartbeat >= self.session_timeout:
            raise ValueError(
                f"heartbeat={self.heartbeat} is not less than session_timeout={self.session_timeout}"
            )


class Membership(msgspec.Struct, frozen=True):
    """Who one is in a group: what a broker checks offsets by that are committed."""

    group: str
    generation: int = -1
    member: str = ""
    instance: str | None = None


class Group:
    """One member's view of its group."""

    __slots__ = (
        "_retry",
        "assignment",
        "assignors",
        "due",
        "error",
        "generation",
        "held",
        "leading",
        "member",
        "members",
        "protocol",
        "settings",
        "state",
    )

    def __init__(self, settings: GroupSettings, source: random.Random) -> None:
        self.settings = settings
        self.assignors: list[Assignor] = [assignor_named(name) for name in settings.assignors]
        self.state = State.JOINING
        self.generation = -1
        self.member = ""
        self.protocol = settings.assignors[0]
        self.leading = False
        self.members: list[GroupMember] = []  # as the leader has been told
        self.assignment: list[TopicPartition] = []  # as the last answer says
        self.held: tuple[TopicPartition, ...] = ()  # what its owner reads; it keeps this up to date
        self.due = 0.0  # when there is something to ask, at the earliest
        self.error: Exception | None = None
        self._retry = retry(source)

    def __repr__(self) -> str:
        return (
            f"<Group {self.settings.group} {self.state.value}, generation {self.generation}, "
            f"{len(self.held)} partitions>"
        )

    # -- looking at it ---------------------------------------------------------------------------------------

    @property
    def eager(self) -> bool:
        """Whether everything is given back before each join: so it is if one of the assignors wants it."""
        return any(assignor.eager for assignor in self.assignors)

    @property
    def membership(self) -> Membership:
        """Who we are, as the coordinator knows us."""
        return Membership(self.settings.group, self.generation, self.member, self.settings.instance)

    @property
    def topics(self) -> set[str]:
        """Those whose partitions must be known: ours, and, for the leader, everybody's."""
        return {*self.settings.topics, *(topic for member in self.members for topic in member.topics)}

    # -- asking ----------------------------------------------------------------------------------------------

    def request(self, now: float, counts: Mapping[str, int]) -> Request[Any] | None:
        """What is to be asked now; None if nothing is, or (for the leader) not before `counts`, the number
        of partitions per topic, holds all `topics`; 0 for one that does not exist.
        """
        if now < self.due:
            return None
        if self.state is State.JOINING:
            return self._join()
        if self.state is State.SYNCING:
            return self._sync(counts) if not self.leading or self.topics <= counts.keys() else None
        if self.state is State.STABLE:
            self.due = now + self.settings.heartbeat
            return Heartbeat(self.settings.group, self.generation, self.member, self.settings.instance)
        return None

    def _join(self) -> JoinGroup:
        settings = self.settings
        said = write_subscription(settings.topics, () if self.eager else self.held, self.generation)
        return JoinGroup(
            settings.group,
            round(settings.session_timeout * 1000),
            round(settings.rebalance_timeout * 1000),
            self.member,
            settings.instance,
            PROTOCOL_TYPE,
            [OfferedProtocol(name, said) for name in settings.assignors],
        )

    def _sync(self, counts: Mapping[str, int]) -> SyncGroup:
        given: list[Assignment] = []
        if self.leading:
            decided = ASSIGNORS[self.protocol].assign(self.members, counts)
            given = [Assignment(name, write_assignment(partitions)) for name, partitions in decided.items()]
        settings = self.settings
        return SyncGroup(settings.group, self.generation, self.member, settings.instance, given)

    def leave(self) -> LeaveGroup | None:
        """The end. What to tell the coordinator, if it knows us; a static member just goes away, so that it
        finds its partitions again when it comes back soon.
        """
        known = self.member and self.state is not State.ENDED
        self._happened(Event.LEFT)
        if not known or self.settings.instance is not None:
            return None
        return LeaveGroup(self.settings.group, self.member)

    # -- answers ---------------------------------------------------------------------------------------------

    def answered(self, answer: Message, now: float) -> Event:
        """What the coordinator's answer to the request means."""
        self.due = now
        if isinstance(answer, JoinGroupResponse):
            return self._joined(answer, now)
        if isinstance(answer, SyncGroupResponse):
            return self._synced(answer, now)
        assert isinstance(answer, HeartbeatResponse)
        if answer.error:
            return self._refused(answer.error, now)
        self._retry.succeeded()
        self.due = now + self.settings.heartbeat
        return self._happened(Event.BEATEN)

    def _joined(self, answer: JoinGroupResponse, now: float) -> Event:
        if answer.error:
            event = self._refused(answer.error, now)
            if event is Event.NAMED:
                self.member = answer.member
            return event
        if answer.protocol not in self.settings.assignors:
            return self._end(BadMessage(f"the group assigns by {answer.protocol!r}, which was not offered"))
        self._retry.succeeded()
        self.generation, self.member, self.protocol = answer.generation, answer.member, answer.protocol
        self.leading = answer.leader == answer.member
        try:
            self.members = [
                read_subscription(other.member, other.metadata, other.instance)
                for other in (answer.members if self.leading else ())
            ]
        except BadMessage as error:
            return self._end(error)
        return self._happened(Event.JOINED)

    def _synced(self, answer: SyncGroupResponse, now: float) -> Event:
        if answer.error:
            return self._refused(answer.error, now)
        try:
            self.assignment = read_assignment(answer.assignment)
        except BadMessage as error:
            return self._end(error)
        self._retry.succeeded()
        self.due = now + self.settings.heartbeat
        return self._happened(Event.SYNCED)

    def _refused(self, code: int, now: float) -> Event:
        error = error_of(code, about=f"the group {self.settings.group}")
        event = CODE_EVENTS.get(code, Event.PAUSED if error.retriable else Event.FAILED)
        if event not in TABLE[self.state]:
            event = Event.FAILED
        if event is Event.FAILED:
            return self._end(error)
        if event is Event.EXPELLED:
            self._forget(keep_name=code != Code.UNKNOWN_MEMBER_ID)
        first_naming = event is Event.NAMED and not self.member
        if event in (Event.PAUSED, Event.MOVED) or (self.state is State.JOINING and not first_naming):
            self._pause(now, error)
        return self._happened(event)

    def failed(self, error: BaseException | None, now: float) -> Event:
        """No answer came: perhaps somebody else is the coordinator by now."""
        if isinstance(error, BrokerTooOld) or (isinstance(error, KafkaError) and not error.retriable):
            return self._end(error)
        self._pause(now, error)
        return self._happened(Event.MOVED if Event.MOVED in TABLE[self.state] else Event.PAUSED)

    # -- what its owner tells --------------------------------------------------------------------------------

    def rebalance(self, now: float) -> Event:
        """The topics have changed, or something was given back: everybody is to join again."""
        self.due = now
        return self._happened(Event.REBALANCE)

    def revoked(self) -> Event:
        """What had to be given back is given back."""
        return self._happened(Event.REVOKED)

    # -- inside ----------------------------------------------------------------------------------------------

    def _happened(self, event: Event) -> Event:
        state = TABLE[self.state].get(event)
        if state is None:
            raise ValueError(f"{event} while {self.state}")
        self.state = state
        if state is State.JOINING:
            self.leading = False
            self.members = []
        return event

    def _pause(self, now: float, error: BaseException | None) -> None:
        self._retry.failed(now, error)
        self.due = self._retry.due

    def _forget(self, *, keep_name: bool) -> None:
        self.generation = -1
        self.assignment = []
        self.held = ()
        if not keep_name:
            self.member = ""

    def _end(self, error: Exception) -> Event:
        self.error = error
        self.due = NEVER
        return self._happened(Event.FAILED)
