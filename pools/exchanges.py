"""Units of several exchanges (transactions): an `async def` that holds one connection and can wait for
nothing else.

Rules:
1. The body may await what `Held.submit` returns and nothing else. Awaiting another pool's reply, `gather`, a
   sleep, a channel or any foreign awaitable raises `HeldAcrossBackends` inside it, at once: a connection is
   never held while something else is waited for. That is a property of the runtime, not a habit.
2. What the body returns or raises settles the unit's reply. What it has left in flight is read and dropped,
   then the wire says how the connection is brought back to a clean state (`Wire.restore`); if it cannot be,
   it is discarded.
3. A cancelled unit gets `Cancelled` at its next await, once the exchange in flight has been answered, so that
   its clean-up can use the connection. Past the deadline there is no clean-up on the wire: `DeadlineExceeded`
   is raised inside, the connection closed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from actors import Misuse
from actors.errors import FAILURES
from actors.telling import told

from .errors import Cancelled, ConnectionLost, DeadlineExceeded, HeldAcrossBackends, PoolClosed
from .kinds import Answer, KindOf
from .units import Unit, Work

if TYPE_CHECKING:
    from .connections import Connection

__all__ = ["Driver", "Exchange", "Exchanges", "Held"]

T = TypeVar("T")

FOREIGN_MAX: Final = 64  # foreign awaits in a row before a body that swallows the error is ended
EXCHANGES_MAX: Final = 1024  # in flight at a time


class Exchanges(Unit[Answer, KindOf]):
    """A unit that needs several exchanges. Derive from it and write `body`; it has the connection to itself.

    The body runs in a copy of the context variables that were in force where the unit was made.
    """

    __slots__ = ("in_context",)

    in_context: Callable[..., Any]
    pipelinable = False

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Whatever its arguments are, its making is when the context counts."""
        unit = super().__new__(cls)
        object.__setattr__(unit, "in_context", copy_context().run)
        return unit

    def body(self, held: Held) -> Coroutine[Any, Any, Answer]:
        """The work: `async def body(self, held): return await held.submit(...)`. Run anew if an idempotent
        one is retried.
        """
        raise NotImplementedError


class Exchange(Work[T]):
    """One exchange inside such a unit: what its body awaits."""

    __slots__ = ("driver",)

    driver: Driver


class Held:
    """The connection as the body sees it."""

    __slots__ = ("_driver",)

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __repr__(self) -> str:
        return f"<Held {self._driver.connection!r}>"

    @property
    def wire(self) -> Any:
        """The connection's wire, for what a protocol package needs to know of it (a transaction's status,
        say).
        """
        return self._driver.connection.wire

    def submit(self, unit: Unit[T]) -> Exchange[T]:
        """Send one exchange now; await it for its answer. Several may be in flight, answered in order."""
        return self._driver.submit(unit)


