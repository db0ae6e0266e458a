"""The start-up of a connection: TLS if it is wanted, who we are, the proof of it, until the server is ready
(sections 55.2.1, 55.2.12, 55.3).

A password leaves in the clear only over TLS or a Unix socket. A server that asks for nothing although SCRAM
had begun is not believed.
"""

from __future__ import annotations

import ssl
import struct
from typing import Final

import msgspec

from actors import Transport
from protocols.postgres import messages
from protocols.postgres.errors import BadMessage, PostgresError
from protocols.scram import Keys

from .authenticate import Scram, certificate_hash, md5_answer
from .tls import Sealed

__all__ = ["Handshake", "Settings"]

GREETING_MAX: Final = 1 << 16  # bytes of one message before the server is ready
SCRAM: Final = b"SCRAM-SHA-256"
SCRAM_PLUS: Final = b"SCRAM-SHA-256-PLUS"


class Settings(msgspec.Struct, frozen=True):
    """Who connects to what. `parameters` are the session's settings; `local`: a Unix socket."""

    user: str
    password: str | None
    database: str
    parameters: dict[str, str]
    keys: Keys
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    local: bool = False

    def __repr__(self) -> str:  # without the password
        return f"<Settings of {self.user} for {self.database}>"


class Handshake:
    """Takes messages one by one; `done` when the server is ready for queries."""

    __slots__ = ("_scram", "_settings", "_trusted", "_stream", "done", "process", "secret")

    def __init__(self, settings: Settings, stream: Transport) -> None:
        self._settings = settings
        self._stream = stream
        self._scram: Scram | None = None
        self._trusted = False  # the server has said that we are who we say
        self.process = self.secret = 0  # for CancelRequest
        self.done = False

    def __repr__(self) -> str:
        return f"<Handshake of {self._settings.user}>"

    def begin(self) -> None:
        """Say who we are."""
        settings = self._settings
        parameters = {"user": settings.user, "database": settings.database, "client_encoding": "UTF8"}
        self._stream.write(messages.startup(parameters | settings.parameters))

    def take(self, data: bytes) -> int:
        """Read whole messages off the start of `data`; how many bytes they had."""
        at = 0
        while not self.done and (found := messages.next_message(data, at, GREETING_MAX)) is not None:
            kind, end = found
            self._message(chr(kind), data[at + 5 : end])
            at = end
        return at

    def _message(self, kind: str, body: bytes) -> None:
        if kind == "R":
            self._authenticate(body)
        elif kind == "E":
            raise self._refused(messages.read_error(body))
        elif kind == "S":
            messages.check_status(body)
        elif kind == "K" and self._trusted and len(body) == 8:
            self.process, self.secret = struct.unpack("!iI", body)
        elif kind == "Z" and self._trusted:
            self.done = True
        elif kind not in "Nv":
            raise BadMessage(f"a message {kind!r} before the server was ready; is this a PostgreSQL server?")

    def _refused(self, error: PostgresError) -> PostgresError:
        if error.sqlstate == "28P01":
            error.fields["H"] = error.hint = (
                f"check the password of {self._settings.user!r} in the pool's URL"
            )
        elif error.sqlstate == "3D000":
            error.fields["H"] = error.hint = "create it, or name another one at the end of the pool's URL"
        return error

    # -- authentication ----------------------------------------------------------------------------

    def _authenticate(self, body: bytes) -> None:
        if len(body) < 4:
            raise BadMessage("an authentication request that cannot be read")
        kind, rest = int.from_bytes(body[:4]), body[4:]
        if kind == 0:
            if self._scram is not None:
                raise BadMessage("the server accepted the login without proving that it knows the password")
            self._trusted = True
        elif kind == 3:
            if not (isinstance(self._stream, Sealed) or self._settings.local):
                raise BadMessage(
                    "the server asks for the password in the clear; ask for TLS (?sslmode=verify-full), or "
                    "have it use scram-sha-256"
                )
            self._answer(self._password().encode() + b"\0")
        elif kind == 5 and len(rest) == 4:
            self._answer(md5_answer(self._settings.user, self._password(), rest) + b"\0")
        elif kind == 10:
            self._begin_scram(rest.split(b"\0"))
        elif kind == 11 and self._scram is not None:
            self._answer(self._scram.final(rest))
        elif kind == 12 and self._scram is not None:
            self._scram.verify(rest)
            self._scram = None
        else:
            raise BadMessage(
                f"the server asks for authentication of kind {kind}, which is not known here; have it use "
                "scram-sha-256"
            )

    def _begin_scram(self, mechanisms: list[bytes]) -> None:
        binding = b""
        offered = isinstance(self._stream, Sealed)
        if isinstance(self._stream, Sealed) and SCRAM_PLUS in mechanisms:
            binding = certificate_hash(self._stream.certificate)
            offered = False  # if its hash is not known, say that we cannot, not that the server cannot
        elif SCRAM not in mechanisms:
            raise BadMessage(f"the server offers {mechanisms!r}, none of which is known here")
        self._scram = scram = Scram(self._password(), self._settings.keys, binding, offered)
        first = scram.first()
        name = scram.mechanism.encode() + b"\0"
        self._answer(name + struct.pack("!i", len(first)) + first)

    def _password(self) -> str:
        password = self._settings.password
        if password is None:
            raise BadMessage("the server asks for a password and the pool has none; write it into the URL")
        return password

    def _answer(self, body: bytes) -> None:
        self._stream.write(messages.message(b"p", body))
