"""The producer: a machine that gathers messages into batches and has the partitions' leaders write them.

Rules:
1. Every message settles exactly once, within its deadline, which counts everything: metadata, gathering,
   connecting, retries. What is no fault of the message (a broker that is gone, a leader that has moved) is
   tried again until then.
2. What the messages hold together is bounded (`queue_bytes`); what would go beyond is refused at once.
3. What only a person can mend (a password, a permission, a topic that is not there) fails what waits for it,
   and is said once in the log.
4. A deadline that passes says how far the message had come, and whether it may have been written.

How what has been gathered gets to the brokers is `delivery`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Generic, Self, TypeVar

import msgspec

from actors import NEVER, Machine, Outcome, Reply, Scope, Spec, Stop, Timeout
from actors.options import check_counts, check_seconds
from pools import BackendDown, DeadlineExceeded, PoolClosed, PoolError, PoolStatistics, QueueFull
from protocols.kafka.arguments import SECONDS_MAX
from protocols.kafka.cluster import ClusterSpec, Settings
from protocols.kafka.codes import Code
from protocols.kafka.errors import MessageTooLarge, error_of, twin
from protocols.kafka.records.compression import Codec

from .accumulator import SMALL, Batch, Partition, Sending
from .messages import RECORD_OVERHEAD, Push, RecordMetadata, check
from .sender import Delivery, Gate
from .topics import LEGAL_NAME, Topic, Topics
from .verdicts import fatal_cause

__all__ = ["KafkaPool", "ProducerFields", "ProducerOptions", "ProducerStatistics"]

H = TypeVar("H", covariant=True)

OBJECT_BYTES: Final = 400  # what a message takes besides its own bytes while it waits
TOPIC_PATIENCE: Final = 5.0  # seconds: a topic that has just been made is not known everywhere at once
PARTITION_PATIENCE: Final = 1.0  # seconds: the same, of a partition that was added to a topic
SWEEP_SECONDS: Final = 1e-6  # per message that was looked at: so looking takes a tenth of the time at most


class ProducerStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a producer. `submitted == succeeded + sum(failed.values()) + waiting`, always."""

    submitted: int
    succeeded: int
    failed: dict[str, int]  # by the error's name; cancelled ones are under Cancelled
    waiting: int  # messages that have not settled
    held_bytes: int  # what these hold, of `queue_bytes`
    batches: int  # that were acknowledged
    requests: int  # that were sent
    on_the_way: int  # of them, those that have no answer yet
    retried: int  # batches that are, or were, sent again
    split: int  # batches that were too large as one
    epochs: int  # sequences that were begun anew
    refreshes: int  # of the metadata
    brokers: list[PoolStatistics]


class ProducerFields(Spec[H], Generic[H], frozen=True, kw_only=True):
    """What `pool` describes: each field is one of its options, read and checked."""

    settings: Settings
    codec: Codec
    acks: int
    idempotent: bool
    linger: float
    batch_bytes: int
    message_bytes: int
    queue_bytes: int
    timeout: float
    transactional_id: str | None = None

    def __post_init__(self) -> None:
        check_counts(
            batch_bytes=self.batch_bytes, message_bytes=self.message_bytes, queue_bytes=self.queue_bytes
        )
        check_seconds(zero=True, most=SECONDS_MAX, linger=self.linger, timeout=self.timeout)


class ProducerOptions(ProducerFields["KafkaPool"], frozen=True, kw_only=True):
    """A producer without transactions."""

    def make(self, scope: Scope) -> KafkaPool:
        """The producer, which looks for the cluster."""
        return KafkaPool(scope, self)


