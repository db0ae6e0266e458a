"""The errors of the runtime. Each says which of three things happened: you misused it, the other side
misbehaved (or left), or a limit was reached; and what to do about it."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ActorError",
    "Cancelled",
    "ChannelClosed",
    "DeadlineExceeded",
    "DelimiterNotFound",
    "LoopFull",
    "MachineStopped",
    "MailboxFull",
    "Misuse",
    "NotSettled",
    "ResolveError",
]


class ActorError(Exception):
    """The base of all errors that this package raises."""

    by_network: ClassVar[bool] = False
    """Whether a network, or a peer that has gone, can cause it: what a simulation expects. Anything else is a
    fault of the program."""


class Misuse(ActorError):
    """The program called the runtime in a way that can never work. Fix the calling code."""


class LoopFull(ActorError):
    """The loop has no free slot for another machine. Raise `Loop(slots=…)` or spawn less at a time."""


class MailboxFull(ActorError):
    """The receiver does not keep up. Send later, send less, or give its mailbox another overflow policy."""

    by_network = True


class MachineStopped(ActorError):
    """The machine that should have answered has stopped; the message may or may not have been handled."""

    by_network = True


class DeadlineExceeded(ActorError, TimeoutError):
    """The answer did not come before the deadline."""

    by_network = True


class Cancelled(ActorError):
    """The reply was cancelled: whoever asked is no longer interested."""

    by_network = True


class NotSettled(ActorError):
    """The reply was read before it had settled. Await it, or read it in the wakeup that it causes."""


class ChannelClosed(ActorError):
    """The channel was closed by its other end; nothing more can be sent or received."""

    by_network = True


class DelimiterNotFound(ActorError):
    """The peer sent more than the expectation's limit without the delimiter."""


class ResolveError(ActorError, OSError):
    """A host name could not be resolved. Check its spelling and the machine's DNS settings."""

    by_network = True
