"""What can go wrong with PostgreSQL, told apart by whose fault it is.

`PostgresError` is the server's own answer: the unit alone has failed, its neighbours have not. `BadMessage`
is what no PostgreSQL server says: the connection is closed. `UnreadableValue` is an answer that Python
cannot hold. A parameter that does not fit its type is the caller's: a plain `ValueError`, and nothing was
sent.
"""

from __future__ import annotations

from collections.abc import Mapping

from pools import BackendError

__all__ = [
    "INVALID_NAME",
    "BadMessage",
    "LeftOpen",
    "PostgresError",
    "RolledBack",
    "Turned",
    "UnreadableValue",
    "is_invalid",
    "is_outdated",
]

INVALID_NAME = "26000"
NOT_SUPPORTED = "0A000"
OUTDATED = frozenset({"08P01", "42703", "42704", "42804", "42846", "42883", "42P01", "XX000"})
"""What the server says of a statement whose types or columns are others than when it was described: a message
that does not fit it; no such column, type, function, table; types that do not match; a failed look-up.
"""


class PostgresError(BackendError):
    """The server's answer was an error. The fields are those of its ErrorResponse (protocol section 55.8).

    `sqlstate` is the five-character code by which to tell errors apart; `position` counts characters of the
    statement from 1, None if the server names none; `fields` has everything by its one-letter name.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields = dict(fields)
        self.severity = fields.get("V", fields.get("S", "ERROR"))
        self.sqlstate = fields.get("C", "XX000")
        self.message = fields.get("M", "the server gave no reason")
        self.detail = fields.get("D")
        self.hint = fields.get("H")
        position = fields.get("P", "")
        self.position = int(position) if position.isdecimal() and len(position) < 12 else None
        self.constraint = fields.get("n")
        self.stale = False  # only because what was known of the statement was no longer true
        super().__init__(self.fields)

    def __str__(self) -> str:
        parts = [f"{self.message} ({self.sqlstate})"]
        if self.detail:
            parts.append(f"detail: {self.detail}")
        if self.hint:
            parts.append(f"hint: {self.hint}")
        if self.position:
            parts.append(f"at character {self.position} of the statement")
        return "; ".join(parts)


def is_invalid(error: PostgresError) -> bool:
    """Whether a prepared statement is none any more: the server has forgotten it, or its result has changed.
    It was not executed.
    """
    return error.sqlstate == INVALID_NAME or (
        error.sqlstate == NOT_SUPPORTED and error.fields.get("R") == "RevalidateCachedQuery"
    )


def is_outdated(error: PostgresError, guessed: bool = False) -> bool:
    """Whether it may be that a statement has failed because tables or types were changed since it was
    described. If the types of its parameters were only guessed, they may be the reason for all that the
    server finds wrong with its text (class 42).
    """
    return error.sqlstate in OUTDATED or (guessed and error.sqlstate.startswith("42"))


class LeftOpen(BackendError):
    """A unit has begun a transaction and not ended it; the connection was closed, which rolls it back.

    Write an `async def` with `@postgres.transaction` instead.
    """

    def __init__(self) -> None:
        super().__init__(
            "the statement has left a transaction open; write an async def with @postgres.transaction "
            "instead. The connection was closed, which rolls back"
        )


class RolledBack(BackendError):
    """The transaction was rolled back at its commit, because a statement in it had failed and the body went
    on.

    Let errors of statements leave the body, or put what may fail behind a savepoint.
    """


class BadMessage(BackendError):
    """The other side sent what is not PostgreSQL's protocol: its connection is closed."""


class UnreadableValue(BackendError):
    """The server sent a value that Python cannot hold (a date before the year 1, say): cast it to text in the
    statement.
    """


class Turned(UnreadableValue):
    """Rows in another form than was asked for."""

    def __init__(self) -> None:
        super().__init__(
            "the columns have other types than on another server of this pool, and come in another form: "
            "the statement was executed, its rows were dropped"
        )
