"""The reader's place: which messages it was given, which it has finished, and how it waits for more.

Rules:
1. A reader that asks for the next messages has finished those before. So there is one reader: a second one
   that waits gets `Misuse`.
2. Messages leave the read-ahead a batch or so at a time. How far the reader has come among them is written
   into their position only when somebody wants to know (`mark`).
3. What is taken away (a partition is given back, or paused) is cut off behind what the reader has: it may
   still finish that. Such partitions are `held_over` until it comes back for more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from actors import NEVER, ChannelClosed, Misuse, Reply, Scope
from actors.replies import Waitable
from actors.scope import Waker
from pools import BackendError
from protocols.kafka.arguments import whole_of
from protocols.kafka.group.assignors import TopicPartition
from protocols.kafka.group.state import Membership
from protocols.kafka.offsets import Offset
from protocols.kafka.records.batch import Record

from .positions import Position, Positions

__all__ = ["Ending", "Reader"]

TWO_READERS: Final = (
    "another flow waits for this consumer's messages, and asking for the next one finishes those before it: "
    "give each flow a consumer of its own, or let one reader hand the messages on"
)


class Ending:
    """Whether a consumer has ended, and why. `closed` settles when all that belongs to it is done."""

    __slots__ = ("begun", "closed", "error", "finish_by", "stored")

    def __init__(self) -> None:
        self.begun = False
        self.error: BaseException | None = None
        self.finish_by = NEVER  # until when the reader may finish what it has
        self.stored = False  # what is finished is being stored, or need not be
        self.closed: Reply[None] = Reply()

    def __repr__(self) -> str:
        return f"<Ending{' begun' if self.begun else ''}{f', {self.error}' if self.error else ''}>"

    def begin(self, error: BaseException | None, finish_by: float = NEVER) -> None:
        """No more messages. With an error, that is what the reader gets."""
        self.begun = True
        self.error = error
        self.finish_by = finish_by

    def store(self) -> None:
        """The reader has finished, or its time is over."""
        self.stored = True

    def raised(self) -> BaseException:
        """What a reader gets that asks for more."""
        return self.error or ChannelClosed("the consumer has ended")


class Reader:
    """Hands out messages in order. `membership` says who the consumer is in its group, None without one;
    `failed` is called with what ends the consumer.
    """

    __slots__ = (
        "_behind",
        "_ending",
        "_failed",
        "_finished",
        "_index",
        "_membership",
        "_position",
        "_positions",
        "_ready",
        "_scope",
        "_start",
        "_waits",
        "_waker",
        "held_over",
        "loaded_as",
    )

    def __init__(
        self,
        scope: Scope,
        positions: Positions,
        ending: Ending,
        membership: Callable[[], Membership | None],
        failed: Callable[[BaseException], object],
    ) -> None:
        self.held_over: dict[TopicPartition, Offset] = {}  # given back or lost while the reader is at it
        self.loaded_as: Membership | None = None  # who we were when these messages were loaded
        self._scope = scope
        self._positions = positions
        self._ending = ending
        self._membership = membership
        self._failed = failed
        self._position: Position | None = None  # where the messages in `_ready` come from
        self._ready: list[Record] = []
        self._start = 0  # the reader has finished those before
        self._index = 0  # the reader has those before
        self._behind = 0  # the offset behind all of `_ready`
        self._finished = 0  # messages before those in `_ready`
        self._waits = False  # a flow
        self._waker: Waker | None = None  # what to wake for it

    def __repr__(self) -> str:
        return f"<Reader at {self._position!r}, {len(self._ready) - self._index} messages ready>"

    # -- messages --------------------------------------------------------------------------------------------

    async def receive(self) -> Record:
        """The next message."""
        if self._index >= len(self._ready):
            await self._refill()
        index = self._start = self._index
        self._index = index + 1
        return self._ready[index]

    async def receive_many(self, limit: int) -> list[Record]:
        """The next messages, of one partition, at least one and at most `limit`."""
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
        while not self._load():
            if self._ending.begun:
                raise self._ending.raised()
            if self._waits:
                raise Misuse(TWO_READERS)
            self._waits = True
            try:
                await _Readable(self)
            finally:
                self._waits = False

    def _load(self) -> bool:
        """The next messages in place of those that are finished."""
        self._finish()
        self.held_over.clear()
        self._scope.wake()  # there is room, or the end can go on
        if self._ending.begun:
            return False
        try:
            taken = self._positions.buffer.take()
        except BackendError as error:
            self._failed(error)
            return False
        if taken is None:
            return False
        self._position, self._ready, self._behind = taken
        self.loaded_as = self._membership()
        return True

    def _finish(self) -> None:
        """The reader has come back for more: it has finished what it had."""
        if self._position is not None:
            self._position.at(self._behind, self._behind)
        self._forget()

    def _forget(self) -> None:
        self._finished += self._index
        self._position = None
        self._ready = []
        self._start = self._index = 0

    # -- waiting ---------------------------------------------------------------------------------------------

    @property
    def readable(self) -> bool:
        """Whether there is something to take, or the end."""
        return self._ending.begun or self._index < len(self._ready) or self._positions.buffer.waiting

    def wake(self) -> None:
        """Wake the flow that waits, if there is something for it."""
        if self._waker is not None and self.readable:
            self._waker.wake()

    def attach(self, waker: Waker) -> None:
        """A flow waits."""
        self._waker = waker

    def detach(self, waker: Waker) -> None:
        """It does not wait any more."""
        if self._waker is waker:
            self._waker = None

    # -- for the consumer ------------------------------------------------------------------------------------

    @property
    def delivered(self) -> int:
        """How many messages the reader was given."""
        return self._finished + self._index

    @property
    def at_something(self) -> bool:
        """Whether the reader has messages that it has not finished."""
        return self._index > 0

    def mark(self) -> None:
        """Bring the offsets of what the reader is at up to date."""
        position, ready = self._position, self._ready
        if position is not None and self._index:
            behind = ready[self._index].offset if self._index < len(ready) else self._behind
            position.at(ready[self._start].offset, behind)

    def cut(self) -> None:
        """Deliver nothing more of what is in place; the reader has still to finish what it has of it."""
        self.mark()
        if self._position is not None:
            self._behind = self._position.delivered
            del self._ready[self._index :]

    def finish_all(self) -> None:
        """The reader has finished all that it was given, everywhere."""
        self.mark()
        for position in self._positions.values():
            position.finish()
        self._forget()

    def pause(self, position: Position) -> None:
        """Deliver nothing of this partition until it is resumed."""
        if self._position is position:
            self.cut()
        self._positions.buffer.drop(position)
        position.pause()

    def drop(self, position: Position) -> None:
        """Deliver nothing more of what was read ahead of this partition."""
        if self._position is position:
            self.mark()
            self._forget()
        self._positions.buffer.drop(position)

    def release(self, position: Position) -> None:
        """The partition is ours no longer, or not for long. What the reader has of it it may still finish."""
        at_it = self._position is position and self._index > 0
        self.drop(position)
        position.give_back()
        if at_it:
            self.held_over[position.key] = position.reached


class _Readable(Waitable):
    """Settled when there is something to read, or the end."""

    __slots__ = ("_reader",)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __repr__(self) -> str:
        return f"<a message from {self._reader!r}>"

    @property
    def settled(self) -> bool:
        return self._reader.readable

    def attach(self, scope: Waker) -> None:
        self._reader.attach(scope)

    def detach(self, scope: Waker) -> None:
        self._reader.detach(scope)
