"""What the server of one connection holds: the statements that were prepared there, and its types. No I/O.

Rules:
1. What is known of a statement was said by this server, of this statement.
2. It is forgotten when a statement did not fit any more; all of it when this connection has altered
   something, when one was gone, and when one did not fit inside of a transaction: its body, which is run
   anew, meets that once.
3. Names begin with 64 bits that were drawn for the connection, so that none stands for another's statement.
"""

from __future__ import annotations

import random
from typing import Any, Final

from pools import Pool

from . import messages
from .statements import KEPT_MAX, Statement, Statements, Utility
from .types import Codec

__all__ = ["Session"]

POOLED: Final = (
    "a pooler in transaction mode is between; nothing stays prepared from now on. Write statements=0"
)


class Session:
    """`known`: what is prepared. `codecs`: of types that somebody has added. `shared` is the pool's."""

    __slots__ = ("_altered", "_began", "_closing", "_names", "_number", "codecs", "known", "shared")

    def __init__(self, shared: Statements) -> None:
        self.shared = shared
        self.known = shared.store()
        self.codecs: dict[int, Codec] = {}
        self._names = b""
        self._number = 0
        self._closing = b""  # what the server is to forget as well, with the next that it is told
        self._altered = False  # since the transaction has begun
        self._began = 0  # when that was, by the clock of `known`

    def __repr__(self) -> str:
        return f"<Session {self._names.decode()}, {len(self.known)} statements>"

    def begin(self, source: random.Random) -> None:
        """Draw its names."""
        self._names = b"windlass_%016x_" % source.getrandbits(64)

    @property
    def name_apart(self) -> bytes:
        """For a statement that is closed at once."""
        return self._names + b"0"

    def name_of(self, sql: str) -> bytes:
        """For a statement that is to be prepared; empty if it is not to stay."""
        if not self.shared.keeps(sql):
            return b""
        self._number += 1
        return self._names + b"%d" % self._number

    def keep(self, statement: Statement) -> None:
        """Remember what was said of it."""
        if statement.name:
            if self.shared.limit:  # else a pooler was recognised since it was named
                self._close(self.known.add(statement))
        elif (
            not self.shared.limit
            and len(statement.sql) <= KEPT_MAX
            and not (isinstance(statement, Utility) and statement.by_portal)
        ):
            self.shared.guesses.add(statement)

    def guess(self, sql: str) -> Statement | None:
        """Where nothing stays prepared: what another server has said of the same text."""
        return None if self.shared.limit else self.shared.guesses.get(sql)

    def forget(self, statement: Statement) -> bool:
        """Describe it anew when it comes again. Whether it was remembered."""
        self.shared.guesses.drop(statement)
        kept = self.known.drop(statement)
        if kept:
            self._close([statement])
        return kept

    def vanished(self, pool: Pool[Any]) -> None:
        """A statement was gone: none of the others is to be relied upon."""
        self.known.clear()
        if self.shared.vanished():
            pool.loop.log.warning("statements vanish", pool=pool.name, why=POOLED)

    def done(self, tag: bytes, idle: bool) -> None:
        """A command that was not planned is done: forget what it may have made untrue."""
        if tag.startswith((b"DEALLOCATE", b"DISCARD")):
            self.known.clear()
        elif tag.startswith((b"ALTER", b"DROP", b"CREATE VIEW")) or (tag == b"ROLLBACK" and self._altered):
            self._altered = True
            self.forget_all()
        elif tag == b"BEGIN":
            self._began = self.known.clock
        if idle:
            self._altered = False

    def turned(self, statement: Statement, invalid: bool) -> None:
        """It does not fit, inside of a transaction, whose body is run anew: nothing is relied upon then. One
        that was described there was turned by the transaction itself, which will do so again.
        """
        if invalid and statement.added > self._began:
            self.shared.turned(statement.sql)
        self.forget_all()

    def forget_all(self) -> None:
        """Describe each anew when it comes again."""
        self.shared.guesses.clear()
        self._close(self.known.clear())

    def closing(self) -> bytes:
        """What the server is to forget as well; to be sent now."""
        said, self._closing = self._closing, b""
        return said

    def withdraw(self, name: bytes) -> None:
        """A statement that is of no use."""
        self._closing += messages.close_statement(name)

    def _close(self, gone: list[Statement]) -> None:
        self._closing += b"".join([messages.close_statement(statement.name) for statement in gone])
