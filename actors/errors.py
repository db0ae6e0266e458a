"""The errors of the runtime. Each says which of three things happened: you misused it, the other side
misbehaved (or left), or a limit was reached; and what to do about it.

    BaseException
    ├── Cancelled                 nobody wants the answer any more
    └── Exception
        └── ActorError
            ├── Misuse            the calling code is wrong; NotSettled likewise
            └── NoAnswer          there is no answer, and the calling code is not to blame
                ├── DeadlineExceeded, MachineStopped, MailboxFull, LoopFull, ResolveError, AllFailed
                └── pools.PoolError and all that derives from it

`except NoAnswer` is the one clause for whatever can become of a thing that was asked for: a unit, a flow,
`gather`, `first`, with or without a deadline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

__all__ = [
    "FAILURES",
    "ActorError",
    "AllFailed",
    "Cancelled",
    "ChannelClosed",
    "DeadlineExceeded",
    "DelimiterNotFound",
    "LoopFull",
    "MachineStopped",
    "MailboxFull",
    "Misuse",
    "NoAnswer",
    "NotSettled",
    "ResolveError",
]


class ActorError(Exception):
    """The base of all errors that this package raises. (`Cancelled` is none: see there.)"""

    by_network: ClassVar[bool] = False
    """Whether a network, or a peer that has gone, can cause it: what a simulation expects. Anything else is a
    fault of the program."""


class Misuse(ActorError):
    """The program called the runtime in a way that can never work. Fix the calling code."""


class NoAnswer(ActorError):
    """There is no answer: the other side, the network, a limit or the time is to blame, not the calling code.

    The base of what awaiting can raise in a program that has no mistakes: catch it where all kinds are
    answered alike, with a 503 say.
    """


class LoopFull(NoAnswer):
    """The loop has no free slot for another machine. Raise `Loop(slots=…)` or spawn fewer at a time."""


class MailboxFull(NoAnswer):
    """The receiver does not keep up. Send later, send less, or give its mailbox another overflow policy."""

    by_network = True


class MachineStopped(NoAnswer):
    """The machine that should have answered has stopped; the message may or may not have been handled."""

    by_network = True


class DeadlineExceeded(NoAnswer, TimeoutError):
    """The answer did not come before the deadline."""

    by_network = True


class AllFailed(NoAnswer, ExceptionGroup[Exception]):
    """`first` has got no value: all have failed, each with one of these, and none by a mistake of the
    program."""

    by_network = True

    def derive(self, errors: Sequence[Exception]) -> AllFailed:  # type: ignore[override]
        """A part of it, for `except*`."""
        return AllFailed(self.message, errors)


class Cancelled(BaseException):
    """The reply or the flow was cancelled: whoever asked is no longer interested.

    It is no `Exception`, so that a flow which catches those and tries again can be cancelled, as with
    `asyncio.CancelledError`. A flow that catches it should tidy up and let it pass.
    """

    by_network = True


FAILURES: Final = (Exception, Cancelled)
"""What ends one flow or one machine. Everything else (Ctrl-C, `SystemExit`) is for whoever runs the loop."""


class NotSettled(ActorError):
    """The reply was read before it had settled. Await it, or read it in the wakeup that it causes."""


class ChannelClosed(ActorError):
    """The channel was closed by its other end; nothing more can be sent or received."""

    by_network = True


class DelimiterNotFound(ActorError):
    """The peer sent more than the expectation's limit without the delimiter."""


class ResolveError(NoAnswer, OSError):
    """A host name could not be resolved. Check its spelling and the machine's DNS settings."""

    by_network = True
