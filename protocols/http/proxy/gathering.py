"""A request's body that is gathered before a connection to a backend is taken for it, so that a client which
sends slowly holds nothing but its own connection (nginx's `proxy_request_buffering`).

Up to `MEMORY_MAX` bytes stay in memory; more go to a spool. A body that is neither complete nor has room any
more begins to stream: what was gathered goes first.
"""

from __future__ import annotations

from typing import Final

from actors import Loop

from .spool import Spool, Spools

__all__ = ["Gathered"]

MEMORY_MAX: Final = 1 << 16  # bytes; nginx's client_body_buffer_size is 16 KiB


class Gathered:
    """What has come so far, in order, at most about `limit` bytes."""

    __slots__ = ("_limit", "_memory", "_loop", "_size", "_spool", "_spools")

    def __init__(self, loop: Loop, spools: Spools, limit: int) -> None:
        self._loop = loop
        self._spools = spools
        self._limit = limit
        self._memory = bytearray()  # behind what is in the spool
        self._spool: Spool | None = None
        self._size = 0  # bytes that were put

    def __repr__(self) -> str:
        return f"<Gathered {len(self)} bytes>"

    def __len__(self) -> int:
        return len(self._memory) + (0 if self._spool is None else len(self._spool))

    @property
    def spooled(self) -> bool:
        """Whether a part of it is on disk."""
        return self._spool is not None

    def put(self, data: bytes) -> bool:
        """Append. False: it is kept, but there is no room for more."""
        self._size += len(data)
        self._memory += data
        if len(self._memory) > MEMORY_MAX:
            spool = self._spool
            if spool is None:
                spool = self._spool = self._spools.open(self._loop, self._limit)
            if spool is None or not spool.takes_more():
                return False
            data, self._memory = bytes(self._memory), bytearray()
            spool.put(data)
        return self._size <= self._limit

    def take(self) -> bytes:
        """The oldest bytes, a piece at a time. Raises `OSError` if the disk has lost them."""
        if self._spool is not None and len(self._spool):
            return self._spool.take()
        data, self._memory = bytes(self._memory), bytearray()
        return data

    def close(self) -> None:
        """Forget it."""
        self._memory.clear()
        if self._spool is not None:
            self._spool.close()
