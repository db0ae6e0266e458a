"""Tunnels: connections that a pool has handed over to another protocol, until they are closed.

They hold no place among the pool's `connections`: one that is open for hours would keep everybody else's
units waiting. So they have a bound of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors import Transport

from .errors import QueueFull

if TYPE_CHECKING:
    from .connections import Connection
    from .pool import Pool

__all__ = ["Tunnels"]


class Tunnels(dict[Transport, "Connection"]):
    """Those that are open, at most `limit`."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def refusal(self, pool: Pool) -> QueueFull | None:
        """Why no further connection may be handed over, also said in the log; None if one may."""
        count = len(self)
        if count < self.limit:
            return None
        pool.loop.log.warning("tunnels full", cause=f"tunnels full {pool.name}", pool=pool.name, open=count)
        return QueueFull(f"{count} tunnels to {pool.name} are open, and no more may be; raise tunnels=")

    def open(self, connection: Connection) -> None:
        """This connection is another protocol's from now on, and its place in the pool free."""
        self[connection.transport] = connection
        connection.backend.handed_over(connection)
        if connection.pool.queue.live:
            connection.pool.wake()
