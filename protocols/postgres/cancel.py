"""CancelRequest: asks the server, on a connection of its own, to end what another one runs (section 55.2.8).

It may come late and hit whatever runs then, so the connection it names takes nothing new. The server closes
the connection of the request when it has passed it on. Until then that which it names stays open: a pooler
between knows by it whom to tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from actors import (
    ANYTHING,
    ActorError,
    Address,
    Connector,
    Loop,
    Outcome,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)

from . import messages

__all__ = ["cancel"]

CANCEL_SECONDS: Final = 5.0  # to connect, and again until the server has closed


class CancelRequest(StreamProtocol):
    """Says its one message, and waits for the end."""

    __slots__ = ("_done", "_message")

    drain_phase = None

    def __init__(self, message: bytes, done: Callable[[], object]) -> None:
        self._message = message
        self._done = done

    def __repr__(self) -> str:
        return "<CancelRequest>"

    def connected(self, transport: Transport) -> Outcome:
        """Write it; the server answers by closing."""
        transport.write(self._message)
        return Timeout(self, transport.scope.now + CANCEL_SECONDS, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        """There is nothing to say."""
        return Stop()

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """Best effort: a server that cannot be reached ends the query when it finds the connection gone."""
        self._done()


def cancel(loop: Loop, address: Address, process: int, secret: int, done: Callable[[], object]) -> None:
    """Have the server end what this process of it runs; `done` is called when it has heard, or will not."""
    request = CancelRequest(messages.cancel_request(process, secret), done)
    try:
        loop.spawn(Connector(address, request, timeout=CANCEL_SECONDS))
    except ActorError as error:  # the loop is full, or closing
        loop.log.warning("cannot cancel", cause="cannot cancel a query", error=str(error))
        done()
