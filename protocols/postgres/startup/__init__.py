"""How a connection begins: TLS or not, who we are, the proof of it, until the server is ready."""

from __future__ import annotations

__all__ = ()
