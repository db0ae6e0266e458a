"""Wire protocols and the machines that speak them: HTTP so far."""

from __future__ import annotations

__all__: list[str] = []
