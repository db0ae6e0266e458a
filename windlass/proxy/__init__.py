"""`windlass proxy`: the command, its options, its certificates, and how they are renewed."""

from __future__ import annotations

__all__ = ()
