"""Transactions: messages, and offsets of what was consumed, of which others see all or nothing (KIP-98).

    producer = loop.spawn(kafka.pool("127.0.0.1:9092", transactional_id="transfers-1"))
    async with producer.transaction() as tx:
        tx.send(kafka.message("results", b"42"))
        tx.commit_offsets(consumer.membership, consumer.positions())

Rules:
1. One transaction at a time per producer. It ends with the block: committed, or rolled back if an error left
   the block or anything in it was not written. What the coordinator is told goes on to its end whatever
   becomes of the task that began it.
2. A partition becomes part of the transaction before the first batch is sent to it.
3. Nothing is on its way any more when the coordinator is told the end.
4. A transaction that has lost count (a batch whose fate is not known) is rolled back, and the next one has
   another epoch, which shuts out what is late (KIP-360).
5. Who is fenced, because another has begun with the same id, stays so: every further transaction fails.
6. A transaction that takes longer than its timeout is rolled back by its coordinator, which shuts its
   producer out by raising the epoch by one. Another producer that begins meanwhile raises it by two. So who
   can go on from the next epoch was not replaced, and does so.
7. An end, or offsets, whose answer was lost may be executed late, after they were sent again: brokers read
   what a dead connection has brought. The next transaction has another epoch, which shuts them out of it. In
   the same one they would replace later offsets of their partitions; who stores such rolls it back.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from actors import NEVER, Backoff, Misuse, Outcome, Reply, Scope, settle_all, sleep
from actors.options import check_seconds
from pools import DeadlineExceeded, PoolError
from protocols.kafka.arguments import SECONDS_MAX, offsets_of, text_of
from protocols.kafka.codes import Code
from protocols.kafka.errors import CODES, KafkaError, ProducerFenced, TransactionAborted, error_of, twin
from protocols.kafka.offsets import epoch_of
from protocols.kafka.protocol.api import (
    AddOffsetsToTxn,
    AddPartitionsToTxn,
    EndTxn,
    InitProducerId,
    Keeper,
    TxnOffset,
    TxnOffsetCommit,
    TxnOffsets,
    TxnTopic,
    TxnTopicErrors,
)
from protocols.kafka.protocol.schema import Message, Request

from .accumulator import Partition
from .messages import Push, RecordMetadata
from .producer import KafkaPool, ProducerFields
from .sender import Gate
from .verdicts import Verdict, fatal_cause, verdict_of_failure

if TYPE_CHECKING:
    from protocols.kafka.group.assignors import TopicPartition
    from protocols.kafka.group.state import Membership

__all__ = ["Transaction", "TransactionalOptions", "TransactionalPool"]

R = TypeVar("R", bound=Message)
T = TypeVar("T")

PAUSE: Final = Backoff(0.02, 1.0)  # the transaction before is usually completed within milliseconds
OVER: Final = (Code.INVALID_PRODUCER_EPOCH, Code.INVALID_TXN_STATE, Code.PRODUCER_FENCED)
EPOCH_MAX: Final = (1 << 15) - 1
LATE: Final = (EndTxn, TxnOffsetCommit)  # what does harm if it is executed late


class TransactionalOptions(ProducerFields["TransactionalPool"], frozen=True, kw_only=True):
    """A producer whose messages belong to transactions."""

    transactional_id: str
    transaction_timeout: float

    def __post_init__(self) -> None:
        super().__post_init__()
        text_of("transactional_id", self.transactional_id)
        check_seconds(most=SECONDS_MAX, transaction_timeout=self.transaction_timeout)

    def make(self, scope: Scope) -> TransactionalPool:
        """The producer, which looks for the cluster."""
        return TransactionalPool(scope, self)


class TransactionalPool(KafkaPool):
    """What `loop.spawn(pool(…, transactional_id=…))` gives: its messages belong to transactions."""

    __slots__ = (
        "_begun",
        "_coordinators",
        "_join_asked",
        "_joined",
        "_joining",
        "_known",
        "_last",
        "_lost_count",
        "_quiet",
        "_touched",
        "_unheard",
        "fenced",
        "open",
    )

    options: TransactionalOptions

    def __init__(self, scope: Scope, options: TransactionalOptions) -> None:
        super().__init__(scope, options)
        self.open: Transaction | None = None  # what is submitted belongs to it
        self._begun: Transaction | None = None  # open, or waiting to be
        self.fenced: ProducerFenced | None = None
        self._known = (-1, -1)  # the last identity that we had
        self._lost_count = True  # until we have one
        self._joined: set[Partition] = set()  # part of the transaction
        self._touched = False  # the coordinator knows of the transaction, and counts its time
        self._unheard = False  # something of this epoch may be executed late
        self._joining: dict[Partition, None] = {}  # asked, or to be asked
        self._join_asked: Reply[None] | None = None
        self._last: Reply[None] | None = None  # to be begun or ended
        self._quiet: Reply[None] | None = None
        self._coordinators: dict[tuple[str, Keeper], int] = {}

    @property
    def gate(self) -> Gate:
        """The transaction decides which partitions may be written to."""
        return self

    @property
    def _name(self) -> str:
        return self.options.transactional_id

    # -- for whoever asks ------------------------------------------------------------------------------------

    def transaction(self) -> Transaction:
        """For `async with`: what is sent through it is committed at the end of the block.

        Entering raises `Misuse` while another is open, `ProducerFenced`, or what keeps it from beginning.
        Leaving raises `TransactionAborted` if it was rolled back although no error left the block.
        """
        return Transaction(self)

    def submit(self, unit: Push, timeout: float | None = None, priority: int = 0) -> Reply[RecordMetadata]:
        """As `KafkaPool.submit`, as a part of the open transaction. Raises `Misuse` if there is none."""
        if self.open is None:
            raise Misuse("no transaction is open; write `async with pool.transaction() as tx: tx.send(...)`")
        reply = super().submit(unit, timeout, priority)
        reply.when_settled(self.open.part_settled)
        return reply

    # -- for the transaction ---------------------------------------------------------------------------------

    def begin(self, transaction: Transaction) -> Reply[None]:
        """Open it, once the one before has ended and we know who we are."""
        if self._begun is not None:
            raise Misuse("a transaction is open already; one at a time per transactional_id")
        self._begun = transaction
        self._last = self._detached(self._begin(transaction, self._last))
        return self._last.shield()

    async def _begin(self, transaction: Transaction, before: Reply[None] | None) -> None:
        try:
            if before is not None:
                await settled(before)
            if self.fenced is not None:
                raise twin(self.fenced)
            if self._lost_count or self._unheard:
                await self._identify()
        except BaseException:
            self.forget(transaction)
            raise
        if self._begun is transaction:
            self.open = transaction

    def forget(self, transaction: Transaction) -> None:
        """Its block is not entered."""
        if self._begun is transaction:
            self.open = self._begun = None

    def end(self, transaction: Transaction, commit: bool) -> Reply[None]:
        """Commit it, or roll it back. Another may be begun at once, and waits for that."""
        self.open = self._begun = None
        self._last = self._detached(self._end(transaction, commit))
        return self._last.shield()

    async def _end(self, transaction: Transaction, commit: bool) -> None:
        if not commit:
            self.fail_all(TransactionAborted("the transaction was rolled back; the message does not count"))
        try:
            for asked in transaction.asked:
                await settled(asked)
            await self._until_quiet()
            if self._join_asked is not None:
                await settled(self._join_asked)
            await self._conclude(transaction, commit and transaction.error is None)
        finally:
            self._joined.clear()
            self.wake()
        if commit and transaction.error is not None:
            raise TransactionAborted(
                f"the transaction was rolled back, because a part of it has failed: {transaction.error}"
            ) from transaction.error

    async def _conclude(self, transaction: Transaction, commit: bool) -> None:
        """Nothing is on its way: tell the coordinator the end."""
        commit = commit and not self._lost_count
        if self._joined or transaction.groups or self._lost_count:
            try:
                await self._coordinate(EndTxn(self._name, *self._known, commit), lambda answer: answer.error)
            except KafkaError as error:
                if error.code not in OVER:
                    raise
                if await self._identify():
                    raise self._expired() from error
                if commit:
                    raise TransactionAborted(
                        f"the coordinator had rolled it back before it was committed ({error.name}); did it "
                        f"take longer than transaction_timeout={self.options.transaction_timeout:g} s?"
                    ) from error
            except PoolError:
                self._lost_count = True
                raise
            self._touched = False
        if self._lost_count:
            await self._identify()

    def offsets(
        self, transaction: Transaction, member: Membership, read: Mapping[TopicPartition, int]
    ) -> Reply[None]:
        """See `Transaction.commit_offsets`."""
        before = transaction.asked[-1] if transaction.asked else None
        return self._detached(self._offsets(transaction, member, dict(read), before))

    async def _offsets(
        self,
        transaction: Transaction,
        member: Membership,
        read: Mapping[TopicPartition, int],
        before: Reply[Any] | None,
    ) -> None:
        if before is not None:
            await settled(before)  # sent again, these would replace ours
        keys = {(member.group, *key) for key in read}
        if not keys.isdisjoint(transaction.unheard):
            raise TransactionAborted(
                "offsets that were stored before, and had no answer, may be executed late and replace these; "
                "store those of a partition once in a transaction"
            )
        if member.group not in transaction.groups:
            await self._coordinate(
                AddOffsetsToTxn(self._name, *self._known, member.group), lambda answer: answer.error
            )
            transaction.groups.add(member.group)
            self._touched = True
        topics: dict[str, TxnOffsets] = {}
        for (topic, partition), offset in read.items():
            named = topics.setdefault(topic, TxnOffsets(topic, []))
            named.partitions.append(TxnOffset(partition, offset, epoch_of(offset), None))
        commit = TxnOffsetCommit(
            self._name,
            member.group,
            *self._known,
            member.generation,
            member.member,
            member.instance,
            list(topics.values()),
        )
        await self._coordinate(
            commit,
            lambda answer: first_error(answer.topics),
            (member.group, Keeper.GROUP),
            lambda: transaction.unheard.update(keys),
        )

    # -- for the delivery ------------------------------------------------------------------------------------

    def admits(self, partition: Partition) -> bool:
        """Whether a partition is part of the transaction; if not, it will be."""
        if partition in self._joined:
            return True
        if partition not in self._joining:
            self._joining[partition] = None
            if self._join_asked is None:
                self._join_asked = self._detached(self._join())
        return False

    async def _join(self) -> None:
        try:
            while self._joining.keys() - self._joined:
                partitions = [partition for partition in self._joining if partition not in self._joined]
                topics: dict[str, TxnTopic] = {}
                for partition in partitions:
                    named = topics.setdefault(partition.topic, TxnTopic(partition.topic, []))
                    named.partitions.append(partition.index)
                request = AddPartitionsToTxn(self._name, *self._known, list(topics.values()))
                await self._coordinate(request, lambda answer: first_error(answer.topics))
                self._joined.update(partitions)
                self._touched = True
                self.wake()
        except PoolError as error:
            self._lost_count = True
            over = isinstance(error, KafkaError) and error.code in OVER
            self.fail_all(
                TransactionAborted(f"{CODES[Code.INVALID_PRODUCER_EPOCH].advice}") if over else error
            )
        finally:
            self._joining.clear()
            self._join_asked = None
            self.wake()

    def lost_count(self) -> None:
        """It is not known what was written: this transaction can only be rolled back."""
        self._lost_count = True

    # -- machine ---------------------------------------------------------------------------------------------

    def wakeup(self, scope: Scope) -> Outcome:
        """As every producer; and tell who waits for all of it to be over."""
        outcome = super().wakeup(scope)
        if self._quiet is not None and self._is_quiet:
            quiet, self._quiet = self._quiet, None
            quiet.settle(None)
        return outcome

    timeout = wakeup

    @property
    def finished(self) -> bool:
        """Whether there is nothing that a drain waits for."""
        ended = self._last is None or self._last.settled
        return super().finished and self._begun is None and ended

    @property
    def _is_quiet(self) -> bool:
        return not self.waiting and not self.delivery.requests

    async def _until_quiet(self) -> None:
        if not self._is_quiet:
            quiet: Reply[None] = Reply()
            self._quiet = quiet
            self.wake()
            await quiet

    # -- the coordinator -------------------------------------------------------------------------------------

    async def _identify(self) -> bool:
        """Who we are. What there was before is completed or rolled back, and its producer shut out. Whether
        our own transaction had been rolled back because of its time.
        """
        self.delivery.forget_identity()
        touched, self._touched = self._touched, False
        producer, epoch = self._known
        timeout_ms = int(1000 * self.options.transaction_timeout)
        expired = False
        try:
            request = InitProducerId(self._name, timeout_ms, producer, epoch)
            try:
                answer = await self._coordinate(request, lambda answer: answer.error)
            except KafkaError as error:
                if error.code not in OVER or not (touched and 0 <= epoch < EPOCH_MAX):
                    raise
                request = InitProducerId(self._name, timeout_ms, producer, epoch + 1)
                answer = await self._coordinate(request, lambda answer: answer.error)
                expired = True
        except KafkaError as error:
            if error.code not in (Code.INVALID_PRODUCER_EPOCH, Code.PRODUCER_FENCED):
                raise
            self.fenced = ProducerFenced(
                Code.PRODUCER_FENCED,
                "another producer has begun with this transactional_id; give each process its own",
                about=self._name,
            )
            self.loop.log.error("producer fenced", transactional_id=self._name)
            raise twin(self.fenced) from error
        self._known = (answer.producer, answer.epoch)
        self._lost_count = self._unheard = False
        self.delivery.begin_as(*self._known)
        return expired

    def _expired(self) -> TransactionAborted:
        seconds = self.options.transaction_timeout
        return TransactionAborted(
            f"it took longer than transaction_timeout={seconds:g} s, so the coordinator has "
            "rolled it back; run it again, or give it more time"
        )

    async def _coordinate(
        self,
        request: Request[R],
        read: Callable[[R], int],
        of: tuple[str, Keeper] | None = None,
        unheard: Callable[[], object] = lambda: None,
    ) -> R:
        """Ask a coordinator (the transaction's own, if `of` names none) until it gives an answer that is
        final; calls `unheard` when one is lost. Raises what it answers, or `DeadlineExceeded`.
        """
        late = isinstance(request, LATE)
        of = of or (self._name, Keeper.TRANSACTION)
        due = self.loop.time() + self.options.timeout
        failures = 0
        while True:
            error: PoolError
            try:
                if of not in self._coordinators:
                    self._coordinators[of] = await self.cluster.coordinator(*of)
                node = self._coordinators[of]
                answer = await self.cluster.call(request, node, idempotent=not late)
                code = read(answer)
                if not code:
                    return answer
                error = error_of(code, about=of[0])
            except PoolError as failure:
                self._coordinators.pop(of, None)
                error = failure
                if late and verdict_of_failure(failure) is Verdict.UNKNOWN:
                    self._unheard = True
                    unheard()
            if isinstance(error, KafkaError):
                if not error.retriable:
                    raise error
                if CODES[error.code].stale:
                    self._coordinators.pop(of, None)
            elif fatal_cause(error) is not None:
                raise error
            if self._stopped:
                raise error
            if self.loop.time() >= due:
                raise DeadlineExceeded(
                    f"the coordinator of {of[0]} gave no final answer to {request.api.name} ({error}); it "
                    "may have been executed",
                    "sent",
                )
            failures += 1
            await sleep(PAUSE.delay(failures, self.loop.kernel.random()))

    def _detached(self, steps: Coroutine[Any, Any, T]) -> Reply[T]:
        """Run it to its end on the loop, without the asker's deadline."""
        loop = self.loop
        outer, loop.inherited_deadline = loop.inherited_deadline, NEVER
        try:
            reply: Reply[T] = loop.spawn(steps)
        finally:
            loop.inherited_deadline = outer
        reply.ignore()
        return reply


class Transaction:
    """One transaction; made by `TransactionalPool.transaction`, for `async with`."""

    __slots__ = ("_pool", "asked", "error", "groups", "unheard")

    def __init__(self, pool: TransactionalPool) -> None:
        self._pool = pool
        self.asked: list[Reply[Any]] = []  # offsets that were to be committed
        self.error: BaseException | None = None  # why it cannot be committed
        self.groups: set[str] = set()  # whose offsets are part of it
        self.unheard: set[tuple[str, str, int]] = set()  # whose offsets may be stored once more

    def __repr__(self) -> str:
        state = "open" if self._pool.open is self else "not open"
        return f"<Transaction {state}{f', failed: {self.error}' if self.error else ''}>"

    def send(self, unit: Push, timeout: float | None = None) -> Reply[RecordMetadata]:
        """Have a message written as a part of this. Awaiting the reply is not needed: the end of the block
        waits for all of them. Raises `Misuse` if the transaction is not open.
        """
        self._check()
        return self._pool.submit(unit, timeout)

    def commit_offsets(self, member: Membership, offsets: Mapping[TopicPartition, int]) -> Reply[None]:
        """Have a group's offsets (the next ones to be read) committed together with the messages. Awaiting
        the reply is not needed. Raises `Misuse` if the transaction is not open, `TypeError` or `ValueError`
        for what is no membership or are no offsets.
        """
        self._check()
        if not (hasattr(member, "group") and hasattr(member, "generation")):
            raise TypeError(f"{member!r:.60} is not a membership; give consumer.membership")
        offsets = offsets_of(offsets)
        asked = self._pool.offsets(self, member, offsets)
        asked.when_settled(self.part_settled)
        self.asked.append(asked)
        return asked.shield()

    def part_settled(self, reply: Reply[Any]) -> None:
        """A message, or offsets: what fails, fails all."""
        if self.error is None:
            self.error = reply.error

    def _check(self) -> None:
        if self._pool.open is not self:
            raise Misuse("the transaction is not open; write `async with pool.transaction() as tx:`")

    async def __aenter__(self) -> Transaction:
        try:
            await self._pool.begin(self)
        except BaseException:
            self._pool.forget(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = self._pool.end(self, commit=error is None)
        if error is None:
            await ended
        elif isinstance(error, Exception):
            await settled(ended)  # the block's own error says more


async def settled(reply: Reply[Any]) -> None:
    """Wait for it, whatever it settles with; whoever waits no longer leaves it as it is."""
    await settle_all(reply.shield())


def first_error(topics: Iterable[TxnTopicErrors]) -> int:
    """The code that says most about why partitions were refused; 0 if none was."""
    codes = [part.error for topic in topics for part in topic.partitions if part.error]
    return next((code for code in codes if code != Code.OPERATION_NOT_ATTEMPTED), codes[0] if codes else 0)
