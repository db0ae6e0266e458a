"""A small PostgreSQL as a machine, for tests and simulations:
`Listener("127.0.0.1:5432", SimulatedPostgres())`.

It knows the statements that it is told, and a few of its own; transactions, conflicts and CancelRequest are
as with the real one.
"""

from __future__ import annotations

from .database import Changes, Database
from .server import SimulatedPostgres
from .statements import STATEMENTS, Declared, Later, declare

__all__ = ["STATEMENTS", "Changes", "Database", "Declared", "Later", "SimulatedPostgres", "declare"]
