"""Reading topics: a stream of messages, alone or as a member of a group that shares the partitions.

    clicks = loop.spawn(kafka.consumer("127.0.0.1:9092", "clicks", group="counters"))
    async for record in clicks:
        print(record.partition, record.offset, record.value)

Made by `consumer`, in `protocols.kafka.consumer.options`.

Rules:
1. A reader that asks for the next messages has finished those before (`reader`). What is finished is stored
   with the group, every `auto_commit` seconds, before partitions are given back, and at the end; so a message
   that was begun and not finished is read again (at least once). With `auto_commit` None nothing is stored
   but by `commit`.
2. A reader that is slow stops the fetching, never the heartbeats. What is read ahead has a limit.
3. Of a partition that the group takes away nothing is delivered any more. `on_rebalance` is told.
4. Brokers that restart and leaders that move are ridden out. What needs a person (no right to read, a topic
   in a format of long ago, a group that assigns in another way) ends the consumer, with that error for the
   reader and one line in the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, Self

import msgspec

from actors import NEVER, Machine, Misuse, Outcome, Reply, Scope, Spec, Stop, Timeout
from actors.options import check_seconds
from pools import PoolClosed
from protocols.kafka.arguments import offset_of, partition_of, text_of
from protocols.kafka.asks import Asks
from protocols.kafka.cluster import ClusterSpec, Settings
from protocols.kafka.group.assignors import TopicPartition
from protocols.kafka.group.membership import Member, Rebalance
from protocols.kafka.group.state import GroupSettings, Membership
from protocols.kafka.offsets import Offset
from protocols.kafka.records.batch import Record

from .fetcher import Fetcher, FetchSettings
from .positions import Position, Positions
from .reader import Ending, Reader
from .watch import Watch

__all__ = ["Consumer", "ConsumerOptions", "ConsumerStatistics"]

FINISH_SECONDS: Final = 1.0  # that a drain grants the reader for the messages it is at
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


class ConsumerOptions(Spec["Consumer"], frozen=True, kw_only=True):
    """What `consumer` describes: each field is one of its options, read and checked."""

    settings: Settings
    topics: tuple[str, ...]
    fetch: FetchSettings
    group: GroupSettings | None
    manual: dict[TopicPartition, int | None] | None
    auto_commit: float | None
    on_rebalance: Callable[[Rebalance], object] | None

    def __post_init__(self) -> None:
        for topic in self.topics:
            text_of("topic", topic)
        if self.auto_commit is not None:
            check_seconds(auto_commit=self.auto_commit)

    def make(self, scope: Scope) -> Consumer:
        """The consumer, which looks for the cluster."""
        return Consumer(scope, self)


class Consumer(Machine["Consumer"]):
    """What `loop.spawn(consumer(…))` gives. Iterate over it, or `await receive()`."""

    __slots__ = (
        "_asks",
        "_cluster",
        "_ending",
        "_fetcher",
        "_member",
        "_positions",
        "_reader",
        "_scope",
        "_watch",
        "options",
        "subscribed",
    )

    drain_phase = 0  # it is where work comes from: its reader is to see the end, and finish

    def __init__(self, scope: Scope, options: ConsumerOptions) -> None:
        self.options = options
        self.subscribed: Reply[None] = Reply()
        self._scope = scope
        self._asks = Asks(scope)
        self._ending = Ending()
        self._positions = Positions(scope.kernel.random())
        self._reader = Reader(scope, self._positions, self._ending, self._who, self._fail)
        self._cluster = scope.spawn(ClusterSpec(options.settings, scope.wake))
        self._watch = Watch(self._cluster, options.topics, scope.loop.log, self._fail)
        self._fetcher = Fetcher(
            options.fetch,
            self._cluster,
            scope,
            self._asks,
            self._positions,
            self._fail,
            self._reader.drop,
        )
        self._member = None if options.group is None else self._join(options.group)
        self._positions.add(options.manual or ())
        for key, offset in (options.manual or {}).items():
            if offset is not None:
                self._positions[key].move(offset)

    def _join(self, group: GroupSettings) -> Member:
        return Member(
            group,
            self._scope,
            self._cluster,
            self._asks,
            self._reader,
            self._fetcher,
            self._positions,
            alone=self.options.manual is not None,
            auto_commit=self.options.auto_commit,
            failed=self._fail,
            on_rebalance=self.options.on_rebalance,
        )

    def __repr__(self) -> str:
        of = "no group" if self.options.group is None else self.options.group.group
        state = "ended" if self._ending.begun else self._state
        return f"<Consumer of {', '.join(self.options.topics)} in {of}, {state}>"

    # -- for the reader --------------------------------------------------------------------------------------

    def receive(self) -> Coroutine[Any, Any, Record]:
        """The next message; those before it are finished. Raises what ended the consumer, `ChannelClosed` at
        the end, or `Misuse` while another flow waits.
        """
        return self._reader.receive()

    def receive_many(self, limit: int = MANY) -> Coroutine[Any, Any, list[Record]]:
        """The next messages, of one partition, at least one and at most `limit`; otherwise as `receive`."""
        return self._reader.receive_many(limit)

    def __aiter__(self) -> AsyncIterator[Record]:
        return self._reader.__aiter__()

    # -- for the program -------------------------------------------------------------------------------------

    @property
    def closed(self) -> Reply[None]:
        """Settles when the consumer has ended, and all that it had to store is stored."""
        return self._ending.closed

    def commit(self, *records: Record) -> Reply[None]:
        """Store with the group that these, and all before them in their partitions, are finished; without
        any: all that was delivered. The reply settles when it is stored, or fails with a `KafkaError` if the
        group has given the partitions to others. Raises `Misuse` without a group, `TypeError` for anything
        but a record.
        """
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            if not isinstance(record, Record):
                raise TypeError(f"{record!r:.60} is not a record; give what `receive` returned")
            key = TopicPartition(record.topic, record.partition)
            offsets[key] = max(offsets.get(key, 0), record.offset + 1)
        commits = self._in_group().commits
        if records:
            return commits.store(offsets)
        self._reader.mark()
        return commits.store(self._positions.reached)

    def positions(self) -> dict[TopicPartition, Offset]:
        """By partition, the offset behind all that was delivered; also of a partition that the group has
        taken away while the reader is at its messages. Each is an `Offset`, which a transaction stores with
        its leader epoch.
        """
        self._reader.mark()
        return self._positions.reached | self._reader.held_over

    @property
    def membership(self) -> Membership:
        """Who this is in its group, by which a broker checks the offsets that a transaction stores: for what
        the group has taken away meanwhile, who it was when the messages were delivered. Raises `Misuse`
        without a group.
        """
        member, reader = self._in_group(), self._reader
        return reader.loaded_as if reader.held_over and reader.loaded_as is not None else member.membership

    @property
    def assignment(self) -> tuple[TopicPartition, ...]:
        """What is read now."""
        return tuple(self._positions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on there in a partition. Raises `Misuse` if it is not one of ours, `TypeError` or `ValueError`
        for what is no partition or no offset.
        """
        position = self._own(partition)
        offset = offset_of(offset)
        self._reader.drop(position)
        position.move(offset)
        self._scope.wake()

    def rewind(self) -> None:
        """Go back to what is stored with the group: what was delivered since is delivered again, after a
        transaction that was rolled back, say. Raises `Misuse` without a group.
        """
        self._in_group()
        for position in self._positions.values():
            self._reader.drop(position)
            position.forget()
        self._scope.wake()

    def pause(self, *partitions: TopicPartition) -> None:
        """Deliver nothing of these until `resume`. Raises as `seek`."""
        for partition in partitions:
            self._reader.pause(self._own(partition))

    def resume(self, *partitions: TopicPartition) -> None:
        """Go on with these, but for those that the group is taking away. Raises as `seek`."""
        for partition in partitions:
            self._own(partition).resume()
        self._scope.wake()

    def close(self) -> Reply[None]:
        """The end: all that was delivered is finished, that is stored, the group is left. Settles when it is
        so.
        """
        if not self._ending.begun:
            self._reader.finish_all()
            self._end(None)
        return self.closed

    def statistics(self) -> ConsumerStatistics:
        """What it has done so far, and what is there now."""
        member = self._member
        return ConsumerStatistics(
            state=self._state,
            generation=member.membership.generation if member is not None else -1,
            partitions=len(self._positions),
            delivered=self._reader.delivered,
            buffered_bytes=self._positions.buffer.weight,
            rebalances=member.rebalances if member is not None else 0,
            commits=member.commits.stored if member is not None else 0,
            commits_failed=member.commits.failed if member is not None else 0,
            parted=self._fetcher.parted,
        )

    @property
    def _state(self) -> str:
        group = self._member.group if self._member is not None else None
        return "alone" if group is None else group.state.value

    def _who(self) -> Membership | None:
        return self._member.membership if self._member is not None else None

    def _in_group(self) -> Member:
        if self._member is None:
            raise Misuse("this consumer has no group to store offsets in; give consumer(…, group=…)")
        return self._member

    def _own(self, partition: TopicPartition) -> Position:
        position = self._positions.get(partition_of(partition))
        if position is None:
            raise Misuse(f"{partition} is not read here; look at `assignment`")
        return position

    # -- machine ---------------------------------------------------------------------------------------------

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the consumer itself."""
        return self

    def start(self, scope: Scope) -> Outcome:
        """Ask what can be asked at once."""
        return self.wakeup(scope)

    def wakeup(self, scope: Scope) -> Outcome:
        """An answer has come, something is due, or the reader has made room."""
        now = scope.now
        self._asks.collect()
        if self._watch.look(now):
            self._fetcher.learn()
            if self._member is None and self.options.manual is None:
                self._positions.add(self._watch.partitions)
        due = self._finish_up(now) if self._ending.begun else self._step(now)
        if due is None:
            return Stop()
        self._reader.wake()
        return Timeout(self, due)

    timeout = wakeup

    def _step(self, now: float) -> float:
        """Everything that is to be asked now. Returns when to look again."""
        due = self._watch.due
        if self._member is not None:
            due = min(due, self._member.step(now, self._watch.counts))
        else:
            for position in self._positions.values():
                if position.lost:
                    self._fetcher.reset(position, "nothing says where to begin")
        due = min(due, self._fetcher.step(now))
        if not self.subscribed.settled and self._is_ready():
            self.subscribed.settle(None)
        return due

    def _is_ready(self) -> bool:
        assigned = bool(self._positions) if self._member is None else self._member.settled
        return assigned and all(position.known for position in self._positions.values())

    def draining(self, scope: Scope) -> Outcome:
        """No more messages. The reader may finish those it is at."""
        self._end(None)
        return self.wakeup(scope)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Everybody hears of the end."""
        closed = self._ending.error or PoolClosed("the consumer has stopped")
        if closed is not error:
            closed.__cause__ = closed.__cause__ or error
        if not self._ending.begun:
            self._ending.begin(closed)
        self.subscribed.fail(closed)
        if self._member is not None:
            self._member.commits.committer.fail(closed)
        self.closed.settle(None)
        self._reader.wake()
        scope.loop.kill(self._cluster.token)

    # -- the end ---------------------------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        """It cannot go on: for the reader, and once for whoever runs it."""
        if not self._ending.begun:
            group = self.options.group
            name = group.group if group is not None else ", ".join(self.options.topics)
            log = self._scope.loop.log
            log.error("consumer failed", cause=f"consumer failed {name}", consumer=name, error=str(error))
            self.subscribed.fail(error)
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._ending.begun:
            return
        self._reader.cut()
        self._ending.begin(error, self._scope.loop.time() + FINISH_SECONDS)
        self._scope.wake()
        self._reader.wake()

    def _finish_up(self, now: float) -> float | None:
        """Let the reader finish, store what is finished, leave. Returns when to look again; None: all is
        done.
        """
        member, ending = self._member, self._ending
        if member is None:
            return None
        if not ending.stored:
            if self._reader.at_something and ending.error is None and now < ending.finish_by:
                return ending.finish_by
            ending.store()
            member.commits.store_done()
        committer = member.commits.committer
        due = committer.step(now)
        if not committer.idle and member.coordinator.pool() is not None:
            return due
        return NEVER if member.leave() else None
