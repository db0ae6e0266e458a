"""What a Redis server can answer instead of a value."""

from __future__ import annotations

from typing import Final

from pools import BackendError

__all__ = ["BadReply", "Conflict", "CrossSlot", "RedisError", "is_about_server"]

ABOUT_SERVER: Final = frozenset({"READONLY", "LOADING", "MASTERDOWN"})


class RedisError(BackendError):
    """The server's own error reply. `code` is its first word: `WRONGTYPE`, `NOSCRIPT`, `ERR`, …

    Look the code up; the command was not executed, except where the text says otherwise.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.partition(" ")[0]


def is_about_server(error: RedisError) -> bool:
    """Whether it says which server this is, and nothing of the command: it was not executed. A command that
    waits hears it when its server becomes a replica; CLIENT UNBLOCK has another text.
    """
    return error.code in ABOUT_SERVER or (
        error.code == "UNBLOCKED" and "instance state changed" in str(error)
    )


class Conflict(RedisError):
    """A watched key was changed by others every time the transaction was tried; nothing was executed.

    Submit it again later, raise `attempts=`, or do the work in a script, which needs no WATCH.
    """


class CrossSlot(RedisError):
    """The keys of one unit live in several slots of the cluster. Nothing was sent.

    Give them a common tag in braces (`{user:7}:name`, `{user:7}:mail`), or send them apart: a pipeline may
    have keys of many slots.
    """


class BadReply(BackendError):
    """The other side sent what the protocol does not allow. The connection was closed.

    Check that host and port are those of a Redis server, and whether it wants TLS (`rediss://`).
    """
