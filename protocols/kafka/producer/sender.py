"""Delivery: how batches get to the partitions' leaders, and what their answers mean for them.

Rules:
1. A batch is sent when it is full, or `linger` has passed since its first message, or the pool drains; and
   when nothing of its partition is on its way. At most `REQUESTS` requests are on their way to one broker, so
   batches go on growing while it is busy.
2. An attempt that certainly was not written (the broker could not be reached, it refused) leaves no trace.
   After one whose fate is not known the same batch is sent again with the same sequence number, and the
   broker takes it once (see `batches`).
3. A batch that may have been written and that nobody waits for any more is not sent again; the partition's
   sequence begins anew, in an epoch that shuts the old one out.
4. What is to be tried again waits, longer each time, and asks the cluster who leads the partition now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from actors import NEVER, Reply
from pools import PoolError
from protocols.kafka.cluster import BrokerPool
from protocols.kafka.codes import Code
from protocols.kafka.connection.units import Call
from protocols.kafka.errors import CODES, BadMessage, KafkaError, error_of
from protocols.kafka.protocol.api import (
    InitProducerId,
    InitProducerIdResponse,
    Produce,
    ProducePartition,
    ProducePartitionResponse,
    ProduceResponse,
    ProduceTopic,
)
from protocols.kafka.retrying import retry

from .accumulator import Batch, Partition
from .verdicts import Verdict, fatal_cause, verdict_of_answer, verdict_of_failure

if TYPE_CHECKING:
    from .producer import KafkaPool

__all__ = ["Delivery", "Gate"]

REQUESTS: Final = 5  # as max.in.flight.requests.per.connection of Java's client
REQUEST_BYTES: Final = 1 << 20  # of batches in one request, as max.request.size of Java's client
ANSWER_SHARE: Final = 0.9  # of the request's time is the broker's, so that it can say that replicas are late


class _Request:
    """A produce request on its way."""

    __slots__ = ("batches", "node", "reply")

    def __init__(self, node: int, batches: list[Batch], reply: Reply[ProduceResponse | None]) -> None:
        self.node = node
        self.batches = batches
        self.reply = reply

    def __repr__(self) -> str:
        return f"<_Request to broker {self.node}, {len(self.batches)} batches>"


class Gate(Protocol):
    """What a transaction has to say to the delivery."""

    def admits(self, partition: Partition) -> bool:
        """Whether batches may be sent to that partition. Wakes the pool when that changes."""

    def lost_count(self) -> None:
        """A batch was given up whose fate is not known."""


class Delivery:
    """One producer's. `busy` are the partitions for which something waits, or to which it is on its way."""

    __slots__ = (
        "_answered",
        "_identifying",
        "_identity_retry",
        "_loads",
        "_pool",
        "busy",
        "epochs",
        "gate",
        "identity",
        "requests",
        "retried",
        "sent",
        "split",
        "written",
    )

    def __init__(self, pool: KafkaPool, gate: Gate | None) -> None:
        self._pool = pool
        self.busy: dict[Partition, None] = {}
        self.requests: dict[_Request, None] = {}
        self._loads: dict[int, int] = {}  # requests on their way, by broker
        self._answered: list[_Request] = []
        self.gate = gate
        self.identity: tuple[int, int] | None = None if pool.options.idempotent else (-1, -1)
        self._identifying: Reply[InitProducerIdResponse] | None = None
        self._identity_retry = retry(pool.scope.kernel.random())
        self.sent = self.retried = self.split = self.epochs = self.written = 0

    def __repr__(self) -> str:
        return f"<Delivery to {len(self.busy)} partitions, {len(self.requests)} requests on their way>"

    # -- sending ---------------------------------------------------------------------------------------------

    def dispatch(self, now: float) -> float:
        """Send what can be sent; when to look again."""
        if self.identity is None:
            due = self._identify(now) if self.gate is None else NEVER
            if self.identity is None:
                return due
        due = NEVER
        leaders: dict[int, list[Partition]] = {}
        idle: list[Partition] = []
        for partition in self.busy:
            if partition.sent is not None:
                continue
            batch = self._head(partition)
            if batch is None:
                idle.append(partition)
                continue
            when = self._ready_at(partition, batch)
            if when > now:
                due = min(due, when)
            elif self.gate is None or self.gate.admits(partition):
                leaders.setdefault(partition.leader, []).append(partition)
        for partition in idle:
            del self.busy[partition]
        for partition in leaders.pop(-1, ()):
            if partition.queue[0].cause is None:
                about = f"{partition.topic}/{partition.index}"
                partition.queue[0].blame(error_of(Code.LEADER_NOT_AVAILABLE, about=about))
            self._pool.cluster.refresh()
        for node, partitions in leaders.items():
            self._send_to(node, partitions)
        return due

    def _head(self, partition: Partition) -> Batch | None:
        """The first batch that somebody waits for. Those before it are given up."""
        while partition.queue:
            batch = partition.queue[0]
            if batch.live:
                return batch
            partition.pop()
            if batch.maybe_written:
                self._begin_anew(partition)
        return None

    def _ready_at(self, partition: Partition, batch: Batch) -> float:
        lingers = batch is partition.open and not self._pool.draining_now
        return max(partition.retry.due, batch.created + self._pool.options.linger if lingers else 0.0)

    def _send_to(self, node: int, partitions: list[Partition]) -> None:
        pool = self._pool.cluster.pool(node)
        if pool is None:
            self._pool.cluster.refresh()
            return
        waiting = iter(partitions)
        partition = next(waiting, None)
        while partition is not None and self._loads.get(node, 0) < REQUESTS:
            batches: list[Batch] = []
            size = 0
            while partition is not None and (size == 0 or size + partition.queue[0].bytes <= REQUEST_BYTES):
                batch = partition.pop()
                size += batch.bytes
                batches.append(batch)
                partition = next(waiting, None)
            self._send(node, batches, pool)

    def _send(self, node: int, batches: list[Batch], pool: BrokerPool) -> None:
        owner, options = self._pool, self._pool.options
        transactional = options.transactional_id
        topics: dict[str, ProduceTopic] = {}
        for batch in batches:
            partition = batch.partition
            if partition.producer < 0 and self.identity is not None and self.identity[0] >= 0:
                partition.identify(*self.identity)
            batch.prepare(options.codec, owner.clock)
            partition.sends(batch)
            self.busy[partition] = self.busy.pop(partition)  # others first, the next time
            topic = topics.get(partition.topic)
            if topic is None:
                topic = topics[partition.topic] = ProduceTopic(partition.topic, [])
            topic.partitions.append(
                ProducePartition(partition.index, batch.seal(options.codec, transactional is not None))
            )
        seconds = options.settings.request_timeout
        produce = Produce(
            transactional, options.acks, int(1000 * ANSWER_SHARE * seconds), list(topics.values())
        )
        self.sent += 1
        self._loads[node] = self._loads.get(node, 0) + 1
        request = _Request(node, batches, pool.submit(Call(produce, answered=options.acks != 0), seconds))
        self.requests[request] = None
        request.reply.when_settled(lambda reply: self._came(request))

    def _came(self, request: _Request) -> None:
        self._answered.append(request)
        self._pool.scope.wake()

    # -- answers ---------------------------------------------------------------------------------------------

    def take_answers(self, now: float) -> None:
        """What has come since the last time."""
        while self._answered:
            answered, self._answered = self._answered, []
            for request in answered:
                del self.requests[request]
                self._loads[request.node] -= 1
                self._take(request, now)

    def _take(self, request: _Request, now: float) -> None:
        error = request.reply.error
        if isinstance(error, Exception):
            for batch in request.batches:
                self._judge(batch, verdict_of_failure(error), error, now)
            self._pool.cluster.refresh()
            return
        answer = request.reply.result()
        if answer is None:  # there is none with acks 0
            for batch in request.batches:
                self._written(batch, -1, -1)
            return
        parts = {(topic.topic, part.partition): part for topic in answer.topics for part in topic.partitions}
        for batch in request.batches:
            partition = batch.partition
            self._read(batch, parts.get((partition.topic, partition.index)), now)

    def _read(self, batch: Batch, part: ProducePartitionResponse | None, now: float) -> None:
        about = f"{batch.partition.topic}/{batch.partition.index}"
        if part is None:
            missing = BadMessage(f"the broker's answer says nothing of {about}")
            self._judge(batch, Verdict.UNKNOWN, missing, now)
            return
        verdict = verdict_of_answer(part.error, batch.count, self.gate is not None)
        if verdict is Verdict.WRITTEN:
            self._written(batch, part.offset, part.timestamp_ms)
            return
        error = error_of(part.error, part.message, about=about)
        if verdict is Verdict.REFUSED and part.records and not batch.maybe_written:
            self._drop_records(batch, part, error, now)
            return
        if part.error in CODES and CODES[part.error].stale:
            self._pool.cluster.refresh()
        self._judge(batch, verdict, error, now)

    def _written(self, batch: Batch, offset: int, timestamp: int) -> None:
        self.written += 1
        batch.partition.written(batch.count)
        self._pool.succeed(batch, offset, timestamp)

    def _judge(self, batch: Batch, verdict: Verdict, error: Exception, now: float) -> None:
        """A batch was not written, or perhaps not."""
        partition = batch.partition
        batch.came_back(error)
        if verdict is Verdict.SPLIT and batch.maybe_written:
            verdict = Verdict.REFUSED
        if verdict is Verdict.REFUSED:
            self._refuse(batch, error)
            return
        if verdict is Verdict.SPLIT:
            self.split += 1
            partition.queue.extendleft(reversed(batch.split(now)))
            return
        if verdict is Verdict.UNKNOWN:
            batch.doubt()
        elif verdict is Verdict.ANEW:
            self._begin_anew(partition)
        self.retried += 1
        partition.again(batch, error, now)

    def _refuse(self, batch: Batch, error: Exception) -> None:
        if batch.maybe_written or self.gate is not None:
            self._begin_anew(batch.partition)
        if batch.live:
            self._pool.refused(batch, error)

    def _drop_records(
        self, batch: Batch, part: ProducePartitionResponse, error: KafkaError, now: float
    ) -> None:
        """The broker names the messages for which it has refused the batch: the others go once more."""
        bad = {entry.index: entry.message for entry in part.records if 0 <= entry.index < batch.count}
        if not bad:
            self._judge(batch, Verdict.REFUSED, error, now)
            return
        batch.came_back(batch.cause)
        works = [(batch.works[index], message) for index, message in bad.items()]
        self._pool.tell(batch.partition.topic, error, len(works))
        for work, message in works:
            own = KafkaError(error.code, message or part.message, about=error.about)
            self._pool.drop(batch, work, own)
        batch.compact()
        batch.partition.queue.appendleft(batch)

    # -- who we are ------------------------------------------------------------------------------------------

    def _identify(self, now: float) -> float:
        """Get an identity, for sequence numbers are told by it; when to try again."""
        asked = self._identifying
        if asked is not None:
            if not asked.settled:
                return NEVER
            self._identifying = None
            error = asked.error
            if error is None:
                answer = asked.result()
                if not answer.error and answer.producer >= 0 <= answer.epoch:
                    self.identity = (answer.producer, answer.epoch)
                    self._identity_retry.succeeded()
                    return NEVER
                error = (
                    error_of(answer.error, about="a producer's identity")
                    if answer.error
                    else BadMessage(f"identity {answer.producer}, epoch {answer.epoch}, which is not valid")
                )
            self._not_identified(error, now)
        if now >= self._identity_retry.due:
            self._identifying = self._pool.cluster.call(InitProducerId(None, 0), idempotent=True)
            self._identifying.attach(self._pool.scope)
            return NEVER
        return self._identity_retry.due

    def _not_identified(self, error: BaseException, now: float) -> None:
        self._identity_retry.failed(now, error)
        passes = error.retriable if isinstance(error, KafkaError) else fatal_cause(error) is None
        if not passes and isinstance(error, PoolError):
            self._pool.fail_all(error)

    def forget_identity(self) -> None:
        """Send nothing until `begin_as` has told another identity."""
        self.identity = None

    def wait_for(self, partition: Partition) -> None:
        """Something waits for this partition."""
        self.busy[partition] = None

    def begin_as(self, producer: int, epoch: int) -> None:
        """Every partition's sequence begins, for there is a new identity."""
        self.identity = (producer, epoch)
        for partition in self._pool.topics.partitions:
            partition.identify(producer, epoch)

    def _begin_anew(self, partition: Partition) -> None:
        if self.gate is not None:
            self.gate.lost_count()
            return
        if partition.producer < 0:
            return
        self.epochs += 1
        partition.begin_anew()
        if partition.producer < 0:
            self.identity = None
