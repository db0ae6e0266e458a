"""TLS between socket and transport: a `TlsSession`, so that the protocol above sees plain bytes.

Rules:
1. `connected` is called when the handshake is done; a handshake that fails or takes too long stops the stream
   with the reason, and the protocol hears it in `stopped`.
2. Watermarks and `Flush` count plain bytes, and a byte is unsent until its whole record has been given to the
   system. No more than `SEALED_MAX` bytes are encrypted ahead of what the socket takes.
3. Whoever ends says so (close_notify, RFC 8446 section 6.1). A peer that does not has perhaps been cut off:
   `ended` is told as ever, and `cut_off` says so to a protocol whose messages do not tell their own length.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from actors.kernel import READABLE, WRITABLE
from actors.outcomes import NEVER, UNCHANGED, Outcome, Stop, Timeout

from .streams import FLUSHED, READ_SIZE, Stream, StreamOwner, StreamProtocol, drop_sent
from .tls_session import TlsSession

if TYPE_CHECKING:
    from actors.scope import Scope

__all__ = ["TlsStream"]

HANDSHAKE_SECONDS: Final = 10.0  # nginx grants 60, Go's net/http its read timeout, HAProxy recommends 10
SEALED_MAX: Final = 1 << 16  # bytes: four records, what one send is likely to take
ADVICE: Final = {
    "WRONG_VERSION_NUMBER": "the peer's port does not speak TLS; connect without TLS, or to another port",
    "HTTP_REQUEST": "the peer speaks HTTP without TLS; it should use https://",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust the authority of this side's certificate",
}
CHUNKS_MAX: Final = 16  # per flush, before others get their turn


class TlsStream(Stream):
    """A stream whose bytes are encrypted. `handshake_deadline` is absolute (monotonic seconds); by default it
    is 10 seconds from the start."""

    __slots__ = (
        "_cipher",
        "_drains_later",
        "_handshake_deadline",
        "_sealed",
        "_server_hostname",
        "_server_side",
        "_session",
        "_woken_early",
    )

    def __init__(
        self,
        sock: socket.socket,
        protocol: StreamProtocol,
        owner: StreamOwner | None = None,
        *,
        context: ssl.SSLContext,
        server_side: bool = False,
        server_hostname: str | None = None,
        handshake_deadline: float = NEVER,
    ) -> None:
        super().__init__(sock, protocol, owner)
        self._session = TlsSession(context, server_side=server_side, server_hostname=server_hostname)
        self._server_side = server_side
        self._server_hostname = server_hostname
        self._handshake_deadline = handshake_deadline
        self._cipher: list[bytes] = []  # encrypted, not sent; at most one piece
        self._sealed = 0  # how many bytes of `unsent` it stands for
        self._woken_early = False
        self._drains_later = False

    @property
    def established(self) -> bool:
        """Whether the handshake is done."""
        return self._session.established

    @property
    def alpn(self) -> str | None:
        """The application protocol that both sides chose (RFC 7301), None if there was no such choice."""
        return self._session.alpn

    @property
    def version(self) -> str | None:
        """The protocol version, `TLSv1.3` say; None before the handshake."""
        return self._session.version

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """What the peer's certificate says (as `getpeercert` of `ssl`); empty if it was not verified."""
        return self._session.peer_certificate

    # -- handshake -------------------------------------------------------------------------------------------

    def _begin(self) -> Outcome:
        deadline = self._handshake_deadline
        if deadline == NEVER:
            deadline = self.scope.now + HANDSHAKE_SECONDS
        outcome = self._shake_hands()
        return Timeout(self, deadline) if outcome is UNCHANGED else outcome

    def _shake_hands(self) -> Outcome:
        try:
            done = self._session.shake_hands()
        except OSError as error:
            return self._refused(error)
        self.touched()
        if not done:
            return UNCHANGED
        self.scope.deadline = NEVER
        if self._woken_early:
            self.scope.wake()
        outcome = self.follow(self.protocol.connected(self))
        if self._drains_later and not isinstance(outcome, Stop):
            asked = super().draining(self.scope)
            return outcome if asked is UNCHANGED else asked
        return outcome

    def _refused(self, error: OSError) -> Outcome:
        """Log why, and send the alert that tells the peer."""
        if isinstance(error, ssl.SSLError):
            error = explained(error)
        self.scope.loop.log.warning(
            "TLS handshake failed",
            cause=f"TLS handshake {getattr(error, 'reason', None) or type(error).__name__}",
            side="server" if self._server_side else "client",
            peer=self.peer,
            server_hostname=self._server_hostname,
            error=str(error),
        )
        return Stop(error)

    def timeout(self, scope: Scope) -> Outcome:
        """The handshake's deadline, or the protocol's."""
        if self.established:
            return super().timeout(scope)
        return self._refused(TimeoutError("the TLS handshake was not done before its deadline"))

    def wakeup(self, scope: Scope) -> Outcome:
        """Kept until the handshake is done: before there is no connection the protocol could work on."""
        if self.established:
            return super().wakeup(scope)
        if self._pending:
            pending, self._pending = self._pending, 0
            return self._see_to(pending)
        self._woken_early = True
        return UNCHANGED

    def draining(self, scope: Scope) -> Outcome:
        """Nothing is lost before the handshake is done. A patient loop waits for it; then the protocol is
        asked."""
        if self.established:
            return super().draining(scope)
        self._drains_later = scope.loop.patience > 0
        return UNCHANGED if self._drains_later else Stop()

    # -- input -----------------------------------------------------------------------------------------------

    def ready(self, scope: Scope, events: int) -> Outcome:
        """Read once. What comes is never the protocol's as it is, so there is no short cut here."""
        if events != READABLE:
            return self._ready_otherwise(scope, events)
        try:
            data = self.sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return UNCHANGED
        except OSError as error:
            return Stop(error)
        return self._arrived(data) if data else self._at_end()

    def _arrived(self, data: bytes) -> Outcome:
        session = self._session
        session.feed(data)
        if not self.established:
            outcome = self._shake_hands()
            if not self.established or outcome is not UNCHANGED or self.scope.machine is not self:
                return outcome
        was_blocked = session.blocked
        plain, closed, error = session.open()
        if was_blocked or session.has_output:  # an answer to a key update, or to a renegotiation
            self.touched()
        outcome = super()._arrived(plain) if plain else UNCHANGED
        if outcome is not UNCHANGED or self.scope.machine is not self:
            return outcome
        if error is not None:
            return Stop(error)
        return super()._at_end() if closed and not self.ended else UNCHANGED

    def _at_end(self) -> Outcome:
        if not self.established:
            return self._refused(
                ConnectionResetError(
                    "the peer closed the connection during the TLS handshake; does it speak TLS?"
                )
            )
        self.cut_off = True
        return super()._at_end()

    # -- output ----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Encrypt and send what the socket takes; watch for writability only if it does not take all."""
        if self.sock.fileno() < 0:
            return
        try:
            done = self._send()
        except OSError as failure:
            self._broken(failure)
            return
        if done == bool(self._mask & WRITABLE):
            self._watch(self._mask ^ WRITABLE)
        if self._flush_below >= self.unsent:
            self._pending |= FLUSHED
            self.scope.wake()
        if self._session.ended and not self._cipher:
            with suppress(OSError):  # gone already: reading will say so
                self.sock.shutdown(socket.SHUT_WR)

    def _send(self) -> bool:
        """Whether nothing is left that could be sent now."""
        for _ in range(CHUNKS_MAX):
            if not self._cipher:
                self._seal()
                if not self._cipher:
                    return True
            try:
                sent = self.sock.send(self._cipher[0])
            except (BlockingIOError, InterruptedError):
                return False
            drop_sent(self._cipher, sent)
            self.moved = self.scope.loop.now
            if self._cipher:
                return False
            self.unsent -= self._sealed
            self._sealed = 0
        return False

    def _seal(self) -> None:
        """Encrypt the next chunk, and after the last one the end if it was asked for."""
        session = self._session
        if self.output is not None and session.established and not session.blocked:
            self._sealed = session.seal(self._next_chunk(self.output))
            if self._sealed:
                drop_sent(self.output, self._sealed)
            if not self.output:
                self.output = None
        if self._ending and self.output is None:
            session.end()
        if session.has_output:
            self._cipher.append(session.take())

    @staticmethod
    def _next_chunk(output: list[bytes]) -> bytes | memoryview:
        """What goes into the next records: small pieces joined, of a large one no more than that."""
        first = memoryview(output[0])[:SEALED_MAX]
        if len(first) == SEALED_MAX or len(output) == 1:
            return first
        pieces, room = [first], SEALED_MAX - len(first)
        for piece in output[1:]:
            pieces.append(memoryview(piece)[:room])
            room -= len(pieces[-1])
            if not room:
                break
        return b"".join(pieces)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """Say the end, or send the alert that says what was wrong, if the socket takes it; then as ever."""
        session = self._session
        if self.sock.fileno() >= 0:
            if error is None:
                session.end()
            if session.has_output and not self._cipher:
                with suppress(OSError):
                    self.sock.send(session.take())
        super().stopped(scope, error)

    def _reset(self) -> None:
        if self.established:  # before, there is nothing to be cut short, but an alert that must arrive
            super()._reset()

    def _drop_output(self) -> None:
        super()._drop_output()
        self._cipher.clear()
        self._sealed = 0


def explained(error: ssl.SSLError) -> ssl.SSLError:
    """The same error, in words that say what to do if it is one that people meet."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = (
            f"the peer's certificate is not trusted: {error.verify_message}; have the TLS context trust its "
            "authority (cafile=…), or name the peer as its certificate does"
        )
    elif error.reason in ADVICE:
        text = ADVICE[error.reason]
    else:
        return error
    told = type(error)(error.errno, f"{text} ({error})")
    told.reason, told.library = error.reason, error.library
    told.__cause__ = error
    return told
