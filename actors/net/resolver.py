"""Name resolution that does not block the loop.

The system's resolver only exists as a blocking call, which takes half a minute and more when a DNS server is
silent. So it runs on daemon threads, by these rules:

1. One look-up per name at a time: who asks meanwhile gets the same answer. Only one that has taken longer
   than `AGAIN_SECONDS` gets a second one beside it, for the server may have come back; at most `LOOKUPS_MAX`
   run per name.
2. Every name has a thread of its own while it is looked up, up to `THREADS_MAX`. Names that were slow before
   share half of them, so that the other half is free for the others.
3. A value answers all who wait for the name. An error does, too, unless another look-up of it still runs.
4. Who waits has a deadline of their own and may be gone when the answer comes. Of a name at most
   `WAITING_MAX` are remembered; the one that has waited for longest is refused then.

Literal addresses never come here. Answers are not cached: the system (nscd, systemd-resolved) knows how long
they live, `getaddrinfo` does not say.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from actors.errors import ResolveError
from actors.forks import tell_of_forks

from .addresses import TcpAddress

__all__ = ["ThreadedResolver"]

AGAIN_SECONDS: Final = 5.0  # glibc waits so long for each answer of a server (resolv.conf(5), `timeout`)
LOOKUPS_MAX: Final = 2  # of one name at a time
SLOW_SECONDS: Final = 1.0  # a name whose look-up has taken longer is slow, until one takes less
SLOW_NAMES_KEPT: Final = 1024
THREADS_MAX: Final = 64
IDLE_SECONDS: Final = 10.0  # before a thread without work ends
NAMES_MAX: Final = 1024  # that are being looked up, or wait for it
WAITING_MAX: Final = 1024  # of one name

Deliver = Callable[[list[TcpAddress] | Exception], None]


class _Name:
    """A name that somebody waits for, and when its look-ups that run have begun."""

    __slots__ = ("begun", "host", "queued", "waiting")

    def __init__(self, host: str) -> None:
        self.host = host
        self.waiting: deque[tuple[TcpAddress, Deliver]] = deque()
        self.begun: list[float] = []  # monotonic seconds
        self.queued = False

    def wants_a_look_up(self, now: float) -> bool:
        """Rule 1."""
        if self.queued:
            return False
        running = len(self.begun)
        return not running or (running < LOOKUPS_MAX and now - max(self.begun) >= AGAIN_SECONDS)


class ThreadedResolver:
    """`getaddrinfo` on threads that are started when needed, and end when they are not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin()
        tell_of_forks(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._names: dict[str, _Name] = {}
        self._queue: list[_Name] = []  # that want a look-up, in their order
        self._slow: dict[str, None] = {}  # names, the oldest first
        self._threads = self._idle = 0

    def __repr__(self) -> str:
        return f"<ThreadedResolver {self._threads} threads, {len(self._names)} names being resolved>"

    def forked_away(self) -> None:
        """In the child of a fork there are no threads, and who waited is the parent's."""
        self._begin()

    def resolve(self, address: TcpAddress, deliver: Deliver) -> None:
        """Call `deliver` once, from a thread, with the addresses in the system's order or with the error."""
        refused, error = [deliver], None
        with self._changed:
            name = self._names.get(address.host)
            if name is None and len(self._names) >= NAMES_MAX:
                error = ResolveError(
                    f"{NAMES_MAX} names are already being resolved; {address.host} must wait"
                )
            else:
                if name is None:
                    name = self._names[address.host] = _Name(address.host)
                if len(name.waiting) >= WAITING_MAX:
                    refused = [name.waiting.popleft()[1]]
                    error = ResolveError(f"{address.host} was looked up repeatedly and did not resolve")
                name.waiting.append((address, deliver))
                if name.wants_a_look_up(self._clock()):
                    self._look_up_soon(name)
                if not self._threads:  # nobody will ever look
                    refused = self._give_up()
                    error = ResolveError(f"cannot resolve {address.host!r}: no thread can be started for it")
        if error is not None:
            for each in refused:
                each(error)

    def _look_up_soon(self, name: _Name) -> None:
        name.queued = True
        self._queue.append(name)
        self._changed.notify()
        if self._idle < len(self._queue) and self._threads < THREADS_MAX:
            self._threads += 1
            try:
                threading.Thread(target=self._work, name="windlass-resolver", daemon=True).start()
            except RuntimeError:  # the system has no more; those that run look one name up after the other
                self._threads -= 1

    def _give_up(self) -> list[Deliver]:
        """Forget everybody who waits; they are to be told."""
        waiting = [deliver for name in self._names.values() for _, deliver in name.waiting]
        self._names.clear()
        self._queue.clear()
        return waiting

    # -- on the threads --------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (taken := self._take()) is not None:
                name, begun = taken
                found = look_up(TcpAddress(name.host, 0))
                for address, deliver in self._finish(name, begun, found):
                    deliver(found if isinstance(found, Exception) else at_port(found, address.port))
        finally:
            with self._changed:
                self._threads -= 1

    def _take(self) -> tuple[_Name, float] | None:
        """The next name, and when its look-up has begun; None after too long without one."""
        with self._changed:
            while True:
                name = self._next()
                if name is not None:
                    self._queue.remove(name)
                    name.queued = False
                    now = self._clock()
                    name.begun.append(now)
                    return name, now
                self._idle += 1
                woken = self._changed.wait(IDLE_SECONDS)
                self._idle -= 1
                if not woken and not self._queue:
                    return None

    def _next(self) -> _Name | None:
        """Rule 2."""
        running = sum(len(name.begun) for name in self._names.values() if self._is_slow(name))
        room = running < THREADS_MAX // 2
        return next((name for name in self._queue if room or name.host not in self._slow), None)

    def _is_slow(self, name: _Name) -> bool:
        return name.host in self._slow or any(self._clock() - begun > SLOW_SECONDS for begun in name.begun)

    def _finish(
        self, name: _Name, begun: float, found: list[TcpAddress] | Exception
    ) -> deque[tuple[TcpAddress, Deliver]]:
        """Who is to be told."""
        told: deque[tuple[TcpAddress, Deliver]] = deque()
        with self._changed:
            name.begun.remove(begun)
            self._slow.pop(name.host, None)
            if self._clock() - begun > SLOW_SECONDS:
                self._slow[name.host] = None
                if len(self._slow) > SLOW_NAMES_KEPT:
                    del self._slow[next(iter(self._slow))]
            still = bool(name.begun) or name.queued
            if not (still and isinstance(found, Exception)):  # rule 3
                told, name.waiting = name.waiting, told
            if not still:
                del self._names[name.host]
        return told


def look_up(address: TcpAddress) -> list[TcpAddress] | Exception:
    """Every distinct address of the host, or the error as a value."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        return ResolveError(f"cannot resolve {address.host!r}: {error}")
    return list(dict.fromkeys(TcpAddress(str(entry[4][0]), address.port) for entry in found))


def at_port(addresses: list[TcpAddress], port: int) -> list[TcpAddress]:
    """These hosts, at this port."""
    return [TcpAddress(address.host, port) for address in addresses]
