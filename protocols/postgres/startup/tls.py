"""TLS inside of a connection that began in the clear, as PostgreSQL negotiates it (section 55.2.12).

A `Sealed` stands where the transport stood: the same `input`, `consume`, `write` and `unsent`, plain on the
inside. Nothing of it is a socket's business; `opened` says when the handshake is done.
"""

from __future__ import annotations

import ssl
from typing import Final

from actors import Scope, Transport
from protocols.postgres.errors import BadMessage

__all__ = ["Sealed"]

READ_SIZE: Final = 65536


class Sealed(Transport):
    """TLS over another transport. `pull` takes in what has arrived there."""

    __slots__ = ("_incoming", "_outgoing", "_ssl", "_under", "opened")

    scope: Scope

    def __init__(self, under: Transport, context: ssl.SSLContext, server_hostname: str | None) -> None:
        super().__init__(under.scope)
        self._under = under
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_hostname=server_hostname,
        )
        self.opened = False
        self.pull()

    def pull(self) -> None:
        """Decrypt what has come. Raises `BadMessage` if it is not what TLS allows."""
        under = self._under
        if under.input:
            self._incoming.write(under.take(len(under.input)))
        try:
            if not self.opened:
                self._ssl.do_handshake()
                self.opened = True
            while piece := self._ssl.read(READ_SIZE):
                self.feed(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            pass  # the end is told by the socket's
        except OSError as error:
            self._send()
            raise BadMessage(f"TLS with the server failed: {error}") from error
        self._send()

    def write(self, data: bytes) -> None:
        """Encrypt and pass on."""
        self._ssl.write(data)
        self._send()

    def _send(self) -> None:
        if self._outgoing.pending:
            self._under.write(self._outgoing.read())

    @property
    def certificate(self) -> bytes:
        """The server's certificate (DER)."""
        return self._ssl.getpeercert(binary_form=True) or b""
