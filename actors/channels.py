"""Channels: a bounded stream of items between two machines, with wakeups both ways.

Rules:
1. The sender sends while `writable`; the channel may be over its capacity by the one item that filled it.
2. Empty, the receiver waits; full, the sender waits. Each is woken when that changes.
3. `close()` ends the stream after what is in it; `close(error)` ends it at once with that error.
4. The receiver that goes away calls `cancel()`: what is in the channel is dropped and the sender's next send
   raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

import msgspec

from .errors import ChannelClosed, Misuse
from .replies import Waitable
from .scope import Scope

__all__ = ["Channel", "ChannelStatistics"]

T = TypeVar("T")


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
        "_sender",
        "_sent",
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
        self._sender: Scope | None = None
        self._receiver: Scope | None = None
        self._sent = 0

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
        self._items.append(item)
        self.weight += 1 if self._weigh is None else self._weigh(item)
        self._sent += 1
        self._wake_receiver()

    async def send(self, item: T) -> None:
        """Send, waiting for room. Raises `ChannelClosed` if the receiver has gone."""
        if not self.writable:
            await _Writable(self)
        self.put(item)

    def close(self, error: BaseException | None = None) -> None:
        """No more items. With an error the receiver gets that at once, and what is in the channel is
        dropped."""
        if self._closed:
            return
        self._closed = True
        self._error = error
        if error is not None:
            self._drop()
        self._wake_receiver()
        self._wake_sender()

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
            raise self._error or ChannelClosed("the channel has ended")
        item = self._items.popleft()
        was_full = self.weight >= self.capacity
        self.weight -= 1 if self._weigh is None else self._weigh(item)
        if was_full and self.weight < self.capacity:
            self._wake_sender()
        return item

    async def receive(self) -> T:
        """The next item. Raises the sender's error, or `ChannelClosed` at the end."""
        if not self.readable:
            await _Readable(self)
        return self.take()

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            if not self.readable:
                await _Readable(self)
            if self.ended and self._error is None:
                return
            yield self.take()

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
        self.weight = 0

    def _wake_receiver(self) -> None:
        if self._receiver is not None:
            self._receiver.wake()

    def _wake_sender(self) -> None:
        if self._sender is not None:
            self._sender.wake()


class _ChannelWait(Waitable):
    __slots__ = ("_channel",)

    def __init__(self, channel: Channel[Any]) -> None:
        self._channel = channel


class _Readable(_ChannelWait):
    __slots__ = ()

    def __repr__(self) -> str:
        return f"<an item from {self._channel!r}>"

    @property
    def settled(self) -> bool:
        return self._channel.readable

    def attach(self, scope: Scope) -> None:
        self._channel._receiver = scope

    def detach(self, scope: Scope) -> None:
        if self._channel._receiver is scope:
            self._channel._receiver = None


class _Writable(_ChannelWait):
    __slots__ = ()

    def __repr__(self) -> str:
        return f"<room in {self._channel!r}>"

    @property
    def settled(self) -> bool:
        return self._channel.writable

    def attach(self, scope: Scope) -> None:
        self._channel._sender = scope

    def detach(self, scope: Scope) -> None:
        if self._channel._sender is scope:
            self._channel._sender = None
