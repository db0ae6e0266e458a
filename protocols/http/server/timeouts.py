"""The five timeout classes of an HTTP server, by name."""

from __future__ import annotations

import msgspec

from actors import Transport
from actors.options import check_numbers, check_seconds

__all__ = ["DEFAULT_TIMEOUTS", "Sending", "Timeouts"]


class Timeouts(msgspec.Struct, frozen=True):
    """All in seconds. The last three may be set per request (`Route.timeouts`)."""

    idle: float = 75.0
    """A kept-alive connection without a request is closed. nginx 75, Go none, Apache 5."""

    head_receiving: float = 10.0
    """From a head's first byte to its last, else 408. nginx 60, Apache 20 to 40, gunicorn none."""

    body_receiving: float = 30.0
    """For a request's body, plus a second for every `body_rate_min` bytes that came, else 408: so a large
    upload may take long, and one that drips may not. nginx 60 between two reads, Apache 20 and a rate."""

    response_generation: float = 60.0
    """From the complete request to the response's head, else 503 (504 from a proxy). nginx 60."""

    response_sending: float = 60.0
    """Without a client's taking any of what waits for it; and in all, plus a second for every `body_rate_min`
    bytes of that: the connection is then reset. nginx 60 between two writes, HAProxy's usual 60."""

    body_rate_min: float = 500.0
    """Bytes per second that a peer must keep up. Apache's mod_reqtimeout: 500."""

    def __post_init__(self) -> None:
        check_numbers(body_rate_min=self.body_rate_min)
        seconds = msgspec.structs.asdict(self)
        del seconds["body_rate_min"]
        check_seconds(zero=True, **seconds)


DEFAULT_TIMEOUTS = Timeouts()


class Sending:
    """A client takes what it is sent more slowly than it is made: how long it may go on so."""

    __slots__ = ("_patience", "_since", "_until")

    def __init__(self, timeouts: Timeouts, transport: Transport) -> None:
        self._since = transport.scope.now
        self._patience = timeouts.response_sending
        self._until = self._since + self._patience + transport.unsent / timeouts.body_rate_min

    def due(self, transport: Transport) -> float:
        """When the client has taken nothing for too long, or too little in all; later if it takes some."""
        return min(self._until, max(self._since, transport.moved) + self._patience)
