"""Proving who one is: SCRAM-SHA-256 and its -PLUS form (RFC 5802, RFC 7677, RFC 5929), md5. No I/O.

What SCRAM itself is stands in `protocols.scram`; here is what it is bound to, and what came before it.
"""

from __future__ import annotations

import hashlib
from typing import Final

from protocols import scram
from protocols.postgres.errors import BadMessage

__all__ = ["Scram", "certificate_hash", "md5_answer"]


class Scram(scram.Scram):
    """SCRAM-SHA-256, as PostgreSQL speaks it: without a name, for it stands in the startup message."""

    __slots__ = ()

    failure = BadMessage


def md5_answer(user: str, password: str, salt: bytes) -> bytes:
    """What md5 authentication asks for."""
    inner = hashlib.md5(password.encode() + user.encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()


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
