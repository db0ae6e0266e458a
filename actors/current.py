"""Which loop runs in this thread: what `gather`, `sleep` and `deadline` mean when they are not told. And who
drives a coroutine that awaits something of ours outside of every tick: a host such as asyncio, or nobody."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from .errors import Misuse

if TYPE_CHECKING:
    from .loop import Loop

__all__ = [
    "ANY_THREAD",
    "HostWait",
    "current_loop",
    "enter_host",
    "enter_loop",
    "get_ident",
    "host_wait",
    "hosted_here",
    "leave_all",
    "leave_host",
    "loop_here",
    "outside_deadline",
    "running_here",
    "several_hosts",
    "ticking_here",
]

ANY_THREAD: Final = 0
"""In place of a thread's number: the loop does not run, and may be prepared in any thread."""

HostWait = Callable[..., Generator[Any, Any, Any]]
"""How a host's coroutine waits until a waitable has settled; returns its result."""


outside_deadline: ContextVar[float] = ContextVar("windlass_deadline", default=float("inf"))
"""The deadline that a host's task, or a thread without a loop, has set by `deadline` (monotonic seconds)."""


class _Current(threading.local):
    loop: Loop | None = None
    hosts: tuple[tuple[weakref.ref[Loop], HostWait], ...] = ()  # weak: a forgotten loop can be told of


_current = _Current()


def current_loop() -> Loop:
    """The loop of this thread: the one that ticks, or else one that a host drives, or else the one that was
    made last. Raises `Misuse` without one."""
    loop = loop_here()
    if loop is None:
        raise Misuse("no loop in this thread; make one first: loop = Loop()")
    return loop


def loop_here() -> Loop | None:
    """Like `current_loop`, None without one."""
    loop = _current.loop
    if _current.hosts and (loop is None or not loop.ticking):
        hosted = _hosted()
        if hosted is not None:
            return hosted[0]()
    return loop


def ticking_here() -> Loop | None:
    """The loop whose tick is on in this thread."""
    loop = _current.loop
    return loop if loop is not None and loop.ticking else None


def enter_loop(loop: Loop | None) -> Loop | None:
    """Make `loop` the current one and return the one before."""
    before, _current.loop = _current.loop, loop
    return before


@contextmanager
def running_here(loop: Loop) -> Iterator[None]:
    """`loop` runs in this thread: whoever wakes one of its machines from another would not be noticed, and is
    told by `Scope.wake`.
    """
    before, loop.runs_in = loop.runs_in, get_ident()
    try:
        yield
    finally:
        loop.runs_in = before


def enter_host(loop: Loop, wait: HostWait) -> None:
    """A host drives `loop` in this thread from now on, and its coroutines wait by `wait`."""
    _current.hosts = (
        *(entry for entry in _current.hosts if entry[0]() is not None),
        (weakref.ref(loop), wait),
    )


def several_hosts() -> bool:
    """Whether more than one loop is driven by a host in this thread."""
    return len(_current.hosts) > 1


def leave_host(loop: Loop) -> None:
    """The host drives `loop` no longer."""
    _current.hosts = tuple(entry for entry in _current.hosts if entry[0]() not in (loop, None))


def leave_all() -> None:
    """In the child of a fork: none of the parent's loops runs here."""
    _current.loop = None
    _current.hosts = ()


def hosted_here() -> list[Loop]:
    """The loops that a host drives in this thread, the last one last."""
    return [loop for loop in (entry[0]() for entry in _current.hosts) if loop is not None]


def host_wait() -> HostWait | None:
    """How the running coroutine must wait; None if a loop of ours drives it."""
    loop = _current.loop
    if loop is not None and loop.ticking:
        return _wait_inside(loop) if _current.hosts else None
    hosts = _current.hosts
    if len(hosts) == 1:  # nearly always; `_hosted`, written out
        reference, wait = hosts[0]
        if reference() is not None:
            return wait
    elif hosted := _hosted():
        return hosted[1]
    asyncio = sys.modules.get("asyncio")  # asked, not imported: who has no asyncio needs no answer
    return _unattended if asyncio is not None and asyncio._get_running_loop() is not None else None


def _hosted() -> tuple[weakref.ref[Loop], HostWait] | None:
    """The loop that a host drives here, with its wait; of several the last one whose host runs now."""
    hosts = _current.hosts
    if len(hosts) > 1:
        for entry in reversed(hosts):
            loop: Any = entry[0]()
            if loop is not None and loop.host_runs():
                return entry
    return hosts[-1] if hosts and hosts[-1][0]() is not None else None


def _wait_inside(loop: Loop) -> HostWait | None:
    """None in a flow. A host may run a task within a tick, too: one that a flow has started, say."""
    for reference, wait in _current.hosts:
        if reference() is loop:
            hosted: Any = loop
            return partial(wait, inside=loop) if hosted.in_host_task() else None
    return None


def _unattended(waitable: Any) -> Generator[Any, Any, None]:
    raise Misuse(
        f"an asyncio task awaits {waitable!r}, but this thread has no Windlass loop inside asyncio; write "
        "`async with Loop.in_asyncio() as loop:` and spawn on that"
    )
    yield
