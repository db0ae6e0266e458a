"""One broker's connection: the handshake, who we are, requests in flight."""

from __future__ import annotations

__all__ = ()
