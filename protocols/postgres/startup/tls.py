"""TLS inside of a connection that began in the clear, as PostgreSQL negotiates it (section 55.2.12).

A `Sealed` stands where the transport stood: the same `input`, `consume`, `write` and `unsent`, plain on the
inside. Nothing of it is a socket's business; `opened` says when the handshake is done.
"""

from __future__ import annotations

import ssl

from actors import Scope, Transport
from actors.net.tls_session import TlsSession
from protocols.postgres.errors import BadMessage

__all__ = ["Sealed"]


class Sealed(Transport):
    """TLS over another transport. `pull` takes in what has arrived there."""

    __slots__ = ("_session", "_under")

    scope: Scope

    def __init__(self, under: Transport, context: ssl.SSLContext, server_hostname: str | None) -> None:
        super().__init__(under.scope)
        self._under = under
        self._session = TlsSession(context, server_hostname=server_hostname)
        self.pull()

    @property
    def opened(self) -> bool:
        """Whether the handshake is done."""
        return self._session.established

    def pull(self) -> None:
        """Decrypt what has come. Raises `BadMessage` if it is not what TLS allows."""
        under, session = self._under, self._session
        if under.input:
            session.feed(under.take(len(under.input)))
        wrong: OSError | None = None
        try:
            if session.shake_hands():
                plain, _, wrong = session.open()  # the end is told by the socket's
                if plain:
                    self.feed(plain)
        except OSError as error:
            wrong = error
        self._send()
        if wrong is not None:
            raise BadMessage(f"TLS with the server failed: {wrong}") from wrong

    def write(self, data: bytes) -> None:
        """Encrypt and pass on. Raises `BadMessage` if the server has begun to negotiate again."""
        if data and not self._session.seal(data):
            raise BadMessage("the server negotiates TLS again, which this client does not do")
        self._send()

    def _send(self) -> None:
        if self._session.has_output:
            self._under.write(self._session.take())

    @property
    def certificate(self) -> bytes:
        """The server's certificate (DER)."""
        return self._session.peer_certificate_bytes
