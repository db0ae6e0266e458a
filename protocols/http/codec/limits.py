"""The limits on what the other side may send. Every buffer that a peer can grow has one here.

Each default lists its precedents, so that the next reader can judge it.
"""

import msgspec
from msgspec.structs import asdict

__all__ = ["DEFAULT_LIMITS", "Limits"]


class Limits(msgspec.Struct, frozen=True):
    """What one HTTP message may cost. A head over a limit is refused as soon as the excess is seen.

    Raises `TypeError` for a limit that is not a whole number and `ValueError` for a negative one.
    """

    head_bytes: int = 16 * 1024
    """Start line and headers together, else 431. h11 16 K, node.js 16 K, nginx 4 × 8 K, tomcat 8 K."""

    target_bytes: int = 8 * 1024
    """The request-target, else 414. RFC 9112 section 3 asks for at least 8,000; Apache 8,190, nginx 8 K."""

    headers: int = 100
    """Header lines, else 431. Apache 100, h2o 100, httparse as hyper uses it 100."""

    body_bytes: int | None = 1024 * 1024
    """A body that is gathered in memory, else 413; None is no limit. nginx 1 M, aiohttp 1 M, Django 2.5 M."""

    chunk_line_bytes: int = 256
    """A chunk's size with its extensions. Extensions are hardly used and were a way to waste a server's
    time (CVE-2023-39326 of Go, which then took 16 bytes of overhead a chunk; netty 8 K, node.js 16 K)."""

    trailer_bytes: int = 4 * 1024
    """The trailer section. Go counts it to its head's 1 M, Apache 8,190 a line; real ones have a digest."""

    trailers: int = 32
    """Trailer lines. Fewer than headers, as they can only tell what was not known before the body."""

    def __post_init__(self) -> None:
        for name, most in asdict(self).items():
            if most is None and name == "body_bytes":
                continue
            if not isinstance(most, int) or isinstance(most, bool):
                raise TypeError(f"{name}={most!r:.60}; write a whole number, 0 or more")
            if most < 0:
                raise ValueError(f"{name}={most}; write 0 or more")


DEFAULT_LIMITS = Limits()
