"""All or nothing: `atomic`, and transactions that look before they write: WATCH, reads, then MULTI … EXEC,
on one connection.

    @redis.transaction
    async def withdraw(tx: redis.Transaction, account: str, amount: int) -> int:
        await tx.watch(account)
        balance = int(await tx.submit(redis.get(account)) or 0)
        if balance < amount:
            raise ValueError("not enough")           # nothing is executed; reaches the caller
        tx.queue(redis.decrby(account, amount))      # executed when the body returns
        return balance - amount

Rules:
1. The body waits for its own connection and nothing else (`pools.exchanges`).
2. What is queued is executed by one EXEC: at the end of the body, or in `execute`. It is sent when the server
   has accepted the MULTI, never before: where MULTI is refused (an ACL, a proxy), the commands behind it
   would be executed one by one. Who may say MULTI can change at any time, so nothing is remembered of it.
3. If a watched key was changed meanwhile nothing is executed and the body runs anew, up to `attempts` times;
   then it fails with `Conflict`. A body that has executed something already is not run again.
4. However it ends, the connection watches nothing afterwards.
5. In a cluster all its keys live in one slot. It is begun at the node of the first argument that could be a
   key; if another node serves what the body asks for, it is run anew there, unless it has written already.
6. `atomic` needs one round trip all the same: its connections, which serve nothing else, stand behind a MULTI
   that was accepted already. The next one's MULTI is sent with the EXEC of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, overload

from actors import Reply
from pools import Exchange, Exchanges, Held

from .client import RedisPool
from .codec import Arg, encode
from .errors import Conflict, RedisError
from .slots import key_slot, one_slot
from .units import Command, Queued, Redis, RedisUnit

__all__ = ["Transaction", "TransactionUnit", "atomic", "transaction"]

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS: Final = 10
MULTI: Final = encode("MULTI")
ELSEWHERE: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})  # nothing was executed here


class Transaction:
    """The connection as a transaction's body sees it."""

    __slots__ = ("_asking", "_held", "_queued", "_slot", "executed", "written")

    def __init__(self, held: Held, asking: bool = False) -> None:
        self._held = held
        self._asking = asking
        self._queued: list[Command[Any]] = []
        self._slot: int | None = None  # of the keys so far, in a cluster
        self.executed = False  # an EXEC has been sent
        self.written = False  # likewise, or another command that is not to be executed twice

    def __repr__(self) -> str:
        return f"<Transaction with {len(self._queued)} commands queued>"

    async def watch(self, *keys: Arg) -> None:
        """Have nothing executed if one of these keys changes from now on."""
        if self._queued:
            raise ValueError("watch() after queue(): read and watch first, then queue what is to be executed")
        asked: Exchange[Any] = self._send(Command(encode("WATCH", *keys)))
        self._held.wire.watching = True
        await asked

    def submit(self, unit: Command[T]) -> Exchange[T]:
        """Have a command executed now, to read what the rest depends on. Await it for its result."""
        if unit.embedded is not unit.data:
            unit = Command(unit.embedded, unit.convert)
        asked = self._send(unit)
        if not unit.idempotent:
            asked.when_settled(self._look_whether_written)
        return asked

    def _send(self, unit: Command[T]) -> Exchange[T]:
        if self._held.wire.clustered:
            self._slot = one_slot((self._slot, unit.key))
        return self._held.submit(unit.asking() if self._asking else unit)

    def _look_whether_written(self, asked: Reply[Any]) -> None:
        self.written = self.written or not isinstance(asked.error, RedisError)

    def queue(self, unit: Command[Any]) -> None:
        """Have a command executed together with the others that are queued."""
        self._queued.append(unit)

    async def execute(self, *, keep_errors: bool = False) -> list[Any]:
        """Execute what is queued, and give the results. Raises `Conflict`, which runs the body anew if it is
        let through. `keep_errors`: errors stand in the list, instead of the first being raised.
        """
        if not self._queued:
            return []
        units, self._queued = self._queued, []
        body = Queued(units, keep_errors)
        wire = self._held.wire
        if wire.clustered:
            self._slot = one_slot((self._slot, body.key))
        await self._begin()
        asked = self._held.submit(body)
        try:
            results = await asked
        except Conflict:
            raise
        except RedisError as error:
            self.executed = True
            self.written = self.written or error.code not in ELSEWHERE
            raise
        except BaseException:
            self.executed = self.written = True
            raise
        finally:
            if asked.settled and (asked.error is None or isinstance(asked.error, RedisError)):
                wire.watching = wire.in_multi = False  # EXEC was answered: it has ended both
        self.executed = self.written = True
        return results

    async def _begin(self) -> None:
        """Have MULTI accepted: nothing is sent behind one that may be refused."""
        wire = self._held.wire
        asked: Exchange[Any] = self._send(Command(MULTI))
        wire.in_multi = True
        try:
            await asked
        except RedisError:
            wire.in_multi = False
            raise


