"""The loop in a thread of its own, for programs of ordinary threads: Django, Flask, a script.

    with Loop.in_thread() as loop:
        backend = loop.spawn(http.pool("http://127.0.0.1:9001"))
        print(backend.submit(http.get("/")).result(timeout=1).status)

Rules:
1. Everything happens on the loop's thread. What other threads hold are proxies: `ThreadLoop`, `ThreadPool`,
   `ThreadReply`.
2. A call from a thread costs one append and, if the loop is not awake already, one write to its descriptor.
3. Every reply settles: at the latest when the loop stops, with `MachineStopped`.
4. A process that forks after the start has no such thread in the child; using the loop there says so.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from actors.current import outside_deadline
from actors.errors import Cancelled, DeadlineExceeded, MachineStopped, Misuse, NotSettled
from actors.kernel import Kernel, SystemKernel
from actors.loop import Loop
from actors.machine import Machine
from actors.outcomes import NEVER, UNCHANGED, Continue, Outcome
from actors.replies import Reply
from actors.scope import Scope

__all__ = ["ThreadLoop", "ThreadPool", "ThreadReply"]

T = TypeVar("T")

_started: weakref.WeakSet[ThreadLoop] = weakref.WeakSet()


class ThreadReply(Generic[T]):
    """A reply that threads can wait for. Settles exactly once."""

    __slots__ = ("_error", "_host", "_lock", "_reply", "_settled", "_value")

    def __init__(self, host: ThreadLoop) -> None:
        self._host = host
        self._lock = threading.Lock()  # held until settled
        self._lock.acquire()
        self._settled = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._reply: Reply[T] | None = None  # on the loop's thread, once it is there

    def __repr__(self) -> str:
        if not self._settled:
            return "<ThreadReply pending>"
        return f"<ThreadReply {'value' if self._error is None else 'error'} {self._error or self._value!r}>"

    @property
    def settled(self) -> bool:
        """Whether the value or the error is there."""
        return self._settled

    @property
    def error(self) -> BaseException | None:
        """The error it settled with, None after a value. Raises `NotSettled` before."""
        if not self._settled:
            raise NotSettled("the reply has no answer yet; call result(timeout)")
        return self._error

    def result(self, timeout: float | None = None) -> T:
        """Wait for the value, at most `timeout` seconds (None: as long as it takes). Raises the error it
        settled with.

        `DeadlineExceeded` after `timeout`: the unit goes on, call again or `cancel`. Raises `Misuse` on the
        loop's own thread, where waiting would stop the loop that is to answer.
        """
        if not self._settled:
            self._host.check(waits=True)
            if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
                raise DeadlineExceeded(f"no answer within {timeout:g} s")
            self._lock.release()
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def cancel(self) -> None:
        """Lose interest: `result` raises `Cancelled` unless the answer is faster. Nothing on a wire is
        touched."""
        self._host.post(self._cancel)

    def _cancel(self) -> None:
        if self._reply is not None:
            self._reply.cancel()
        else:
            self._settle(None, Cancelled("the reply was cancelled"))

    def _follow(self, reply: Reply[T]) -> None:
        """On the loop's thread: settle when this does."""
        self._reply = reply
        reply.when_settled(self._settled_with)

    def _settled_with(self, reply: Reply[T]) -> None:
        error = reply.error
        self._settle(None if error is not None else reply.result(), error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if not self._settled:
            self._value = value
            self._error = error
            self._settled = True
            self._lock.release()


class ThreadPool:
    """A pool, seen from other threads."""

    __slots__ = ("_host", "_pool")

    def __init__(self, host: ThreadLoop, pool: Any) -> None:
        self._host = host
        self._pool = pool

    def __repr__(self) -> str:
        return f"<ThreadPool of {self._pool!r}>"

    def submit(self, unit: Any, timeout: float | None = None, priority: int = 0) -> ThreadReply[Any]:
        """As the pool's own `submit`, from any thread."""
        reply: ThreadReply[Any] = ThreadReply(self._host)
        due = outside_deadline.get()
        if due != NEVER:  # a surrounding `deadline()`
            left = max(0.0, due - SystemKernel.monotonic())
            timeout = left if timeout is None else min(left, timeout)
        self._host.post(self._submit, reply, unit, timeout, priority)
        return reply

    def _submit(self, reply: ThreadReply[Any], unit: Any, timeout: float | None, priority: int) -> None:
        reply._follow(self._pool.submit(unit, timeout, priority))

    def statistics(self) -> Any:
        """A snapshot, taken on the loop's thread."""
        return self._host.call(self._pool.statistics).result()


class _Mailman(Machine["_Mailman"]):
    """Runs on the loop's thread what other threads have posted."""

    __slots__ = ("posts", "token")

    drain_phase = 2  # after the pools: until then threads may cancel and ask

    def __init__(self, posts: deque[tuple[Any, ...]]) -> None:
        self.posts = posts
        self.token = -1

    def __repr__(self) -> str:
        return f"<_Mailman {len(self.posts)} posts>"

    def start(self, scope: Scope) -> Outcome:
        """Remember the token that threads wake."""
        self.token = scope.token
        return Continue(self)

    def wakeup(self, scope: Scope) -> Outcome:
        """Run what is there."""
        posts = self.posts
        while posts:
            function, *arguments = posts.popleft()
            try:
                function(*arguments)
            except Exception as error:
                fail_all(arguments, error)
        return UNCHANGED

    def handle(self, scope: Scope) -> _Mailman:
        """The machine itself."""
        return self


class ThreadLoop:
    """Made by `Loop.in_thread()`. `with` it, or call `start` and `stop`."""

    def __init__(self, *, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20) -> None:
        self.drain_seconds = drain
        self._kernel = kernel
        self._slots = slots
        self._posts: deque[tuple[Any, ...]] = deque()
        self._loop: Loop | None = None
        self._mailman: _Mailman | None = None
        self._thread: threading.Thread | None = None
        self._ended = False
        self.forked = False  # set in the child of a fork

    def __repr__(self) -> str:
        state = (
            "forked away"
            if self.forked
            else "stopped"
            if self._ended
            else "running"
            if self._loop
            else "not started"
        )
        return f"<ThreadLoop {state} {self._loop!r}>"

    def start(self) -> Self:
        """Start the thread. Raises `Misuse` the second time."""
        if self._thread is not None:
            raise Misuse("this loop was started already; make another one: Loop.in_thread()")
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="windlass-loop", daemon=True)
        self._thread.start()
        ready.wait()
        _started.add(self)
        atexit.register(self.stop)
        return self

    def _run(self, ready: threading.Event) -> None:
        with Loop(kernel=self._kernel, slots=self._slots) as loop:
            self._mailman = loop.spawn(_Mailman(self._posts))
            self._loop = loop
            ready.set()
            loop.run(signals=False)
            self._ended = True
        self._fail_rest()

    def stop(self) -> None:
        """Drain for at most `drain` seconds, then stop; wait for that. Does nothing the second time."""
        atexit.unregister(self.stop)
        if self._thread is None or self._ended or self.forked:
            return
        self.post(self._drain)
        self._thread.join()

    def _drain(self) -> None:
        assert self._loop is not None
        self._loop.drain(self.drain_seconds)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def spawn(self, machine: Any) -> Any:
        """As `Loop.spawn`, from any thread. A pool comes back as a `ThreadPool`, a coroutine's reply as a
        `ThreadReply`."""
        handle = self.call(self._spawn, machine).result()
        if isinstance(handle, Reply):
            reply: ThreadReply[Any] = ThreadReply(self)
            self.post(reply._follow, handle)
            return reply
        return ThreadPool(self, handle) if hasattr(handle, "submit") else handle

    def _spawn(self, machine: Any) -> Any:
        assert self._loop is not None
        return self._loop.spawn(machine)

    def call(self, function: Callable[..., T], *arguments: Any) -> ThreadReply[T]:
        """Run a function on the loop's thread; it must be short and must not block."""
        reply: ThreadReply[T] = ThreadReply(self)
        self.post(self._call, reply, function, arguments)
        return reply

    @staticmethod
    def _call(reply: ThreadReply[T], function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        reply._settle(function(*arguments), None)

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have `function(*arguments)` run on the loop's thread. What goes wrong settles the `ThreadReply`
        among them."""
        self.check()
        self._posts.append((function, *arguments))
        assert self._loop is not None
        assert self._mailman is not None
        self._loop.notifier.wake(self._mailman.token)
        if self._ended:  # it ended while this was appended
            self._fail_rest()

    def check(self, waits: bool = False) -> None:
        """Raise `Misuse` where this loop cannot be used."""
        if self.forked:
            raise Misuse(
                "this process was forked after Loop.in_thread() was started, and has no such thread; "
                "start another one here, after the fork"
            )
        if self._loop is None:
            raise Misuse("the loop was not started; write `with Loop.in_thread() as loop:` or call start()")
        if waits and threading.current_thread() is self._thread:
            raise Misuse(
                "result() on the loop's own thread would wait for itself; await the reply in a flow instead"
            )

    def _fail_rest(self) -> None:
        while self._posts:
            try:
                _function, *arguments = self._posts.popleft()
            except IndexError:  # another thread took it
                return
            fail_all(arguments, MachineStopped("the loop's thread has stopped"))


def fail_all(arguments: list[Any], error: BaseException) -> None:
    """Settle the replies among a post's arguments."""
    for argument in arguments:
        if isinstance(argument, ThreadReply):
            argument._settle(None, error)


def mark_forked() -> None:
    """In the child of a fork there are no threads but one."""
    for loop in list(_started):
        loop.forked = True
        atexit.unregister(loop.stop)


os.register_at_fork(after_in_child=mark_forked)
