"""A message through a mailbox, its answer through a reply: microseconds of CPU per ask, one after the other.

    python -m benchmarks.own.ask machine|flow COUNT

Whoever asks is a machine, or a flow, which is what the coroutine of the asyncio peer corresponds to.
"""

from __future__ import annotations

import sys
import time

import msgspec

from actors import Continue, Loop, Machine, Mailbox, Outcome, Reply, Scope, Stop


class Question(msgspec.Struct):
    """A number to which one is added."""

    number: int
    reply: Reply[int]


class Answerer(Machine[Mailbox[Question]]):
    """Answers whatever is in its mailbox."""

    __slots__ = ("mailbox",)

    def start(self, scope: Scope) -> Outcome:
        self.mailbox: Mailbox[Question] = Mailbox(scope)
        return Continue(self)

    def handle(self, scope: Scope) -> Mailbox[Question]:
        return self.mailbox

    def wakeup(self, scope: Scope) -> Outcome:
        for question in self.mailbox.drain():
            question.reply.settle(question.number + 1)
        return Continue(self)


class Asker(Machine[int]):
    """Asks, and asks again when the answer is there."""

    __slots__ = ("asked", "count", "mailbox", "reply")

    def __init__(self, mailbox: Mailbox[Question], count: int) -> None:
        self.mailbox = mailbox
        self.count = count
        self.asked = 0

    def start(self, scope: Scope) -> Outcome:
        return self._ask(scope)

    def wakeup(self, scope: Scope) -> Outcome:
        if self.reply.result() != self.asked:
            raise AssertionError(f"asked {self.asked - 1}, answered {self.reply!r}")
        return Stop() if self.asked == self.count else self._ask(scope)

    def _ask(self, scope: Scope) -> Outcome:
        self.reply = self.mailbox.ask(Question, self.asked)
        self.reply.attach(scope)
        self.asked += 1
        return Continue(self)


async def ask(mailbox: Mailbox[Question], count: int) -> None:
    """The same as a flow."""
    for number in range(count):
        if await mailbox.ask(Question, number) != number + 1:
            raise AssertionError(f"asked {number}, got something else")


def main(who: str, count: int) -> float:
    """Seconds of CPU for `count` asks."""
    loop = Loop()
    mailbox = loop.spawn(Answerer())
    before = time.process_time()
    if who == "flow":
        loop.run_until(loop.spawn(ask(mailbox, count)))
    else:
        asker = loop.spawn(Asker(mailbox, count))
        while loop.alive(asker):
            loop.tick()
    return time.process_time() - before


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])) / int(sys.argv[2]) * 1e6)
