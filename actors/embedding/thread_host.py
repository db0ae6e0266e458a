"""The loop in a thread of its own, for programs of ordinary threads: Django, Flask, a script.

    with Loop.in_thread() as loop:
        backend = loop.spawn(http.pool("http://127.0.0.1:9001"))
        print(backend.submit(http.get("/")).result(timeout=1).status)

Rules:
1. Everything happens on the loop's thread. What other threads hold are proxies: `ThreadLoop`, `ThreadPool`,
   `ThreadReply`.
2. A call from a thread costs one append and, if the loop is not awake already, one write to its descriptor.
3. Every reply settles: at the latest when the loop stops. A pool then refuses what comes, as it always does;
   anything else fails with `MachineStopped`.
4. What a thread asks for (a spawn, a unit, a call) sees a copy of the thread's context variables, and ends by
   the `deadline()` that the thread is in. So does a wait, unless what it waits for ends by then of itself,
   which says more about why.
5. Code on the loop's own thread (flows, handlers) uses the same proxies and gets plain replies to await.
6. A process that forks after the start has no such thread in the child; using the loop there says so.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from threading import get_ident
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import msgspec

from actors.deadlines import due_here
from actors.embedding.hosted import GRACE, LOST, NO_THREAD
from actors.errors import DeadlineExceeded, MachineStopped, MailboxFull, Misuse, NotSettled
from actors.forks import tell_of_forks
from actors.kernel import Kernel, SystemKernel
from actors.loop import Loop
from actors.machine import Machine
from actors.outcomes import NEVER, UNCHANGED, Continue, Outcome
from actors.replies import Reply
from actors.scope import Scope, Waker

__all__ = ["ThreadLoop", "ThreadPool", "ThreadReply"]

T = TypeVar("T")

LOOK_SECONDS: Final = 5.0  # how often a thread that waits for as long as it takes sees whether it is in vain
POSTS_MAX: Final = 1 << 16  # what threads have asked and the loop has not looked at yet


class ThreadReply(Waker, Generic[T]):
    """A reply that threads can wait for. Settles exactly once."""

    __slots__ = ("_ends", "_error", "_host", "_lock", "_reply", "_settled", "_value")

    def __init__(self, host: ThreadLoop, ends: float = NEVER) -> None:
        self._host = host
        self._ends = ends  # by when it settles of itself, by this system's clock (monotonic seconds)
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
        """Wait for the value, at most `timeout` seconds (None: as long as it takes, or a surrounding
        `deadline()` lets it). Raises the error it settled with.

        `DeadlineExceeded` after `timeout`, or at the deadline: the unit goes on, call again or `cancel`.
        Raises `Misuse` on the loop's own thread, where waiting would stop the loop that is to answer.
        """
        limit = self._limit(timeout)
        if not self.wait_for(limit):
            raise DeadlineExceeded(f"no answer within {limit:.4g} s")
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has settled, at most `timeout` seconds, and not beyond a surrounding `deadline()`;
        returns whether it has. Raises `Misuse` where waiting can never end, as `result` does."""
        return self.wait_for(self._limit(timeout))

    def _limit(self, timeout: float | None) -> float | None:
        """For how many seconds this thread may wait; None: for as long as it takes."""
        if self._settled:
            return timeout
        self._host.check(waits=True)
        due = due_here()
        if due >= self._ends:
            return timeout
        left = max(0.0, due - SystemKernel.monotonic())
        return left if timeout is None else min(left, timeout)

    def wait_for(self, timeout: float | None) -> bool:
        """`wait`, by whoever knows that it ends."""
        taken = self._lock.acquire(timeout=LOOK_SECONDS if timeout is None else seconds_of(timeout))
        while not taken and timeout is None:
            self._look()
            taken = self._lock.acquire(timeout=LOOK_SECONDS)
        if taken:
            self._lock.release()
        return taken

    def answer(self) -> T:
        """`result`, of what takes no time: by whoever knows that it ends."""
        self.wait_for(None)
        return self.result()

    def _look(self) -> None:
        """A reply that has not settled after its own deadline has been lost: have it fail."""
        reply = self._reply
        if reply is not None and reply.deadline + GRACE < SystemKernel.monotonic():
            self._host.post(Post(self, reply.cancel, (DeadlineExceeded(LOST),)))

    def cancel(self) -> None:
        """Lose interest: `result` raises `Cancelled` unless the answer is faster. Nothing on a wire is
        touched."""
        self._host.post(Post(None, self._cancel))

    def _cancel(self) -> None:
        if self._reply is not None:  # else it has settled: a cancel is looked at after what it cancels
            self._reply.cancel()

    def _follow(self, reply: Reply[T]) -> None:
        """On the loop's thread: settle when this does."""
        self._reply = reply
        reply.attach(self)

    def wake(self) -> None:
        """For the reply that it follows, on the loop's thread: that has settled."""
        assert self._reply is not None
        error = self._reply.error
        self._settle(None if error is not None else self._reply.result(), error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if not self._settled:
            self._value = value
            self._error = error
            self._settled = True
            self._lock.release()


class Post(msgspec.Struct, frozen=True):
    """What a thread has the loop do."""

    reply: ThreadReply[Any] | None
    """Settles with what goes wrong."""

    function: Callable[..., object]
    arguments: tuple[Any, ...] = ()
    context: Context | None = None
    """The context variables of whoever asks: it runs in them."""

    due: float = NEVER
    """When what it begins must end, by this system's clock (monotonic seconds)."""

    also_after: bool = False
    """Whether it can be done when the loop has ended, too: by whichever thread notices."""


class ThreadPool:
    """A pool, seen from other threads."""

    __slots__ = ("_host", "_pool")

    def __init__(self, host: ThreadLoop, pool: Any) -> None:
        self._host = host
        self._pool = pool

    def __repr__(self) -> str:
        return f"<ThreadPool of {self._pool!r}>"

    def submit(self, unit: Any, timeout: float | None = None, priority: int = 0) -> ThreadReply[Any]:
        """As the pool's own `submit`, from any thread. On the loop's own thread the reply is the pool's, to
        be awaited."""
        if self._host.here:
            own: Any = self._pool.submit(unit, timeout, priority)
            return own  # type: ignore[no-any-return]
        due = due_here()
        reply: ThreadReply[Any] = ThreadReply(self._host, due)
        self._host.post(
            Post(reply, self._submit, (reply, unit, timeout, priority), copy_context(), due, True)
        )
        return reply

    def _submit(self, reply: ThreadReply[Any], unit: Any, timeout: float | None, priority: int) -> None:
        reply._follow(self._pool.submit(unit, timeout, priority))

    def statistics(self) -> Any:
        """A snapshot, taken on the loop's thread."""
        return self._pool.statistics() if self._host.here else self._host.call(self._pool.statistics).answer()


class _Mailman(Machine["_Mailman"]):
    """Runs on the loop's thread what other threads have posted."""

    __slots__ = ("posts", "token")

    drain_phase = 2  # after the pools: until then threads may cancel and ask

    def __init__(self, posts: deque[Post]) -> None:
        self.posts = posts
        self.token = -1

    def __repr__(self) -> str:
        return f"<_Mailman {len(self.posts)} posts>"

    def start(self, scope: Scope) -> Outcome:
        """Remember the token that threads wake."""
        self.token = scope.token
        return Continue(self)

    def wakeup(self, scope: Scope) -> Outcome:
        """Run what is there now: what comes meanwhile wakes again."""
        posts, loop = self.posts, scope.loop
        for _ in range(len(posts)):
            post = posts.popleft()
            if post.due != NEVER:
                loop.inherited_deadline = loop.now + post.due - SystemKernel.monotonic()
            try:
                run_post(post)
            finally:
                loop.inherited_deadline = NEVER
        return UNCHANGED

    def handle(self, scope: Scope) -> _Mailman:
        """The machine itself."""
        return self


class _InThread(Loop):
    """Its drain begins where a block is left."""

    quiet_drain = True


class ThreadLoop:
    """Made by `Loop.in_thread()`. `with` it, or call `start` and `stop`."""

    def __init__(self, *, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20) -> None:
        self.drain_seconds = drain
        self._kernel = kernel
        self._slots = slots
        self._posts: deque[Post] = deque()
        self._loop: Loop | None = None
        self._mailman: _Mailman | None = None
        self._thread: threading.Thread | None = None
        self._number = NO_THREAD  # the thread's, from when it runs
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
            raise Misuse("this loop was already started; make another one: Loop.in_thread()")
        begun: ThreadReply[None] = ThreadReply(self)
        self._thread = threading.Thread(target=self._run, args=(begun,), name="windlass-loop", daemon=True)
        self._thread.start()
        begun.wait_for(None)
        if begun.error is not None:
            raise begun.error
        tell_of_forks(self)
        atexit.register(self.stop)
        return self

    def _run(self, begun: ThreadReply[None]) -> None:
        self._number = get_ident()
        try:
            with _InThread(kernel=self._kernel, slots=self._slots) as loop:
                self._mailman = loop.spawn(_Mailman(self._posts))
                self._loop = loop
                begun._settle(None, None)
                try:
                    while loop.machines:
                        loop.tick()
                finally:
                    self._ended = True
        except BaseException as error:  # no descriptors left, say, or a mistake in the arguments
            if begun.settled:
                raise
            begun._settle(None, error)
        finally:
            self._ended = True
            self._settle_rest()

    def stop(self) -> None:
        """Drain for at most `drain` seconds, then stop; wait for that. Does nothing the second time."""
        atexit.unregister(self.stop)
        if self._thread is None or self.forked:
            return
        if self.here:
            raise Misuse("stop() on the loop's own thread would wait for itself; call it from another")
        if not self._ended:
            self.post(Post(None, self._drain))
        self._thread.join()

    def forked_away(self) -> None:
        """In the child of a fork there is no such thread."""
        self.forked = True
        atexit.unregister(self.stop)

    def _drain(self) -> None:
        assert self._loop is not None
        self._loop.drain(self.drain_seconds)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def here(self) -> bool:
        """Whether the calling code runs on the loop's thread."""
        return get_ident() == self._number and not self._ended

    def spawn(self, machine: Any) -> Any:
        """As `Loop.spawn`, from any thread. A pool comes back as a `ThreadPool`, a coroutine's reply as a
        `ThreadReply`."""
        if self.here:
            return self._spawn(machine)
        return self.call(self._spawn_for_threads, machine).answer()

    def _spawn(self, machine: Any) -> Any:
        assert self._loop is not None
        return self._loop.spawn(machine)

    def _spawn_for_threads(self, machine: Any) -> Any:
        handle = self._spawn(machine)
        if isinstance(handle, Reply):
            reply: ThreadReply[Any] = ThreadReply(self)
            reply._follow(handle)
            return reply
        return ThreadPool(self, handle) if hasattr(handle, "submit") else handle

    def call(self, function: Callable[..., T], *arguments: Any) -> ThreadReply[T]:
        """Run a function on the loop's thread, in a copy of the caller's context variables; it must be short
        and must not block."""
        reply: ThreadReply[T] = ThreadReply(self)
        self.post(Post(reply, self._call, (reply, function, arguments), copy_context(), due_here()))
        return reply

    @staticmethod
    def _call(reply: ThreadReply[T], function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        reply._settle(function(*arguments), None)

    def post(self, post: Post) -> None:
        """Have this done on the loop's thread. Raises `MailboxFull` if the loop cannot keep up with the
        threads."""
        self.check()
        if len(self._posts) >= POSTS_MAX:
            raise MailboxFull(f"{POSTS_MAX} calls wait for the loop's thread; wait for results in between")
        assert self._loop is not None
        assert self._mailman is not None
        self._posts.append(post)
        self._loop.notifier.wake(self._mailman.token)
        if self._ended:  # it ended while this was appended
            self._settle_rest()

    def check(self, waits: bool = False) -> None:
        """Raise `Misuse` where this loop cannot be used."""
        if self.forked:
            raise Misuse(
                "this process was forked after Loop.in_thread() was started, and has no such thread; "
                "start another one here, after the fork"
            )
        if self._loop is None:
            raise Misuse("the loop was not started; write `with Loop.in_thread() as loop:` or call start()")
        if waits and self.here:
            raise Misuse(
                "waiting on the loop's own thread would wait for itself; await the reply in a flow instead"
            )

    def _settle_rest(self) -> None:
        """The loop has ended: nobody else will look at these."""
        while self._posts:
            try:
                post = self._posts.popleft()
            except IndexError:  # another thread took it
                return
            if post.also_after:
                run_post(post)
            elif post.reply is not None:
                post.reply._settle(None, MachineStopped("the loop's thread has stopped"))


def run_post(post: Post) -> None:
    """What goes wrong, even `SystemExit`, is for whoever has asked."""
    try:
        if post.context is None:
            post.function(*post.arguments)
        else:
            post.context.run(post.function, *post.arguments)
    except BaseException as error:
        if post.reply is None:
            raise
        post.reply._settle(None, error)


def seconds_of(timeout: float) -> float:
    """As `Lock.acquire` wants it."""
    if 0.0 <= timeout <= threading.TIMEOUT_MAX:  # nearly always; min() and max() cost three times that
        return timeout
    return min(max(0.0, timeout), threading.TIMEOUT_MAX)
