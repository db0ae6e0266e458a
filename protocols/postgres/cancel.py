"""CancelRequest: asks the server, on a connection of its own, to end what another one runs (section 55.2.8).

It may come late and hit whatever runs then, so the connection it names is never used again.
"""

from __future__ import annotations

from actors import ActorError, Address, Connector, Loop, Outcome, Stop, StreamProtocol, Transport

from . import messages

__all__ = ["cancel"]


class CancelRequest(StreamProtocol):
    """Says its one message and goes."""

    __slots__ = ("_message",)

    drain_phase = None

    def __init__(self, message: bytes) -> None:
        self._message = message

    def __repr__(self) -> str:
        return "<CancelRequest>"

    def connected(self, transport: Transport) -> Outcome:
        """Write it; the server answers by closing."""
        transport.write(self._message)
        return Stop()

    def received(self, transport: Transport) -> Outcome:
        """There is nothing to say."""
        return Stop()

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        """Best effort: a server that cannot be reached ends the query when it finds the connection gone."""


def cancel(loop: Loop, address: Address, process: int, secret: int) -> None:
    """Have the server end what this process of it runs."""
    try:
        loop.spawn(Connector(address, CancelRequest(messages.cancel_request(process, secret)), timeout=5.0))
    except ActorError as error:  # the loop is full, or closing
        loop.log.warning("cannot cancel", cause="cannot cancel a query", error=str(error))