class Driver:
    """Runs one body on one connection. The connection tells it when it is woken, unoccupied or lost."""

    __slots__ = (
        "_coroutine",
        "_in_context",
        "_ended",
        "_lost",
        "_restoring",
        "_sent",
        "_throw",
        "_waiting",
        "connection",
        "work",
    )

    def __init__(self, connection: Connection, work: Work[Any]) -> None:
        self.connection = connection
        self.work = work
        unit: Exchanges[Any] = work.unit
        self._in_context: Callable[..., Any] = unit.in_context(copy_context).run  # anew for each attempt
        self._coroutine = self._in_context(unit.body, Held(self))
        self._waiting: Exchange[Any] | None = None
        self._throw: BaseException | None = None  # to be raised at the next await
        self._lost: BaseException | None = None  # why there is no connection any more
        self._ended = False
        self._sent = False
        self._restoring: Exchange[Any] | None = None

    def __repr__(self) -> str:
        state = "ended" if self._ended else f"waiting for {self._waiting!r}"
        return f"<Driver of {type(self.work.unit).__name__} {state}>"

    def submit(self, unit: Unit[T]) -> Exchange[T]:
        """Send one exchange."""
        exchange: Exchange[T] = Exchange(self.connection, unit, self.work.deadline)
        exchange.driver = self
        if self._lost is not None:
            exchange.fail(self._lost)
        elif self._ended and self._restoring is None:
            raise Misuse("the unit has ended; its connection is no longer held")
        elif self.connection.in_flight > EXCHANGES_MAX:
            raise Misuse(f"more than {EXCHANGES_MAX} exchanges in flight; await some of them")
        else:
            self._sent = True
            self.connection.exchange(exchange)
        return exchange

    def advance(self) -> None:
        """The connection was woken: run on if what the body waits for is there."""
        if self._ended or (self._waiting is not None and not self._waiting.settled):
            return
        self._run()

    def cancel(self) -> None:
        """The asker has cancelled."""
        self._throw = Cancelled("the unit was cancelled by its caller")
        self.connection.wake()

    def unoccupied(self) -> None:
        """Nothing is in flight: if the body has ended, clean up and let the connection go."""
        if not self._ended or self._lost is not None:
            return
        connection = self.connection
        restoring, self._restoring = self._restoring, None
        if restoring is not None:
            if restoring.error is not None:
                connection.close(restoring.error)
                return
        else:
            try:
                unit = connection.wire.restore()
            except Exception as error:
                connection.close(error)
                return
            if unit is not None:
                self._restoring = exchange = Exchange(connection, unit, self.work.deadline)
                exchange.driver = self
                connection.exchange(exchange)
                return
        connection.restored()

    def lost(self, error: BaseException | None) -> None:
        """The connection is gone: the body hears of it where it waits, then the reply settles or the unit is
        sent anew.
        """
        if self._ended:
            return
        work, pool = self.work, self.connection.pool
        if not work.settled and (not self._sent or pool.may_retry(work)):
            self._lost = ConnectionLost("the connection was lost; the unit is run again")
            self._ended = True
            self._in_context(self._coroutine.close)
            pool.requeue([work])
            return
        if isinstance(error, DeadlineExceeded | PoolClosed | ConnectionLost):
            self._lost = error
        else:
            self._lost = ConnectionLost(
                "the connection was lost between exchanges; what was sent may have been executed"
            )
            self._lost.__cause__ = error
        self._throw = self._lost
        self._run()

    def _run(self) -> None:
        loop = self.connection.pool.loop
        before, loop.inherited_deadline = loop.inherited_deadline, self.work.deadline
        try:
            value = self._step()
        except FAILURES as error:
            self._end(None, error)
        else:
            if self._waiting is None:
                self._end(value, None)
        finally:
            loop.inherited_deadline = before

    def _step(self) -> Any:
        """To the next await of an exchange that has no answer yet, or to the end."""
        self._waiting = None
        coroutine, in_context = self._coroutine, self._in_context
        for _ in range(FOREIGN_MAX + EXCHANGES_MAX):
            error, self._throw = self._throw, None
            try:
                awaited = (
                    in_context(coroutine.send, None) if error is None else in_context(coroutine.throw, error)
                )
            except StopIteration as stop:
                return stop.value
            if not (isinstance(awaited, Exchange) and awaited.driver is self):
                self._throw = HeldAcrossBackends(
                    f"{type(self.work.unit).__name__} awaited {told(awaited)} while it holds a connection; "
                    "await it before or after"
                )
            elif not awaited.settled:
                self._waiting = awaited
                awaited.attach(self.connection.transport.scope)
                return None
        in_context(coroutine.close)
        raise HeldAcrossBackends(
            f"{type(self.work.unit).__name__} still awaits something other than its own connection"
        )

    def _end(self, value: Any, error: BaseException | None) -> None:
        self._ended = True
        connection, work = self.connection, self.work
        if error is not None:
            work.fail(error)
        else:
            work.settle(value)
        if self._lost is None:
            connection.update()
