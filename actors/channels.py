"""Channels: a bounded stream of items between two machines, with wakeups both ways.

Rules:
1. The sender sends while `writable`; the channel may be over its capacity by the one item that filled it.
2. Empty, the receiver waits; full, the sender waits. Each is woken when that changes.
3. `close()` ends the stream after what is in it; `close(error)` ends it at once with that error.
4. The receiver that goes away calls `cancel()`: what is in the channel is dropped and the sender's next send
   raises.
5. Several flows may receive, and several may send: each item goes to the one that has waited longest, room to
   the sender that has waited longest. What a receiver was given, and goes away with, comes back to its place.
   A machine at an end (`attach_receiver`, `attach_sender`) is the only one there.
"""

from __future__ import annotations

from bisect import bisect
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import msgspec

from .errors import ChannelClosed, Misuse
from .replies import Waitable
from .scope import Scope, Waker

__all__ = ["Channel", "ChannelStatistics"]

T = TypeVar("T")

ENDED: Final[Any] = object()
"""What a receiver gets when nothing more comes."""


class ChannelStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a channel. `weight` and `capacity` are in items, or bytes if the channel weighs its items
    so."""

    items: int
    weight: int
    capacity: int
    sent: int
    closed: bool


class Channel(Generic[T]):
    """`capacity` counts items, or what `weigh` makes of them (`weigh=len`: bytes)."""

    __slots__ = (
        "_closed",
        "_error",
        "_items",
        "_receiver",
        "_receiving",
        "_returned",
        "_sender",
        "_sending",
        "_sent",
        "_traceback",
        "_weigh",
        "capacity",
        "weight",
    )

    def __init__(self, capacity: int = 16, weigh: Callable[[T], int] | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"a channel of capacity {capacity}; write 1 or more")
        self.capacity = capacity
        self.weight = 0
        self._weigh = weigh
        self._items: deque[T] = deque()
        self._closed = False
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None  # the error's
        self._sender: Scope | None = None
        self._receiver: Scope | None = None
        self._sending: OrderedDict[_Sending[T], None] | None = None
        self._receiving: OrderedDict[_Receiving[T], None] | None = None
        self._sent = 0
        self._returned: list[int] = []  # numbers of the first of `_items`: those that have come back

    def __repr__(self) -> str:
        state = "closed " if self._closed else ""
        return f"<Channel {state}{len(self._items)} items, weight {self.weight}/{self.capacity}>"

    def __len__(self) -> int:
        return len(self._items)

    # -- the sender's end ------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether `put` is in order: there is room, or the channel is closed and `put` will say so."""
        return self.weight < self.capacity or self._closed

    def put(self, item: T) -> None:
        """Send without waiting. Raises `ChannelClosed`, or `Misuse` if it was not `writable`."""
        if self._closed:
            raise ChannelClosed("the channel is closed") from self._error
        if self.weight >= self.capacity:
            raise Misuse("put() into a full channel; check writable, or await send()")
        self._put(item)

    def _put(self, item: T) -> None:
        self._sent += 1
        if self._receiving:
            self._receiving.popitem(last=False)[0].give(item, self._sent)
            return
        self._items.append(item)
        self.weight += 1 if self._weigh is None else self._weigh(item)
        if self._receiver is not None:
            self._receiver.wake()

    async def send(self, item: T) -> None:
        """Send, waiting for room. Raises `ChannelClosed` if the receiver has gone."""
        if self.writable:
            self.put(item)
        else:
            await _Sending(self, item)

    def close(self, error: BaseException | None = None) -> None:
        """No more items. With an error the receiver gets that at once, and what is in the channel is
        dropped."""
        if self._closed:
            return
        self._closed = True
        self._error = error
        if error is not None:
            self._traceback = error.__traceback__
            self._drop()
        if self._receiver is not None:
            self._receiver.wake()
        if self._sender is not None:
            self._sender.wake()
        for queue in (self._receiving, self._sending):
            while queue:
                queue.popitem(last=False)[0].wake()

    def attach_sender(self, scope: Scope) -> None:
        """Wake this machine when the channel turns writable or is closed."""
        self._sender = scope

    # -- the receiver's end ----------------------------------------------------------------------------------

    @property
    def readable(self) -> bool:
        """Whether there is something to take, or the end."""
        return bool(self._items) or self._closed

    @property
    def ended(self) -> bool:
        """Whether the sender has closed and everything was taken. See `error`."""
        return self._closed and not self._items

    @property
    def error(self) -> BaseException | None:
        """What the sender closed the channel with."""
        return self._error

    def take(self) -> T:
        """The next item, without waiting. Raises the sender's error, `ChannelClosed` at the end, or `Misuse`
        if empty."""
        if not self._items:
            if not self._closed:
                raise Misuse("take() from an empty channel; check readable, or await receive()")
            raise self._end()
        item = self._items.popleft()
        if self._returned:
            del self._returned[0]
        was_full = self.weight >= self.capacity
        self.weight -= 1 if self._weigh is None else self._weigh(item)
        if was_full:
            while self._sending and self.weight < self.capacity:
                self._sending.popitem(last=False)[0].sent()
            if self._sender is not None and self.weight < self.capacity:
                self._sender.wake()
        return item

    def _take_back(self, item: T, number: int) -> None:
        """The receiver that was given this has gone meanwhile. All that was never given is younger."""
        if self._closed and self._error is not None:
            return
        if self._receiving:
            self._receiving.popitem(last=False)[0].give(item, number)
            return
        place = bisect(self._returned, number)
        self._returned.insert(place, number)
        self._items.insert(place, item)
        self.weight += 1 if self._weigh is None else self._weigh(item)

    def _end(self) -> BaseException:
        if self._error is None:
            return ChannelClosed("the channel has ended")
        return self._error.with_traceback(self._traceback)  # or it grows each time

    async def receive(self) -> T:
        """The next item. Raises the sender's error, or `ChannelClosed` at the end."""
        if self.readable:
            return self.take()
        item = await _Receiving(self)
        if item is ENDED:
            raise self._end()
        return item

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            item = self.take() if self._items else await _Receiving(self)
            if item is ENDED:
                if self._error is not None:
                    raise self._end()
                return
            yield item

    def cancel(self, error: BaseException | None = None) -> None:
        """The receiver goes away: drop what is there; the sender's next send raises `ChannelClosed`."""
        if self._closed:
            self._drop()
        else:
            self.close(error or ChannelClosed("the receiver has gone"))

    def attach_receiver(self, scope: Scope) -> None:
        """Wake this machine when there is something to take, or the end."""
        self._receiver = scope

    def statistics(self) -> ChannelStatistics:
        """What is in it, and what has come through."""
        return ChannelStatistics(
            items=len(self._items),
            weight=self.weight,
            capacity=self.capacity,
            sent=self._sent,
            closed=self._closed,
        )

    def _drop(self) -> None:
        self._items.clear()
        self._returned.clear()
        self.weight = 0


