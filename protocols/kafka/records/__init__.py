"""Record batches: what is stored in a log, and how it is compressed."""

from __future__ import annotations

__all__ = ()
