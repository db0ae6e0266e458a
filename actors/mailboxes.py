"""Mailboxes: a machine's bounded inbox of typed messages.

Rules:
1. Sending wakes the owner, once for all that is sent before it runs; an owner that leaves messages behind is
   woken again.
2. Overflow is explicit: `reject` (the sender gets `MailboxFull`) or `drop_oldest` (which becomes a dead
   letter, and the reply of a dropped question fails with `MailboxFull`).
3. A message to a stopped machine is a dead letter, counted and kept for a while in `Loop.dead_letters`.
4. Every question asked through `ask` is settled, at the latest when the owner stops (`MachineStopped`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, TypeVar

import msgspec

from .errors import MachineStopped, MailboxFull
from .replies import Reply
from .scope import Scope
from .telling import words_of

__all__ = ["Mailbox", "MailboxStatistics", "Overflow"]

M = TypeVar("M")
Overflow = Literal["reject", "drop_oldest"]

SWEEP_MIN = 64


class MailboxStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a mailbox."""

    waiting: int
    capacity: int
    sent: int
    rejected: int
    dropped: int
    unanswered: int


class Mailbox(Generic[M]):
    """Made by its owner, in `start`: `self.mailbox = Mailbox(scope, capacity=…)`; handed to whoever may
    send."""

    __slots__ = (
        "_asked",
        "_dropped",
        "_messages",
        "_rejected",
        "_scope",
        "_sent",
        "_sweep_at",
        "capacity",
        "overflow",
    )

    def __init__(self, scope: Scope, capacity: int = 1024, overflow: Overflow = "reject") -> None:
        if capacity < 1:
            raise ValueError(f"a mailbox of capacity {capacity}; write 1 or more")
        if overflow not in ("reject", "drop_oldest"):
            raise ValueError(f"overflow={overflow!r}; write 'reject' or 'drop_oldest'")
        self.capacity = capacity
        self.overflow = overflow
        self._scope = scope
        self._messages: deque[M] = deque()
        self._asked: list[Reply[Any]] = []
        self._sweep_at = SWEEP_MIN
        self._sent = self._rejected = self._dropped = 0
        scope.on_stop(self._close)

    def __repr__(self) -> str:
        state = "" if self._scope.alive else " closed"
        return f"<Mailbox{state} {len(self._messages)}/{self.capacity} waiting, {self.overflow}>"

    def __len__(self) -> int:
        return len(self._messages)

    def send(self, message: M) -> None:
        """Put a message in. Raises `MailboxFull` when the policy is `reject`; never blocks."""
        messages = self._messages
        scope = self._scope
        if scope.machine is None:
            scope.loop.dead_letter(scope.token, message)
            return
        if len(messages) >= self.capacity:
            self._overflow(message)
        self._sent += 1
        messages.append(message)
        if not scope.woken:
            scope.woken = True
            scope.loop.woken.append(scope)

    def ask(self, kind: Callable[..., M], *fields: Any) -> Reply[Any]:
        """Send `kind(*fields, reply)` and return that reply: the message type's last field is its reply cell.

        Raises `MailboxFull`. If the owner has stopped, or stops before it answers, the reply fails with
        `MachineStopped`.
        """
        reply: Reply[Any] = Reply()
        if self._scope.machine is None:
            reply.fail(MachineStopped("the machine that was asked has stopped"))
            return reply
        self.send(kind(*fields, reply))
        asked = self._asked
        asked.append(reply)
        if len(asked) > self._sweep_at:
            self._asked = asked = [cell for cell in asked if not cell.settled]
            self._sweep_at = max(SWEEP_MIN, 2 * len(asked))
        return reply

    def receive(self) -> M | None:
        """The oldest message, or None. If more are left, the owner will be woken for them."""
        messages = self._messages
        if not messages:
            return None
        message = messages.popleft()
        if messages:
            self._scope.wake()
        return message

    def drain(self) -> Iterator[M]:
        """The messages that are there now, oldest first."""
        messages = self._messages
        try:
            for _ in range(len(messages)):
                if not messages:
                    return
                yield messages.popleft()
        finally:
            if messages:  # they came meanwhile, or the owner has broken off
                self._scope.wake()

    def statistics(self) -> MailboxStatistics:
        """What has come through so far."""
        return MailboxStatistics(
            waiting=len(self._messages),
            capacity=self.capacity,
            sent=self._sent,
            rejected=self._rejected,
            dropped=self._dropped,
            unanswered=sum(not cell.settled for cell in self._asked),
        )

    def _overflow(self, message: M) -> None:
        loop = self._scope.loop
        owner = type(self._scope.machine).__name__
        if self.overflow == "reject":
            self._rejected += 1
            loop.log.warning(
                "mailbox full", cause=f"mailbox full {owner}", owner=owner, capacity=self.capacity
            )
            raise MailboxFull(
                f"the mailbox of {owner} holds {self.capacity} messages; send later or raise its capacity"
            )
        self._dropped += 1
        oldest = self._messages.popleft()
        loop.dead_letter(self._scope.token, oldest)
        reply = reply_of(oldest)
        if reply is not None:
            reply.fail(MailboxFull(f"the mailbox of {owner} overflowed and dropped this, its oldest message"))

    def _close(self, error: BaseException | None) -> None:
        while self._messages:
            self._scope.loop.dead_letter(self._scope.token, self._messages.popleft())
        asked, self._asked = self._asked, []
        for reply in asked:
            why = "" if error is None else f": {words_of(error)}"
            reply.fail(MachineStopped(f"the machine that was asked has stopped{why}"))


def reply_of(message: Any) -> Reply[Any] | None:
    """The reply cell in a message's last field, where `Mailbox.ask` has put it."""
    fields = getattr(message, "__struct_fields__", ("reply",))
    reply = getattr(message, fields[-1], None) if fields else None
    return reply if isinstance(reply, Reply) else None