class _Wait(Waitable, Generic[T]):
    """A flow or a task at one end, in its place in the queue."""

    __slots__ = ("_channel", "_done", "_waker")

    def __init__(self, channel: Channel[T]) -> None:
        self._channel = channel
        self._done = False
        self._waker: Waker | None = None

    @property
    def settled(self) -> bool:
        return self._done or self._channel._closed

    def wake(self) -> None:
        """Its turn has come, or the end."""
        if self._waker is not None:
            self._waker.wake()


class _Receiving(_Wait[T]):
    """Waits for an item, which it is then given."""

    __slots__ = ("_item", "_number")

    def __init__(self, channel: Channel[T]) -> None:
        super().__init__(channel)
        self._item: T = ENDED
        self._number = 0  # as which it was sent

    def __repr__(self) -> str:
        return f"<an item from {self._channel!r}>"

    def give(self, item: T, number: int) -> None:
        self._item = item
        self._number = number
        self._done = True
        self.wake()

    def attach(self, scope: Waker) -> None:
        self._waker = scope
        channel = self._channel
        if channel._receiving is None:
            channel._receiving = OrderedDict()
        channel._receiving[self] = None

    def detach(self, scope: Waker) -> None:
        if self._done:
            self._done = False
            item, self._item = self._item, ENDED
            self._channel._take_back(item, self._number)
        elif self._channel._receiving is not None:
            self._channel._receiving.pop(self, None)

    def result(self) -> T:
        return self._item

    def __await__(self) -> Generator[Any, Any, T]:
        return super().__await__()


class _Sending(_Wait[T]):
    """Waits for room for its item."""

    __slots__ = ("_item",)

    def __init__(self, channel: Channel[T], item: T) -> None:
        super().__init__(channel)
        self._item = item

    def __repr__(self) -> str:
        return f"<room in {self._channel!r}>"

    def sent(self) -> None:
        """There is room: the channel takes the item."""
        self._done = True
        self._channel._put(self._item)
        self.wake()

    def attach(self, scope: Waker) -> None:
        self._waker = scope
        channel = self._channel
        if channel._sending is None:
            channel._sending = OrderedDict()
        channel._sending[self] = None

    def detach(self, scope: Waker) -> None:
        if self._channel._sending is not None:
            self._channel._sending.pop(self, None)

    def result(self) -> None:
        if not self._done:
            raise ChannelClosed("the channel is closed") from self._channel._error
