"""One side of a TLS connection as bytes in and bytes out: `ssl.MemoryBIO`, and no socket.

Rules:
1. What arrives is given to `feed`, what is to be sent is taken by `take`, after any other call: a handshake,
   a key update and an alert all have something to say.
2. `shake_hands` goes on until `established`. Before that nothing is encrypted or decrypted.
3. An error that `shake_hands` raises, or that `open` gives, ends the session; the alert that tells the peer
   is still to be taken.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

from .streams import READ_SIZE

__all__ = ["TlsSession"]


class TlsSession:
    """`context` as for any socket. A client gives `server_hostname`, which the certificate must name."""

    __slots__ = ("_incoming", "_nameless", "_outgoing", "_ssl", "blocked", "ended", "established")

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool = False, server_hostname: str | None = None
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        # `wrap_bio` would go on and verify no name at all
        self._nameless = context.check_hostname and not (server_side or server_hostname)
        self.established = False  # the handshake is done
        self.blocked = False  # nothing can be encrypted until more has arrived
        self.ended = False  # our close_notify has been said

    def __repr__(self) -> str:
        return f"<TlsSession {self.version}{', ended' if self.ended else ''}>"

    @property
    def alpn(self) -> str | None:
        """The application protocol that both sides chose (RFC 7301), None if there was no such choice."""
        return self._ssl.selected_alpn_protocol()

    @property
    def version(self) -> str | None:
        """The protocol version, `TLSv1.3` say; None before the handshake."""
        return self._ssl.version()

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """What the peer's certificate says (as `getpeercert` of `ssl`); empty if it was not verified."""
        return self._ssl.getpeercert()

    @property
    def peer_certificate_bytes(self) -> bytes:
        """The peer's certificate itself (DER); empty if it has none."""
        return self._ssl.getpeercert(binary_form=True) or b""

    @property
    def has_output(self) -> bool:
        """Whether there is something to be sent."""
        return self._outgoing.pending > 0

    def take(self) -> bytes:
        """What is to be sent now."""
        return self._outgoing.read()

    def feed(self, data: bytes) -> None:
        """The peer has sent this."""
        self._incoming.write(data)

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done. Raises `OSError` (`ssl.SSLError`, mostly) if it has
        failed, `ValueError` if the context checks a name and none was given.
        """
        if self._nameless:
            raise ValueError("the TLS context checks the peer's name: pass server_hostname=…")
        if not self.established:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                return False
            self.established = True
        return True

    def open(self) -> tuple[bytes, bool, OSError | None]:
        """What can be decrypted, whether the peer has said that it ends, and what was wrong."""
        pieces: list[bytes] = []
        closed, wrong = True, None
        self.blocked = False
        try:
            while piece := self._ssl.read(READ_SIZE):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            closed = False
        except ssl.SSLZeroReturnError:
            pass
        except OSError as error:
            closed, wrong = False, error
        return b"".join(pieces), closed, wrong

    def seal(self, data: bytes | memoryview) -> int:
        """Encrypt it; how many bytes of it. 0 if that must wait for the peer, which `blocked` says."""
        try:
            return self._ssl.write(data)
        except ssl.SSLWantReadError:
            self.blocked = True
            return 0

    def end(self) -> None:
        """Say that nothing more comes (close_notify, RFC 8446 section 6.1): once, and not before the
        handshake is done."""
        if not self.ended and self.established:
            self.ended = True
            with suppress(OSError):  # it wants the peer's in return, which need not come before our end
                self._ssl.unwrap()
