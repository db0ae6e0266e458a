"""How a connection begins: TLS or not, then the handshake, until `take` says that the server is ready.

`stream` is what to read from and write to: the transport itself, or what stands on top of it once there is
TLS.
"""

from __future__ import annotations

from typing import Final

from actors import ANYTHING, Bytes, Expectation, Transport
from protocols.postgres import messages
from protocols.postgres.errors import BadMessage

from .handshake import Handshake, Settings
from .tls import Sealed

__all__ = ["Opening"]

NEGOTIATING: Final = 0  # `_phase`: whether there is TLS
SEALING: Final = 1  # its handshake
GREETING: Final = 2  # who we are


class Opening:
    """One connection's start. `process` and `secret` are for a CancelRequest."""

    __slots__ = ("_handshake", "_phase", "_settings", "_transport", "process", "secret", "stream")

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self._settings = settings
        self._transport = transport
        self._phase = NEGOTIATING
        self._handshake: Handshake | None = None
        self.stream = transport
        self.process = self.secret = 0

    def __repr__(self) -> str:
        return f"<Opening of {self._settings!r}>"

    def begin(self) -> None:
        """TLS or not, then who we are."""
        if self._settings.tls is not None:
            self._transport.write(messages.SSL_REQUEST)
        else:
            self._greet()

    @property
    def expectation(self) -> Expectation:
        """More than what is there."""
        left = len(self._transport.input)
        return Bytes(left + 1) if left else ANYTHING

    def take(self) -> bool:
        """Read what has come; whether the server is ready. Raises `BackendError`s."""
        if self._phase == NEGOTIATING:
            self._negotiate()
        stream = self.stream
        if isinstance(stream, Sealed):
            stream.pull()
            if self._phase == SEALING and stream.opened:
                self._greet()
        return self._phase == GREETING and self._greeted()

    def arrived(self) -> Transport:
        """The stream, with all in its `input` that has arrived. Raises `BadMessage` if that is not TLS."""
        if isinstance(self.stream, Sealed):
            self.stream.pull()
        return self.stream

    def _greet(self) -> None:
        self._phase = GREETING
        self._handshake = Handshake(self._settings, self.stream)
        self._handshake.begin()

    def _negotiate(self) -> None:
        """The server's one byte. More than that came from somebody in between."""
        answer = self._transport.take(len(self._transport.input))
        if answer != b"S":
            what = (
                "the server does not support TLS"
                if answer == b"N"
                else f"no answer to a request for TLS: {answer[:40]!r}"
            )
            raise BadMessage(f"{what}; write ?sslmode=disable if the network may be trusted")
        assert self._settings.tls is not None
        self._phase = SEALING
        self.stream = Sealed(self._transport, self._settings.tls, self._settings.server_hostname)

    def _greeted(self) -> bool:
        handshake, stream = self._handshake, self.stream
        assert handshake is not None
        stream.consume(handshake.take(bytes(stream.input)))
        self.process, self.secret = handshake.process, handshake.secret
        return handshake.done