class TransactionUnit(Exchanges[T, Redis], RedisUnit[T], Generic[T]):
    """What a function decorated by `transaction` returns: it with its arguments, to be submitted."""

    __slots__ = ("_asking", "attempts", "function", "key", "made")

    def __init__(
        self,
        function: Callable[..., Any],
        made: Callable[[Transaction], Any],
        attempts: int,
        key: int | None = None,
        asking: bool = False,
    ) -> None:
        self.function = function
        self.made = made
        self.attempts = attempts
        self.key = key  # a guess
        self._asking = asking

    def __repr__(self) -> str:
        return f"<transaction {self.function.__qualname__}>"

    async def body(self, held: Held) -> T:
        """Run the function, execute what it has queued, again if a watched key was changed."""
        left = self.attempts
        while True:
            left -= 1
            tx = Transaction(held, self._asking)
            try:
                value: T = await self.made(tx)
                await tx.execute()
            except Conflict:
                if tx.executed or left <= 0:
                    raise
            except RedisError as error:
                if tx.written and error.code in ELSEWHERE:
                    raise RedisError(
                        f"ERR its slot was moved in the middle of the transaction ({error}); what it had "
                        "written by then remains"
                    ) from error
                raise
            else:
                return value

    def asking(self) -> TransactionUnit[T]:
        """Every command behind ASKING."""
        return TransactionUnit(self.function, self.made, self.attempts, self.key, asking=True)

    def detour(self, pool: RedisPool, timeout: float | None, priority: int) -> Reply[T] | None:
        """To the connections for those that hold one."""
        return pool.submit_apart("transactions", self, timeout, priority)


class _Atomic(Queued):
    """A body, and the MULTI of whatever comes next on its connection."""

    __slots__ = ()

    def __init__(self, units: Sequence[Command[Any]], keep_errors: bool) -> None:
        super().__init__(units, keep_errors)
        self.data += MULTI
        self.size = len(self.data)
        self.replies += 1

    def __repr__(self) -> str:
        return f"<atomic of {len(self.units)}, {self.size} bytes>"

    def values(self, replies: list[Any]) -> list[Any]:
        """The last reply is about the next one."""
        return super().values(replies[:-1])

    def detour(self, pool: RedisPool, timeout: float | None, priority: int) -> Reply[list[Any]] | None:
        """To the connections that stand behind a MULTI."""
        return pool.submit_apart("atomic", self, timeout, priority)

    def asking(self) -> Any:
        """On a connection for transactions, where ASKING goes before MULTI."""

        async def queued(tx: Transaction) -> list[Any]:
            for unit in self.units:
                tx.queue(unit)
            return await tx.execute(keep_errors=self.keep_errors)

        return TransactionUnit(atomic, queued, 1, self.key, asking=True)


def atomic(*units: Command[Any], keep_errors: bool = False) -> Command[list[Any]]:
    """A unit: several commands between MULTI and EXEC: all are executed with nothing in between, or none.

    Redis rolls nothing back: a command that fails while it is executed (`WRONGTYPE`) leaves what the others
    did. Where MULTI is refused nothing is executed: it fails with `BackendDown`, whose text has the reason.
    """
    return _Atomic(units, keep_errors)


def guess_slot(arguments: Iterable[Any]) -> int | None:
    """The slot of the first argument that could be a key."""
    for argument in arguments:
        if isinstance(argument, str | bytes):
            return key_slot(argument.encode() if isinstance(argument, str) else argument)
    return None


Body = Callable[Concatenate[Transaction, P], Coroutine[Any, Any, T]]
Maker = Callable[P, TransactionUnit[T]]


@overload
def transaction(function: Body[P, T]) -> Maker[P, T]: ...
@overload
def transaction(*, attempts: int = ATTEMPTS) -> Callable[[Body[P, T]], Maker[P, T]]: ...
def transaction(function: Any = None, *, attempts: int = ATTEMPTS) -> Any:
    """Make a function of units of an `async def` whose first parameter is a `Transaction`.

    What the body returns settles the reply, once what it has queued is executed; what it raises fails it, and
    nothing queued is executed. `attempts`: how often it is run at most while watched keys change under it.
    """
    if attempts < 1:
        raise ValueError(f"attempts={attempts}; write 1 or more")

    def decorate(function: Any) -> Any:
        def make(*arguments: Any, **options: Any) -> TransactionUnit[Any]:
            key = guess_slot((*arguments, *options.values()))
            return TransactionUnit(function, lambda tx: function(tx, *arguments, **options), attempts, key)

        make.__name__ = function.__name__
        make.__qualname__ = function.__qualname__
        make.__doc__ = function.__doc__
        return make

    return decorate if function is None else decorate(function)
