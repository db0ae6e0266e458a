"""COPY in both directions: its units, its transfer on the wire, its binary format."""

from __future__ import annotations

__all__ = ()
