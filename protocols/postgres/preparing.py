"""How a statement comes to a connection: described by its own server before anything is bound to it.

    Parse, Describe, Flush      its parameters and columns
    Parse, Bind …, Flush        what types are made of that are not in the table; once per connection
    Bind, Describe, Flush       the columns of its portal, for what is not planned
    Bind, Execute, Sync         the unit

Outside of a transaction it begins when all before it was answered: a pooler takes an answer to a Sync for
the end, whatever was sent behind it. There is no Sync in between, so all of it is one transaction, under
which no other can change tables, and which a pooler leaves on one server. An error on the way has a Sync
sent; nothing was executed then.
"""

from __future__ import annotations

from typing import Any, Final

from . import messages
from .copy.units import CopyIn, CopyOut
from .messages import Column
from .rows import compile_rows, formats_of
from .session import Session
from .statements import NEVER_YET, Statement, Utility, make_statement
from .types import CODECS, LOOK_UP, MADE_OF, codecs_of

__all__ = ["Preparing", "decode_found"]

ADDED_MAX: Final = 1024  # types that a connection remembers
OIDS: Final = 1028  # oid[]

COLUMNS: Final = tuple(Column(f"column {number}", oid) for number, oid in enumerate(MADE_OF))
decode_found = compile_rows(COLUMNS, formats_of(COLUMNS))


class Preparing:
    """A job: what is asked about a unit's statement. `known`: it is prepared already, and its portal is what
    is asked about. `statement` in the end is what to send the unit with; of a copy `columns` are enough.
    `doubted`: what was known of it before, which a parameter did not fit.
    """

    __slots__ = ("_doubted", "_name", "_session", "_unit", "asked", "begun", "columns", "statement", "types")

    def __init__(
        self,
        unit: Any,
        session: Session,
        known: Statement | None = None,
        doubted: Statement | None = None,
    ) -> None:
        self._unit = unit
        self._doubted = doubted
        self.begun = False
        self._session = session
        self._name = b"" if self._copies else session.name_of(unit.sql)
        self.statement = known
        self.types: tuple[int, ...] = ()
        self.columns: tuple[Column, ...] = ()
        self.asked: list[int] = []  # types that are being looked up

    def __repr__(self) -> str:
        return f"<Preparing {self._unit!r}>"

    @property
    def _copies(self) -> bool:
        return isinstance(self._unit, CopyIn | CopyOut)

    def begin(self) -> bytes:
        """The first question. Raises `ValueError` for what cannot be asked."""
        self.begun = True
        if self.statement is not None:
            return self._ask_portal(self.statement)
        name = self._name
        parse = messages.parse(name, self._unit.sql)
        return self._session.closing() + parse + messages.describe(name) + messages.FLUSH

    def described(self, types: tuple[int, ...], columns: tuple[Column, ...], now: float) -> bytes:
        """The server's description of the statement, or of its portal; the next question, if there is one.
        Raises `ValueError` for what cannot be used.
        """
        if self.statement is not None:
            self.statement = self.statement.with_columns(columns)
            return b""
        self.types, self.columns = types, columns
        known = self._session.codecs
        self.asked = sorted({oid for oid in types if oid not in CODECS and oid not in known})
        if not self.asked or self._copies:
            self.asked = []
            return self._known(now)
        name = self._session.name_apart
        bound = Statement(name, LOOK_UP, (OIDS,), COLUMNS).bind_only([self.asked])
        parse = messages.parse(name, LOOK_UP, (OIDS,))
        return parse + bound + messages.close_statement(name) + messages.FLUSH

    def looked_up(self, rows: list[Any], now: float) -> bytes:
        """What the types are made of; the next question. Raises as `described`."""
        session = self._session
        if len(session.codecs) >= ADDED_MAX:
            session.codecs = {}
        session.codecs.update(codecs_of(self.asked, rows))
        self.asked = []
        return self._known(now)

    def _known(self, now: float) -> bytes:
        if self._copies:
            return b""
        session, doubted = self._session, self._doubted
        confirmed = now if doubted is not None and doubted.types == self.types else NEVER_YET
        try:
            statement = make_statement(
                self._name, self._unit.sql, self.types, self.columns, confirmed, session.codecs
            )
        except ValueError:
            session.withdraw(self._name)
            raise
        session.keep(statement)
        self.statement = statement
        by_portal = isinstance(statement, Utility) and statement.by_portal
        return self._ask_portal(statement) if by_portal and not self._unit.counts else b""

    def _ask_portal(self, statement: Statement) -> bytes:
        """Bind without a word about formats, and ask what comes of it."""
        return statement.bound(self._unit.arguments) + messages.DESCRIBE_PORTAL + messages.FLUSH
