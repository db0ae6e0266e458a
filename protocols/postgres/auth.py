"""Proving who one is: SCRAM-SHA-256 and its -PLUS form (RFC 5802, RFC 7677, RFC 5929), md5. No I/O.

The server must prove itself as well: an exchange whose last message does not carry the right signature fails.
Deriving a key costs milliseconds on purpose, so the pool keeps it: one derivation per password and salt,
not one per connection.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stringprep
import unicodedata
from typing import Final

from .errors import BadMessage

__all__ = ["ITERATIONS_MAX", "Keys", "Scram", "certificate_hash", "md5_answer", "saslprep"]

ITERATIONS_MAX: Final = 1_000_000  # RFC 7677 asks for 4,096 at least; more than this would stop the loop

Keys = dict[tuple[str, bytes, int], bytes]
"""Salted passwords that were derived before."""

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


def md5_answer(user: str, password: str, salt: bytes) -> bytes:
    """What md5 authentication asks for."""
    inner = hashlib.md5(password.encode() + user.encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()


class Scram:
    """One exchange: `first()` is sent, `final(server_first)` answers, `verify(server_final)` ends it.

    `binding` is the hash of the server's certificate (-PLUS), `offered` whether there is TLS to bind to
    although the server did not offer it. Each step raises `BadMessage` for what the RFC does not allow.
    """

    __slots__ = ("_bare", "_binding", "_expected", "_gs2", "_keys", "_nonce", "_password")

    def __init__(
        self,
        password: str,
        keys: Keys,
        binding: bytes = b"",
        offered: bool = False,
        nonce: str | None = None,
    ) -> None:
        self._password = saslprep(password)
        self._keys = keys
        self._binding = binding
        self._gs2 = b"p=tls-server-end-point,," if binding else b"y,," if offered else b"n,,"
        # not the loop's source of randomness: a nonce must be one that nobody can foresee
        self._nonce = nonce or base64.b64encode(os.urandom(18)).decode()
        self._bare = f"n=,r={self._nonce}".encode()
        self._expected = b""

    @property
    def mechanism(self) -> str:
        """What to call it when it begins."""
        return "SCRAM-SHA-256-PLUS" if self._binding else "SCRAM-SHA-256"

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
            raise BadMessage("the server's part of the SCRAM exchange is not one")
        if not iterations.isdecimal() or not 0 < int(iterations[:9]) <= ITERATIONS_MAX:
            raise BadMessage(f"SCRAM with {iterations!r} iterations; at most {ITERATIONS_MAX} are derived")
        salted = self._salted(salt, int(iterations))
        channel = base64.b64encode(self._gs2 + self._binding)
        without_proof = b"c=" + channel + b",r=" + nonce.encode()
        signed = self._bare + b"," + server_first + b"," + without_proof
        client_key = sign(salted, b"Client Key")
        signature = sign(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._expected = sign(sign(salted, b"Server Key"), signed)
        return without_proof + b",p=" + base64.b64encode(proof)

    def verify(self, server_final: bytes) -> None:
        """The server's proof."""
        given = attributes(server_final).get("v", "").encode()
        if not self._expected or not hmac.compare_digest(given, base64.b64encode(self._expected)):
            raise BadMessage("the server could not prove that it knows the password; is it the right server?")

    def _salted(self, salt: bytes, iterations: int) -> bytes:
        wanted = (self._password, salt, iterations)
        salted = self._keys.get(wanted)
        if salted is None:
            salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), salt, iterations)
            if len(self._keys) >= 64:
                self._keys.clear()
            self._keys[wanted] = salted
        return salted


def attributes(line: bytes) -> dict[str, str]:
    """`a=1,b=2` as a dict."""
    parts = line.decode("ascii", "replace").split(",")
    return {part[:1]: part[2:] for part in parts if part[1:2] == "="}


def sign(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-256."""
    return hmac.digest(key, data, "sha256")


HASHES: Final = {  # OIDs of signature algorithms, as they stand in a certificate
    bytes.fromhex("2a864886f70d01010c"): "sha384",  # sha384WithRSAEncryption
    bytes.fromhex("2a864886f70d01010d"): "sha512",
    bytes.fromhex("2a8648ce3d040303"): "sha384",  # ecdsa-with-SHA384
    bytes.fromhex("2a8648ce3d040304"): "sha512",
    bytes.fromhex("2a864886f70d01010b"): "sha256",
    bytes.fromhex("2a8648ce3d040302"): "sha256",
    bytes.fromhex("2a864886f70d010105"): "sha256",  # sha1 and md5 are replaced (RFC 5929 section 4.1)
    bytes.fromhex("2a864886f70d010104"): "sha256",
}


def certificate_hash(der: bytes) -> bytes:
    """tls-server-end-point of a certificate; empty if its signature names no hash that is known."""
    try:
        inside, _ = element(der, 0)  # Certificate
        _, after = element(der, inside)  # TBSCertificate
        algorithm, _ = element(der, after)
        start, end = element(der, algorithm)
    except IndexError:
        return b""
    name = HASHES.get(der[start:end])
    return hashlib.new(name, der).digest() if name else b""


def element(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the DER element at `at` begins and ends."""
    length = der[at + 1]
    at += 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(der[at : at + count])
        at += count
    if at + length > len(der):
        raise IndexError
    return at, at + length
