"""Reading topics: a stream of messages, alone or as a member of a group that shares the partitions.

    clicks = loop.spawn(kafka.consumer("127.0.0.1:9092", "clicks", group="counters"))
    async for record in clicks:
        print(record.partition, record.offset, record.value)

Made by `consumer`, in `protocols.kafka.consumer.options`.

Rules:
1. Whoever asks for the next messages has finished those before, so there is one reader: a second one that
   waits gets `Misuse`. What is finished is stored with the group, every `auto_commit` seconds, before
   partitions are given back, and at the end; so a message that was begun and not finished is read again (at
   least once). With `auto_commit` None nothing is stored but by `commit`.
2. A reader that is slow stops the fetching, never the heartbeats. What is read ahead has a limit.
3. Of a partition that the group takes away nothing is delivered any more. `on_rebalance` is told.
4. Brokers that restart and leaders that move are ridden out. What needs a person (no right to read, a topic
   in a format of long ago, a group that assigns in another way) ends the consumer, with that error for the
   reader and one line in the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final, Self

import msgspec

from actors import NEVER, ChannelClosed, Machine, Misuse, Outcome, Reply, Scope, Stop, Timeout
from actors.replies import Waitable
from actors.scope import Waker
from pools import BackendError, PoolClosed
from protocols.kafka.arguments import offset_of, partition_of, whole_of
from protocols.kafka.cluster import Cluster, Settings
from protocols.kafka.errors import error_of
from protocols.kafka.group.assignors import TopicPartition
from protocols.kafka.group.commits import Offsets
from protocols.kafka.group.membership import Member, Rebalance
from protocols.kafka.group.state import GroupSettings, Membership
from protocols.kafka.offsets import Offset
from protocols.kafka.producer.verdicts import fatal_cause
from protocols.kafka.records.batch import Record

from .fetcher import Asks, Fetcher, FetchSettings
from .positions import Position

__all__ = ["Consumer", "ConsumerStatistics"]

STRANGE_MAX: Final = 4  # times in a row that nobody answers as a broker does; one that restarts hangs up, too
MISSING_SECONDS: Final = 1.0  # between two looks for a topic that is not there
FINISH_SECONDS: Final = 1.0  # that a drain grants the reader for the messages it is at
TWO_READERS: Final = (
    "another flow waits for this consumer's messages, and asking for the next message finishes those before "
    "it: give each flow a consumer of its own, or let one reader hand the messages on"
)
MANY: Final = 500  # messages, as max.poll.records of Java's client


class ConsumerStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a consumer. `state` is that of its membership, or `alone`."""

    state: str
    generation: int
    partitions: int
    delivered: int
    buffered_bytes: int
    rebalances: int
    commits: int
    commits_failed: int
    parted: int  # how often a partition's log was not the one that was read: it was cut off, or made anew


