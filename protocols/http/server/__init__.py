"""The server: a listener, one machine per connection, and what answers its requests."""

from __future__ import annotations

__all__ = ()
