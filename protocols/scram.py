"""SCRAM, by which two sides prove to each other that they know a password (RFC 5802, RFC 7677), and saslprep
(RFC 4013). No I/O. PostgreSQL and Kafka share it; each derives a class that names its hash and its error.

The server must prove itself as well: an exchange whose last message does not carry the right signature fails.
Deriving a key costs milliseconds on purpose, so a pool keeps it: one derivation per password and salt, not
one per connection.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stringprep
import unicodedata
from typing import ClassVar, Final

__all__ = ["ITERATIONS_MAX", "Keys", "Scram", "saslprep"]

ITERATIONS_MAX: Final = 1_000_000  # RFC 7677 asks for 4,096 at least; more than this would stop the loop

Keys = dict[tuple[str, bytes, int], bytes]
"""Salted passwords that were derived before, by one hash."""

_prohibited = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def saslprep(password: str) -> str:
    """RFC 4013. What it prohibits stays as it is, as the server does with it."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(letter) else letter
        for letter in password
        if not stringprep.in_table_b1(letter)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared or any(table(letter) for table in _prohibited for letter in prepared):
        return password
    if any(map(stringprep.in_table_d1, prepared)) and (
        any(map(stringprep.in_table_d2, prepared))
        or not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1]))
    ):
        return password
    return prepared


class Scram:
    """One exchange: `first()` is sent, `final(server_first)` answers, `verify(server_final)` ends it.

    `binding` is the hash of the server's certificate (-PLUS), `offered` whether there is TLS to bind to
    although the server did not offer it. Each step raises `failure` for what the RFC does not allow.
    """

    digest: ClassVar[str] = "sha256"
    """The hash, as `hashlib` calls it."""

    failure: ClassVar[type[Exception]] = ValueError
    """What is raised."""

    __slots__ = ("_bare", "_binding", "_expected", "_gs2", "_keys", "_nonce", "_password")

    def __init__(
        self,
        password: str,
        keys: Keys,
        binding: bytes = b"",
        offered: bool = False,
        nonce: str | None = None,
        user: str = "",
    ) -> None:
        self._password = saslprep(password)
        self._keys = keys
        self._binding = binding
        self._gs2 = b"p=tls-server-end-point,," if binding else b"y,," if offered else b"n,,"
        # not the loop's source of randomness: a nonce must be one that nobody can foresee
        self._nonce = nonce or base64.b64encode(os.urandom(18)).decode()
        name = saslprep(user).replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={self._nonce}".encode()
        self._expected = b""

    def __repr__(self) -> str:  # without the password
        return f"<{type(self).__name__} by {self.digest}>"

    @property
    def mechanism(self) -> str:
        """What to call it when it begins."""
        return f"SCRAM-SHA-{self.digest[3:]}{'-PLUS' if self._binding else ''}"

    def first(self) -> bytes:
        """The client's first message."""
        return self._gs2 + self._bare

    def final(self, server_first: bytes) -> bytes:
        """The proof, in answer to the server's first message."""
        fields = attributes(server_first)
        nonce = fields.get("r", "")
        iterations = fields.get("i", "")
        try:
            salt = base64.b64decode(fields.get("s", ""), validate=True)
        except binascii.Error:
            salt = b""
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or not salt:
            raise self.failure("the server's part of the SCRAM exchange is not one")
        if not iterations.isdecimal() or not 0 < int(iterations[:9]) <= ITERATIONS_MAX:
            raise self.failure(f"SCRAM with {iterations!r} iterations; at most {ITERATIONS_MAX} are derived")
        salted = self._salted(salt, int(iterations))
        channel = base64.b64encode(self._gs2 + self._binding)
        without_proof = b"c=" + channel + b",r=" + nonce.encode()
        signed = self._bare + b"," + server_first + b"," + without_proof
        client_key = self._sign(salted, b"Client Key")
        signature = self._sign(hashlib.new(self.digest, client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._expected = self._sign(self._sign(salted, b"Server Key"), signed)
        return without_proof + b",p=" + base64.b64encode(proof)

    def verify(self, server_final: bytes) -> None:
        """The server's proof."""
        given = attributes(server_final).get("v", "").encode()
        if not self._expected or not hmac.compare_digest(given, base64.b64encode(self._expected)):
            raise self.failure(
                "the server could not prove that it knows the password; is it the right server?"
            )

    def _sign(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, self.digest)

    def _salted(self, salt: bytes, iterations: int) -> bytes:
        wanted = (self._password, salt, iterations)
        salted = self._keys.get(wanted)
        if salted is None:
            salted = hashlib.pbkdf2_hmac(self.digest, self._password.encode(), salt, iterations)
            if len(self._keys) >= 64:
                self._keys.clear()
            self._keys[wanted] = salted
        return salted


def attributes(line: bytes) -> dict[str, str]:
    """`a=1,b=2` as a dict."""
    parts = line.decode("ascii", "replace").split(",")
    return {part[:1]: part[2:] for part in parts if part[1:2] == "="}