class Consumer(Machine["Consumer"]):
    """Made by `consumer`; `loop.spawn` gives it back. Iterate over it, or `await receive()`."""

    __slots__ = (
        "_asks",
        "_behind",
        "_cluster",
        "_commit_due",
        "_commits",
        "_commits_failed",
        "_counts",
        "_delivered",
        "_ended",
        "_error",
        "_failure_seen",
        "_fetcher",
        "_finish_by",
        "_held_over",
        "_index",
        "_last_stored",
        "_loaded_as",
        "_member",
        "_missing",
        "_position",
        "_ready",
        "_receiver",
        "_refreshes",
        "_refused",
        "_scope",
        "_start",
        "_strange",
        "_waited_for",
        "auto_commit",
        "closed",
        "fetch",
        "group",
        "manual",
        "on_rebalance",
        "settings",
        "subscribed",
        "topics",
    )

    drain_phase = 0  # it is where work comes from: its reader is to see the end, and finish

    def __init__(
        self,
        settings: Settings,
        topics: tuple[str, ...],
        *,
        fetch: FetchSettings,
        group: GroupSettings | None,
        manual: Mapping[TopicPartition, int | None] | None,
        auto_commit: float | None,
        on_rebalance: Callable[[Rebalance], object] | None,
    ) -> None:
        self.settings = settings
        self.topics = topics
        self.fetch = fetch
        self.group = group
        self.manual = manual
        self.auto_commit = auto_commit if group is not None else None
        self.on_rebalance = on_rebalance
        self.subscribed: Reply[None] = Reply()
        self.closed: Reply[None] = Reply()
        self._scope: Scope = None  # type: ignore[assignment]  # until spawned
        self._cluster: Cluster = None  # type: ignore[assignment]  # likewise
        self._asks: Asks = None  # type: ignore[assignment]  # likewise
        self._fetcher: Fetcher = None  # type: ignore[assignment]  # likewise
        self._member: Member | None = None
        self._receiver: Any = None  # a scope, or what a host wakes in its place
        self._waited_for = False  # by a reader
        self._position: Position | None = None  # where the messages in `_ready` come from
        self._ready: list[Record] = []
        self._start = self._index = (
            0  # the reader has those before `_index`, and has finished those before `_start`
        )
        self._behind = 0  # the offset behind all of `_ready`
        self._loaded_as: Membership | None = None  # who we were when these were loaded
        self._held_over: dict[TopicPartition, Offset] = {}  # given back or lost while the reader is at it
        self._delivered = 0
        self._ended = False
        self._error: BaseException | None = None
        self._finish_by = NEVER
        self._last_stored = False  # at the end: what is finished is being stored, or needs not be
        self._missing = NEVER
        self._refused: dict[str, int] = {}  # topics that cannot be read, and why
        self._refreshes = -1
        self._failure_seen: BaseException | None = None
        self._strange = 0  # failures in a row of which no broker tells
        self._counts: dict[str, int] = {}  # partitions by topic
        self._commit_due = NEVER
        self._commits = self._commits_failed = 0

    def __repr__(self) -> str:
        of = "no group" if self.group is None else self.group.group
        state = "not spawned" if self._fetcher is None else "ended" if self._ended else self._state
        return f"<Consumer of {', '.join(self.topics)} in {of}, {state}>"

    # -- for the reader --------------------------------------------------------------------------------------

    async def receive(self) -> Record:
        """The next message; those before it are finished. Raises what ended the consumer, `ChannelClosed` at
        the end, or `Misuse` while another flow waits.
        """
        if self._index >= len(self._ready):
            await self._refill()
        index = self._start = self._index
        self._index = index + 1
        return self._ready[index]

    async def receive_many(self, limit: int = MANY) -> list[Record]:
        """The next messages, of one partition, at least one and at most `limit`; otherwise as `receive`."""
        whole_of("limit", limit, least=1)
        if self._index >= len(self._ready):
            await self._refill()
        start = self._start = self._index
        self._index = min(start + limit, len(self._ready))
        return self._ready[start : self._index]

    async def __aiter__(self) -> AsyncIterator[Record]:
        while True:
            if self._index >= len(self._ready):
                try:
                    await self._refill()
                except ChannelClosed:
                    return
            index = self._start = self._index
            self._index = index + 1
            yield self._ready[index]

    async def _refill(self) -> None:
        self._check_spawned()
        while not self._load():
            if self._ended:
                raise self._error or ChannelClosed("the consumer has ended")
            if self._waited_for:
                raise Misuse(TWO_READERS)
            self._waited_for = True
            try:
                await _Readable(self)
            finally:
                self._waited_for = False

    @property
    def readable(self) -> bool:
        """Whether there is something to take, or the end."""
        return self._ended or self._index < len(self._ready) or self._fetcher.buffer.waiting

    def _load(self) -> bool:
        """The next messages in place of those that are finished."""
        self._finish()
        self._held_over.clear()
        self._scope.wake()  # there is room, or the end can go on
        if self._ended:
            return False
        try:
            taken = self._fetcher.buffer.take()
        except BackendError as error:
            self._fail(error)
            return False
        if taken is None:
            return False
        self._position, self._ready, self._behind = taken
        self._loaded_as = self._member.membership if self._member is not None else None
        return True

    def _finish(self) -> None:
        """The reader has come back for more: it has finished what it had."""
        if self._position is not None:
            self._position.delivered = self._position.done = self._behind
        self._forget()

    def _mark(self) -> None:
        """Bring the offsets of what the reader is at up to date."""
        position, ready = self._position, self._ready
        if position is not None and self._index:
            position.done = ready[self._start].offset
            position.delivered = ready[self._index].offset if self._index < len(ready) else self._behind

    def _cut(self) -> None:
        """Nothing more of what is in place; the reader has still to finish what it was given of it."""
        self._mark()
        if self._position is not None:
            self._behind = self._position.delivered
            del self._ready[self._index :]

    def _forget(self) -> None:
        self._delivered += self._index
        self._position = None
        self._ready = []
        self._start = self._index = 0

    # -- for the program -------------------------------------------------------------------------------------

    def commit(self, *records: Record) -> Reply[None]:
        """Store with the group that these, and all before them in their partitions, are finished; without
        any: all that was delivered. The reply settles when it is stored, or fails with a `KafkaError` if the
        group has given the partitions to others. Raises `Misuse` without a group.
        """
        if not records:
            self._in_group()
            return self._store(self._positions())
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            if not isinstance(record, Record):
                raise TypeError(f"{record!r:.60} is not a record; give what `receive` returned")
            key = TopicPartition(record.topic, record.partition)
            offsets[key] = max(offsets.get(key, 0), record.offset + 1)
        return self._store(offsets)

    def positions(self) -> dict[TopicPartition, Offset]:
        """By partition, the offset behind all that was delivered; also of a partition that the group has
        taken away while the reader is at its messages. Each is an `Offset`, which a transaction stores with
        its leader epoch.
        """
        self._check_spawned()
        return self._positions() | self._held_over

    def _positions(self) -> dict[TopicPartition, Offset]:
        self._mark()
        positions = self._fetcher.positions.items()
        return {key: position.reached for key, position in positions if position.delivered >= 0}

    @property
    def membership(self) -> Membership:
        """Who this is in its group, by which a broker checks the offsets that a transaction stores: for what
        the group has taken away meanwhile, who it was when the messages were delivered. Raises `Misuse`
        without a group.
        """
        member = self._in_group()
        return self._loaded_as if self._held_over and self._loaded_as is not None else member.membership

    @property
    def assignment(self) -> tuple[TopicPartition, ...]:
        """What is read now."""
        self._check_spawned()
        return tuple(self._fetcher.positions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on there in a partition. Raises `Misuse` if it is not one of ours, `TypeError` or `ValueError`
        for what is no partition or no offset.
        """
        position = self._own(partition)
        offset = offset_of(offset)
        self._drop(position)
        position.move(offset)
        self._scope.wake()

    def rewind(self) -> None:
        """Go back to what is stored with the group: what was delivered since is delivered again, after a
        transaction that was rolled back, say. Raises `Misuse` without a group.
        """
        self._in_group()
        for position in self._fetcher.positions.values():
            self._drop(position)
            position.forget()
        self._scope.wake()

    def pause(self, *partitions: TopicPartition) -> None:
        """Deliver nothing of these until `resume`."""
        for partition in partitions:
            position = self._own(partition)
            if self._position is position:
                self._cut()
            self._fetcher.buffer.drop(position)
            position.paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        """Go on with these, but for those that the group is taking away."""
        for partition in partitions:
            position = self._own(partition)
            position.paused = position.given_back
        self._scope.wake()

    def close(self) -> Reply[None]:
        """The end: all that was delivered is finished, that is stored, the group is left. Settles when it is
        so.
        """
        self._check_spawned()
        if not self._ended:
            self._mark()
            for position in self._fetcher.positions.values():
                position.done = position.delivered
            self._forget()
            self._end(None)
        return self.closed

    def statistics(self) -> ConsumerStatistics:
        """What it has done so far, and what is there now."""
        self._check_spawned()
        return ConsumerStatistics(
            state=self._state,
            generation=self._member.membership.generation if self._member is not None else -1,
            partitions=len(self._fetcher.positions),
            delivered=self._delivered + self._index,
            buffered_bytes=self._fetcher.buffer.weight,
            rebalances=self._member.rebalances if self._member is not None else 0,
            commits=self._commits,
            commits_failed=self._commits_failed,
            parted=self._fetcher.parted,
        )

    @property
    def _state(self) -> str:
        group = self._member.group if self._member is not None else None
        return "alone" if group is None else group.state.value

    def _check_spawned(self) -> None:
        if self._fetcher is None:
            raise Misuse(
                "the consumer is not running; spawn it first: clicks = loop.spawn(kafka.consumer(…))"
            )

    def _in_group(self) -> Member:
        self._check_spawned()
        if self._member is None:
            raise Misuse("this consumer has no group to store offsets in; give consumer(…, group=…)")
        return self._member

    def _own(self, partition: TopicPartition) -> Position:
        self._check_spawned()
        position = self._fetcher.positions.get(partition_of(partition))
        if position is None:
            raise Misuse(f"{partition} is not read here; look at `assignment`")
        return position

    # -- machine ---------------------------------------------------------------------------------------------

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the consumer itself."""
        return self

    def start(self, scope: Scope) -> Outcome:
        """Look for the cluster."""
        self._scope = scope
        self._asks = Asks(scope)
        self._cluster = scope.spawn(Cluster(self.settings, scope.wake))
        self._fetcher = Fetcher(self.fetch, self._cluster, scope, self._asks, self._fail, self._drop)
        if self.group is not None:
            self._member = Member(
                self.group,
                scope,
                self._cluster,
                self._asks,
                self._fetcher,
                alone=self.manual is not None,
                release=self._release,
                done=self._done,
                failed=self._fail,
                on_rebalance=self.on_rebalance,
            )
        for topic in self.topics:
            self._cluster.want(topic)
        for key, offset in (self.manual or {}).items():
            self._fetcher.add([key])
            if offset is not None:
                self._fetcher.positions[key].move(offset)
        if self.auto_commit is not None:
            self._commit_due = scope.now + self.auto_commit
        return self.wakeup(scope)

    def wakeup(self, scope: Scope) -> Outcome:
        """An answer has come, something is due, or the reader has made room."""
        now = scope.now
        self._asks.collect()
        self._look_at_cluster(now)
        due = self._finish_up(now) if self._ended else self._step(now)
        if due is None:
            return Stop()
        if self._receiver is not None and self.readable:
            self._receiver.wake()
        return Timeout(self, due)

    timeout = wakeup

    def _step(self, now: float) -> float:
        """Everything that is to be asked now. Returns when to look again."""
        due = self._missing
        if self._member is not None:
            due = min(due, self._member.step(now, self._counts), self._member.committer.step(now))
        else:
            for position in self._fetcher.positions.values():
                if position.offset < 0 and position.reset is None:
                    self._fetcher.reset(position, "nothing says where to begin")
        due = min(due, self._fetcher.step(now))
        if self.auto_commit is not None and now >= self._commit_due:
            self._commit_due = now + self.auto_commit
            self._store_done()
        if not self.subscribed.settled and self._is_ready():
            self.subscribed.settle(None)
        return min(due, self._commit_due)

    def _is_ready(self) -> bool:
        positions = self._fetcher.positions.values()
        assigned = bool(positions) if self._member is None else self._member.settled
        return assigned and all(position.known for position in positions)

    def draining(self, scope: Scope) -> Outcome:
        """No more messages. The reader may finish those it is at."""
        self._end(None)
        return self.wakeup(scope)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Everybody hears of the end."""
        closed = self._error or PoolClosed("the consumer has stopped")
        if closed is not error:
            closed.__cause__ = closed.__cause__ or error
        if not self._ended:
            self._ended, self._error = True, closed
        self.subscribed.fail(closed)
        if self._member is not None:
            self._member.committer.fail(closed)
        self.closed.settle(None)
        if self._receiver is not None:
            self._receiver.wake()
        scope.loop.kill(self._cluster.token)

    # -- the end ---------------------------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        """It cannot go on: for the reader, and once for whoever runs it."""
        if not self._ended:
            name = self.group.group if self.group is not None else ", ".join(self.topics)
            log = self._scope.loop.log
            log.error("consumer failed", cause=f"consumer failed {name}", consumer=name, error=str(error))
            self.subscribed.fail(error)
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._ended:
            return
        self._cut()
        self._ended = True
        self._error = error
        self._finish_by = self._scope.loop.time() + FINISH_SECONDS
        self._scope.wake()
        if self._receiver is not None:
            self._receiver.wake()

    def _finish_up(self, now: float) -> float | None:
        """Let the reader finish, store what is finished, leave. Returns when to look again; None: all is
        done.
        """
        member = self._member
        if member is None:
            return None
        if not self._last_stored:
            at_something = self._index > 0 and self._error is None
            if at_something and now < self._finish_by:
                return self._finish_by
            self._last_stored = True
            if self.auto_commit is not None:
                self._store_done()
        due = member.committer.step(now)
        if not member.committer.idle and member.pool() is not None:
            return due
        return NEVER if member.leave() else None

    # -- partitions ------------------------------------------------------------------------------------------

    def _drop(self, position: Position) -> None:
        """Deliver no more of what was read ahead of this partition."""
        if self._position is position:
            self._mark()
            self._forget()
        self._fetcher.buffer.drop(position)

    def _release(self, keys: Iterable[TopicPartition]) -> None:
        """They are ours no longer, or not for long. What the reader has of them it may still finish."""
        for key in keys:
            position = self._fetcher.positions.get(key)
            if position is not None:
                at_it = self._position is position and self._index > 0
                self._drop(position)
                position.paused = position.given_back = True
                if at_it:
                    self._held_over[key] = position.reached

    def _done(self, keys: Iterable[TopicPartition]) -> Offsets:
        """What is to be stored without being asked: what is finished, and not stored or not for certain."""
        if self.auto_commit is None:
            return {}
        self._mark()
        doubtful = self._in_group().committer.doubtful
        offsets: dict[TopicPartition, int] = {}
        for key in keys:
            position = self._fetcher.positions[key]
            if position.done > position.committed:
                offsets[key] = position.done
            elif position.committed >= 0 and doubtful(key):
                offsets[key] = position.committed
        return offsets

    def _store_done(self) -> None:
        offsets = self._done(self._fetcher.positions)
        if offsets:
            self._store(offsets).when_settled(self._stored)

    def _store(self, offsets: Offsets) -> Reply[None]:
        reply = self._in_group().committer.commit(offsets)
        positions = {key: self._fetcher.positions.get(key) for key in offsets}

        def settled(reply: Reply[None]) -> None:
            if reply.error is not None:
                self._commits_failed += 1
                return
            self._commits += 1
            for key, position in positions.items():
                if position is not None:
                    position.committed = offsets[key]  # perhaps less than before, after a `seek`

        reply.when_settled(settled)
        return reply

    def _stored(self, reply: Reply[None]) -> None:
        if reply.error is not None and self._scope.alive:
            self._scope.loop.log.warning(
                "offsets not stored", cause=f"offsets not stored {self.group}", error=str(reply.error)
            )

    # -- the cluster -----------------------------------------------------------------------------------------

    def _look_at_cluster(self, now: float) -> None:
        cluster = self._cluster
        if cluster.failure is not None and not cluster.refreshes and not self._ended:
            self._unreachable(cluster.failure)
        if cluster.refreshes == self._refreshes and now < self._missing:
            return
        self._refreshes = cluster.refreshes
        self._fetcher.learn()
        self._missing = NEVER
        for name in self.topics:
            topic = cluster.topics.get(name)
            if topic is not None and topic.error:
                self._topic_refused(name, topic.error, now)
            else:
                self._refused.pop(name, None)
        counts = {name: 0 if topic.error else len(topic.partitions) for name, topic in cluster.topics.items()}
        if counts != self._counts:
            self._counts = counts  # another object: the member compares only then
        if self._member is None and self.manual is None:
            keys = [TopicPartition(name, at) for name in self.topics for at in range(counts.get(name, 0))]
            self._fetcher.add(key for key in keys if key not in self._fetcher.positions)

    def _unreachable(self, failure: BaseException) -> None:
        """What needs a person ends it; others may pass, and the brokers' pools tell of them."""
        if failure is self._failure_seen:
            return
        self._failure_seen = failure
        cause = failure if isinstance(failure, BackendError) else failure.__cause__
        if not isinstance(cause, BackendError):
            self._strange = 0
            return
        self._strange += 1
        if fatal_cause(cause) is not None or self._strange >= STRANGE_MAX:
            self._fail(cause)

    def _topic_refused(self, name: str, code: int, now: float) -> None:
        error = error_of(code, about=f"topic {name}")
        if not error.retriable:
            self._fail(error)
            return
        if self._refused.get(name) != code:
            self._refused[name] = code
            self._scope.loop.log.warning("topic cannot be read", cause=f"topic {name}", error=str(error))
        self._missing = now + MISSING_SECONDS
        self._cluster.refresh()


class _Readable(Waitable):
    """Settled when there is something to read, or the end."""

    __slots__ = ("_consumer",)

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def __repr__(self) -> str:
        return f"<a message from {self._consumer!r}>"

    @property
    def settled(self) -> bool:
        return self._consumer.readable

    def attach(self, scope: Waker) -> None:
        self._consumer._receiver = scope

    def detach(self, scope: Waker) -> None:
        if self._consumer._receiver is scope:
            self._consumer._receiver = None
