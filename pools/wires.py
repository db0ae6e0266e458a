"""Wires: the protocol side of one connection, driven by a pool's `Connection`. A protocol package derives
its units and its wire:

    class Ask(Unit[bytes]):                          # immutable; its attributes say how it may be treated
        __slots__ = ("line",)
        idempotent = True
        def __init__(self, line: bytes) -> None:
            self.line = line

    class LineWire(Wire):
        def send(self, work: Work[Any]) -> None:
            # nothing leaves before the end of the tick
            self.transport.write(work.unit.line + b"\\n")

        def received(self) -> Expectation | None:
            # answer the units in the order in which they were sent
            transport, connection = self.transport, self.connection
            *lines, rest = bytes(transport.input).split(b"\\n")
            transport.input = rest
            for line in lines:
                connection.settle(line)
            return None

    pool = loop.spawn(pools.pool(LineWire, ["127.0.0.1:7000"], connections=4, pipeline=16))
    reply = pool.submit(Ask(b"hello"), timeout=1.0)

The first argument of `pools.pool` makes one wire per connection: a class, or a function that closes over
passwords and the like.

**What the `Connection` calls**: `start` once connected, then `send`, `received`, `flushed`, `ended`,
`wakeup`, `timeout`, and `closed` once at the end. All but `send`, `abandoned`, `goodbye` and `closed` may
return what to expect of the stream next (`actors.Expectation`, on the *input*), or None: as before, so
`received` is called again when *more* has come. Return `ANYTHING` to be called again at once if input is left
over, `SLEEP` to stop reading (back-pressure: a consumer that is slow), `(ANYTHING, Flush(LOW_WATERMARK))` to
be told by `flushed` when the output has drained. `send` has nothing to return: it is called from the pool's
wakeup; if it needs another expectation, call `self.connection.wake()` and return it from `wakeup`.

**What the wire calls** on `self.connection` (and `self.transport`, whose `input`, `consume`, `take`, `write`,
`congested`, `scope` it uses):

- `ready()`: the handshake is done, units may come. `start` calls it by default.
- `current`: the `Work` whose answer comes next (None if nothing is in flight). `current.unit` is the unit;
  `current.settled` says that nobody waits: read the answer off the wire all the same, but need not keep it.
- `settle(value)` / `fail(error)`: the answer of the current unit, complete; the next one becomes current
  (`settle` returns it). `fail` is for the backend's own answer (derive from `BackendError`); the connection
  goes on.
- `answer(value)`: settles the reply, but the unit stays current (a streamed body follows); `finish()` ends
  it. From `answer` on the unit has no deadline and is not sent again; guard what follows with the wire's own
  `deadline`.
- `take_back()`: the current unit was certainly not executed, and not by its own fault (the backend has
  forgotten a prepared statement, say): back to the head of the queue, as another unit if one is given.
  `Work.attempts` counts how often it was sent.
- `settle/fail/finish(…, reusable=False)`: the connection is closed after this one; return at once. What is in
  flight behind is treated as after a loss, or, if `spares_behind` is set on the wire, taken back as certainly
  not executed.
- `give_up(error)`: the other side broke the protocol. The current unit fails with this error, the others are
  treated as after a loss, the connection is closed. Raising a `BackendError` out of a handler does the same;
  before `ready()` it counts as a failed connect (a wrong password, say).
- `break_off(error)`: the unit sent last cannot be sent to its end, and not by the backend's fault: its source
  has failed, say. It fails with this error, the connection is closed, and the backend is not blamed.
- `elsewhere(error)`: the answer is about the *server* and not about the unit, which was certainly not
  executed: it is not the primary, it is loading its data. This connection and those made before it are left,
  and the unit is sent again. `leave()` does the first part alone, for a unit that may have been executed in
  part.
- `wake()`: have `wakeup` called in this tick. `transport.scope.wake()` is the same, so a channel's or a
  reply's `attach` works: `channel.attach_sender(self.transport.scope)`.
- `hand_over(protocol)`: after an upgrade: another `StreamProtocol` takes the connection, which never returns
  to the pool and counts against `tunnels` until it is closed (ask `pool.tunnels.refusal` before). Its
  `connected(transport)` is called when the handler returns, and it finds there what is left in the input.
  Answer the current unit before.

**What the wire says about itself**: `writable` is False while a request body is still being written: no unit
is sent meanwhile (set it in `send` or later; when it turns True again the pool notices after the handler).
`deadline` (absolute, monotonic seconds): when to call `timeout`; read after each handler. `pushes`: the
server may speak unasked; if not, input that comes while nothing is in flight closes the connection.
`keep_alive`: for how many seconds the server keeps an idle connection, if it has said so; it is closed here
by then (set it a little shorter), so that no unit meets a server that is just closing. `probe`: what to ask a
server on an idle connection that may lead nowhere any more, because another has just gone silent. `lingers`:
see there, as `restore` and `goodbye`. Of a unit of which nothing was written yet, because `send` has put it
off, `send` may set `work.wire_bytes` to 0 (and to -1 when it is written): with the connection it is not lost
then.

**When the connection ends** it first calls `ended` if the peer sent its end (FIN): complete a close-delimited
answer there with `settle(…, reusable=False)`, or return `SLEEP` if parts still have to be handed on. Then
`closed(error)`: fail what the wire itself still feeds (a body's channel). Replies are the `Connection`'s
business: unsent units go back to the queue, idempotent ones are retried within the budget, others fail with
`ConnectionLost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors import ANYTHING, NEVER, Expectation, Transport

from .errors import ConnectionLost
from .units import Unit, Work

if TYPE_CHECKING:
    from .connections import Connection

__all__ = ["Wire"]


class Wire:
    """One connection's protocol. Derive from it; `send` and `received` are the least."""

    __slots__ = ("deadline", "keep_alive", "lingers", "connection", "transport", "writable")

    pushes: bool = False
    """Whether the server may send something while nothing is in flight."""

    spares_behind: bool = False
    """Whether units sent behind one that was answered with `reusable=False` were certainly not executed (RFC
    9112 section 9.6).
    """

    takes: type[Any] | tuple[type[Any], ...] = Unit
    """What units it can send, to tell a unit of another protocol from one that cannot be encoded."""

    connection: Connection
    transport: Transport

    def __init__(self) -> None:
        self.writable = True
        self.deadline = NEVER
        self.keep_alive = NEVER
        self.lingers = False
        """Whether a connection on which nobody waits any more is to stay open all the same: what is left of
        its work is just being stopped, by another connection. Call `connection.wake()` when it turns False.
        """

    def start(self) -> Expectation | None:
        """Connected; `connection` and `transport` are set. Begin the handshake, or say that there is none."""
        self.connection.ready()
        return ANYTHING

    def send(self, work: Work[Any]) -> None:
        """Write the unit. An exception fails this unit alone (it cannot be encoded, say). Raise it before
        anything is written: after half a unit the connection is closed.
        """
        raise NotImplementedError

    def received(self) -> Expectation | None:
        """The input holds what was expected."""
        raise NotImplementedError

    def flushed(self) -> Expectation | None:
        """The output has fallen to what `Flush` named."""
        return None

    def ended(self) -> Expectation | None:
        """The peer sends nothing more. Return `SLEEP` to keep the connection for what is left to do; None
        ends it.
        """
        return None

    def wakeup(self) -> Expectation | None:
        """Somebody woke this connection: a consumer made room, a body to be sent has more."""
        return None

    def timeout(self) -> Expectation | None:
        """`deadline` has passed. By default the connection is given up."""
        self.connection.give_up(
            ConnectionLost("the connection was silent for too long; the unit may have been executed")
        )
        return None

    def abandoned(self, work: Work[Any]) -> None:
        """The asker of a unit that was sent has gone (cancelled, deadline). Its answer is still to be read
        and dropped.
        """

    def probe(self) -> Unit[Any] | None:
        """The cheapest unit that the server answers whatever happens, to see whether an idle connection still
        leads anywhere. None, the default: there is none, and a suspect is closed.
        """
        return None

    def restore(self) -> Unit[Any] | None:
        """After a unit of several exchanges: a unit that brings the connection back to a clean state, None if
        it is clean.

        Raise to have the connection discarded.
        """
        return None

    def goodbye(self) -> None:
        """An idle connection is about to be closed in good order: write what the protocol says then."""

    def closed(self, error: BaseException | None) -> None:
        """The connection is over. Called once, before the units in flight are settled or taken back."""
