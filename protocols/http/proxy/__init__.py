"""The reverse proxy: requests that come in on one connection and go out through a pool."""

from __future__ import annotations

__all__ = ()