class KafkaPool(Machine[Any]):
    """What `loop.spawn(pool(…))` gives: takes messages, keeps the books of them, and settles them."""

    __slots__ = (
        "_due",
        "_failed",
        "_failure_seen",
        "_refreshes_seen",
        "_stopped",
        "_swept_until",
        "cluster",
        "delivery",
        "held",
        "loop",
        "options",
        "room",
        "scope",
        "submitted",
        "succeeded",
        "topics",
    )

    drain_phase = 1

    def __init__(self, scope: Scope, options: ProducerFields[Any]) -> None:
        self.options = options
        self.scope = scope
        self.loop = scope.loop
        self.room = options.queue_bytes  # what messages may hold together now: nothing, once it drains
        self.topics = Topics(scope.kernel.random())
        self.cluster = scope.spawn(ClusterSpec(options.settings, self.wake))
        self.delivery = Delivery(self, self.gate)
        self._refreshes_seen = 0
        self._failure_seen: BaseException | None = None
        self._stopped = False
        self._due = NEVER  # no message's deadline is earlier
        self._swept_until = 0.0  # not to be looked at again before
        self._failed: Counter[str] = Counter()
        self.held = 0  # bytes, and `OBJECT_BYTES` for each
        self.submitted = self.succeeded = 0

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "draining" if self.draining_now else "open"
        return (
            f"<KafkaPool {self.name} {state}, {self.waiting} messages wait, "
            f"{len(self.delivery.requests)} requests on their way>"
        )

    @property
    def name(self) -> str:
        """What the pool is called in logs and errors: the cluster's first addresses."""
        return self.options.settings.name

    @property
    def timeout_default(self) -> float:
        """Seconds within which a message settles, if `submit` is given none."""
        return self.options.timeout

    @property
    def gate(self) -> Gate | None:
        """Whoever decides which partitions may be written to; None: all of them."""
        return None

    @property
    def draining_now(self) -> bool:
        """Whether it takes no more messages."""
        return self.room < 0

    # -- for whoever asks ------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Messages that have not settled."""
        return self.submitted - self.succeeded - sum(self._failed.values())

    @property
    def finished(self) -> bool:
        """Whether there is nothing that a drain waits for."""
        return not self.waiting

    def submit(self, unit: Push, timeout: float | None = None, priority: int = 0) -> Reply[RecordMetadata]:
        """Have a message written within `timeout` seconds (the pool's default if None; a surrounding
        `deadline()` if that is earlier). Whatever happens is told by the reply.

        `priority` changes nothing: a partition keeps the order of submission. Raises `TypeError` or
        `ValueError` for a message that cannot be sent.
        """
        loop, options = self.loop, self.options
        try:
            value, key = unit.value, unit.key
            plain = not unit.headers and unit.partition is None and unit.timestamp is None
            if plain and value.__class__ is bytes and (key is None or key.__class__ is bytes):
                size = RECORD_OVERHEAD + len(value) + (len(key) if key is not None else 0)
                plain = size < SMALL
            else:
                check(unit)
                size = unit.size
                plain = False
            topic = self.topics.get(unit.topic)
        except AttributeError:
            check(unit)
            raise
        due = loop.deadline_in(options.timeout if timeout is None else timeout)
        now = loop.now
        if topic is None:
            return self._hold(unit, size, now, due)
        held = self.held + size + OBJECT_BYTES
        if held > self.room or size > options.message_bytes:
            return self._refused(unit, size, now, due)
        partition: Partition | None
        if key is None and topic.sticky_bytes > 0 and unit.partition is None:
            topic.sticky_bytes -= size
            partition = topic.sticky
        else:
            partition = topic.route(unit)
        if partition is None:
            return self._hold(unit, size, now, due)
        batch = partition.open
        if batch is None or batch.bytes + size > options.batch_bytes:
            batch = self._new_batch(partition, now)
        self.submitted += 1
        self.held = held
        work = Sending(unit, batch, now, due)
        batch.works.append(work)
        batch.bytes += size
        if not plain:
            batch.plain = False
        if due < batch.due:
            batch.due = due
            if due < self._due:
                self._due = due
                self.scope.wake()
        return work

    def _refused(self, unit: Push, size: int, now: float, due: float) -> Reply[RecordMetadata]:
        error: PoolError
        if self.draining_now:
            done = "has stopped" if self._stopped else "drains"
            error = PoolClosed(f"the pool of {self.name} {done}; the message was not sent")
        elif size > self.options.message_bytes:
            limit = self.options.message_bytes
            error = MessageTooLarge(
                Code.MESSAGE_TOO_LARGE,
                f"{size} bytes; the pool takes {limit}, see message_bytes=; it was not sent",
                about=unit.topic,
            )
            self.tell(unit.topic, error, 1)
        else:
            self.loop.log.warning(
                "queue full", cause=f"queue full {self.name}", pool=self.name, bytes=self.held
            )
            limit = self.options.queue_bytes
            error = QueueFull(
                f"messages that wait for {self.name} hold {self.held} of {limit} bytes already; "
                "the message was not sent"
            )
        return self._failed_at_once(unit, error, now, due)

    def _failed_at_once(self, unit: Push, error: PoolError, now: float, due: float) -> Reply[RecordMetadata]:
        work = Sending(unit, Batch(self.topics.nowhere, now, self._cancelled), now, due)
        work.fail(error)
        self.submitted += 1
        self._failed[type(error).__name__] += 1
        return work

    def _hold(self, unit: Push, size: int, now: float, due: float) -> Reply[RecordMetadata]:
        """Keep a message until its topic's partitions are known."""
        topic = self.topics.get(unit.topic)
        if topic is None:
            check(unit)
            if LEGAL_NAME.fullmatch(unit.topic) is None:
                error = error_of(Code.INVALID_TOPIC_EXCEPTION, about=repr(unit.topic[:249]))
                self.tell(repr(unit.topic[:249]), error, 1)
                return self._failed_at_once(unit, error, now, due)
        if self.held + size + OBJECT_BYTES > self.room or size > self.options.message_bytes:
            return self._refused(unit, size, now, due)
        if topic is None:
            topic = self.topics.add(unit.topic)
        held = topic.held(now, self._cancelled)
        self.submitted += 1
        self.held += size + OBJECT_BYTES
        work = Sending(unit, held, now, due)
        held.take(work)
        if due < self._due:
            self._due = due
        if unit.topic in self.cluster.topics:
            self.cluster.refresh()  # it is known, but not (that partition of) it
        else:
            self.cluster.want(unit.topic)
        self.scope.wake()
        return work

    def _new_batch(self, partition: Partition, now: float) -> Batch:
        batch = Batch(partition, now, self._cancelled)
        partition.begin(batch)
        self.delivery.wait_for(partition)
        self.scope.wake()
        return batch

    def _cancelled(self, batch: Batch, work: Sending) -> None:
        """The asker of a message has cancelled."""
        self._failed[type(work.error).__name__] += 1
        self.held -= work.unit.size + OBJECT_BYTES
        batch.settled(work)
        self.scope.wake()

    def _cancelled_late(self, batch: Batch, work: Sending) -> None:
        """The same, while its batch is being settled."""
        self._failed[type(work.error).__name__] += 1
        self.succeeded -= 1

    def drain(self) -> None:
        """Take no more messages, have those that are there written, then stop."""
        self._take_no_more()
        self.wake()

    def _take_no_more(self) -> None:
        self.room = -1

    def statistics(self) -> ProducerStatistics:
        """What the producer has done so far, and what is there now."""
        return ProducerStatistics(
            submitted=self.submitted,
            succeeded=self.succeeded,
            failed=dict(self._failed),
            waiting=self.waiting,
            held_bytes=self.held,
            batches=self.delivery.written,
            requests=self.delivery.sent,
            on_the_way=len(self.delivery.requests),
            retried=self.delivery.retried,
            split=self.delivery.split,
            epochs=self.delivery.epochs,
            refreshes=self.cluster.refreshes,
            brokers=self.cluster.statistics(),
        )

    # -- machine ---------------------------------------------------------------------------------------------

    def handle(self, scope: Scope) -> Self:
        """Spawning gives the pool itself."""
        return self

    @property
    def token(self) -> int:
        """The machine's token."""
        return self.scope.token

    def start(self, scope: Scope) -> Outcome:
        """Look at what there is to do."""
        return self.wakeup(scope)

    def wake(self) -> None:
        """Have the machine look at what waits, in this tick."""
        self.scope.wake()

    def wakeup(self, scope: Scope) -> Outcome:
        """Take the answers that have come, send what can be sent."""
        now = scope.loop.now
        cluster, delivery = self.cluster, self.delivery
        delivery.take_answers(now)
        if cluster.refreshes != self._refreshes_seen:
            self._refreshes_seen = cluster.refreshes
            self._learn(now)
        elif cluster.failure is not self._failure_seen:
            self._failure_seen = cluster.failure
            fatal = fatal_cause(cluster.failure)
            if fatal is not None:
                self.fail_all(fatal)
        if now >= self._due and now >= self._swept_until:
            self._sweep(now)
        due = delivery.dispatch(now) if delivery.busy else NEVER
        if self.draining_now and self.finished:
            return Stop()
        return Timeout(self, min(max(self._due, self._swept_until), due))

    timeout = wakeup

    def draining(self, scope: Scope) -> Outcome:
        """The loop drains."""
        self._take_no_more()
        return self.wakeup(scope)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Settle everything, close every connection."""
        self._take_no_more()
        self._stopped = True
        self.fail_all(PoolClosed(f"the pool of {self.name} has stopped"))
        scope.loop.kill(self.cluster.token, error)

    # -- what is known of topics -----------------------------------------------------------------------------

    def _learn(self, now: float) -> None:
        """The cluster has news."""
        for topic in list(self.topics.values()):
            known = self.cluster.topics.get(topic.name)
            if known is None:
                continue
            if known.error or not known.partitions:
                self._not_there(topic, known.error or Code.LEADER_NOT_AVAILABLE, now)
                continue
            for batch in topic.learn(known, self.cluster.nodes):
                for work in batch.works:
                    if not work.settled:
                        topic.held(now, self._cancelled).take(work)
            holding = topic.release()
            if holding is not None:
                self._route(topic, holding, now)

    def _not_there(self, topic: Topic, code: int, now: float) -> None:
        """A topic that is not there yet is asked for again; one that stays away fails what waits for it."""
        error = error_of(code, about=topic.name)
        if code == Code.UNKNOWN_TOPIC_OR_PARTITION:
            missing = topic.missing(now, TOPIC_PATIENCE)
        else:
            missing = False
            topic.exists()
        topic.refused(error)
        if missing or not error.retriable:
            batches = list(topic.batches)
            live = sum(batch.live for batch in batches)
            if live:
                self.tell(topic.name, error, live)
            topic.release()
            forgotten = self.topics.missing(topic.name)
            if forgotten is not None:
                self.cluster.forget(forgotten)
            for batch in batches:
                self.fail(batch, error)
        elif topic.holding is not None:
            self.cluster.refresh()

    def _route(self, topic: Topic, holding: Batch, now: float) -> None:
        """The partitions are known: messages that have waited for that go on."""
        for work in holding.works:
            if work.settled:
                continue
            partition = topic.route(work.unit)
            if partition is None and now < work.since + PARTITION_PATIENCE:
                topic.held(now, self._cancelled).take(work)
                self.cluster.refresh()
                continue
            if partition is None:
                self.drop(
                    holding,
                    work,
                    error_of(
                        Code.UNKNOWN_TOPIC_OR_PARTITION,
                        f"the topic has {topic.count} partitions, from 0 on",
                        about=f"{topic.name}/{work.unit.partition}",
                    ),
                )
                continue
            batch = partition.open
            if batch is None or batch.bytes + work.unit.size > self.options.batch_bytes:
                batch = self._new_batch(partition, now)
            batch.take(work)

    # -- what becomes of messages ----------------------------------------------------------------------------

    def succeed(self, batch: Batch, offset: int, timestamp: int) -> None:
        """A batch was written, its first message at `offset`; `timestamp` is the broker's, or -1."""
        self.held -= batch.bytes + OBJECT_BYTES * batch.live
        self.succeeded += batch.live
        batch.succeed(offset, timestamp, self._cancelled_late)

    def fail(self, batch: Batch, error: Exception) -> None:
        """Every message of a batch that somebody still waits for fails. Who hears of it may submit again at
        once, so the batch takes nothing more.
        """
        more = "; it may have been written" if batch.fixed else ""
        for work in batch.fails():
            self.drop(batch, work, twin(error, more))
        batch.failed()

    def refused(self, batch: Batch, error: Exception) -> None:
        """The same, for a batch that its broker will never take."""
        error = fatal_cause(error) or error
        self.tell(batch.partition.topic, error, batch.live)
        self.fail(batch, error)

    def tell(self, topic: str, error: Exception, messages: int) -> None:
        """Once in the log, not once per message."""
        self.loop.log.warning(
            "messages refused",
            cause=f"messages refused {topic} {type(error).__name__}",
            topic=topic,
            error=str(error),
            messages=messages,
        )

    def drop(self, batch: Batch, work: Sending, error: Exception) -> None:
        """One message fails, unless somebody who heard of another has cancelled it meanwhile."""
        if not work.pending:
            return
        self.held -= work.unit.size + OBJECT_BYTES
        self._failed[type(error).__name__] += 1
        work.fail(error)
        batch.settled(work)

    def fail_all(self, error: Exception) -> None:
        """Everything that waits fails; with its cause, where that is what a person has to mend."""
        error = fatal_cause(error) or error
        batches = self.topics.batches
        for topic in self.topics.values():
            topic.release()
        for batch in batches:
            self.fail(batch, error)

    @property
    def clock(self) -> float:
        """What to add to monotonic seconds for those since 1970."""
        kernel = self.loop.kernel
        return kernel.wall_clock() - kernel.monotonic()

    def _sweep(self, now: float) -> None:
        """Every message whose deadline has passed, and when to look again."""
        due, self._due, looked_at = NEVER, NEVER, 0
        for batch in self.topics.batches:
            if batch.due <= now:
                looked_at += len(batch.works)
            for work in batch.expired(now):
                self.drop(batch, work, self._late(batch))
            due = min(due, batch.due)
        self._due = min(self._due, due)  # who heard of one may have submitted another meanwhile
        self._swept_until = now + SWEEP_SECONDS * looked_at

    def _late(self, batch: Batch) -> DeadlineExceeded:
        because = batch.cause or self.cluster.failure
        why = f" ({because or 'no broker has answered yet'})" if because or not self.cluster.refreshes else ""
        if batch.fixed:
            return DeadlineExceeded(
                f"no acknowledgement before the deadline{why}; the message may have been written", "sent"
            )
        connecting = isinstance(because, BackendDown)
        error = DeadlineExceeded(
            f"{self.name} did not take the message before the deadline{why}; it was not written",
            "connecting" if connecting else "queued",
        )
        error.__cause__ = because
        return error
